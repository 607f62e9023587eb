"""Jobs: bulk ingestions and backfills. Their progress, their rejected lines, pausing and canceling."""

from contextlib import suppress
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from bebr.errors import Conflict, JobNotFound
from bebr.server.access import Access
from bebr.server.bodies import NDJSON
from bebr.server.context import EngineOf, JobsOf
from bebr.server.openapi import Operation
from bebr.server.responses.base import json_response
from bebr.server.responses.jobs import Job, JobList, LineError

router = APIRouter(prefix="/v1/jobs")

LIST = Operation("List jobs", "jobs", JobList, access=Access.READ, description="Newest first.")
GET = Operation("Get a job", "jobs", Job, access=Access.READ, errors=(JobNotFound,))
ERRORS = Operation(
    "Get the rejected lines of a job",
    "jobs",
    LineError,
    answer_type=NDJSON,
    access=Access.READ,
    errors=(JobNotFound,),
    description="One JSON object per line.",
)
PAUSE = Operation(
    "Pause a backfill",
    "jobs",
    Job,
    errors=(JobNotFound, Conflict),
    description="It stays paused across restarts.",
)
RESUME = Operation("Resume a backfill", "jobs", Job, errors=(JobNotFound, Conflict))
CANCEL = Operation(
    "Cancel a job",
    "jobs",
    Job,
    errors=(JobNotFound,),
    description="What was applied stays. Batches in flight are completed first.",
)


@router.get("", **LIST.route_options())
async def list_jobs(jobs: JobsOf, engine: EngineOf) -> Response:
    found = jobs.list_jobs() + engine.upgrading.list_backfills()
    found.sort(key=lambda job: str(job["created_at"]), reverse=True)
    return json_response(JobList(jobs=[Job.model_validate(job) for job in found]))


@router.get("/{job}", **GET.route_options())
async def get_job(job: str, jobs: JobsOf, engine: EngineOf) -> Response:
    with suppress(JobNotFound):
        return _answer(jobs.get(job))
    return _answer(engine.upgrading.get_backfill(job))


@router.get("/{job}/errors", **ERRORS.route_options())
async def get_job_errors(job: str, jobs: JobsOf) -> Response:
    return StreamingResponse(jobs.errors(job), media_type=NDJSON)


@router.post("/{job}/pause", **PAUSE.route_options())
async def pause_job(job: str, jobs: JobsOf, engine: EngineOf) -> Response:
    _check_backfill(jobs, job)
    return _answer(await engine.upgrading.pause_backfill(job))


@router.post("/{job}/resume", **RESUME.route_options())
async def resume_job(job: str, jobs: JobsOf, engine: EngineOf) -> Response:
    _check_backfill(jobs, job)
    return _answer(await engine.upgrading.resume_backfill(job))


@router.delete("/{job}", **CANCEL.route_options())
async def cancel_job(job: str, jobs: JobsOf, engine: EngineOf) -> Response:
    with suppress(JobNotFound):
        return _answer(await jobs.cancel(job))
    return _answer(await engine.upgrading.cancel_backfill(job))


def _answer(job: dict[str, Any]) -> Response:
    return json_response(Job.model_validate(job))


def _check_backfill(jobs: JobsOf, job: str) -> None:
    with suppress(JobNotFound):
        jobs.get(job)
        raise Conflict(f"job {job} is a bulk ingestion, which cannot be paused; cancel it and send the rest later")
