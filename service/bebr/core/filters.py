"""The filter grammar: JSON -> a checked tree, and what it means for one point (the oracle of the columns in `index`).

    {"must": [C, ...], "should": [C, ...], "must_not": [C, ...]}      all / at least one / none
    C = {"key": "lang", "match": {"value": "en"}}                      equal; for arrays: contains
      | {"key": "lang", "match": {"any": ["en", "de"]}}                one of
      | {"key": "lang", "match": {"except": ["en"]}}                   present, and none of
      | {"key": "year", "range": {"gte": 2020, "lt": 2024}}            numbers and times; arrays: one value is
      | {"is_empty": {"key": "lang"}}                                  missing, null or []
      | {"has_id": ["a", "b"]}
      | a nested filter

The shapes are Qdrant's. A missing value matches nothing but is_empty. A key such as `a.b` is a key of the metadata or a
path in it (`field_value`). Times are compared by the instant that they name. A value that does not fit the type of its
field, as fields can be added to points that there are, is missing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bebr.core.types import FieldType, check_field, check_id, column_value, field_value
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
    """The field equals (arrays: contains) one of `values`; negated: it is present and does not."""

    key: str
    kind: FieldType
    """Type of the field."""
    values: frozenset[Scalar]
    """As columns hold them."""
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """All given bounds hold for the field (arrays: for the same value of it)."""

    key: str
    kind: FieldType
    """Type of the field."""
    gte: float | int | None = None
    gt: float | int | None = None
    lte: float | int | None = None
    lt: float | int | None = None


@dataclass(frozen=True, slots=True)
class IsEmpty:
    """The field is missing, null or an empty list."""

    key: str
    kind: FieldType
    """Type of the field."""


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
        case IsEmpty(key, kind):
            return not _held(metadata, key, kind)
        case Match(key, kind, values, negated):
            held = _held(metadata, key, kind)
            return bool(held) and any(value in values for value in held) != negated
        case Range(key, kind):
            return any(_is_within(value, node) for value in _held(metadata, key, kind))


def _held(metadata: Mapping[str, Any], key: str, kind: FieldType) -> list[Any]:
    """The values of the field, as columns hold them."""
    value = column_value(field_value(metadata, key), kind)
    return value if isinstance(value, list) else [] if value is None else [value]


def _is_within(value: Any, bounds: Range) -> bool:
    return (
        (bounds.gte is None or value >= bounds.gte)
        and (bounds.gt is None or value > bounds.gt)
        and (bounds.lte is None or value <= bounds.lte)
        and (bounds.lt is None or value < bounds.lt)
    )


def keys_of(node: Condition) -> set[str]:
    """The fields that a filter needs."""
    match node:
        case Filter(must, should, must_not):
            return {key for condition in (*must, *should, *must_not) for key in keys_of(condition)}
        case HasId():
            return set()
        case _:
            return {node.key}


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
        return IsEmpty(*_field(data["is_empty"], fields, where))
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
    held = frozenset(_checked(key, value, kind.element, where) for value in values)
    return Match(key, kind, held, negated=form == "except")


def _parse_range(data: dict[str, Any], fields: Mapping[str, FieldType], where: str) -> Range:
    key, kind = _field(data, fields, where)
    bounds = data["range"]
    if not kind.has_range:
        raise InvalidFilter(
            f"{where}: 'range' needs a field of type integer, float or datetime, or of arrays of these; "
            f"'{key}' is {kind}",
            at=where,
            key=key,
        )
    if not isinstance(bounds, dict) or not bounds or not set(bounds) <= {"gte", "gt", "lte", "lt"}:
        raise InvalidFilter(f"{where}.range: expected an object with 'gte', 'gt', 'lte' or 'lt'", at=where)
    element = FieldType.DATETIME if kind.element is FieldType.DATETIME else FieldType.FLOAT
    given = {name: _checked(key, bound, element, where) for name, bound in bounds.items() if bound is not None}
    return Range(key, kind, **given)


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


def _checked(key: str, value: object, kind: FieldType, where: str) -> Any:
    """The value as columns hold it."""
    if value is None:
        raise InvalidFilter(f"{where}: null never matches; use {{'is_empty': {{'key': '{key}'}}}}", at=where, key=key)
    try:
        check_field(key, value, kind)
    except InvalidMetadata as error:
        raise InvalidFilter(f"{where}: {error.detail}", at=where, key=key) from error
    return column_value(value, kind)
