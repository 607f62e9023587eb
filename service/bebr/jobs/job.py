"""What a job is for those who ask: its kind, its state and how far it is, as of now."""

from dataclasses import dataclass
from enum import StrEnum

from bebr.core.types import JobState, WriteMode


class JobKind(StrEnum):
    """What a job does."""

    INGEST = "ingest"
    BACKFILL = "backfill"
    FIT = "fit"


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
