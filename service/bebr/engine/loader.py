"""Opens collections, loads all of them from the store when the service starts, and removes what deleted ones leave."""

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Set
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from bebr.core.types import Role
from bebr.engine.collections import centroids, list_rules
from bebr.engine.collections.centroids import CollectionCentroids
from bebr.engine.collections.collection import Collection, collection_folder
from bebr.engine.collections.damaged import PASSING, DamagedEntry, damaged
from bebr.engine.collections.encoders import Encoders
from bebr.engine.collections.list_rules import ListRules
from bebr.engine.collections.registry import CollectionRegistry
from bebr.engine.collections.reservoir import Reservoir
from bebr.engine.collections.schema import CollectionDocument
from bebr.engine.events import CollectionEvents
from bebr.engine.versions import calibration
from bebr.engine.versions.calibration import Calibrations
from bebr.engine.versions.fitted_bundles import FittedBundles
from bebr.errors import BebrError, DamagedStore, StoreUnavailable, Unavailable
from bebr.shards import HeldShards, LocalShards, ShardThreads, acknowledged, forget_notes
from bebr.store import MetadataStore

log = logging.getLogger(__name__)
RETRY_SECONDS = 1.0
BESIDE = (centroids.KIND, list_rules.KIND, calibration.KIND)
"""Kinds of documents that are read beside that of a collection. Their names begin with its uid."""


class CollectionLoader:
    """Opens and removes collections."""

    def __init__(
        self,
        *,
        registry: CollectionRegistry,
        store: MetadataStore,
        encoders: Encoders,
        fitted_bundles: FittedBundles,
        calibrations: Calibrations,
        events: CollectionEvents,
        folder: Path,
        head_rows: int,
        lists_from_points: int,
        map_from_bytes: int,
        max_queue: int,
        threads: ShardThreads,
        shares: bool,
        read_wait_seconds: float,
        is_leaf: bool = False,
    ) -> None:
        """shares: followers use the folder of this primary. is_leaf: some shards are held, which are taken later."""
        self._is_leaf = is_leaf
        self._shares = shares
        self._read_wait_seconds = read_wait_seconds
        self._registry = registry
        self._store = store
        self._encoders = encoders
        self._fitted_bundles = fitted_bundles
        self._calibrations = calibrations
        self._events = events
        self._folder = folder
        self._head_rows = head_rows
        self._lists_from_points = lists_from_points
        self._map_from_bytes = map_from_bytes
        self._max_queue = max_queue
        self._threads = threads

    def open(self, name: str, document: CollectionDocument) -> Collection:
        """The collection with what its segment files hold. It reads files and loads models: call it in a thread.

        Where anything fails, nothing stays open.
        """
        folder = collection_folder(self._folder, document.uid)
        encoders = self._encoders.open(document)
        shards = self._shards_of(name, document, folder)
        shards.open(document.fields_change)
        collection = Collection(
            name=name,
            document=document,
            store=self._store,
            folder=folder,
            shards=shards,
            encoders=encoders,
            lists_from_points=self._lists_from_points,
            role=self._registry.role,
        )
        collection.centroids.is_shared = self._registry.refresh is not None
        return collection

    def _shards_of(self, name: str, document: CollectionDocument, folder: Path) -> LocalShards:
        make = HeldShards if self._is_leaf else LocalShards
        return make(
            self._store,
            document.uid,
            folder,
            name=name,
            shards=document.shards,
            specs={version.number: version.spec for version in document.versions},
            fields=document.filterable,
            head_rows=self._head_rows,
            map_from_bytes=self._map_from_bytes,
            max_queue=self._max_queue,
            threads=self._threads,
            role=self._registry.role,
            shares=self._shares,
            read_wait_seconds=self._read_wait_seconds,
        )

    def prepare_removal(self, uid: str | None) -> None:
        """From here on nobody misses the points of a collection, even if its removal is cut short."""
        if uid is not None:
            with suppress(OSError):
                forget_notes(collection_folder(self._folder, uid))

    async def remove(self, collection: Collection) -> None:
        """Close a collection that the registry has forgotten, and remove its points, segments and bundles."""
        await collection.close(keep=False)
        await self._remove_data(collection.name, collection.document.uid, collection.document)

    async def remove_damaged(self, entry: DamagedEntry) -> None:
        """The same for one that could not be opened, as far as it is known what it has."""
        in_use = {collection.document.uid for collection in self._registry.collections.values()}
        if entry.uid is None or entry.uid in in_use:
            log.warning("collection %s is forgotten; its files are unknown and stay", entry.name)
            return
        await self._remove_data(entry.name, entry.uid, entry.document)

    async def _remove_data(self, name: str, uid: str, document: CollectionDocument | None) -> None:
        await self._store.drop(uid)
        reservoir = Reservoir(self._store, uid)
        await reservoir.load()
        await reservoir.close()
        await CollectionCentroids(self._store, uid, collection_folder(self._folder, uid)).close()
        await asyncio.to_thread(shutil.rmtree, collection_folder(self._folder, uid), True)
        if document is not None:
            others = [other.document for other in self._registry.collections.values()]
            others += [other.document for other in self._registry.damaged.values() if other.document is not None]
            in_use = {version.fingerprint for other in others for version in other.versions}
            await self._calibrations.forget(document)
            await ListRules(self._store, uid, self._lists_from_points).forget(document.versions)
            await self._fitted_bundles.forget(name, document, in_use)
            await asyncio.to_thread(self._encoders.forget, document)

    async def load_all(self, begin: Callable[[], Awaitable[None]] | None = None) -> None:
        """Load all collections, however long the store or the disk is away. The registry says what is missing.

        begin: comes before the first document is read.
        """
        registry = self._registry
        while registry.problem is not None:
            try:
                if begin is not None:
                    await begin()
                await self._load_all()
                registry.problem = None
            except Unavailable as error:
                registry.problem = f"waiting for the store: {error.detail}"
                log.warning("loading the collections: %s; trying again", error.detail)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception as error:
                registry.problem = f"{type(error).__name__}: {error}"
                log.exception("loading the collections failed")
                raise

    async def _load_all(self) -> None:
        """What stops one collection does not stop the others. Raises StoreUnavailable where the store is away."""
        registry = self._registry
        documents = await registry.load_documents()
        if registry.role is Role.PRIMARY and registry.refresh is None:  # else another process may have deleted some
            await self._check_all_known({document.uid for document in documents.values()})
        for name, document in documents.items():
            if name not in registry.collections:
                await self._load(name, document)
        registry.complete = True
        for collection in list(registry.collections.values()):
            if not collection.ready:
                await self._catch_up(collection)

    async def _check_all_known(self, known: set[str]) -> None:
        """Raise DamagedStore where the store does not know a collection that it has acknowledged points of."""
        damaged = self._registry.damaged.values()
        if any(entry.uid is None for entry in damaged):
            return  # it may be one of them
        known |= {str(entry.uid) for entry in damaged}
        folders = [path for path in (self._folder / "collections").glob("*") if path.name not in known]
        lost = {folder: count for folder in sorted(folders) if (count := await asyncio.to_thread(acknowledged, folder))}
        if lost:
            which = ", ".join(f"{folder} ({count:,} operations)" for folder, count in lost.items())
            raise DamagedStore(
                f"the store (id {await self._store.identity()}) does not know collections whose writes it has "
                f"acknowledged: {which}. It was emptied, went back to a time before them, or is another store. Restore "
                "it from a backup or name the right one; or, to go on without these collections, stop the service, "
                "delete these folders, and start again"
            )

    async def _load(self, name: str, document: CollectionDocument) -> None:
        try:
            self._registry.collections[name] = await self._open(name, document)
        except Exception as error:
            await self._note_damage(name, document, error)

    async def _open(self, name: str, document: CollectionDocument) -> Collection:
        await self._restore_bundles(document)
        async with self._opened(name, document) as collection:
            await self._calibrations.apply(collection)
            await collection.reservoir.load()
            await collection.load_lists()
            await collection.list_rules.load(document.versions)
            return collection

    @asynccontextmanager
    async def _opened(self, name: str, document: CollectionDocument) -> AsyncIterator[Collection]:
        """`open` it, and close it where what follows fails."""
        opening = asyncio.ensure_future(asyncio.to_thread(self.open, name, document))
        try:
            collection = await asyncio.shield(opening)
            yield collection
        except BaseException:
            with suppress(Exception):  # a thread ends its work also for a caller who has left
                await (await opening).close(keep=False)
            raise

    async def warm(self, document: CollectionDocument) -> None:
        """Load the models of a collection that is to be made, so that `make` does not have to."""
        await asyncio.to_thread(self._encoders.open, document)

    async def make(
        self, name: str, document: CollectionDocument, check: Callable[[Collection], None] = lambda collection: None
    ) -> Collection:
        """Make a collection, and serve it from now on, while the caller holds its name. check: may refuse it once it is
        open.

        Of one that fails nothing is left, unless the store may have its document: it is opened then like any other.
        Raises AlreadyExists, StoreUnavailable, and what `check` raises.
        """
        registry, is_sent = self._registry, False
        try:
            await self._store.create(document.uid, document.shards)
            async with self._opened(name, document) as collection:
                check(collection)
                await self._calibrations.apply(collection)
                is_sent = True
                await registry.save(name, document)
        except BaseException as error:
            if not is_sent or _was_refused(error):
                with suppress(BebrError):
                    self.prepare_removal(document.uid)
                    await self._remove_data(name, document.uid, document)
            raise
        try:
            await collection.catch_up()
        except BaseException as error:
            await self._close_failed(collection, error)
            raise
        registry.collections[name] = collection
        return collection

    async def _close_failed(self, collection: Collection, error: BaseException) -> None:
        """Of a collection that there is, and that cannot be served now: it is tried again."""
        reason = error if isinstance(error, Exception) else StoreUnavailable("whoever made it has left")
        self._registry.damaged[collection.name] = damaged(collection.name, collection.document, reason)
        await collection.close(keep=False)

    async def _restore_bundles(self, document: CollectionDocument) -> None:
        if self._registry.role is Role.PRIMARY:  # which writes a bundle before the document that names it
            await self._fitted_bundles.restore(document)

    async def take(self, name: str, document: CollectionDocument) -> None:
        """Open a collection that another process has created."""
        await self._load(name, document)
        if (collection := self._registry.collections.get(name)) is not None:
            try:
                await self._catch_up(collection)
            except BaseException:  # nobody else would bring it up to the store
                self._registry.collections.pop(name, None)
                await collection.close(keep=False)
                raise

    async def adopt(self, collection: Collection, document: CollectionDocument) -> None:
        """Bring an open collection to the document that another process has stored. Raises StoreUnavailable."""
        opened = None
        if _in_use(document) != _in_use(collection.document):
            await self._restore_bundles(document)
            opened = await asyncio.to_thread(self._encoders.open, document)
        collection.add_versions(document)
        if document.filterable != collection.document.filterable:
            await collection.shards.set_fields(document.filterable)
        if collection.shards.columns().outdated:  # also where their job has ended since
            await collection.shards.reach_store()
        collection.adopt(document, opened)
        if opened is not None:
            await self._calibrations.apply(collection)
            await collection.reservoir.load()
        self._events.changed(collection)

    async def load_beside(self, collection: Collection, kinds: Set[str]) -> None:
        """Read documents of these kinds again. Raises StoreUnavailable."""
        if centroids.KIND in kinds:
            await collection.load_lists()
        if list_rules.KIND in kinds:
            await collection.list_rules.load(collection.document.versions)
        if calibration.KIND in kinds:
            await self._calibrations.apply(collection)

    async def let_go(self, collection: Collection) -> None:
        """Close a collection that another process has deleted."""
        uid = collection.document.uid
        if self._registry.role is Role.PRIMARY:
            self.prepare_removal(uid)
        await self._events.closing(collection)
        await collection.close(keep=False)
        if self._registry.role is Role.PRIMARY:  # of a service with a folder of its own
            await asyncio.to_thread(shutil.rmtree, collection_folder(self._folder, uid), True)
        await asyncio.to_thread(self._encoders.forget, collection.document)

    async def _catch_up(self, collection: Collection) -> None:
        try:
            await collection.catch_up()
        except Exception as error:
            await self._note_damage(collection.name, collection.document, error)
            self._registry.collections.pop(collection.name, None)
            await collection.close(keep=False)
        else:
            self._events.changed(collection)

    async def _note_damage(self, name: str, document: CollectionDocument, error: Exception) -> None:
        if isinstance(error, StoreUnavailable):
            await self._store.ping()  # raises where it is away for all
        self._registry.damaged[name] = damaged(name, document, error)

    async def retry_failed(self) -> None:
        """Go on trying to open what failed for a reason that may pass. Runs until it is cancelled."""
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            for entry in [entry for entry in self._registry.damaged.values() if entry.passing]:
                try:
                    await self._retry(entry)
                except PASSING:
                    continue
                except Exception as error:
                    if entry.document is not None:
                        await self._note_damage(entry.name, entry.document, error)

    async def _retry(self, entry: DamagedEntry) -> None:
        """Raises what went wrong again."""
        registry = self._registry
        assert entry.document is not None, "it was read, or no error would pass"
        collection = await self._open(entry.name, entry.document)
        try:
            await collection.catch_up()
        except BaseException:
            await collection.close(keep=False)
            raise
        async with registry.lock:
            if registry.damaged.get(entry.name) is entry:
                del registry.damaged[entry.name]
                registry.collections[entry.name] = collection
                log.info("collection %s is open again", entry.name)
                self._events.changed(collection)
                return
        await collection.close(keep=False)  # it was deleted meanwhile
        if (
            registry.role is Role.PRIMARY and registry.refresh is None
        ):  # else it may have been opened as another left it
            await self._remove_data(entry.name, entry.document.uid, entry.document)


def _was_refused(error: BaseException) -> bool:
    """Whether it is certain that the store has not done what it was asked for."""
    if isinstance(error, StoreUnavailable):
        return error.fields.get("sent") is False
    return isinstance(error, BebrError)


def _in_use(document: CollectionDocument) -> list[tuple[str, bool]]:
    """What its encoders are made for."""
    return [(version.id, version.retired) for version in document.versions]
