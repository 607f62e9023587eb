"""What comes back from the service, as frozen dataclasses. A field that this client does not know is left out."""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bebr.core.types import Hit


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits of one search, best first, and what was searched: points per code version."""

    hits: list[Hit]
    query_version: str
    searched: dict[str, int]
    took_ms: float
    cursor: str | None = None
    explain: dict[str, Any] | None = None

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
    """A point that was refused: its position in the batch, its id, the name of the error, and why."""

    index: int
    id: Any
    error: str
    detail: str


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What a write did. `seq`: the last sequence number of every shard that changed."""

    applied: int
    rejected: int
    items: list[ItemError]
    seq: dict[str, int]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "WriteReport":
        items = [ItemError(item["index"], item.get("id"), item["error"], item["detail"]) for item in value["items"]]
        return cls(value["applied"], value["rejected"], items, value["seq"])

    def followed_by(self, other: "WriteReport", first_index: int) -> "WriteReport":
        """This report joined with that of the next batch, whose first point stands at `first_index`."""
        moved = [ItemError(first_index + item.index, item.id, item.error, item.detail) for item in other.items]
        return WriteReport(
            self.applied + other.applied, self.rejected + other.rejected, self.items + moved, self.seq | other.seq
        )


NOTHING_WRITTEN = WriteReport(0, 0, [], {})


@dataclass(frozen=True, slots=True)
class Point:
    """A stored point. `metadata` and `code` are None when they were not asked for."""

    id: str
    version: str
    metadata: dict[str, Any] | None = None
    code: bytes | None = None

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
    """One page of a scroll. `cursor` asks for the next one; None: this was the last."""

    points: list[Point]
    cursor: str | None


class JobState(StrEnum):
    """A job ends as succeeded, failed or cancelled. Only backfills are paused."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """A bulk ingestion: lines received, points applied and rejected so far; `detail` says why it failed.

    Or a backfill: of `total` points so many have new codes, hold no text (`rejected`), or are left (`remaining`).
    """

    id: str
    state: JobState
    received: int = 0
    applied: int = 0
    rejected: int = 0
    rate_per_s: float | None = None
    eta_s: float | None = None
    detail: str | None = None
    total: int | None = None
    remaining: int | None = None
    other: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        return self.state not in (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED)

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
