"""Answers about jobs."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import Field, RootModel

from bebr import jobs as background
from bebr.core.types import FieldType, JobState, WriteMode
from bebr.server.responses.base import Answer, iso


class JobAccepted(Answer):
    job: str


class _Job(Answer):
    """What jobs of all kinds share."""

    job: str
    collection: str
    version: str | None = Field(description="Code version that it writes, or that vectors and codes must be of.")
    state: JobState
    detail: str | None = Field(description="Why it failed, or what it does or waits for.")
    created_at: str | None = Field(description="Null for a fit that was requested after the collection was created.")
    finished_at: str | None = Field(description="Null while it has not ended, and for a fit.")


class IngestJob(_Job):
    kind: Literal["ingest"]
    mode: WriteMode
    line: int = Field(description="Lines that were read.")
    received: int = Field(description="Points that were read.")
    applied: int = Field(description="Points that were written.")
    rejected: int = Field(description="Lines that were refused.")
    rate_per_s: float = Field(description="Points per second.")
    eta_s: float | None = Field(description="Seconds left, about; null if that is not known.")


class BackfillJob(_Job):
    kind: Literal["backfill"]
    total: int = Field(description="Points that had other codes when it began.")
    applied: int = Field(description="Points that were re-encoded.")
    rejected: int = Field(description="Points without a text.")
    remaining: int = Field(description="Points left.")
    rate_limit: float = Field(description="Points per second at most.")
    rate_per_s: float = Field(description="Points per second.")
    eta_s: float | None = Field(description="Seconds left, about; null if that is not known.")


class FitJob(_Job):
    """Queued while embeddings are collected, running until all points are re-encoded."""

    kind: Literal["fit"]
    bytes: int = Field(description="Bytes per code.")
    sample: int = Field(description="Embeddings to fit to, which are collected first.")
    collected: int = Field(description="Points kept as embeddings: until the fit, then until they are re-encoded.")


class Misfits(Answer):
    count: int
    ids: list[str] = Field(description="The first of them.")


class FieldsJob(_Job):
    """A change of the filterable fields of points that there are."""

    kind: Literal["fields"]
    fields: dict[str, FieldType | None] = Field(
        description="Fields that are added or get another type; null: that are dropped."
    )
    total: int = Field(description="Points that there were when it began.")
    progress: float = Field(description="Share of the points that are done, 0 to 1.")
    rejected: int = Field(description="Values that do not fit their field: these points are stored without it.")
    misfits: dict[str, Misfits] = Field(description="The points of these values, by field.")


class Job(RootModel[Annotated[IngestJob | BackfillJob | FitJob | FieldsJob, Field(discriminator="kind")]]):
    """A bulk ingestion, a backfill, a fit or a change of fields."""

    @classmethod
    def of(cls, job: background.Job) -> "Job":
        values = {field.name: getattr(job, field.name) for field in fields(job)}
        rounded = {key: round(values[key], 1) for key in ("rate_per_s", "eta_s") if values.get(key) is not None}
        if isinstance(job, background.FieldsJob):
            misfits = {key: {"count": one.count, "ids": list(one.ids)} for key, one in job.misfits.items()}
            values |= {"progress": round(job.progress, 3), "misfits": misfits}
        times = {key: iso(values[key]) for key in ("created_at", "finished_at")}
        return cls.model_validate({"job": values.pop("id"), **values, **rounded, **times})


class JobList(Answer):
    jobs: list[Job] = Field(description="Newest first.")

    @classmethod
    def of(cls, found: Iterable[background.Job]) -> "JobList":
        return cls(jobs=[Job.of(job) for job in found])


class LineError(Answer):
    line: int = Field(description="Number of the line, from 1.")
    id: Any = Field(description="Id of the point, as it was sent.")
    error: str = Field(description="Name of the error.", examples=["InvalidVector"])
    detail: str
