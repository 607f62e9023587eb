"""What request bodies share."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, WithJsonSchema
from pydantic.config import JsonDict
from pydantic.json_schema import SkipJsonSchema

from bebr.core.lists import MAX_RECALL, MIN_RECALL
from bebr.core.types import MAX_ID_BYTES
from bebr.engine.collections.registry import NAME
from bebr.server import schemas

MAX_ITEMS = 100_000
"""More of anything than settings can allow: parsing ends there."""
MAX_VECTOR_DIMS = 65_536
_ID: JsonDict = {"type": "string", "minLength": 1, "maxLength": MAX_ID_BYTES}
Ids = Annotated[
    list[Any],
    WithJsonSchema({"type": "array", "items": _ID, "maxItems": "max_batch_points"}),
    Field(max_length=MAX_ITEMS, description="Point ids: strings of up to 256 bytes.", examples=[["a", "b"]]),
]
Id = Annotated[str, WithJsonSchema(_ID)]
Name = Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^{NAME.pattern}$"})]
"""Of a collection or an alias."""
Text = Annotated[
    str, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": "max_text_chars", "pattern": "\\S"})
]
Vector = Annotated[
    list[float],
    Field(max_length=MAX_VECTOR_DIMS, fail_fast=True),
    WithJsonSchema({"type": "array", "items": {"type": "number"}, "minItems": 1}),
]
Base64 = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "contentEncoding": "base64",
            "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$",
        }
    ),
]


def _integral(value: object) -> object:
    return int(value) if type(value) is float and value.is_integer() else value


# 3.0 is an integer, as JSON Schema has it; "3" is not.
Positive = Annotated[int, Field(ge=1), BeforeValidator(_integral)]
Recall = Annotated[FiniteFloat, Field(ge=MIN_RECALL, le=MAX_RECALL)]
"""Share of the exact hits."""
Natural = Annotated[int, Field(ge=0), BeforeValidator(_integral)]
Omitted = SkipJsonSchema[None]
"""`field: Type | Omitted = None` may be left out, but is not null."""
MAX_FIELD_NAMES = 256
WithMetadata = Annotated[
    bool | Annotated[list[str], Field(max_length=MAX_FIELD_NAMES, fail_fast=True)],
    Field(description="true for all metadata, false for none, or a list of the field names to return."),
]


def _shard(key: object) -> object:
    return int(key) if isinstance(key, str) and key.isascii() and key.isdigit() else key


MinSeq = Annotated[
    dict[Annotated[int, BeforeValidator(_shard)], Natural],
    Field(
        description="Operations to see, by shard: the `seq` that writes answered. Waits for them where another "
        "process or machine took the writes.",
        examples=[{"0": 41}],
    ),
]
Consistency = Annotated[
    Literal["strong"],
    Field(
        description="strong: see all that the store has now, whoever wrote it. Default: all that the processes of this "
        "machine have acknowledged, and `min_seq`."
    ),
]


class Body(BaseModel):
    """Base of every request body: unknown fields are errors, and 7 is not '7'."""

    model_config = ConfigDict(extra="forbid", strict=True)


def documented(example: JsonDict, exactly_one: Sequence[str] = ()) -> ConfigDict:
    """What a model's schema says beside its fields: an example that works when it is sent, and that exactly one of some
    fields is there."""
    return ConfigDict(
        json_schema_extra={"examples": [example], **(schemas.exactly_one(exactly_one) if exactly_one else {})}
    )
