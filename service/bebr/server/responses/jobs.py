"""Answers about jobs."""

from typing import Annotated, Any, Literal

from pydantic import Field, RootModel

from bebr.core.types import WriteMode
from bebr.server.responses.base import Answer

State = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]


class JobAccepted(Answer):
    job: str


class _Job(Answer):
    """What bulk ingestions and backfills share."""

    job: str
    collection: str
    version: str | None = Field(description="Code version of the vectors and codes that it writes.")
    state: State
    applied: int = Field(description="Points that were written.")
    rejected: int = Field(description="Lines that were refused; of a backfill, points without a text.")
    rate_per_s: float = Field(description="Points per second.")
    eta_s: float | None = Field(description="Seconds left, about; null if that is not known.")
    detail: str | None = Field(description="Why it failed, or what it waits for.")
    created_at: str
    finished_at: str | None


class IngestJob(_Job):
    kind: Literal["ingest"]
    mode: WriteMode
    received: int = Field(description="Points that were read.")
    line: int = Field(description="Lines that were read.")


class BackfillJob(_Job):
    kind: Literal["backfill"]
    total: int = Field(description="Points that had other codes when it began.")
    remaining: int = Field(description="Points left.")
    rate_limit: float = Field(description="Points per second at most.")


class Job(RootModel[Annotated[IngestJob | BackfillJob, Field(discriminator="kind")]]):
    """A bulk ingestion or a backfill."""


class JobList(Answer):
    jobs: list[Job] = Field(description="Newest first.")


class LineError(Answer):
    line: int = Field(description="Number of the line, from 1.")
    id: Any = Field(description="Id of the point, as it was sent.")
    error: str = Field(description="Name of the error.", examples=["InvalidVector"])
    detail: str
