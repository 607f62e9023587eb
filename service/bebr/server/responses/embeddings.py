"""The answer of /v1/embeddings, in the shape of OpenAI's."""

from typing import Literal

from pydantic import Field

from bebr.server.responses.base import Answer


class Embedding(Answer):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | list[int] | str = Field(description="As `encoding_format` says.")


class Usage(Answer):
    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(Answer):
    object: Literal["list"]
    data: list[Embedding]
    model: str = Field(description="Id of the bundle.")
    usage: Usage
