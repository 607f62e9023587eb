"""Fields that become filterable by themselves: which types metadata suggests."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

from bebr.core.datetimes import microseconds
from bebr.core.types import INT64_MAX, INT64_MIN, MAX_KEYWORD_BYTES, FieldType

MAX_KEY_CHARS = 256
MAX_DEPTH = 8
"""Objects that lie deeper are no paths of fields."""


def new_fields(metadata: Sequence[Mapping[str, Any]], known: Set[str]) -> dict[str, FieldType]:
    """The fields that are not known yet, in the order in which they come, with the type of what comes first.

    Objects are read as paths. An integer that comes with other numbers is one of them, and a time with other strings;
    null, empty arrays and strings that are too long for a keyword suggest nothing.
    """
    values: dict[str, list[Any]] = {}
    for item in metadata:
        for key, value in _leaves(item, "", 0):
            if key not in known:
                values.setdefault(key, []).append(value)
    found = {key: _kind_of(some) for key, some in values.items()}
    return {key: kind for key, kind in found.items() if kind is not None}


def _leaves(item: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for name, value in item.items():
        key = f"{prefix}{name}"
        if not 1 <= len(key) <= MAX_KEY_CHARS:
            continue
        if isinstance(value, dict):
            if depth < MAX_DEPTH:
                yield from _leaves(value, f"{key}.", depth + 1)
        elif value is not None:
            yield key, value
            if isinstance(value, list) and depth < MAX_DEPTH:
                for one in value:
                    if isinstance(one, dict):
                        yield from ((path, _as_list(leaf)) for path, leaf in _leaves(one, f"{key}.", depth + 1))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _kind_of(values: Iterable[Any]) -> FieldType | None:
    first = next((value for value in values if value != []), None)
    if isinstance(first, list):
        element = _scalar_kind([item for value in values if isinstance(value, list) for item in value])
        return None if element is None else FieldType(f"{element}[]")
    return _scalar_kind([value for value in values if not isinstance(value, list)])


def _scalar_kind(values: Sequence[Any]) -> FieldType | None:
    kinds = [kind for value in values if (kind := _suggested(value)) is not None]
    if not kinds:
        return None
    first, all_kinds = kinds[0], set(kinds)
    if first is FieldType.INTEGER and FieldType.FLOAT in all_kinds:
        return FieldType.FLOAT
    if first is FieldType.DATETIME and FieldType.KEYWORD in all_kinds:
        return FieldType.KEYWORD
    return first


def _suggested(value: Any) -> FieldType | None:
    match value:
        case bool():
            return FieldType.BOOL
        case int():
            return FieldType.INTEGER if INT64_MIN <= value <= INT64_MAX else FieldType.FLOAT
        case float():
            return FieldType.FLOAT
        case str() if len(value) <= MAX_KEYWORD_BYTES:
            return FieldType.KEYWORD if microseconds(value) is None else FieldType.DATETIME
    return None
