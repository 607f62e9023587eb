"""Keeps the open collections equal to the documents of the store, where another process changes them.

Which documents changed is told by comparing what they say with what they said, where the store has counted changes.
Each collection is brought up to its document by a task of its own, so that a model that has to be loaded for one holds
up no other.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

from bebr.core.types import Role
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.damaged import DamagedEntry, read_document
from bebr.engine.collections.registry import ALIAS, COLLECTION, CollectionRegistry
from bebr.engine.collections.schema import CollectionDocument
from bebr.engine.loader import BESIDE, CollectionLoader
from bebr.engine.search.searchers import Searchers
from bebr.errors import DamagedStore, NotReady, Unavailable
from bebr.shards import SharedSeqs, numbers
from bebr.store import DamagedDocument, Document, MetadataStore
from bebr.store.protocol import to_json

log = logging.getLogger(__name__)
POLL_SECONDS = 1.0
TOLD = "shared-documents"
FOLLOWED = (COLLECTION, ALIAS, *BESIDE)
"""Kinds of documents that are followed."""
Stored = Document | DamagedDocument
"""A document as it was read."""


class Changes:
    """Which documents changed since this was asked last."""

    def __init__(self, store: MetadataStore) -> None:
        self._store = store
        self._seen: defaultdict[str, dict[str, int]] = defaultdict(dict)
        """By kind and name: hash of what the document said."""
        self._revisions: dict[str, tuple[str, int]] = {}
        """By kind: id of the store, and how often its documents had changed by then, or less."""
        self._own: defaultdict[str, set[str]] = defaultdict(set)
        """By kind: names of documents that this process has changed since, or may have."""

    def changed_here(self, kind: str, names: Iterable[str]) -> None:
        """This process has changed documents, or may have. They are compared again even where they say what they said
        before, since another process may have changed them back."""
        self._own[kind].update(names)

    async def of(self, kind: str) -> dict[str, Stored | None]:
        """Documents of a kind that are new or may say something else, by name; None: it is gone."""
        revision = await self._store.identity(), await self._store.revision(kind)
        if self._revisions.get(kind) == revision:
            return {}
        own = frozenset(self._own[kind])  # before they are read: what is changed meanwhile is compared next time
        found = await self._store.list_documents(kind)
        self._own[kind] -= own
        before, now = self._seen[kind], {name: _hash(stored) for name, stored in found.items()}
        self._seen[kind], self._revisions[kind] = now, revision
        gone = dict.fromkeys((before.keys() | own) - now.keys())
        return gone | {name: stored for name, stored in found.items() if name in own or before.get(name) != now[name]}


class DocumentNews:
    """Tells the followers of a primary that documents changed."""

    def __init__(self, folder: Path) -> None:
        """folder: where the data is. That documents may have changed while no primary was there is told at once."""
        self._told = told = SharedSeqs(folder / TOLD, 1, Role.PRIMARY)
        raw = told.read()
        self._count = 0 if raw is None else numbers(raw)[0]
        self.tell(COLLECTION)

    def tell(self, kind: str) -> None:
        """A document of a kind changed."""
        if kind in FOLLOWED:
            self._count += 1
            self._told.raise_to(0, self._count)

    def close(self) -> None:
        self._told.close()


class Following:
    """Follows what other processes change of the collections and aliases of one store."""

    def __init__(
        self,
        registry: CollectionRegistry,
        loader: CollectionLoader,
        store: MetadataStore,
        searchers: Searchers,
        folder: Path,
    ) -> None:
        """folder: where the data is."""
        self._registry = registry
        self._loader = loader
        self._store = store
        self._searchers = searchers
        self._follows = registry.role is Role.FOLLOWER
        """Else it is one of several services, each with a folder of its own."""
        self._told = SharedSeqs(folder / TOLD, 1, Role.FOLLOWER)
        """How often the primary has changed documents."""
        self._had: bytes | None = None
        """What was told when somebody looked last; None: nothing was."""
        self._changes = Changes(store)
        self._begun = False
        self._looking = asyncio.Lock()
        self._wanted: dict[str, Stored | None] = {}
        """By name: documents that collections are still to be brought up to; None: they are to be closed."""
        self._outdated: defaultdict[str, set[str]] = defaultdict(set)
        """By uid of the collection: kinds of documents beside its own that are to be read again."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """By name of the collection that is brought up to its documents."""

    def changed_here(self, kind: str, names: Iterable[str]) -> None:
        """This process has changed documents, or may have."""
        if kind in FOLLOWED:
            self._changes.changed_here(kind, names)

    async def load(self) -> None:
        """Load everything, and follow from there."""
        await self._loader.load_all(self._begin)

    async def _begin(self) -> None:
        """What changes from here on is noticed, also while it is loaded."""
        if self._follows:
            await self._store.open()
        if not self._begun:
            for kind in FOLLOWED:
                await self._changes.of(kind)
            self._begun = True

    async def run_for_ever(self) -> None:
        """Look every second. Runs until it is cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.refresh()
            except Unavailable as error:
                log.debug("what changed in the store is not known: %s", error.detail)
            except Exception:
                log.exception("what changed in the store could not be taken over; trying again")

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._told.close()

    async def refresh(self) -> None:
        """Take over all that changed until now. Raises StoreUnavailable."""
        await self._look()
        await self.settled(None)

    async def look_for(self, name: str) -> None:
        """Where several services share the store: look at once for a name that is not known yet, and wait for one
        that is just opened. Raises StoreUnavailable."""
        registry = self._registry
        if self._follows or registry.problem is not None:
            return
        if not registry.knows(name):
            await self.refresh()
        elif not registry.is_open(name):
            await self.settled(name)

    async def keep_up_names(self) -> None:
        """In a follower: return once aliases are what they were at the primary when that answered last. Raises
        StoreUnavailable."""
        if self._follows and self._registry.complete and (self._had is None or self._told.read() != self._had):
            await self._look()

    async def keep_up(self, name: str | None) -> None:
        """In a follower: return once a collection is what it was at the primary when that answered last; None: all are.

        Raises NotReady where the store does not have it for too long, StoreUnavailable.
        """
        while self._follows and self._registry.complete:
            await self.keep_up_names()
            await self.settled(name)
            had = self._had
            try:
                for collection in self._named(name):
                    if collection.shards.behind():
                        await collection.shards.reach()
                return
            except NotReady:  # points may be of a version that was attached meanwhile
                if had is None or self._told.read() == had:
                    raise

    def _named(self, name: str | None) -> Sequence[Collection]:
        """Those of that name or alias that are open and ready."""
        registry = self._registry
        if name is None:
            return [collection for collection in registry.collections.values() if collection.ready]
        collection = registry.collections.get(registry.aliases.get(name, name))
        return [collection] if collection is not None and collection.ready else []

    async def settled(self, name: str | None) -> None:
        """Return once a collection, or all of them, are what their documents said when somebody looked last."""
        if not self._tasks:
            return
        if name is not None:
            name = self._registry.aliases.get(name, name)
        tasks = [task for of, task in self._tasks.items() if name in (None, of)]
        await asyncio.gather(*map(asyncio.shield, tasks))

    async def _look(self) -> None:
        async with self._looking:
            told = self._told.read() if self._follows else None
            if told is not None and told == self._had:
                return  # somebody else has looked meanwhile
            for kind in FOLLOWED:
                if changed := await self._changes.of(kind):
                    self._note(kind, changed)
            for name in [*self._wanted, *self._names_of(list(self._outdated))]:
                if name not in self._tasks:
                    self._tasks[name] = task = asyncio.create_task(self._bring_up(name))
                    task.add_done_callback(_heard)  # also where nobody waits for it
            self._had = told

    def _note(self, kind: str, changed: Mapping[str, Stored | None]) -> None:
        if not self._follows:
            self._store.on_documents(kind, ())  # followers of this process read them too
        if kind == COLLECTION:
            self._wanted |= changed
        elif kind == ALIAS:
            self._registry.take_aliases(changed)
        else:
            for name in changed:
                self._outdated[name.partition("-")[0]].add(kind)

    def _names_of(self, uids: Sequence[str]) -> list[str]:
        """The names of open collections; what is not open reads everything when it is opened."""
        names = {collection.document.uid: name for name, collection in self._registry.collections.items()}
        if not self._tasks:
            for uid in uids:
                if uid not in names:
                    del self._outdated[uid]
        return [names[uid] for uid in uids if uid in names]

    async def _bring_up(self, name: str) -> None:
        """Until nothing is left to do."""
        try:
            while await self._step(name):
                pass
        finally:
            del self._tasks[name]

    async def _step(self, name: str) -> bool:
        """Whether anything was done. What could not be read is tried again by the next look."""
        if name in self._wanted:
            stored = self._wanted.pop(name)
            try:
                async with self._alone():
                    await self._take(name, stored)
            except Unavailable:
                self._wanted.setdefault(name, stored)
                self._had = None
                raise
            except Exception:  # it stays as it is, and the others are taken over
                log.exception("what changed of collection %s could not be taken over", name)
            return True
        collection = self._registry.collections.get(name)
        if collection is None or not (kinds := self._outdated.pop(collection.document.uid, None)):
            return False
        try:
            await self._loader.load_beside(collection, kinds)
        except Unavailable:
            self._outdated[collection.document.uid] |= kinds
            self._had = None
            raise
        return True

    def _alone(self) -> AbstractAsyncContextManager[object]:
        """Nothing changes names or documents here meanwhile; in a follower nothing ever does."""
        return nullcontext() if self._follows else self._registry.lock

    async def _take(self, name: str, stored: Stored | None) -> None:
        registry = self._registry
        if not self._follows:
            stored = await self._newest(name, stored)
        read = None if stored is None else read_document(name, stored)
        collection = registry.collections.get(name)
        if stored is None or isinstance(stored, DamagedDocument):
            registry.stored.pop(name, None)
        else:
            registry.stored[name] = stored
        if collection is not None and isinstance(read, DamagedEntry):
            return  # it is served as it was, as in the process that writes
        if collection is not None and (read is None or read.uid != collection.document.uid):
            await self._close(collection)
            collection = None
        registry.damaged.pop(name, None)
        if isinstance(read, DamagedEntry):
            registry.damaged[name] = read
        elif read is not None and collection is None:
            await self._loader.take(name, read)
        elif read is not None and collection is not None and _differ(read, collection.document):
            await self._loader.adopt(collection, read)

    async def _newest(self, name: str, stored: Stored | None) -> Stored | None:
        """What the store says now: this service may have changed it itself since it was read."""
        try:
            return await self._store.get_document(COLLECTION, name)
        except DamagedStore:
            return stored

    async def _close(self, collection: Collection) -> None:
        """Nobody finds it from here on; what reads it now goes on."""
        del self._registry.collections[collection.name]
        self._searchers.forget(collection.document.uid)
        await self._loader.let_go(collection)


def _differ(one: CollectionDocument, other: CollectionDocument) -> bool:
    return one.to_document() != other.to_document()


def _hash(stored: Stored) -> int:
    return hash(stored.text if isinstance(stored, DamagedDocument) else to_json(stored))


def _heard(task: "asyncio.Task[None]") -> None:
    if not task.cancelled():
        task.exception()
