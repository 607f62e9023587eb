"""Applies one job: reads ahead, keeps several batches in flight, and never lets two of them touch the same id.

While one batch is committed the next is encoded, so the encoder does not wait for the disk. Every batch carries an
idempotency key, so that repeating one after a crash changes nothing and counts the same.
"""

import asyncio
import json
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass

from bebr.engine import Engine
from bebr.engine.results import WriteReport
from bebr.errors import Unavailable
from bebr.jobs.job import Job
from bebr.jobs.lines import Batch, BatchReader, LineError

IN_FLIGHT = 3
SAVE_EVERY_SECONDS = 1.0
MAX_ERRORS_BYTES = 64 << 20
"""Beyond this, rejected lines are still counted but no longer listed."""
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.2, 5.0


class Stopped(Exception):
    """The job was told to stop, by a cancellation or because the service ends."""


@dataclass(slots=True)
class _Flight:
    batch: Batch
    report: "asyncio.Task[WriteReport]"


class JobRunner:
    """Runs one job from where its progress stands to its end."""

    def __init__(self, engine: Engine, job: Job, stopping: asyncio.Event) -> None:
        self._engine = engine
        self._job = job
        self._stopping = stopping
        self._flights: deque[_Flight] = deque()
        self._saved_at = self._began_at = time.monotonic()
        self._began_received = job.progress.received
        self._began_read: int | None = None if job.progress.line else 0

    async def run(self) -> None:
        """Apply every line. Raises Stopped, Malformed for broken gzip, or what the engine refuses the whole job for.

        However it ends, what was applied is in the job's progress, and progress is saved.
        """
        job = self._job
        _cut(job)
        reader = await asyncio.to_thread(self._open)
        try:
            while (batch := await asyncio.to_thread(reader.next_batch)) is not None:
                if job.cancelled or self._stopping.is_set():
                    raise Stopped
                if self._began_read is None:
                    self._began_read = batch.read_bytes
                while len(self._flights) >= IN_FLIGHT or self._shares_id(batch):
                    await self._settle()
                self._flights.append(_Flight(batch, asyncio.create_task(self._apply(batch))))
            while self._flights:
                await self._settle()
        finally:
            await self._drain()
            reader.close()
            await asyncio.to_thread(job.save)

    def _open(self) -> BatchReader:
        job = self._job
        at = job.progress
        return BatchReader(job.body_path, zipped=job.gzip, max_points=job.batch_points, line=at.line, offset=at.offset)

    def _shares_id(self, batch: Batch) -> bool:
        return any(not batch.ids.isdisjoint(flight.batch.ids) for flight in self._flights)

    async def _apply(self, batch: Batch) -> WriteReport:
        """Write one batch, however long the store is away: the job waits and says what for."""
        job, pause = self._job, FIRST_RETRY_SECONDS
        key = f"ingest-{job.id}-{batch.first_line}"
        if not batch.points:
            return WriteReport(0, 0, [], {})
        while True:
            try:
                return await self._engine.write_points(
                    job.collection, batch.points, job.mode, key, made_for=job.version
                )
            except Unavailable as error:
                job.detail = f"waiting: {error.detail}"
            if job.cancelled or self._stopping.is_set():
                raise Stopped
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(2 * pause, LONGEST_RETRY_SECONDS)

    async def _settle(self) -> None:
        """Wait for the oldest batch in flight and count it."""
        flight = self._flights[0]
        report = await flight.report
        self._flights.popleft()
        self._job.detail = None
        self._count(flight.batch, report)
        if time.monotonic() - self._saved_at >= SAVE_EVERY_SECONDS:
            await asyncio.to_thread(self._job.save)
            self._saved_at = time.monotonic()

    async def _drain(self) -> None:
        """Let what is in flight end; count it as far as it follows what is done already."""
        await asyncio.gather(*(flight.report for flight in self._flights), return_exceptions=True)
        while self._flights and self._flights[0].report.exception() is None:
            flight = self._flights.popleft()
            self._count(flight.batch, flight.report.result())

    def _count(self, batch: Batch, report: WriteReport) -> None:
        job, progress = self._job, self._job.progress
        errors = [LineError(batch.lines[item.index], item.id, item.error, item.detail) for item in report.items]
        errors = sorted(errors + batch.errors, key=lambda error: error.line)
        progress.errors_size_bytes += _append(job, errors, progress.errors_size_bytes)
        progress.line, progress.offset = batch.end_line, batch.end_offset
        progress.received += batch.received
        progress.applied += report.applied
        progress.rejected += batch.received - report.applied
        self._estimate(batch)

    def _estimate(self, batch: Batch) -> None:
        """Rate and remaining time of this run; a resumed job does not count what an earlier run did."""
        job, elapsed = self._job, time.monotonic() - self._began_at
        job.rate_per_s = (job.progress.received - self._began_received) / max(elapsed, 1e-6)
        read_bytes = batch.read_bytes - (self._began_read or 0)
        job.eta_s = elapsed * (job.body_size_bytes - batch.read_bytes) / read_bytes if read_bytes > 0 else None


def _append(job: Job, errors: list[LineError], size_bytes: int) -> int:
    """Append to errors.ndjson and return by how many bytes it grew."""
    if not errors or size_bytes >= MAX_ERRORS_BYTES:
        return 0
    content = b"".join(json.dumps(asdict(error)).encode() + b"\n" for error in errors)
    with job.errors_path.open("ab") as file:
        file.write(content)
    return len(content)


def _cut(job: Job) -> None:
    """Drop errors that a run before wrote but did not get to save."""
    with job.errors_path.open("ab") as file:
        file.truncate(job.progress.errors_size_bytes)
