"""All ingestion jobs: they wait in line, run one at a time, survive a restart, and are forgotten in the end."""

import asyncio
import logging
import shutil
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bebr.config import Limits
from bebr.core.types import WriteMode
from bebr.engine import Engine
from bebr.errors import BebrError, DamagedStore, JobNotFound, Overloaded
from bebr.jobs.ingest import JobRunner, Stopped
from bebr.jobs.job import STATE_FILE, Job, JobState
from bebr.jobs.spool import spool

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5
READ_BYTES = 256 << 10


class IngestJobs:
    """Jobs under `folder`, one folder each. One job runs at a time: the encoder is the bottleneck of them all."""

    def __init__(self, engine: Engine, folder: Path, limits: Limits) -> None:
        self._engine = engine
        self._folder = folder
        self._limits = limits
        self._jobs: dict[str, Job] = {}
        self._spooling = 0
        self._waiting: asyncio.Queue[Job | None] = asyncio.Queue()
        self._stopping = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what a run before left, oldest first, and begin to run jobs."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._stopping.clear()
        for job in await asyncio.to_thread(self._load_jobs):
            self._jobs[job.id] = job
            if not job.ended:
                self._waiting.put_nowait(job)
        self._runner = asyncio.create_task(self._run_jobs(), name="ingest jobs")

    async def stop(self) -> None:
        """Let the batches in flight end and stop; unfinished jobs go on after the next start."""
        if self._runner is not None:
            self._stopping.set()
            self._waiting.put_nowait(None)
            await self._runner
            self._runner = None

    async def submit(
        self,
        collection: str,
        body: AsyncIterator[bytes],
        *,
        gzip: bool = False,
        mode: WriteMode = WriteMode.UPSERT,
        expected_bytes: int | None = None,
        version: str | None = None,
    ) -> str:
        """Put `body` (NDJSON, one point a line) on disk and return the id of its job, which is durable then.

        version: that vectors and codes are of; the active one unless given. When one of another model becomes active
        while the job waits or runs, they are refused line by line, and texts go on. Raises CollectionNotFound;
        Overloaded when max_jobs are on their way; PayloadTooLarge; InsufficientStorage.
        """
        # an alias may move while the job runs or waits; the job stays with the collection it was sent to
        described = await self._engine.describe_collection(collection)
        collection, version = described.name, version or described.active_version
        unfinished = sum(not job.ended for job in self._jobs.values()) + self._spooling
        if unfinished >= self._limits.max_jobs:
            raise Overloaded(
                f"{unfinished} ingestion jobs are on their way already, the limit is {self._limits.max_jobs}",
                max_jobs=self._limits.max_jobs,
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        self._spooling += 1
        try:
            job = await self._spool(collection, body, gzip, mode, expected_bytes, version)
        finally:
            self._spooling -= 1
        self._jobs[job.id] = job
        self._waiting.put_nowait(job)
        self._forget_oldest()
        return job.id

    def list_jobs(self) -> list[dict[str, Any]]:
        """All jobs, newest first."""
        return [job.to_json() for job in sorted(self._jobs.values(), key=lambda job: -job.created_at)]

    def get(self, job_id: str) -> dict[str, Any]:
        """One job. Raises JobNotFound."""
        return self._find(job_id).to_json()

    def errors(self, job_id: str) -> AsyncIterator[bytes]:
        """The rejected lines of a job as NDJSON, in pieces. Raises JobNotFound."""
        job = self._find(job_id)
        return _pieces(job.errors_path, job.progress.errors_size_bytes)

    async def cancel(self, job_id: str) -> dict[str, Any]:
        """Stop a job; what it applied stays. Of a job that has ended nothing changes. Raises JobNotFound."""
        job = self._find(job_id)
        if not job.ended:
            job.cancelled = True
            if job.state is JobState.QUEUED:
                await self._end(job, JobState.CANCELLED, None)
            else:
                job.detail = "cancelling: the batches in flight come to their end"
                await asyncio.to_thread(job.save)
        return job.to_json()

    def _find(self, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None:
            raise JobNotFound(f"no job {job_id!r:.100}; finished jobs are forgotten after a while", job=job_id[:100])
        return job

    async def _spool(
        self,
        collection: str,
        body: AsyncIterator[bytes],
        gzip: bool,
        mode: WriteMode,
        expected_bytes: int | None,
        version: str | None,
    ) -> Job:
        job_id = uuid.uuid4().hex[:16]
        folder = self._folder / job_id
        job = Job(job_id, folder, collection, mode, gzip, 0, self._limits.ingest_batch_points, version)
        folder.mkdir(parents=True)
        try:
            job.body_size_bytes = await spool(body, job.body_path, self._limits, expected_bytes)
            await asyncio.to_thread(job.save)
        except BaseException:  # also when the caller hangs up or the task is cancelled
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return job

    async def _run_jobs(self) -> None:
        while (job := await self._waiting.get()) is not None and not self._stopping.is_set():
            if not job.ended:
                await self._run(job)

    async def _run(self, job: Job) -> None:
        job.state = JobState.RUNNING
        try:
            await JobRunner(self._engine, job, self._stopping).run()
        except Stopped:
            if job.cancelled:
                await self._end(job, JobState.CANCELLED, None)
        except BebrError as error:
            await self._end(job, JobState.FAILED, f"{type(error).__name__}: {error.detail}")
        except Exception as error:
            # A bug must end this job and not the queue of all others; the job and the log both tell of it.
            logger.exception("job %s failed after line %d", job.id, job.progress.line)
            await self._end(job, JobState.FAILED, f"unexpected {type(error).__name__}; the log of the service has it")
        else:
            await self._end(job, JobState.SUCCEEDED, None)

    async def _end(self, job: Job, state: JobState, detail: str | None) -> None:
        job.detail, job.finished_at, job.eta_s = detail, time.time(), None
        await asyncio.to_thread(job.save, state)
        job.body_path.unlink(missing_ok=True)
        job.state = state

    def _load_jobs(self) -> list[Job]:
        jobs = []
        for folder in self._folder.iterdir():
            if not (folder / STATE_FILE).exists():
                shutil.rmtree(folder, ignore_errors=True)  # its upload never ended, so nobody was told of it
                continue
            try:
                job = Job.load(folder)
            except DamagedStore:
                logger.exception("a job is left out; its folder is kept for inspection")
                continue
            if job.ended:
                job.body_path.unlink(missing_ok=True)
            else:
                job.state = JobState.QUEUED
            jobs.append(job)
        return sorted(jobs, key=lambda job: job.created_at)

    def _forget_oldest(self) -> None:
        """Keep as many ended jobs as there may be unfinished ones."""
        ended = sorted((job for job in self._jobs.values() if job.ended), key=lambda job: job.created_at)
        for job in ended[: max(0, len(ended) - self._limits.max_jobs)]:
            del self._jobs[job.id]
            shutil.rmtree(job.folder, ignore_errors=True)


async def _pieces(path: Path, size_bytes: int) -> AsyncIterator[bytes]:
    if not size_bytes:
        return
    with path.open("rb") as file:
        while size_bytes > 0 and (piece := await asyncio.to_thread(file.read, min(READ_BYTES, size_bytes))):
            size_bytes -= len(piece)
            yield piece
