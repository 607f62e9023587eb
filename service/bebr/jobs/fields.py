"""Jobs that make the columns of filterable fields. At most one runs for each collection."""

from collections.abc import Sequence
from functools import partial

from bebr.core.types import JobState
from bebr.engine import Engine
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.field_change import FieldChange
from bebr.engine.write.fields import FieldChanges
from bebr.jobs.job import FieldsJob, Job, JobKind
from bebr.jobs.per_collection import JobPerCollection
from bebr.jobs.runner import Runner


class FieldsJobs(JobPerCollection["_FieldsRunner"]):
    """The last change of the fields of each collection, as its document says."""

    kind = JobKind.FIELDS

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.registry)
        self._changes = engine.field_changes

    def all(self) -> Sequence[Job]:
        found = [(one, one.document.field_change) for one in self._registry.all()]
        return [self._job(collection, change) for collection, change in found if change is not None]

    def changed(self, collection: Collection) -> None:
        document = collection.document
        change, is_due = document.field_change, document.fields_change and document.uid not in self._runners
        if change is not None and is_due and self._may_run(collection):
            self._run(collection, _FieldsRunner(self._changes, collection, change.job))

    def _job(self, collection: Collection, change: FieldChange) -> FieldsJob:
        runner, misfits = self._runners.get(collection.document.uid), change.misfits()
        progress = 1.0
        if not change.state.ended:
            stats = collection.shards.columns()
            progress = min(
                [stats.progress(key) for key in stats.lacking], default=1 - stats.outdated / (stats.rows or 1)
            )
        return FieldsJob(
            id=change.job,
            kind=self.kind,
            collection=collection.name,
            version=None,
            state=change.state,
            detail=change.detail if runner is None or runner.waiting is None else runner.waiting,
            created_at=change.created_at,
            finished_at=change.finished_at,
            fields=dict(change.fields),
            total=change.total,
            progress=progress,
            rejected=sum(one.count for one in misfits.values()),
            misfits=misfits,
        )


class _FieldsRunner(Runner):
    """Makes columns, one segment after the other, until none is left to make."""

    def __init__(self, changes: FieldChanges, collection: Collection, job: str) -> None:
        super().__init__(
            f"the change of fields of collection {collection.name}",
            job=job,
            kind="fields",
            collection=collection.name,
        )
        self._changes = changes
        self._collection = collection
        self._job = job

    async def work(self) -> None:
        while await self._changes.make_some(self._collection, partial(self.rest, 0)):
            self.waiting = None
            await self.rest(0)
        await self._changes.recount(self._collection, self._job, partial(self.rest, 0))

    async def ended(self, state: JobState, detail: str | None) -> None:
        await self.until_saved(lambda: self._changes.end(self._collection, self._job, state, detail))
