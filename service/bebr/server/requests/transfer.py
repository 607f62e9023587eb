"""Requests about whole collections."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.config import JsonDict

from bebr.server.requests.base import MAX_ITEMS, Base64, Body, Id, Positive, documented
from bebr.server.schemas import REF

EXPORTED_POINT: JsonDict = {"id": "a", "version_number": 0, "code_b64": "AAECAwA8", "metadata": {"lang": "en"}}


class Definition(Body):
    """What `GET .../definition` of another service answers."""

    model_config = documented(
        {
            "format": 1,
            "name": "notes",
            "collection": {
                "shards": 1,
                "filterable": {"lang": "keyword"},
                "versions": [{"id": "32x1", "code": "32x1", "steps": [1.0], "bundle": None, "fingerprint": None}],
                "active": 0,
            },
        }
    )
    format: Literal[1]
    name: str = Field("", description="Its name there.")
    collection: dict[str, Any] = Field(description="Its document.")
    binarizers: dict[str, dict[str, Any]] = Field({}, description="Those that were fitted for it, by id.")
    calibrations: list[dict[str, Any]] = Field([], description="What scores between its models are calibrated with.")
    aliases: list[str] = Field([], description="Its aliases there; they are not set.")
    points: int = Field(0, description="How many points it had there.")
    import_id: Id | None = Field(
        None,
        description="Any name of your own for this import. The collection answers nothing until points were imported "
        "with `last`; one that another import left by half is replaced.",
    )


Exported = Annotated[
    list[Any],
    Field(max_length=MAX_ITEMS),
    WithJsonSchema(
        {"type": "array", "items": {"$ref": REF.format(model="ImportedPoint")}, "maxItems": "max_batch_points"}
    ),
]


class ExportPoints(Body):
    model_config = documented({"limit": 1000})
    limit: Positive = Field(1000, description="Number of points per page.", json_schema_extra={"maximum": "max_limit"})
    cursor: str | None = Field(None, description="The `cursor` of the previous page.")


class ImportedPoint(BaseModel):
    """One point as it was exported."""

    model_config = ConfigDict(extra="forbid") | documented(EXPORTED_POINT)
    id: Id
    version_number: int = Field(ge=0, description="Place of its code version in the definition.")
    code_b64: Base64 = Field(description="Its whole record as base64.")
    metadata: dict[str, Any]


class ImportPoints(Body):
    model_config = documented({"points": [EXPORTED_POINT]})
    points: Exported = Field(description="As they were exported.")
    import_id: Id | None = Field(None, description="The name of the import that the collection was made by.")
    last: bool = Field(False, description="With these points the import is whole, unless one of them is wrong.")
