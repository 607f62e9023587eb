"""Requests for embeddings."""

from enum import StrEnum

from pydantic import Field

from bebr.encoding import TextKind
from bebr.server.requests.base import Body, Positive, documented


class EncodingFormat(StrEnum):
    """How an embedding is written in the answer of /v1/embeddings."""

    FLOAT = "float"
    BASE64 = "base64"
    BINARY = "binary"
    UBINARY = "ubinary"
    CODE = "code"


class Embeddings(Body):
    model_config = documented({"input": ["how do I parse a date"], "model": "minilm@1", "kind": "query"})
    input: str | list[str] = Field(examples=["parse a date from a string"])
    model: str | None = Field(None, description="Id of the bundle.", examples=["minilm@1"])
    encoding_format: EncodingFormat = Field(
        EncodingFormat.FLOAT,
        description="float: numbers; base64: little-endian float32; binary, ubinary: eight signs per byte, as int8 or "
        "uint8; code: base64 of the code and its gain, as `code_b64` takes it.",
    )
    kind: TextKind = Field(TextKind.PASSAGE, description="Models may prefix queries and passages differently.")
    dimensions: Positive | None = Field(None, description="Must be the number of dimensions of the model.")
