"""Outcome: what is said of a write of several commits when one of them failed. Each commit is whole or not at all.

The error of the commit that failed is raised again, with what became of everything in its `fields`: how many operations
were applied, how many were not, of how many that is unknown, and `items`, which names those of the last two kinds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bebr.core.operations import Committed
from bebr.errors import BebrError, Damaged, StoreUnavailable


class Fate(StrEnum):
    """What became of an operation that was not acknowledged."""

    NOT_APPLIED = "not_applied"
    UNKNOWN = "unknown"
    """The store did not answer: it may have applied it, or may yet."""


@dataclass(frozen=True, slots=True)
class Failed:
    """One operation that was not acknowledged."""

    index: int
    """Its position in the request, from 0."""
    id: Any
    """The point's id as it was sent."""
    fate: Fate
    error: str
    """Name of the class in bebr.errors."""
    detail: str

    def as_json(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "id": self.id,
            "outcome": str(self.fate),
            "error": self.error,
            "detail": self.detail,
        }


def fate_of(error: BebrError) -> Fate:
    """Whether a commit that failed with this error may have been applied all the same."""
    if error.fields.get("sent") is False:
        return Fate.NOT_APPLIED
    unknown = isinstance(error, StoreUnavailable | Damaged) or error.fields.get("partly_applied", False)
    return Fate.UNKNOWN if unknown else Fate.NOT_APPLIED


def first_failure(outcomes: Iterable[Committed | BaseException]) -> BebrError | None:
    """The failure to raise: one with an unknown outcome before others. What is no BebrError is raised at once."""
    failures: list[BebrError] = []
    for outcome in outcomes:
        if isinstance(outcome, BebrError):
            failures.append(outcome)
        elif isinstance(outcome, BaseException):
            raise outcome
    return min(failures, key=lambda error: fate_of(error) is not Fate.UNKNOWN, default=None)


def told(error: BebrError, applied: int, not_applied: int, unknown: int, **fields: Any) -> BebrError:
    """The error again, saying what was applied; the same error where that is nothing for certain."""
    if not applied and not unknown:
        return error
    said = [f"applied: {applied}", f"not applied: {not_applied}"] + ([f"unknown: {unknown}"] if unknown else [])
    advice = "; send it again, with the same idempotency key if it had one" if unknown else ""
    kept = {key: value for key, value in error.fields.items() if key != "partly_applied"}
    counts = {"applied": applied, "not_applied": not_applied, "unknown": unknown}
    return type(error)(f"{error.detail} ({', '.join(said)}{advice})", **kept, **counts, **fields)


def items_json(items: Sequence[Failed]) -> list[dict[str, Any]]:
    """`items` of an error, by position in the request."""
    return [item.as_json() for item in sorted(items, key=lambda item: item.index)]
