"""Ingestion jobs: how far they are, what they refused, and an end to them."""

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from bebr.api import answers
from bebr.api.answers import json_response
from bebr.api.bodies import NDJSON
from bebr.api.context import JobsOf
from bebr.api.openapi import Operation
from bebr.errors import JobNotFound

router = APIRouter(prefix="/v1/jobs")

LIST = Operation("List jobs", "ingestion", answers.JobList, description="Newest first.")
GET = Operation("Get a job", "ingestion", answers.Job, errors=(JobNotFound,))
ERRORS = Operation(
    "Get the rejected lines of a job",
    "ingestion",
    NDJSON,
    errors=(JobNotFound,),
    description='One object a line: `{"line": 17, "id": "a", "error": "InvalidVector", "detail": "..."}`.',
)
CANCEL = Operation(
    "Cancel a job",
    "ingestion",
    answers.Job,
    errors=(JobNotFound,),
    description="What was applied stays. The batches in flight end first.",
)


@router.get("", **LIST.route_options())
async def list_jobs(jobs: JobsOf) -> Response:
    return json_response({"jobs": jobs.list_jobs()})


@router.get("/{job}", **GET.route_options())
async def get_job(job: str, jobs: JobsOf) -> Response:
    return json_response(jobs.get(job))


@router.get("/{job}/errors", **ERRORS.route_options())
async def get_job_errors(job: str, jobs: JobsOf) -> Response:
    return StreamingResponse(jobs.errors(job), media_type=NDJSON)


@router.delete("/{job}", **CANCEL.route_options())
async def cancel_job(job: str, jobs: JobsOf) -> Response:
    return json_response(await jobs.cancel(job))
