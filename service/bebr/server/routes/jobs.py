"""Jobs: bulk ingestion and backfills. How far they are, what they refused, and an end to them."""

from contextlib import suppress
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from bebr.errors import Conflict, JobNotFound
from bebr.server import responses
from bebr.server.bodies import NDJSON
from bebr.server.context import EngineOf, JobsOf
from bebr.server.openapi import Operation
from bebr.server.responses import json_response

router = APIRouter(prefix="/v1/jobs")

LIST = Operation("List jobs", "jobs", responses.JobList, description="Newest first.")
GET = Operation("Get a job", "jobs", responses.Job, errors=(JobNotFound,))
ERRORS = Operation(
    "Get the rejected lines of a job",
    "jobs",
    NDJSON,
    errors=(JobNotFound,),
    description='One object a line: `{"line": 17, "id": "a", "error": "InvalidVector", "detail": "..."}`.',
)
PAUSE = Operation(
    "Pause a backfill", "jobs", responses.Job, errors=(JobNotFound, Conflict), description="Also over a restart."
)
RESUME = Operation("Resume a backfill", "jobs", responses.Job, errors=(JobNotFound, Conflict))
CANCEL = Operation(
    "Cancel a job",
    "jobs",
    responses.Job,
    errors=(JobNotFound,),
    description="What was applied stays. The batches in flight end first.",
)


@router.get("", **LIST.route_options())
async def list_jobs(jobs: JobsOf, engine: EngineOf) -> Response:
    found: list[dict[str, Any]] = jobs.list_jobs() + engine.upgrading.list_backfills()
    return json_response({"jobs": sorted(found, key=lambda job: job["created_at"], reverse=True)})


@router.get("/{job}", **GET.route_options())
async def get_job(job: str, jobs: JobsOf, engine: EngineOf) -> Response:
    with suppress(JobNotFound):
        return json_response(jobs.get(job))
    return json_response(engine.upgrading.get_backfill(job))


@router.get("/{job}/errors", **ERRORS.route_options())
async def get_job_errors(job: str, jobs: JobsOf) -> Response:
    return StreamingResponse(jobs.errors(job), media_type=NDJSON)


@router.post("/{job}/pause", **PAUSE.route_options())
async def pause_job(job: str, jobs: JobsOf, engine: EngineOf) -> Response:
    _check_backfill(jobs, job)
    return json_response(await engine.upgrading.pause_backfill(job))


@router.post("/{job}/resume", **RESUME.route_options())
async def resume_job(job: str, jobs: JobsOf, engine: EngineOf) -> Response:
    _check_backfill(jobs, job)
    return json_response(await engine.upgrading.resume_backfill(job))


@router.delete("/{job}", **CANCEL.route_options())
async def cancel_job(job: str, jobs: JobsOf, engine: EngineOf) -> Response:
    with suppress(JobNotFound):
        return json_response(await jobs.cancel(job))
    return json_response(await engine.upgrading.cancel_backfill(job))


def _check_backfill(jobs: JobsOf, job: str) -> None:
    with suppress(JobNotFound):
        jobs.get(job)
        raise Conflict(f"job {job} is a bulk ingestion, which cannot be paused; cancel it and send the rest later")
