"""What the client returns, as frozen dataclasses. Unknown fields of a response are ignored."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bebr.core.types import Hit, JobState


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The result of one search."""

    hits: list[Hit]
    """Best first."""
    query_version: str
    """The code version whose model embedded the query."""
    searched: dict[str, int]
    """Code version -> number of points that were searched."""
    took_ms: float
    cursor: str | None = None
    """Fetches the next page; None: there is none."""
    explain: dict[str, Any] | None = None
    """How the search was done; only when it was requested."""

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "SearchResult":
        return cls(
            [_hit(hit) for hit in value["hits"]],
            value["query_version"],
            value["searched"],
            value["took_ms"],
            value.get("cursor"),
            value.get("explain"),
        )


@dataclass(frozen=True, slots=True)
class ItemError:
    """A point that was rejected."""

    index: int
    """Its position in the input."""
    id: Any
    error: str
    """The name of the error class."""
    detail: str
    """Why it was rejected."""


@dataclass(frozen=True, slots=True)
class WriteReport:
    """The result of a write."""

    applied: int
    """Number of points that were written."""
    rejected: int
    """Number of points that were rejected."""
    items: list[ItemError]
    """The rejected points."""
    seq: dict[str, int]
    """Shard -> its last sequence number, for every shard that changed."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "WriteReport":
        items = [ItemError(item["index"], item.get("id"), item["error"], item["detail"]) for item in value["items"]]
        return cls(value["applied"], value["rejected"], items, value["seq"])

    def joined(self, positions: Sequence[int], errors: Sequence[ItemError]) -> "WriteReport":
        """The report on what was sent -> one on all points: each lay at one of `positions`, the others had `errors`."""
        moved = [ItemError(positions[item.index], item.id, item.error, item.detail) for item in self.items]
        items = sorted([*moved, *errors], key=lambda item: item.index)
        return WriteReport(self.applied, self.rejected + len(errors), items, self.seq)

    def followed_by(self, other: "WriteReport", first_index: int) -> "WriteReport":
        """This report combined with that of the next batch, whose first point has position `first_index`."""
        moved = [ItemError(first_index + item.index, item.id, item.error, item.detail) for item in other.items]
        return WriteReport(
            self.applied + other.applied, self.rejected + other.rejected, self.items + moved, self.seq | other.seq
        )


NOTHING_WRITTEN = WriteReport(0, 0, [], {})


@dataclass(frozen=True, slots=True)
class Point:
    """A stored point."""

    id: str
    version: str
    """Its code version."""
    metadata: dict[str, Any] | None = None
    """None when it was not requested."""
    code: bytes | None = None
    """The stored record; None when it was not requested."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Point":
        return cls(value["id"], value["version"], value.get("metadata"), _code(value))


@dataclass(frozen=True, slots=True)
class Fetched:
    """Points by id, and the ids that do not exist."""

    points: list[Point]
    missing: list[str]


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a scroll."""

    points: list[Point]
    cursor: str | None
    """Fetches the next page; None: this was the last one."""


@dataclass(frozen=True, slots=True)
class Job:
    """A bulk ingestion, a backfill or a fit, and how far it is."""

    id: str
    state: JobState
    received: int = 0
    """Lines received, of an ingestion."""
    applied: int = 0
    """Points written or re-encoded."""
    rejected: int = 0
    """Lines rejected, or points without a text to re-encode."""
    rate_per_s: float | None = None
    eta_s: float | None = None
    """Estimated seconds until the end."""
    detail: str | None = None
    """Why it failed, or what it is waiting for."""
    total: int | None = None
    """Points of a backfill."""
    remaining: int | None = None
    """Points of a backfill that are not re-encoded yet."""
    other: dict[str, Any] = field(default_factory=dict)
    """Fields of the response that this client does not know."""
    unsent: tuple[ItemError, ...] = ()
    """Points of an iterable that JSON cannot say, so that they were not sent; `rejected` counts them too."""

    @property
    def ended(self) -> bool:
        """Whether it has succeeded, failed or been cancelled."""
        return self.state.ended

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Job":
        known = {"received", "applied", "rejected", "rate_per_s", "eta_s", "detail", "total", "remaining"}
        other = {name: item for name, item in value.items() if name not in known | {"job", "state"}}
        return cls(value["job"], JobState(value["state"]), other=other, **{k: value[k] for k in known & value.keys()})


def _hit(value: Mapping[str, Any]) -> Hit:
    return Hit(
        value["id"], value["score"], value["version"], value.get("metadata"), value.get("distance"), _code(value)
    )


def _code(value: Mapping[str, Any]) -> bytes | None:
    text = value.get("code_b64")
    return None if text is None else base64.b64decode(text)
