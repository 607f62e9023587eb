"""Requests for embeddings."""

from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field

from bebr.encoding import TextKind
from bebr.errors import InvalidText
from bebr.server.requests.base import MAX_ITEMS, Body, Positive, Text, documented


class EncodingFormat(StrEnum):
    """How an embedding is written in the answer of /v1/embeddings."""

    FLOAT = "float"
    BASE64 = "base64"
    BINARY = "binary"
    UBINARY = "ubinary"
    CODE = "code"


def _no_tokens(value: object) -> object:
    if isinstance(value, list) and any(type(item) in (int, list) for item in value):
        raise InvalidText(
            "'input' holds token ids, which are of another model's tokenizer; send texts. LangChain's OpenAIEmbeddings "
            "does so with check_embedding_ctx_length=False",
            key="input",
        )
    return value


class Embeddings(Body):
    model_config = documented({"input": ["how do I parse a date"], "model": "minilm@2", "kind": "query"})
    input: Annotated[
        Text
        | Annotated[
            list[Text],
            Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True, json_schema_extra={"maxItems": "max_limit"}),
        ],
        BeforeValidator(_no_tokens),
    ] = Field(examples=["parse a date from a string"])
    model: str | None = Field(
        None, description="Id of the bundle, or its name for the newest version.", examples=["minilm@2"]
    )
    encoding_format: EncodingFormat | None = Field(
        None,
        description="float (the default): numbers; base64: little-endian float32; binary, ubinary: eight signs per "
        "byte, as int8 or uint8; code: base64 of the code and its gain, as `code_b64` takes it.",
    )
    kind: TextKind = Field(TextKind.PASSAGE, description="Models may prefix queries and passages differently.")
    dimensions: Positive | None = Field(None, description="Must be the number of dimensions of the model.")
    user: str | None = Field(None, description="For clients of OpenAI; it changes nothing.")
