"""What a filter looks like. For the documentation only: `bebr.core.filters` reads and checks it."""

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema
from pydantic.config import JsonDict

from bebr.core.filters import MAX_CONDITIONS, MAX_VALUES
from bebr.server.requests.base import Body, Ids, Omitted, documented
from bebr.server.schemas import REF

EXAMPLE_FILTER: JsonDict = {
    "must": [{"key": "lang", "match": {"value": "en"}}, {"key": "year", "range": {"gte": 2020}}]
}
Filter = Annotated[
    dict[str, Any], WithJsonSchema({"$ref": REF.format(model="FilterTree")}), Field(examples=[EXAMPLE_FILTER])
]
Key = Annotated[str, Field(description="Name of a filterable field.", examples=["lang"])]
Value = str | float | bool
Bound = float | str
Values = Annotated[list[Value], Field(max_length=MAX_VALUES)]


class FilterTree(Body):
    """All conditions of `must`, at least one of `should` and none of `must_not` hold."""

    must: list["Condition"] | None = Field(None, max_length=MAX_CONDITIONS)
    should: list["Condition"] | None = Field(None, max_length=MAX_CONDITIONS)
    must_not: list["Condition"] | None = Field(None, max_length=MAX_CONDITIONS)


class Match(Body):
    """Exactly one of `value`, `any` and `except`."""

    model_config = documented({"value": "en"}, exactly_one=("value", "any", "except"))
    value: Value | Omitted = Field(None, description="The field equals it.")
    any: Values | Omitted = Field(None, description="The field is one of them.")
    except_: Values | Omitted = Field(None, alias="except", description="The field is present and none of them.")


class Range(Body):
    """The number or time is within all bounds; at least one is given. Times are strings of RFC 3339."""

    model_config = documented({"gte": 2020}) | {"json_schema_extra": {"examples": [{"gte": 2020}], "minProperties": 1}}
    gte: Bound | None = None
    gt: Bound | None = None
    lte: Bound | None = None
    lt: Bound | None = None


class MatchCondition(Body):
    """A field of arrays matches if one of its values does. Times are equal if they name the same instant."""

    key: Key
    match: Match


class RangeCondition(Body):
    """Of a field of type integer, float or datetime, or of arrays of these."""

    key: Key
    range: Range


class EmptyField(Body):
    key: Key


class IsEmptyCondition(Body):
    """The field is missing, null or []."""

    is_empty: EmptyField


class HasIdCondition(Body):
    """The point has one of these ids."""

    has_id: Ids


NestedFilter = Annotated[FilterTree, WithJsonSchema({"$ref": REF.format(model="FilterTree"), "minProperties": 1})]
Condition = MatchCondition | RangeCondition | IsEmptyCondition | HasIdCondition | NestedFilter
