"""The nouns that cross package borders: ids, field types, operations, hits. Plain data, no behaviour beyond checks."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bebr.core.datetimes import microseconds
from bebr.errors import InvalidId, InvalidMetadata

MAX_ID_BYTES = 256
MAX_KEYWORD_BYTES = 1024
MAX_ARRAY_ITEMS = 256
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
FLOAT64_MAX = sys.float_info.max


class FieldType(StrEnum):
    """Type of a filterable metadata field: `FIELD_TYPES` says what each takes."""

    KEYWORD = "keyword"
    INTEGER = "integer"
    FLOAT = "float"
    BOOL = "bool"
    DATETIME = "datetime"
    KEYWORDS = "keyword[]"
    INTEGERS = "integer[]"
    FLOATS = "float[]"
    BOOLS = "bool[]"
    DATETIMES = "datetime[]"

    @property
    def element(self) -> "FieldType":
        """The type of each value of an array; of other types they themselves."""
        return _ELEMENTS[self]

    @property
    def is_array(self) -> bool:
        return _ELEMENTS[self] is not self

    @property
    def has_range(self) -> bool:
        """Whether values are less or greater than others."""
        return _ELEMENTS[self] in (FieldType.INTEGER, FieldType.FLOAT, FieldType.DATETIME)


_ELEMENTS = {kind: FieldType(kind.value.removesuffix("[]")) for kind in FieldType}
FIELD_TYPES: Mapping[FieldType, str] = {
    FieldType.KEYWORD: f"a string of up to {MAX_KEYWORD_BYTES:,} characters",
    FieldType.INTEGER: "a number without a fraction, of 64 bits",
    FieldType.FLOAT: "any number",
    FieldType.BOOL: "true or false",
    FieldType.DATETIME: "a time of RFC 3339 such as '2024-02-29T12:00:00.5+01:00', compared by the microsecond",
    **{
        kind: f"an array of up to {MAX_ARRAY_ITEMS} values of type {kind.element}"
        for kind in FieldType
        if kind.is_array
    },
}
"""What a value of each type is. The API, its documents and the command line read the types here."""


class WriteMode(StrEnum):
    """What a write does if the id exists, or does not."""

    UPSERT = "upsert"
    INSERT_ONLY = "insert_only"
    UPDATE_ONLY = "update_only"


class Role(StrEnum):
    """What a process does in a store that several share."""

    PRIMARY = "primary"
    """It writes, seals and runs the jobs; a single process is one."""
    FOLLOWER = "follower"
    """It only reads, and follows what the primary commits."""


class JobState(StrEnum):
    """State of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether the job is over."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Puts:
    """Points of one shard and one code version, column by column."""

    ids: list[str]
    version: int
    """Number of the code version."""
    records: NDArray[np.uint8]
    """(points, record_size_bytes) uint8: codes and gains."""
    metadata: list[str]
    """JSON objects as text."""


class StoredPoint(NamedTuple):
    """A point as the store holds it. A tuple, since every hit of every search makes one."""

    id: str
    seq: int
    """Seq of the operation that wrote it last."""
    version: int
    """Number of the code version."""
    record: bytes
    """Its code and gain."""
    metadata: str
    """A JSON object as text."""


class Hit(NamedTuple):
    """One search result, in the service and in its client. A tuple for the same reason."""

    id: str
    score: float
    """Higher is better."""
    version: str
    """The code version that the point was found in."""
    metadata: Any = None
    """In the client a dict, inside the service the same as JSON text; None when it was not requested."""
    distance: int | None = None
    """The Hamming distance; only of the scorer `hamming`."""
    code: bytes | None = None
    """The stored record; only when it was requested."""

    @classmethod
    def of_rows(cls, rows: Iterable[tuple[str, float, str, Any, int | None, bytes | None]]) -> "list[Hit]":
        """Hits from all their fields: the same as `Hit(*row)`, which would call a function of Python for each."""
        return list(map(partial(tuple.__new__, cls), rows))


def check_id(value: object) -> str:
    """Return the id, or raise InvalidId: a non-empty string of at most 256 bytes in UTF-8, without NUL.

    Integers are refused rather than turned into strings, so that 7 and "7" can never be mixed up.
    """
    if not isinstance(value, str):
        raise InvalidId(
            f'a point id must be a string, got {_kind(value)} {value!r:.80}; write it as "{value!s:.80}"', id=value
        )
    if not value:
        raise InvalidId("a point id must not be empty", id=value)
    try:
        size = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError:
        raise InvalidId(f"a point id must be valid Unicode, got {value!a:.80}") from None
    if size > MAX_ID_BYTES:
        raise InvalidId(f"a point id has at most {MAX_ID_BYTES} bytes in UTF-8, got {size}", id=value[:80])
    if "\0" in value:
        raise InvalidId("a point id must not contain the NUL character", id=value)
    return value


def field_value(metadata: Mapping[str, Any], key: str) -> Any:
    """The value of a filterable field: that of the key itself, else what lies at its path. None: it is missing.

    `a.b` is the key "a.b", or b of the object a. Where an array lies on the path, the values of its objects are
    gathered: `{"a": [{"b": "x"}, {"b": ["y", "z"]}]}` has ["x", "y", "z"] at `a.b`.
    """
    value = metadata.get(key)
    return _at_path(metadata, key.split(".")) if value is None and "." in key else value


def check_field(key: str, value: object, kind: FieldType) -> None:
    """Raise InvalidMetadata unless the metadata value fits the filterable field. None represents a missing value."""
    if value is None or fits(value, kind):
        return
    raise InvalidMetadata(
        f"metadata field '{key}' is filterable as {kind}, {FIELD_TYPES[kind]}; got {_kind(value)} {value!r:.80}",
        key=key,
        expected=str(kind),
    )


def check_fields(metadata: Mapping[str, Any], fields: Mapping[str, FieldType]) -> None:
    """Raise InvalidMetadata unless every filterable field of the metadata has its declared type."""
    for key, kind in fields.items():
        value = metadata.get(key)
        if value is None and "." in key:
            value = field_value(metadata, key)
        if value is not None and not fits(value, kind):
            check_field(key, value, kind)


def fits(value: object, kind: FieldType) -> bool:
    """Whether a value that is there has the type. Integral floats such as 2024.0 are integers."""
    return _FITS[kind](value)


def column_value(value: Any, kind: FieldType) -> Any:
    """What a column holds of a metadata value: the value, or a time in microseconds; None where it does not fit."""
    if value is None:
        return None
    if kind is FieldType.DATETIME:
        return microseconds(value) if isinstance(value, str) else None
    if not _FITS[kind](value):
        return None
    return [microseconds(item) for item in value] if kind is FieldType.DATETIMES else value


def _is_keyword(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_KEYWORD_BYTES


def _is_integer(value: object) -> bool:
    if isinstance(value, float):
        return value.is_integer() and INT64_MIN <= value <= INT64_MAX
    return isinstance(value, int) and not isinstance(value, bool) and INT64_MIN <= value <= INT64_MAX


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= FLOAT64_MAX


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_time(value: object) -> bool:
    return isinstance(value, str) and microseconds(value) is not None


def _is_array(fits_item: Callable[[object], bool], value: object) -> bool:
    return isinstance(value, list) and len(value) <= MAX_ARRAY_ITEMS and all(map(fits_item, value))


_FITS: dict[FieldType, Callable[[object], bool]] = {  # a table, since every value that is written is looked at
    FieldType.KEYWORD: _is_keyword,
    FieldType.INTEGER: _is_integer,
    FieldType.FLOAT: _is_number,
    FieldType.BOOL: _is_bool,
    FieldType.DATETIME: _is_time,
}
_FITS |= {kind: partial(_is_array, _FITS[kind.element]) for kind in FieldType if kind.is_array}


def _at_path(node: Any, path: Sequence[str]) -> Any:
    for depth, name in enumerate(path):
        if isinstance(node, list):
            found = [_at_path(item, path[depth:]) for item in node if isinstance(item, dict)]
            return [
                value for item in found for value in (item if isinstance(item, list) else [item]) if value is not None
            ] or None
        if not isinstance(node, dict):
            return None
        node = node.get(name)
    return node


def _kind(value: object) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
