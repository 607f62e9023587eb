"""Jobs of all kinds. Their progress, their rejected lines, pausing and canceling."""

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from bebr.errors import Conflict, JobNotFound
from bebr.server.access import Access
from bebr.server.bodies.body import NDJSON
from bebr.server.context import JobsOf
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
    errors=(JobNotFound, Conflict),
    description="What was applied stays. Batches in flight are completed first. Points of a cancelled fit stay as "
    "they are; once its binarizer is in use, it cannot be cancelled. Changes of fields cannot be cancelled.",
)


@router.get("", **LIST.route_options())
async def list_jobs(jobs: JobsOf) -> Response:
    return json_response(JobList.of(jobs.list()))


@router.get("/{job}", **GET.route_options())
async def get_job(job: str, jobs: JobsOf) -> Response:
    return json_response(Job.of(jobs.get(job)))


@router.get("/{job}/errors", **ERRORS.route_options())
async def get_job_errors(job: str, jobs: JobsOf) -> Response:
    return StreamingResponse(jobs.errors(job), media_type=NDJSON)


@router.post("/{job}/pause", **PAUSE.route_options())
async def pause_job(job: str, jobs: JobsOf) -> Response:
    return json_response(Job.of(await jobs.pause(job)))


@router.post("/{job}/resume", **RESUME.route_options())
async def resume_job(job: str, jobs: JobsOf) -> Response:
    return json_response(Job.of(await jobs.resume(job)))


@router.delete("/{job}", **CANCEL.route_options())
async def cancel_job(job: str, jobs: JobsOf) -> Response:
    return json_response(Job.of(await jobs.cancel(job)))
