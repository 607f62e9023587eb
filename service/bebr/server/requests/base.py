"""What request bodies share."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.config import JsonDict, JsonValue

_NOT_NULL: JsonDict = {"not": {"type": "null"}}
_ID: JsonDict = {"type": "string", "minLength": 1, "maxLength": 256}
Ids = Annotated[
    list[Any],
    WithJsonSchema({"type": "array", "items": _ID}),
    Field(description="Point ids: strings of up to 256 bytes.", examples=[["a", "b"]]),
]
WithMetadata = Annotated[
    bool | list[str],
    Field(description="true for all metadata, false for none, or a list of the field names to return."),
]


class Body(BaseModel):
    """Base of every request body: unknown fields are errors, and 7 is not '7'."""

    model_config = ConfigDict(extra="forbid", strict=True)


def documented(example: JsonDict, exactly_one: Sequence[str] = ()) -> ConfigDict:
    """What a model's schema says beside its fields: an example that works when it is sent, and that exactly one of some
    fields is there."""
    alternatives: list[JsonValue] = [{"required": [name], "properties": {name: _NOT_NULL}} for name in exactly_one]
    return ConfigDict(json_schema_extra={"examples": [example], **({"oneOf": alternatives} if alternatives else {})})
