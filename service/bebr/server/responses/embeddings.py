"""Answers about embeddings and the models that make them, in the shape of OpenAI's."""

from typing import Literal

from pydantic import Field

from bebr.encoding import Bundle
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


class Model(Answer):
    id: str = Field(description="Id of the bundle.", examples=["minilm@2"])
    object: Literal["model"]
    created: int = Field(description="When its manifest was written, in seconds since 1970.")
    owned_by: str

    @classmethod
    def of(cls, bundle: Bundle) -> "Model":
        return cls(id=bundle.id, object="model", created=int(bundle.written_at()), owned_by="bebr")


class ModelList(Answer):
    object: Literal["list"]
    data: list[Model]


class OpenAiFault(Answer):
    message: str
    type: str
    param: str | None = Field(description="The field at fault.")
    code: str


class OpenAiError(Answer):
    """An error of the routes that OpenAI's API has too."""

    error: OpenAiFault
