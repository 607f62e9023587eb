"""All jobs of all kinds: list, get, pause, resume, cancel. What runs when is the business of each kind."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from bebr.config import Limits
from bebr.core.types import JobState, Role
from bebr.engine import Engine
from bebr.engine.collections.collection import Collection
from bebr.errors import JobNotFound, NotReady
from bebr.jobs.backfill import BackfillJobs
from bebr.jobs.fields import FieldsJobs
from bebr.jobs.fit import FitJobs
from bebr.jobs.ingest import IngestJobs
from bebr.jobs.job import Job
from bebr.jobs.list_upkeep import ListUpkeep
from bebr.jobs.source import JobSource
from bebr.telemetry import event

log = logging.getLogger(__name__)


class JobQueue:
    """The jobs of one engine. Start it after the engine, and stop it before."""

    def __init__(self, engine: Engine, folder: Path, limits: Limits) -> None:
        """folder: where bulk ingestions are kept."""
        self._role = engine.registry.role
        self.ingest = IngestJobs(engine, folder, limits)
        """Submits bulk ingestions."""
        self.backfill = BackfillJobs(engine, limits)
        """Submits backfills."""
        self.fit = FitJobs(engine)
        """Fits are requested by a use case of the engine."""
        self._fields = FieldsJobs(engine)
        self._lists = ListUpkeep(engine)
        self._sources: Sequence[JobSource] = (self.ingest, self.backfill, self.fit, self._fields)

    async def start(self) -> None:
        """Resume the jobs that the last run of the service left unfinished. Those of a follower are the primary's."""
        if self._role is not Role.PRIMARY:
            return
        for source in self._sources:
            await source.start()
        await self._lists.start()

    async def stop(self) -> None:
        """Stop all jobs; the next start resumes them."""
        await asyncio.gather(self._lists.stop(), *(source.stop() for source in self._sources))

    def changed(self, collection: Collection) -> None:
        """Start or stop what is due after a change of a collection."""
        for source in self._sources:
            source.changed(collection)
        self._lists.changed(collection)

    async def closing(self, collection: Collection) -> None:
        """End the jobs of a collection that is about to be closed."""
        for source in self._sources:
            await source.closing(collection)
        await self._lists.closing(collection)

    def list(self) -> Sequence[Job]:
        """All jobs, newest first. Raises NotReady before it is known which there are."""
        jobs = [job for source in self._sources for job in source.all()]
        return sorted(jobs, key=lambda job: -(job.created_at or 0.0))

    def states(self) -> Counter[JobState]:
        """How many jobs are in each state, of those that are known by now."""
        counts: Counter[JobState] = Counter()
        for source in self._sources:
            try:
                counts.update(job.state for job in source.all())
            except NotReady:
                continue
        return counts

    def get(self, job_id: str) -> Job:
        """Raises JobNotFound."""
        return self._find(job_id)[1]

    def errors(self, job_id: str) -> AsyncIterator[bytes]:
        """The rejected lines of a job as NDJSON, in pieces. Raises JobNotFound."""
        source, job = self._find(job_id)
        return source.errors(job)

    async def pause(self, job_id: str) -> Job:
        """Pause a job, also over restarts. Raises JobNotFound, Conflict where it is not running or cannot be paused."""
        source, job = self._find(job_id)
        await source.pause(job)
        event(log, "job paused", job=job.id, kind=job.kind, collection=job.collection)
        return self.get(job_id)

    async def resume(self, job_id: str) -> Job:
        """Resume a paused job. Raises JobNotFound, Conflict where it is not paused."""
        source, job = self._find(job_id)
        await source.resume(job)
        event(log, "job resumed", job=job.id, kind=job.kind, collection=job.collection)
        return self.get(job_id)

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job; what it applied stays. No effect on a job that has ended. Raises JobNotFound, Conflict."""
        source, job = self._find(job_id)
        await source.cancel(job)
        event(log, "job cancelled", job=job.id, kind=job.kind, collection=job.collection)
        return self.get(job_id)

    def _find(self, job_id: str) -> tuple[JobSource, Job]:
        for source in self._sources:
            for job in source.all():
                if job.id == job_id:
                    return source, job
        raise JobNotFound(f"no job {job_id!r:.100}; finished jobs are forgotten after a while", job=job_id[:100])
