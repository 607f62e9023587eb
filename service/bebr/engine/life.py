"""The life of an engine: it opens the store, loads the collections, looks after them, and closes all of it in order."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from bebr.core.types import Role
from bebr.engine.collections.registry import CollectionRegistry
from bebr.engine.following import DocumentNews, Following
from bebr.engine.leaves.holding import Holding
from bebr.engine.statuses import Readiness
from bebr.engine.threads import Threads
from bebr.engine.versions.fit_progress import FitProgress
from bebr.shards.memory import limit_arenas
from bebr.store import MetadataStore

Work = Callable[[], Coroutine[Any, Any, None]]


class Life:
    """Of one engine."""

    def __init__(
        self,
        store: MetadataStore,
        folder: Path,
        registry: CollectionRegistry,
        threads: Threads,
        *,
        load: Work,
        beside: Sequence[Work],
        following: Following | None,
        shared: FitProgress | None,
        holding: Holding | None = None,
    ) -> None:
        """beside: what runs for ever once everything is loaded. following: where other processes change what is open.
        shared: where a primary has followers, what its fits are doing. holding: what a leaf holds."""
        self._store = store
        self._folder = folder
        self._registry = registry
        self._threads = threads
        self._load = load
        self._beside = beside
        self._following = following
        self._shared = shared
        self._holding = holding
        self._news: DocumentNews | None = None
        self._loading: asyncio.Task[None] | None = None
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open the store, and load the collections in the background."""
        limit_arenas()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._store.listen(self._store_lost, self._store_seen)
        self._store.on_documents = self._documents_changed
        if self._registry.role is Role.PRIMARY:  # a follower waits for it to make the store
            await self._store.open()
        if self._shared is not None:
            self._news = DocumentNews(self._folder)
            self._shared.start()
        self._registry.problem = "loading"
        self._loading = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await self._load()
        self._running = [asyncio.create_task(work()) for work in self._beside]

    async def wait_until_loaded(self) -> None:
        """Raises what went wrong while loading."""
        if self._loading is not None:
            await self._loading

    async def stop(self) -> None:
        """Finish what is under way and write checkpoints, so that the next start replays little."""
        if self._holding is not None and self._registry.problem is None:
            await self._holding.drain()
        self._registry.problem = "stopping"
        if self._loading is not None:
            await _cancelled([self._loading])
        await _cancelled(self._running)
        if self._following is not None:
            await self._following.stop()
        for collection in list(self._registry.collections.values()):
            await collection.close(keep=self._registry.role is Role.PRIMARY)
        await self._threads.shut_down()
        await self._store.close()
        if self._news is not None:
            self._news.close()

    def readiness(self) -> Readiness:
        """Whether every collection that can be opened is caught up with the store; if not, why."""
        collections = self._registry.collections.items()
        problems = (f"collection '{name}': {why}" for name, collection in collections if (why := collection.problem))
        problem = self._registry.problem or next(problems, None)
        if problem is None and self._holding is not None:
            problem = self._holding.problem
        loading = sorted(name for name, collection in collections if not collection.ready)
        return Readiness(problem is None and not loading, problem, loading)

    def _documents_changed(self, kind: str, names: Collection[str]) -> None:
        if self._following is not None:
            self._following.changed_here(kind, names)
        if self._news is not None:
            self._news.tell(kind)

    def _store_lost(self, uid: str, shard: int) -> None:
        for collection in self._registry.collections.values():
            if collection.document.uid == uid:
                collection.shards.recheck(shard)

    def _store_seen(self, last_seqs: Mapping[str, Mapping[int, int]]) -> None:
        for collection in self._registry.collections.values():
            if found := last_seqs.get(collection.document.uid):
                collection.shards.seen(found)


async def _cancelled(tasks: Sequence["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
