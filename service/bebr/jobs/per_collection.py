"""The jobs of a kind of which at most one runs for each collection, as the collection's document says."""

from abc import abstractmethod
from typing import Generic, TypeVar

from bebr.engine.collections.collection import Collection
from bebr.engine.collections.registry import CollectionRegistry
from bebr.jobs.runner import Runner
from bebr.jobs.source import JobSource

R = TypeVar("R", bound=Runner)


class JobPerCollection(JobSource, Generic[R]):
    """Their runners: they begin once the service has started, and end with it or with their collection."""

    def __init__(self, registry: CollectionRegistry) -> None:
        self._registry = registry
        self._runners: dict[str, R] = {}
        """By uid of the collection."""
        self._started = False

    @abstractmethod
    def changed(self, collection: Collection) -> None: ...

    async def start(self) -> None:
        self._started = True
        for collection in list(self._registry.collections.values()):
            self.changed(collection)

    async def stop(self) -> None:
        self._started = False
        for runner in list(self._runners.values()):
            await runner.stop()

    async def closing(self, collection: Collection) -> None:
        runner = self._runners.get(collection.document.uid)
        if runner is not None:
            await runner.abort()  # it may be waiting for the lock

    def _may_run(self, collection: Collection) -> bool:
        return self._started and collection.ready and self._registry.holds(collection)

    def _run(self, collection: Collection, runner: R) -> None:
        self._runners[collection.document.uid] = runner
        runner.start(lambda: self._finished(collection))

    def _finished(self, collection: Collection) -> None:
        del self._runners[collection.document.uid]
        self.changed(collection)  # another may have become due while this one came to its end
