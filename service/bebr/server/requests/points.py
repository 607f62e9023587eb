"""Requests about points."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.config import JsonDict

from bebr.server.requests.base import (
    MAX_ITEMS,
    Base64,
    Body,
    Consistency,
    Id,
    Ids,
    MinSeq,
    Positive,
    Text,
    Vector,
    WithMetadata,
    documented,
)
from bebr.server.requests.filters import EXAMPLE_FILTER, Filter
from bebr.server.schemas import REF

SOURCES = ("text", "vector", "vector_b64", "code_b64")
EXAMPLE_POINT: JsonDict = {
    "id": "a",
    "text": "parse a date from a string",
    "metadata": {"lang": "en", "year": 2024},
}


class Point(BaseModel):
    """One point to write: an id and exactly one of `text`, `vector`, `vector_b64` and `code_b64`."""

    model_config = ConfigDict(extra="forbid") | documented(EXAMPLE_POINT, exactly_one=SOURCES)
    id: Id = Field(examples=["a"])
    text: Text | None = Field(None, examples=["parse a date from a string"])
    vector: Vector | None = Field(None, description="The embedding.")
    vector_b64: Base64 | None = Field(None, description="The embedding as base64 of little-endian float32.")
    code_b64: Base64 | None = Field(None, description="The code as base64, with or without its gain.")
    metadata: dict[str, Any] | None = Field(None, examples=[{"lang": "en", "year": 2024}])


Batch = Annotated[
    list[Any],
    Field(max_length=MAX_ITEMS),
    WithJsonSchema({"type": "array", "items": {"$ref": REF.format(model="Point")}, "maxItems": "max_batch_points"}),
]


class WritePoints(Body):
    model_config = documented({"points": [EXAMPLE_POINT]})
    points: Batch = Field(
        description="Each point is checked on its own: valid ones are applied, `items` names the others.",
    )


class GetPoints(Body):
    model_config = documented({"ids": ["a", "b"], "with_metadata": ["lang"]})
    ids: Ids
    with_metadata: WithMetadata = True
    with_code: bool = Field(False, description="Return the codes.")


class DeletePoints(Body):
    """Exactly one of `ids` and `filter`."""

    model_config = documented({"filter": EXAMPLE_FILTER, "dry_run": True}, exactly_one=("ids", "filter"))
    ids: Ids | None = None
    filter: Filter | None = None
    dry_run: bool = Field(False, description="Only count what would be deleted.")


class Scroll(Body):
    model_config = documented({"filter": EXAMPLE_FILTER, "limit": 100})
    filter: Filter | None = None
    limit: Positive = Field(100, description="Number of points per page.", json_schema_extra={"maximum": "max_limit"})
    cursor: str | None = Field(None, description="The `cursor` of the previous page; send it with the same filter.")
    with_metadata: WithMetadata = True
    min_seq: MinSeq | None = None
    consistency: Consistency | None = None


class Count(Body):
    model_config = documented({"filter": EXAMPLE_FILTER})
    filter: Filter | None = None
    min_seq: MinSeq | None = None
    consistency: Consistency | None = None


class SetMetadata(Body):
    """Exactly one of `ids` and `filter`."""

    model_config = documented({"ids": ["a"], "set": {"lang": "de", "year": None}}, exactly_one=("ids", "filter"))
    ids: Ids | None = None
    filter: Filter | None = None
    set: dict[str, Any] = Field(
        description="Fields to set; null removes a field. Other fields are kept.", examples=[{"lang": "en"}]
    )
