"""Bulk ingestion and jobs as flows: stream NDJSON of any length, then follow the job. Backfills are jobs too."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bebr.client import wire
from bebr.client.collections import collection_path
from bebr.client.results import ItemError, Job
from bebr.client.steps import Flow, Pause, Request, json_request
from bebr.client.values import from_json
from bebr.core.types import WriteMode
from bebr.errors import InvalidOption

Progress = Callable[[Job], None]
"""Called with the job each time its state was read."""
POLL_SECONDS = 0.5
FIRST_POLL_SECONDS = 0.05


def ingest(
    collection: str,
    source: str | Path | Iterable[Mapping[str, Any] | bytes],
    *,
    mode: WriteMode | str = WriteMode.UPSERT,
    wait: bool = True,
    progress: Progress | None = None,
    sent: Callable[[int], None] | None = None,
    compress: bool = True,
) -> Flow[Job]:
    """Stream an NDJSON file (also gzip) or an iterable of points to a collection, and wait until the job has ended.

    An iterable may also give the bytes of NDJSON, piece by piece. Points that JSON cannot say are in `job.unsent`.
    `progress` is called with the job each time its state was read; `sent` with the number of bytes read from the file,
    or written from the iterable, so far. An iterable is never held in memory. One that can be read only once, such as a
    generator, is not sent again when the service is overloaded: Overloaded and Unavailable are raised at once.
    compress: send it as gzip.
    """
    unsent: list[ItemError] = []
    pieces, again = _body(source, unsent)
    counted = _counting(pieces, sent)
    headers = {"content-type": wire.NDJSON_TYPE} | ({"content-encoding": "gzip"} if compress else {})
    path = f"{collection_path(collection)}/ingest"

    def body() -> Iterator[bytes]:
        return wire.gzipped(counted()) if compress else counted()

    response = yield Request("POST", path, {"mode": str(mode)}, headers, body, repeatable=False, retried=again)
    submitted = response.json()["job"]
    job = (yield from wait_job(submitted, progress=progress)) if wait else (yield from get_job(submitted))
    return replace(job, rejected=job.rejected + len(unsent), unsent=tuple(unsent)) if unsent else job


def list_jobs() -> Flow[list[Job]]:
    """All jobs that the service knows."""
    response = yield json_request("GET", "/v1/jobs")
    return [Job.from_json(job) for job in response.json()["jobs"]]


def get_job(id: str) -> Flow[Job]:
    """The state of a job. Raises JobNotFound."""
    response = yield json_request("GET", _job(id))
    return Job.from_json(response.json())


def wait_job(id: str, *, progress: Progress | None = None, poll_seconds: float = POLL_SECONDS) -> Flow[Job]:
    """Wait until a job has succeeded, failed or been cancelled. `progress` is called each time its state was read.

    A paused backfill has not ended: the wait goes on until somebody resumes or cancels it.
    """
    pause = min(FIRST_POLL_SECONDS, poll_seconds)
    while True:
        job = yield from get_job(id)
        if progress is not None:
            progress(job)
        if job.ended:
            return job
        yield Pause(pause)
        pause = min(2 * pause, poll_seconds)


def job_errors(id: str) -> Flow[list[dict[str, Any]]]:
    """The rejected lines of a job: line number, id, error, detail."""
    response = yield json_request("GET", f"{_job(id)}/errors")
    return [from_json(line) for line in response.content.splitlines() if line.strip()]


def pause_job(id: str) -> Flow[Job]:
    """Pause a backfill. It stays paused when the service restarts. Raises Conflict unless it is running."""
    response = yield json_request("POST", f"{_job(id)}/pause", repeatable=False)
    return Job.from_json(response.json())


def resume_job(id: str) -> Flow[Job]:
    """Resume a paused backfill. Raises Conflict unless it is paused."""
    response = yield json_request("POST", f"{_job(id)}/resume", repeatable=False)
    return Job.from_json(response.json())


def cancel_job(id: str) -> Flow[Job]:
    """Cancel a job. Points that it applied are kept."""
    response = yield json_request("DELETE", _job(id))
    return Job.from_json(response.json())


def _body(
    source: str | Path | Iterable[Mapping[str, Any] | bytes], unsent: list[ItemError]
) -> tuple[Callable[[], Iterator[bytes]], bool]:
    """(function that returns the pieces, whether it can be called more than once). Raises InvalidOption.

    unsent: gets the points that JSON cannot say.
    """
    if isinstance(source, bytes | Mapping):
        raise InvalidOption(f"expected a path or an iterable of points, got {source!r:.80}", key="source")
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.is_file():
            raise InvalidOption(f"there is no file '{path}'", file=str(path))
        return (lambda: wire.file_pieces(path)), True
    return (lambda: wire.ndjson(source, unsent)), not isinstance(source, Iterator)


def _counting(
    pieces: Callable[[], Iterator[bytes]], sent: Callable[[int], None] | None
) -> Callable[[], Iterator[bytes]]:
    def counted() -> Iterator[bytes]:
        total = 0
        for piece in pieces():
            yield piece
            total += len(piece)
            if sent is not None:
                sent(total)

    return counted


def _job(id: str) -> str:
    return f"/v1/jobs/{wire.segment(id, 'job')}"
