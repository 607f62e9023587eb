"""Runs one ingestion: reads ahead, keeps several batches in flight, and never lets two of them touch the same id.

While one batch is committed the next is encoded, so the encoder does not wait for the disk. Every batch carries an
idempotency key, so that repeating one after a crash changes nothing and counts the same.
"""

import asyncio
import json
import time
from collections import deque
from dataclasses import asdict, dataclass

from bebr.core.types import JobState
from bebr.engine import Engine
from bebr.engine.results import WriteReport
from bebr.errors import DamagedCollection, Unavailable
from bebr.jobs.ingest.ingestion import Ingestion
from bebr.jobs.ingest.lines import Batch, BatchReader, LineError
from bebr.jobs.runner import Runner, Stopped

IN_FLIGHT = 3
SAVE_EVERY_SECONDS = 1.0
MAX_ERRORS_BYTES = 64 << 20
"""Beyond this, rejected lines are still counted but no longer listed."""
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.2, 5.0


@dataclass(slots=True)
class _Flight:
    """A batch that is being written."""

    batch: Batch
    report: "asyncio.Task[WriteReport]"


class IngestRunner(Runner):
    """Runs one ingestion from where its progress stands to its end."""

    passing = ()  # batches wait by themselves, so that those after them stay in line

    def __init__(self, engine: Engine, ingestion: Ingestion) -> None:
        super().__init__(f"job {ingestion.id}", job=ingestion.id, kind="ingest", collection=ingestion.collection)
        self._engine = engine
        self.ingestion = ingestion
        self._flights: deque[_Flight] = deque()
        self._saved_at = self._began_at = time.monotonic()
        self._began_received = ingestion.progress.received
        self._began_read: int | None = None if ingestion.progress.line else 0

    async def work(self) -> None:
        """Apply every line. Raises Stopped, Malformed for broken gzip, DamagedStore for a body that changed on disk,
        or what the engine refuses the whole job for.

        However it ends, what was applied is in the ingestion's progress, and progress is saved.
        """
        if self.ingestion.from_disk:
            await asyncio.to_thread(self.ingestion.check_body)
            self.ingestion.from_disk = False
        _cut(self.ingestion)
        reader = await asyncio.to_thread(self._open)
        try:
            while (batch := await asyncio.to_thread(reader.next_batch)) is not None:
                if self.stopping.is_set():
                    raise Stopped
                if self._began_read is None:
                    self._began_read = batch.read_bytes
                while len(self._flights) >= IN_FLIGHT or self._shares_id(batch):
                    await self._settle()
                self._flights.append(_Flight(batch, asyncio.create_task(self._apply(batch))))
            while self._flights:
                await self._settle()
        finally:
            reader.close()
            await self._drain()
            await asyncio.to_thread(self.ingestion.save)

    async def ended(self, state: JobState, detail: str | None) -> None:
        ingestion = self.ingestion
        ingestion.detail, ingestion.finished_at, ingestion.eta_s = detail, time.time(), None
        await asyncio.to_thread(ingestion.save, state)
        ingestion.body_path.unlink(missing_ok=True)
        ingestion.state = state

    async def stopped(self) -> None:
        if self.ingestion.cancelled:
            await self.ended(JobState.CANCELLED, None)

    def _open(self) -> BatchReader:
        ingestion, at = self.ingestion, self.ingestion.progress
        return BatchReader(
            ingestion.body_path,
            zipped=ingestion.gzip,
            max_points=ingestion.batch_points,
            line=at.line,
            offset=at.offset,
        )

    def _shares_id(self, batch: Batch) -> bool:
        return any(not batch.ids.isdisjoint(flight.batch.ids) for flight in self._flights)

    async def _apply(self, batch: Batch) -> WriteReport:
        """Write one batch, however long the store is away: the job waits and says what for."""
        ingestion, pause = self.ingestion, FIRST_RETRY_SECONDS
        if not batch.points:
            return WriteReport(applied=0, rejected=0, items=[], seq={})
        while True:
            try:
                return await self._engine.write_points(
                    ingestion.collection,
                    batch.points,
                    ingestion.mode,
                    idempotency_key=f"ingest-{ingestion.id}-{batch.first_line}",
                    made_for=ingestion.version,
                    background=True,
                )
            except DamagedCollection as error:  # it may take long to mend; other jobs go first
                self.wait_for(error)
                ingestion.detail = self.waiting
                ingestion.state = JobState.QUEUED
                self.stopping.set()
            except Unavailable as error:
                self.wait_for(error)
                ingestion.detail = self.waiting
            await self.rest(pause)
            pause = min(2 * pause, LONGEST_RETRY_SECONDS)

    async def _settle(self) -> None:
        """Wait for the oldest batch in flight and count it."""
        flight = self._flights[0]
        report = await flight.report
        self._flights.popleft()
        self.ingestion.detail = None
        self._count(flight.batch, report)
        if time.monotonic() - self._saved_at >= SAVE_EVERY_SECONDS:
            await asyncio.to_thread(self.ingestion.save)
            self._saved_at = time.monotonic()

    async def _drain(self) -> None:
        """Let what is in flight end; count it as far as it follows what is done already."""
        await asyncio.gather(*(flight.report for flight in self._flights), return_exceptions=True)
        while self._flights and self._flights[0].report.exception() is None:
            flight = self._flights.popleft()
            self._count(flight.batch, flight.report.result())

    def _count(self, batch: Batch, report: WriteReport) -> None:
        progress = self.ingestion.progress
        errors = [LineError(batch.lines[item.index], item.id, item.error, item.detail) for item in report.items]
        errors = sorted(errors + batch.errors, key=lambda error: error.line)
        progress.errors_size_bytes += _append(self.ingestion, errors, progress.errors_size_bytes)
        progress.line, progress.offset = batch.end_line, batch.end_offset
        progress.received += batch.received
        progress.applied += report.applied
        progress.rejected += batch.received - report.applied
        self._estimate(batch)

    def _estimate(self, batch: Batch) -> None:
        """Rate and remaining time of this run; a resumed job does not count what an earlier run did."""
        ingestion, elapsed = self.ingestion, time.monotonic() - self._began_at
        ingestion.rate_per_s = (ingestion.progress.received - self._began_received) / max(elapsed, 1e-6)
        read_bytes = batch.read_bytes - (self._began_read or 0)
        left_bytes = ingestion.body_size_bytes - batch.read_bytes
        ingestion.eta_s = elapsed * left_bytes / read_bytes if read_bytes > 0 else None


def _append(ingestion: Ingestion, errors: list[LineError], size_bytes: int) -> int:
    """Append to errors.ndjson and return by how many bytes it grew."""
    if not errors or size_bytes >= MAX_ERRORS_BYTES:
        return 0
    content = b"".join(json.dumps(asdict(error)).encode() + b"\n" for error in errors)
    with ingestion.errors_path.open("ab") as file:
        file.write(content)
    return len(content)


def _cut(ingestion: Ingestion) -> None:
    """Drop errors that a run before wrote but did not get to save."""
    with ingestion.errors_path.open("ab") as file:
        file.truncate(ingestion.progress.errors_size_bytes)
