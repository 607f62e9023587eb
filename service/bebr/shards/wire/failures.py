"""Errors as they cross the wire: their class, what they say, and their fields; and why a leaf does not answer."""

from enum import StrEnum
from typing import Any

from bebr import errors
from bebr.errors import BebrError, LeafUnavailable
from bebr.shards.wire.frames import WireError

MAX_DETAIL = 4_000
MAX_FIELDS = 32


class Reason(StrEnum):
    """Why a leaf does not answer a call that another one may answer: the field `reason` of LeafUnavailable."""

    GONE = "gone"
    """There is no connection to it, or the one there was ended."""
    SILENT = "silent"
    """It has not answered in time."""
    NOT_HELD = "not held"
    """It does not have the shard, or not yet."""
    UNKNOWN = "unknown"
    """It does not know the code version, or the fields, yet."""
    LATE = "late"
    """Its view does not have the operations that were asked for."""
    BUSY = "busy"
    """It has too many calls."""
    FAILED = "failed"
    """What it was asked went wrong there."""


def unavailable(reason: Reason, detail: str) -> LeafUnavailable:
    return LeafUnavailable(detail, reason=str(reason))


def encoded(error: BebrError) -> list[Any]:
    fields = {str(key): _plain(value) for key, value in list(error.fields.items())[:MAX_FIELDS]}
    return [type(error).__name__, error.detail[:MAX_DETAIL], fields]


def decoded(value: object) -> BebrError:
    """Raises WireError."""
    if not (isinstance(value, list) and len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], str)):
        raise WireError("a failure is [error, detail, fields]")
    name, detail, fields = value
    if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
        raise WireError("the fields of a failure are an object")
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, BebrError)):
        return BebrError(f"{name}: {detail}", **_without_detail(fields))
    return kind(detail, **_without_detail(fields))


def _without_detail(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key not in ("detail", "self")}


def _plain(value: object) -> Any:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in list(value)[:MAX_FIELDS]]
    return str(value)[:200]
