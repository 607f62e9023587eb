"""Python values as JSON. What JSON does not have is never sent as something else: scalars of numpy are numbers, while
NaN, sets, dates, bytes, arrays and keys that are no strings are errors."""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from bebr.errors import InvalidMetadata, Malformed

UNSAYABLE = (TypeError, ValueError, RecursionError)
"""What `encode` raises for a value that JSON does not have."""


def _plain(value: Any) -> Any:
    """What JSON has for a scalar of numpy."""
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item()
    raise TypeError(f"{type(value).__name__} is none of its types")


encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode
"""A value as compact JSON. Raises one of UNSAYABLE."""


def to_json(value: Any) -> bytes:
    """Compact JSON in UTF-8. Raises Malformed, with the place in `at`, for a value that JSON does not have."""
    try:
        return encode(value).encode()
    except UNSAYABLE as error:
        place, reason = ("", str(error)) if isinstance(error, RecursionError) else _fault(value) or ("", str(error))
        raise Malformed(f"{place or 'the value'} cannot be written as JSON: {reason}", at=place) from error


def from_json(text: bytes) -> Any:
    """The value of one JSON text."""
    return json.loads(text)


def check_keys(metadata: Mapping[Any, Any]) -> None:
    """Raise InvalidMetadata for a key that is no string, which json would write as another key."""
    if (fault := _odd_key(metadata)) is not None:
        raise InvalidMetadata(f"metadata cannot be written as JSON: {fault}", key="metadata")


def keys_are_strings(metadata: Sequence[Any]) -> bool:
    """Whether json would write every key as it is. Quick where nothing is nested, as in most metadata."""
    objects = [item for item in metadata if isinstance(item, dict)]
    keys = set(map(type, chain.from_iterable(objects)))
    values = set(map(type, chain.from_iterable(map(dict.values, objects))))
    if list in values:
        lists = [value for item in objects for value in item.values() if type(value) is list]
        values = values - {list} | set(map(type, chain.from_iterable(lists)))
    if keys <= {str} and values.isdisjoint((dict, list, tuple)):
        return True
    return all(_odd_key(item) is None for item in objects)


def _odd_key(value: Mapping[Any, Any]) -> str | None:
    """A key that is no string: json would write 1 as "1"."""
    for key, item in value.items():
        if not isinstance(key, str):
            return f"its key {key!r:.80} is no string"
        if isinstance(item, dict | list | tuple) and (fault := _odd_key_inside(item)) is not None:
            return fault
    return None


def _odd_key_inside(value: Any) -> str | None:
    if isinstance(value, dict):
        return _odd_key(value)
    items = value if isinstance(value, list | tuple) else ()
    return next((fault for item in items if (fault := _odd_key_inside(item)) is not None), None)


def _fault(value: Any, place: str = "") -> tuple[str, str] | None:
    """(place, reason) of the first part of a value that JSON does not have."""
    if isinstance(value, Mapping):
        parts = [(f"{place}.{key}" if place else str(key), item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        parts = [(f"{place}[{position}]", item) for position, item in enumerate(value)]
    elif isinstance(value, float) and not math.isfinite(value):
        return place, f"{value} is no number there; leave the field out, or send null"
    else:
        try:
            encode(value).encode()
        except UnicodeError:
            return place, "it holds half a surrogate pair, which is not valid Unicode"
        except (TypeError, ValueError) as error:
            return place, str(error)
        return None
    return next((fault for name, item in parts if (fault := _fault(item, name)) is not None), None)
