"""What a job is for those who ask: its kind, its state and how far it is, as of now."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from bebr.core.types import FieldType, JobState, WriteMode
from bebr.shards import Misfits


class JobKind(StrEnum):
    """What a job does."""

    INGEST = "ingest"
    BACKFILL = "backfill"
    FIT = "fit"
    FIELDS = "fields"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What jobs of all kinds have in common."""

    id: str
    kind: JobKind
    collection: str
    """Its name."""
    version: str | None
    """Id of the code version that it writes."""
    state: JobState
    detail: str | None
    """What it waits for or does now, or why it failed."""
    created_at: float | None
    """Seconds since 1970; None where that is not kept."""
    finished_at: float | None
    """Seconds since 1970; None while it has not ended, or where that is not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestJob(Job):
    """A bulk ingestion."""

    mode: WriteMode
    line: int
    """Lines that were read."""
    received: int
    """Points that were read."""
    applied: int
    """Points that were written."""
    rejected: int
    """Points that were refused."""
    rate_per_s: float
    """Points per second since it began, or since the service started."""
    eta_s: float | None
    """Seconds left, about; None where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillJob(Job):
    """A backfill."""

    total: int
    """Points that had other codes when it began."""
    applied: int
    """Points that were re-encoded."""
    rejected: int
    """Points that hold no text."""
    remaining: int
    """Points left."""
    rate_limit: float
    """Points per second at most."""
    rate_per_s: float
    """Points per second since it began, or since the service started."""
    eta_s: float | None
    """Seconds left, about; None where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitJob(Job):
    """A collection's fit. It is queued while embeddings are collected, and running until all points are re-encoded."""

    bytes: int
    """Bytes per code."""
    sample: int
    """Embeddings to fit to."""
    collected: int
    """Points that wait as embeddings: for the fit, or to be re-encoded after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldsJob(Job):
    """A change of the filterable fields of points that there are."""

    fields: Mapping[str, FieldType | None]
    """The fields that are added, or get another type; None: that are dropped."""
    total: int
    """Points that there were when it began."""
    progress: float
    """The share of points that are done, 0 to 1."""
    rejected: int
    """Values that do not fit their field: these points are without it."""
    misfits: Mapping[str, Misfits]
    """The same by field, with the first ids."""
