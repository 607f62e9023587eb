"""Backfill jobs: when points are re-encoded, and how fast. At most one runs for each collection."""

import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress

from bebr.config import Limits
from bebr.core.types import JobState
from bebr.engine import Engine
from bebr.engine.alone import Alone
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.upgrades import Backfill
from bebr.engine.versions.backfill import Backfills
from bebr.errors import CollectionNotFound, InvalidOption, Unavailable
from bebr.jobs.job import BackfillJob, Job, JobKind
from bebr.jobs.per_collection import JobPerCollection
from bebr.jobs.runner import Runner, Stopped

MAX_RATE = 1_000_000


class BackfillJobs(JobPerCollection["_BackfillRunner"]):
    """The backfill of each collection, as its document says. A promotion or a rollback ends it there."""

    kind = JobKind.BACKFILL

    def __init__(self, engine: Engine, limits: Limits) -> None:
        super().__init__(engine.registry)
        self._alone = Alone(engine.registry, engine.store)
        self._backfills = engine.backfills
        self._limits = limits

    async def submit(self, name: str, version_id: str | None = None, rate: float | None = None) -> str:
        """Re-encode all points as the active version, from the text in their metadata -> id of the job.

        The job is durable then. version_id: of the active version, for callers who want to be sure. rate: points per
        second at most. Raises Conflict, InvalidOption, VersionNotFound.
        """
        collection = self._registry.get_to_change(name)
        rate = float(self._limits.backfill_points_per_s) if rate is None else rate
        if not 0 < rate <= MAX_RATE:
            raise InvalidOption(f"'rate_limit' is points per second, above 0 and at most {MAX_RATE}", key="rate_limit")
        job_id = f"backfill-{collection.document.uid[:8]}-{int(time.time() * 1000):x}"
        await self._backfills.begin(collection, job_id, version_id or collection.active.id, rate)
        self.changed(collection)
        return job_id

    def all(self) -> Sequence[Job]:
        collections = [(c, c.document.upgrades.backfill) for c in self._registry.all()]
        return [self._job(collection, backfill) for collection, backfill in collections if backfill is not None]

    def changed(self, collection: Collection) -> None:
        backfill, uid = collection.document.upgrades.backfill, collection.document.uid
        runner = self._runners.get(uid)
        if runner is not None:
            if not runner.is_due():
                runner.stopping.set()
        elif backfill is not None and backfill.state is JobState.RUNNING and self._may_run(collection):
            self._run(collection, _BackfillRunner(self._backfills, collection, backfill, self._alone))

    async def pause(self, job: Job) -> None:
        collection = self._registry.get_to_change(job.collection)
        await self._backfills.pause(collection)
        await self._stop(collection)

    async def resume(self, job: Job) -> None:
        collection = self._registry.get_to_change(job.collection)
        await self._backfills.resume(collection)
        self.changed(collection)

    async def cancel(self, job: Job) -> None:
        collection = self._registry.get_to_change(job.collection)
        runner = self._runners.get(collection.document.uid)
        skipped = 0 if runner is None else len(runner.skipped)
        await self._backfills.end(collection, job.id, JobState.CANCELLED, skipped=skipped)
        await self._stop(collection)

    async def _stop(self, collection: Collection) -> None:
        runner = self._runners.get(collection.document.uid)
        if runner is not None:
            await runner.stop()

    def _job(self, collection: Collection, backfill: Backfill) -> BackfillJob:
        runner = self._runners.get(collection.document.uid)
        if runner is not None and runner.job_id != backfill.job:
            runner = None
        applied, skipped = backfill.applied, backfill.skipped
        if not backfill.state.ended or runner is not None:
            applied = self._backfills.applied(collection, backfill)
        if runner is not None:
            skipped = max(skipped, len(runner.skipped))
        remaining = max(0, backfill.total - applied - skipped)
        rate = 0.0 if runner is None else runner.rate
        return BackfillJob(
            id=backfill.job,
            kind=self.kind,
            collection=collection.name,
            version=backfill.version,
            state=backfill.state,
            detail=backfill.detail if runner is None or runner.waiting is None else runner.waiting,
            created_at=backfill.created_at,
            finished_at=backfill.finished_at,
            total=backfill.total,
            applied=applied,
            rejected=skipped,
            remaining=remaining,
            rate_limit=backfill.rate,
            rate_per_s=rate,
            eta_s=remaining / rate if rate and not backfill.state.ended else None,
        )


class _BackfillRunner(Runner):
    """Re-encodes page by page, no faster than the rate, until no point is left but those without text."""

    def __init__(self, backfills: Backfills, collection: Collection, backfill: Backfill, alone: Alone) -> None:
        super().__init__(
            f"the backfill of collection {collection.name}",
            job=backfill.job,
            kind="backfill",
            collection=collection.name,
        )
        self._backfills = backfills
        self._alone = alone
        self._collection = collection
        self._backfill = backfill
        self.skipped: set[str] = set()
        """Ids of points without text."""
        self._started = time.monotonic()
        self._applied = 0

    @property
    def job_id(self) -> str:
        return self._backfill.job

    @property
    def rate(self) -> float:
        """Points per second since it began, or since the service started."""
        return self._applied / max(time.monotonic() - self._started, 1e-6)

    def is_due(self) -> bool:
        """Whether the document still says that this job is running."""
        backfill = self._collection.document.upgrades.backfill
        return backfill is not None and backfill.job == self.job_id and backfill.state is JobState.RUNNING

    def alone(self) -> AbstractAsyncContextManager[None]:
        return self._alone.doing(f"backfill-{self._collection.document.uid}", self.rest, self.stopping.set)

    async def work(self) -> None:
        target = self._collection.version(self._backfill.version)
        next_at = time.monotonic()
        while True:
            skipped, applied = len(self.skipped), 0
            async for page in self._backfills.pages(self._collection, target, self.skipped):
                await self.rest(next_at - time.monotonic())
                if not self.is_due():
                    raise Stopped
                next_at = max(next_at, time.monotonic() - 1) + len(page) / self._backfill.rate
                moved = await self._backfills.move(self._collection, target, page)
                self.skipped.update(moved.without_text)
                self._applied += moved.applied
                applied += moved.applied
                self.waiting = None
            if not applied and len(self.skipped) == skipped:
                return

    async def ended(self, state: JobState, detail: str | None) -> None:
        await self.until_saved(
            lambda: self._backfills.end(self._collection, self.job_id, state, skipped=len(self.skipped), detail=detail)
        )

    async def stopped(self) -> None:
        if not self.is_due():  # it was paused, or ended: its last page counts too
            with suppress(Unavailable, OSError, CollectionNotFound):
                await self._backfills.save_counts(self._collection, self.job_id, len(self.skipped))
