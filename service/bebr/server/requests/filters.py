"""What a filter looks like. For the documentation only: `bebr.core.filters` reads and checks it."""

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema
from pydantic.config import JsonDict

from bebr.server.requests.base import Body, Ids

EXAMPLE_FILTER: JsonDict = {
    "must": [{"key": "lang", "match": {"value": "en"}}, {"key": "year", "range": {"gte": 2020}}]
}
Filter = Annotated[
    dict[str, Any],
    WithJsonSchema({"$ref": "#/components/schemas/FilterTree"}),
    Field(examples=[EXAMPLE_FILTER]),
]


class FilterTree(Body):
    """All conditions of `must`, at least one of `should` and none of `must_not` hold."""

    must: list["Condition"] = Field([])
    should: list["Condition"] = Field([])
    must_not: list["Condition"] = Field([])


class MatchCondition(Body):
    """The field equals `value`, is one of `any`, or is present and none of `except`. A keyword[] field matches if it
    contains the value."""

    key: str = Field(examples=["lang"])
    match: dict[Literal["value", "any", "except"], Any] = Field(min_length=1, max_length=1, examples=[{"value": "en"}])


class RangeCondition(Body):
    """The number is within all bounds."""

    key: str = Field(examples=["year"])
    range: dict[Literal["gte", "gt", "lte", "lt"], float] = Field(min_length=1, examples=[{"gte": 2020}])


class EmptyField(Body):
    key: str = Field(examples=["lang"])


class IsEmptyCondition(Body):
    """The field is missing, null or []."""

    is_empty: EmptyField


class HasIdCondition(Body):
    """The point has one of these ids."""

    has_id: Ids


Condition = MatchCondition | RangeCondition | IsEmptyCondition | HasIdCondition | FilterTree
