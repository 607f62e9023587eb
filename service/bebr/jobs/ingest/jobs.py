"""All bulk ingestions: they wait in line, run one at a time, survive a restart, and are forgotten in the end."""

import asyncio
import logging
import shutil
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from bebr.config import Limits
from bebr.core.types import JobState, WriteMode
from bebr.engine import Engine
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.registry import check_whole
from bebr.errors import Conflict, DamagedStore, Overloaded
from bebr.jobs.ingest.ingestion import STATE_FILE, Ingestion
from bebr.jobs.ingest.runner import IngestRunner
from bebr.jobs.ingest.spool import recognized, spool
from bebr.jobs.job import IngestJob, Job, JobKind
from bebr.jobs.source import JobSource
from bebr.telemetry import event

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5
READ_BYTES = 256 << 10


class IngestJobs(JobSource):
    """Ingestions under `folder`, one folder each. One runs at a time: the encoder is the bottleneck of them all."""

    kind = JobKind.INGEST

    def __init__(self, engine: Engine, folder: Path, limits: Limits) -> None:
        self._engine = engine
        self._folder = folder
        self._limits = limits
        self._ingestions: dict[str, Ingestion] = {}
        self._uploads: dict[str, Ingestion] = {}
        """Whose bodies are coming in. Nothing else is known of them when the service stops."""
        self._waiting: asyncio.Queue[Ingestion | None] = asyncio.Queue()
        self._set_aside: list[Ingestion] = []
        """Of collections that are damaged."""
        self._stopping = False
        self._runner: IngestRunner | None = None
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._stopping = False
        for ingestion in await asyncio.to_thread(self._load):
            self._ingestions[ingestion.id] = ingestion
            if ingestion.cancelled and not ingestion.state.ended:  # the process was killed before it had stopped
                await IngestRunner(self._engine, ingestion).ended(JobState.CANCELLED, None)
            if not ingestion.state.ended:
                self._waiting.put_nowait(ingestion)
        self._running = asyncio.create_task(self._run_all(), name="ingest jobs")

    async def stop(self) -> None:
        if self._running is None:
            return
        self._stopping = True
        if self._runner is not None:
            self._runner.stopping.set()
        self._waiting.put_nowait(None)
        await self._running
        self._running = None

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

        gzip: whether its sender says so; its first bytes tell it too.
        version: the one that vectors and codes are of; default: the active one. When another model becomes active
        while the job waits or runs, they are refused line by line, and texts go on. Raises CollectionNotFound;
        Overloaded when max_jobs are waiting or running; PayloadTooLarge; Malformed for what is no
        text; InsufficientStorage.
        """
        # an alias may move while the job runs or waits; the job stays with the collection it was sent to
        found = self._engine.registry.find(collection)
        self._engine.registry.check_changes()
        check_whole(found)
        self._check_capacity()
        job_id = uuid.uuid4().hex[:16]
        ingestion = Ingestion(
            id=job_id,
            folder=self._folder / job_id,
            collection=found.name,
            mode=mode,
            gzip=gzip,
            body_size_bytes=0,
            batch_points=self._limits.ingest_batch_points,
            version=version or found.active.id,
        )
        self._uploads[job_id] = ingestion
        try:
            await self._spool(ingestion, body, expected_bytes)
        finally:
            del self._uploads[job_id]
        self._ingestions[ingestion.id] = ingestion
        self._waiting.put_nowait(ingestion)
        event(log, "job queued", job=job_id, kind="ingest", collection=found.name, bytes=ingestion.body_size_bytes)
        self._forget_oldest()
        return ingestion.id

    def all(self) -> Sequence[IngestJob]:
        return [ingestion.job() for known in (self._ingestions, self._uploads) for ingestion in known.values()]

    def errors(self, job: Job) -> AsyncIterator[bytes]:
        ingestion = self._ingestions.get(job.id) or self._uploads[job.id]
        return _pieces(ingestion.errors_path, ingestion.progress.errors_size_bytes)

    async def pause(self, job: Job) -> None:
        raise Conflict(
            f"job {job.id} is a bulk ingestion, which cannot be paused; cancel it and send the rest later", job=job.id
        )

    async def cancel(self, job: Job) -> None:
        if (upload := self._uploads.get(job.id)) is not None:
            upload.cancelled = True  # it ends with the next bytes that come
            return
        ingestion = self._ingestions[job.id]
        if ingestion.state.ended:
            return
        ingestion.cancelled = True
        if self._runner is None or self._runner.ingestion is not ingestion:
            try:
                await IngestRunner(self._engine, ingestion).ended(JobState.CANCELLED, None)
            except OSError:  # a full disk: it stays in line
                ingestion.cancelled = False
                self._waiting.put_nowait(ingestion)
                raise
        else:
            self._runner.stopping.set()
            ingestion.detail = "cancelling: the batches in flight come to their end"
            try:
                await asyncio.to_thread(ingestion.save)
            except OSError:  # a full disk: the runner saves how it ended
                log.exception("that job %s is to be cancelled could not be saved", ingestion.id)

    def _check_capacity(self) -> None:
        if len(self._uploads) >= self._limits.max_uploads:
            raise Overloaded(
                f"{len(self._uploads)} ingestions are being uploaded, and the limit is {self._limits.max_uploads}; try "
                "again later",
                max_uploads=self._limits.max_uploads,
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        unfinished = sum(not ingestion.state.ended for ingestion in self._ingestions.values())
        if unfinished >= self._limits.max_jobs:
            raise Overloaded(
                f"{unfinished} ingestion jobs are waiting or running, and the limit is {self._limits.max_jobs}; try "
                "again later",
                max_jobs=self._limits.max_jobs,
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )

    async def _spool(self, ingestion: Ingestion, body: AsyncIterator[bytes], expected_bytes: int | None) -> None:
        """Put the body on disk, and then the job, which is durable then."""
        ingestion.folder.mkdir(parents=True)
        try:
            ingestion.gzip, body = await recognized(_counted(body, ingestion), ingestion.gzip)
            ingestion.body_size_bytes, ingestion.body_sha256 = await spool(
                body, ingestion.body_path, self._limits, expected_bytes
            )
            ingestion.detail = None
            await asyncio.to_thread(ingestion.save)
        except BaseException:  # also when the caller hangs up or the task is cancelled
            shutil.rmtree(ingestion.folder, ignore_errors=True)
            raise

    async def _run_all(self) -> None:
        while (ingestion := await self._waiting.get()) is not None and not self._stopping:
            if ingestion.state.ended or ingestion.cancelled:
                continue
            ingestion.state = JobState.RUNNING
            self._runner = IngestRunner(self._engine, ingestion)
            try:
                await self._runner.run()
            except Exception:  # the disk of the jobs: the others may still run, and the next start tries this one again
                log.exception("the state of job %s could not be saved", ingestion.id)
            self._runner = None
            if ingestion.state is JobState.QUEUED:
                self._set_aside.append(ingestion)

    def changed(self, collection: Collection) -> None:
        """A collection that was damaged is open again."""
        if self._set_aside:
            for ingestion in [i for i in self._set_aside if i.collection == collection.name]:
                self._set_aside.remove(ingestion)
                self._waiting.put_nowait(ingestion)

    def _load(self) -> list[Ingestion]:
        ingestions = []
        for folder in self._folder.iterdir():
            if not (folder / STATE_FILE).exists():
                log.warning("an upload that never ended is removed: %s", folder)  # so no caller knows of it
                shutil.rmtree(folder, ignore_errors=True)
                continue
            try:
                ingestion = Ingestion.load(folder)
            except DamagedStore as error:
                log.error("job %s failed: %s", folder.name, error.detail)
                ingestions.append(Ingestion.damaged(folder, error.detail))
                continue
            if ingestion.state.ended:
                ingestion.body_path.unlink(missing_ok=True)
            else:
                ingestion.state = JobState.QUEUED
                ingestion.from_disk = True
            ingestions.append(ingestion)
        return sorted(ingestions, key=lambda ingestion: ingestion.created_at)

    def _forget_oldest(self) -> None:
        """Keep as many ended jobs as there may be unfinished ones."""
        ended = [ingestion for ingestion in self._ingestions.values() if ingestion.state.ended]
        ended.sort(key=lambda ingestion: ingestion.created_at)
        for ingestion in ended[: max(0, len(ended) - self._limits.max_jobs)]:
            del self._ingestions[ingestion.id]
            shutil.rmtree(ingestion.folder, ignore_errors=True)


async def _counted(body: AsyncIterator[bytes], ingestion: Ingestion) -> AsyncIterator[bytes]:
    """The body of an upload, which says how far it is and can be cancelled."""
    async for chunk in body:
        if ingestion.cancelled:
            raise Conflict(f"the upload of job {ingestion.id} was cancelled", job=ingestion.id)
        ingestion.body_size_bytes += len(chunk)
        ingestion.detail = f"uploading: {ingestion.body_size_bytes} bytes so far"
        yield chunk


async def _pieces(path: Path, size_bytes: int) -> AsyncIterator[bytes]:
    if not size_bytes:
        return
    with path.open("rb") as file:
        while size_bytes > 0 and (piece := await asyncio.to_thread(file.read, min(READ_BYTES, size_bytes))):
            size_bytes -= len(piece)
            yield piece
