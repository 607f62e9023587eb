"""The filter grammar: JSON -> a checked tree, and what it means for one point (the oracle of the columns in `index`).

    {"must": [C, ...], "should": [C, ...], "must_not": [C, ...]}      all / at least one / none
    C = {"key": "lang", "match": {"value": "en"}}                      equal; for keyword[]: contains
      | {"key": "lang", "match": {"any": ["en", "de"]}}                one of
      | {"key": "lang", "match": {"except": ["en"]}}                   present, and none of
      | {"key": "year", "range": {"gte": 2020, "lt": 2024}}            integer and float fields
      | {"is_empty": {"key": "lang"}}                                  missing, null or []
      | {"has_id": ["a", "b"]}
      | a nested filter

The shapes are Qdrant's. A missing value matches nothing but is_empty. A key such as `a.b` is a key of the metadata or a
path in it (`field_value`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bebr.core.types import FieldType, check_field, check_id, field_value
from bebr.errors import InvalidFilter, InvalidId, InvalidMetadata

MAX_CONDITIONS = 1000
MAX_DEPTH = 8
MAX_VALUES = 10_000
"""Of one condition."""
MAX_SIZE = 20_000
"""Conditions and values in all, unless the caller says otherwise."""

_SHAPE = "a filter is an object with 'must', 'should' and 'must_not', each a list of conditions"
Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Match:
    """The field equals (keyword[]: contains) one of `values`; negated: it is present and does not."""

    key: str
    values: frozenset[Scalar]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """All given bounds hold for the field."""

    key: str
    gte: float | int | None = None
    gt: float | int | None = None
    lte: float | int | None = None
    lt: float | int | None = None


@dataclass(frozen=True, slots=True)
class IsEmpty:
    """The field is missing, null or an empty list."""

    key: str


@dataclass(frozen=True, slots=True)
class HasId:
    """The point's id is one of `ids`."""

    ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Filter:
    """All of `must`, at least one of `should` (if any), none of `must_not`. Hashable, so that it can key a cache."""

    must: tuple["Condition", ...] = ()
    should: tuple["Condition", ...] = ()
    must_not: tuple["Condition", ...] = ()
    size: int = field(default=0, compare=False)
    """Conditions and values in all, also of the filters within: what it costs to evaluate."""


Condition = Match | Range | IsEmpty | HasId | Filter


def parse_filter(data: object, fields: Mapping[str, FieldType], max_size: int = MAX_SIZE) -> Filter:
    """JSON value -> Filter. Raises InvalidFilter naming the place, what was expected and what came.

    max_size: conditions and values that it may have in all.
    """
    return _parse_filter(data, fields, "filter", _Counter(max_size), 0)


def matches(node: Condition, point_id: str, metadata: Mapping[str, Any]) -> bool:
    """Whether a point satisfies the filter: the meaning that every fast evaluation must reproduce."""
    match node:
        case Filter(must, should, must_not):
            return (
                all(matches(c, point_id, metadata) for c in must)
                and (not should or any(matches(c, point_id, metadata) for c in should))
                and not any(matches(c, point_id, metadata) for c in must_not)
            )
        case HasId(ids):
            return point_id in ids
        case IsEmpty(key):
            return field_value(metadata, key) in (None, [])
        case Match(key, values, negated):
            value = field_value(metadata, key)
            if value is None or value == []:
                return False
            found = any(item in values for item in value) if isinstance(value, list) else value in values
            return found != negated
        case Range(key, gte, gt, lte, lt):
            value = field_value(metadata, key)
            return (
                value is not None
                and (gte is None or value >= gte)
                and (gt is None or value > gt)
                and (lte is None or value <= lte)
                and (lt is None or value < lt)
            )


@dataclass(slots=True)
class _Counter:
    """What a filter has so far."""

    max_size: int
    conditions: int = 0
    size: int = 0

    def add_conditions(self, count: int, where: str) -> None:
        self.conditions += count
        if self.conditions > MAX_CONDITIONS:
            raise InvalidFilter(f"{where}: a filter has at most {MAX_CONDITIONS} conditions", at=where)
        self._add(count, where)

    def add_values(self, count: int, where: str) -> None:
        if count > MAX_VALUES:
            raise InvalidFilter(f"{where}: expected at most {MAX_VALUES} values, got {count}", at=where)
        self._add(count, where)

    def _add(self, count: int, where: str) -> None:
        self.size += count
        if self.size > self.max_size:
            raise InvalidFilter(
                f"{where}: the filters of a request have at most {self.max_size} conditions and values in all; "
                "search for a part of the values at a time, or store what they have in common in a field",
                at=where,
            )


def _parse_filter(data: object, fields: Mapping[str, FieldType], where: str, counter: _Counter, depth: int) -> Filter:
    if not isinstance(data, dict):
        raise InvalidFilter(f"{where}: {_SHAPE}, got {type(data).__name__}", at=where)
    if depth > MAX_DEPTH:
        raise InvalidFilter(f"{where}: filters nest at most {MAX_DEPTH} deep", at=where)
    unknown = set(data) - {"must", "should", "must_not"}
    if unknown:
        raise InvalidFilter(f"{where}: unknown key {sorted(unknown)[0]!r}; {_SHAPE}", at=where)
    parts, before = {}, counter.size
    for name in ("must", "should", "must_not"):
        conditions = [] if data.get(name) is None else data[name]
        if not isinstance(conditions, list):
            raise InvalidFilter(f"{where}.{name}: expected a list of conditions", at=f"{where}.{name}")
        counter.add_conditions(len(conditions), where)
        parts[name] = tuple(
            _parse_condition(c, fields, f"{where}.{name}[{i}]", counter, depth) for i, c in enumerate(conditions)
        )
    return Filter(**parts, size=counter.size - before)


def _parse_condition(
    data: object, fields: Mapping[str, FieldType], where: str, counter: _Counter, depth: int
) -> Condition:
    if not isinstance(data, dict):
        raise InvalidFilter(f"{where}: a condition is an object, got {type(data).__name__}", at=where)
    keys = set(data)
    if keys == {"key", "match"}:
        return _parse_match(data, fields, where, counter)
    if keys == {"key", "range"}:
        return _parse_range(data, fields, where)
    if keys == {"is_empty"} and isinstance(data["is_empty"], dict) and set(data["is_empty"]) == {"key"}:
        key, _ = _field(data["is_empty"], fields, where)
        return IsEmpty(key)
    if keys == {"has_id"} and isinstance(data["has_id"], list):
        return _parse_has_id(data["has_id"], where, counter)
    if keys and keys <= {"must", "should", "must_not"}:
        return _parse_filter(data, fields, where, counter, depth + 1)
    raise InvalidFilter(
        f"{where}: expected {{'key', 'match'}}, {{'key', 'range'}}, {{'is_empty': {{'key'}}}}, {{'has_id': [...]}} "
        f"or a nested filter, got an object with {sorted(map(str, keys))}",
        at=where,
    )


def _parse_match(data: dict[str, Any], fields: Mapping[str, FieldType], where: str, counter: _Counter) -> Match:
    key, kind = _field(data, fields, where)
    match = data["match"]
    if not isinstance(match, dict) or len(match) != 1 or not set(match) <= {"value", "any", "except"}:
        raise InvalidFilter(
            f"{where}.match: expected {{'value': ...}}, {{'any': [...]}} or {{'except': [...]}}", at=where
        )
    ((form, given),) = match.items()
    values = [given] if form == "value" else given
    if not isinstance(values, list):
        raise InvalidFilter(f"{where}.match.{form}: expected a list of at most {MAX_VALUES} values", at=where)
    counter.add_values(len(values), f"{where}.match.{form}")
    element = FieldType.KEYWORD if kind is FieldType.KEYWORDS else kind
    for value in values:
        _check_value(key, value, element, where)
    return Match(key, frozenset(values), negated=form == "except")


def _parse_range(data: dict[str, Any], fields: Mapping[str, FieldType], where: str) -> Range:
    key, kind = _field(data, fields, where)
    bounds = data["range"]
    if kind not in (FieldType.INTEGER, FieldType.FLOAT):
        raise InvalidFilter(f"{where}: 'range' needs an integer or float field, '{key}' is {kind}", at=where, key=key)
    if not isinstance(bounds, dict) or not bounds or not set(bounds) <= {"gte", "gt", "lte", "lt"}:
        raise InvalidFilter(f"{where}.range: expected an object with 'gte', 'gt', 'lte' or 'lt'", at=where)
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    for bound in given.values():
        _check_value(key, bound, FieldType.FLOAT, where)
    return Range(key, **given)


def _parse_has_id(values: list[object], where: str, counter: _Counter) -> HasId:
    counter.add_values(len(values), f"{where}.has_id")
    try:
        return HasId(frozenset(check_id(value) for value in values))
    except InvalidId as error:
        raise InvalidFilter(f"{where}.has_id: {error.detail}", at=where) from error


def _field(data: dict[str, Any], fields: Mapping[str, FieldType], where: str) -> tuple[str, FieldType]:
    key = data["key"]
    if not isinstance(key, str) or key not in fields:
        known = ", ".join(sorted(fields)) or "none"
        raise InvalidFilter(
            f"{where}: field {key!r:.80} is not filterable; filterable fields of this collection: {known}",
            at=where,
            key=key,
        )
    return key, fields[key]


def _check_value(key: str, value: object, kind: FieldType, where: str) -> None:
    if value is None:
        raise InvalidFilter(f"{where}: null never matches; use {{'is_empty': {{'key': '{key}'}}}}", at=where, key=key)
    try:
        check_field(key, value, kind)
    except InvalidMetadata as error:
        raise InvalidFilter(f"{where}: {error.detail}", at=where, key=key) from error
