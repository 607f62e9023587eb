"""SqliteStore: the embedded store. A folder with one catalog file and one file per collection.

    <folder>/lock                     held while a store is open, so that a second process is refused
    <folder>/catalog.db               documents, and which collections exist
    <folder>/collections/<uid>.db     points, receipts and counters of one collection

Commits of a collection are grouped: those that arrive while a transaction is written share the next one, and its fsync.
With `synchronous = full`, the default, an acknowledged commit survives a power failure; with `normal` it survives the
death of the process, but not of the machine.
"""

import asyncio
import sqlite3
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Literal, TypeVar

from bebr.core.types import StoredPoint
from bebr.errors import AlreadyExists, DamagedStore, StoreUnavailable
from bebr.store.protocol import (
    Committed,
    Document,
    FeedEntry,
    ShardStats,
    Write,
    check_uid,
    check_writes,
    unknown_shard,
)
from bebr.store.sqlite.collection import CollectionFile, Commit, create_collection_file
from bebr.store.sqlite.documents import Catalog
from bebr.store.sqlite.files import FolderLock, translate
from bebr.store.sqlite.group_commit import GroupCommitter
from bebr.store.sqlite.statements import FEW_IDS

POOL_THREADS = 4
MAX_OPEN_FILES = 64
"""Collections open at a time; each takes up to three connections of three file descriptors."""
MAX_GROUP_OPERATIONS = 20_000
MAX_INLINE_IDS = 256
"""A fetch of more ids goes to a thread: on the event loop it would hold up everyone for over half a millisecond."""

Result = TypeVar("Result")


class _OpenCollection:
    """A collection file with what keeps its users apart."""

    def __init__(self, file: CollectionFile, pool: ThreadPoolExecutor) -> None:
        self.file = file
        self.committer: GroupCommitter[Commit, list[Committed]] = GroupCommitter(
            pool, file.commit_group, lambda commit: commit.size, MAX_GROUP_OPERATIONS
        )
        self.scan_lock = asyncio.Lock()
        self.users = 0
        """Calls under way that wait for a thread; the file must stay open for them."""


class SqliteStore:
    """A MetadataStore in a folder of SQLite files."""

    def __init__(
        self,
        path: Path,
        synchronous: Literal["full", "normal"] = "full",
        receipt_ttl_seconds: float = 86_400,
        max_open_files: int = MAX_OPEN_FILES,
    ) -> None:
        self._folder = Path(path)
        self._synchronous = synchronous
        self._receipt_ttl_seconds = receipt_ttl_seconds
        self._max_open_files = max_open_files
        self._lock = FolderLock(self._folder)
        self._pool: ThreadPoolExecutor | None = None
        self._catalog: Catalog | None = None
        self._catalog_lock = asyncio.Lock()
        self._shards: dict[str, int] = {}
        self._open: OrderedDict[str, _OpenCollection] = OrderedDict()

    # -- life ----------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Lock the folder and open the catalog; finish the drops that a crash interrupted.

        Raises StoreUnavailable when another process has the folder, DamagedStore when a file is missing or not ours.
        """
        if self._catalog is not None:
            return
        try:
            (self._folder / "collections").mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except OSError as error:
            raise StoreUnavailable(f"the data folder {self._folder} cannot be used: {error}") from error
        try:
            with _translated(self._folder / "catalog.db"):
                self._catalog = Catalog(self._folder / "catalog.db", self._synchronous)
                for uid in self._catalog.dropped():
                    self._forget(uid)
                self._shards = self._catalog.collections()
            self._pool = ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="bebr-sqlite")
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Write what is queued and close every file."""
        self._shards = {}
        for uid in list(self._open):
            await self._close_collection(uid)
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        if self._catalog is not None:
            self._catalog.close()
            self._catalog = None
        self._lock.release()

    async def ping(self) -> None:
        with _translated(self._folder / "catalog.db"):
            self._opened_catalog().ping()

    # -- documents -----------------------------------------------------------------------------------------------------

    async def put_document(self, kind: str, name: str, value: Document) -> None:
        await self.replace_documents(kind, {name: value}, [])

    async def get_document(self, kind: str, name: str) -> Document | None:
        with _translated(self._folder / "catalog.db"):
            return self._opened_catalog().get_document(kind, name)

    async def list_documents(self, kind: str) -> dict[str, Document]:
        with _translated(self._folder / "catalog.db"):
            return self._opened_catalog().list_documents(kind)

    async def delete_document(self, kind: str, name: str) -> bool:
        return await self._change_documents(kind, {}, [name]) > 0

    async def replace_documents(self, kind: str, puts: Mapping[str, Document], deletes: Sequence[str]) -> None:
        await self._change_documents(kind, puts, deletes)

    async def _change_documents(self, kind: str, puts: Mapping[str, Document], deletes: Sequence[str]) -> int:
        catalog = self._opened_catalog()
        async with self._catalog_lock:
            return await self._in_thread(catalog.path, lambda: catalog.replace_documents(kind, puts, deletes))

    # -- collections ---------------------------------------------------------------------------------------------------

    async def create(self, uid: str, shards: int) -> None:
        check_uid(uid)
        catalog = self._opened_catalog()
        async with self._catalog_lock:
            if uid in self._shards:
                if self._shards[uid] != shards:
                    raise AlreadyExists(
                        f"collection {uid} exists with {self._shards[uid]} shards, not {shards}", uid=uid
                    )
                return
            await self._in_thread(catalog.path, lambda: self._make(catalog, uid, shards))

    def _make(self, catalog: Catalog, uid: str, shards: int) -> None:
        """First the file, then its entry: a crash in between leaves an empty file that nobody refers to."""
        create_collection_file(self._collection_path(uid), self._synchronous, shards)
        catalog.add_collection(uid, shards)
        self._shards[uid] = shards

    async def drop(self, uid: str) -> None:
        catalog = self._opened_catalog()
        async with self._catalog_lock:
            if self._shards.pop(uid, None) is None:
                return
            await self._in_thread(catalog.path, lambda: catalog.mark_dropped(uid))
            await self._close_collection(uid)
            await self._in_thread(catalog.path, lambda: self._forget(uid))

    def _forget(self, uid: str) -> None:
        """Delete the files of a dropped collection, then its entry."""
        path = self._collection_path(uid)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        self._opened_catalog().remove_collection(uid)

    # -- points --------------------------------------------------------------------------------------------------------

    async def commit(self, uid: str, shard: int, writes: Sequence[Write]) -> list[Committed]:
        check_writes(writes)
        async with self._using(uid, shard) as collection:
            return await collection.committer.submit(Commit(shard, writes))

    async def fetch(
        self, uid: str, shard: int, ids: Sequence[str], *, metadata: bool = True, records: bool = False
    ) -> list[StoredPoint | None]:
        if len(ids) <= MAX_INLINE_IDS:
            file = self._collection(uid, shard).file
            try:
                return file.fetch_few(shard, ids, metadata=metadata, records=records)
            except sqlite3.Error as error:
                raise translate(error, file.path) from error
        async with self._using(uid, shard) as collection, collection.scan_lock:
            fetch = collection.file.fetch_many
            return await self._in_thread(
                self._collection_path(uid), lambda: fetch(shard, ids, metadata=metadata, records=records)
            )

    async def fetch_all(
        self, uid: str, ids_of_shard: Mapping[int, Sequence[str]], *, metadata: bool = True, records: bool = False
    ) -> dict[str, StoredPoint]:
        if 0 < sum(map(len, ids_of_shard.values())) <= FEW_IDS:
            files = [self._collection(uid, shard).file for shard in ids_of_shard]  # the same one; each shard is checked
            try:
                return files[0].fetch_few_of_all(ids_of_shard, metadata=metadata, records=records)
            except sqlite3.Error as error:
                raise translate(error, files[0].path) from error
        found: dict[str, StoredPoint] = {}
        for shard, ids in ids_of_shard.items():
            points = await self.fetch(uid, shard, ids, metadata=metadata, records=records)
            found |= {point.id: point for point in points if point is not None}
        return found

    async def feed(self, uid: str, shard: int, after_seq: int, limit: int) -> list[FeedEntry]:
        async with self._using(uid, shard) as collection, collection.scan_lock:
            feed = collection.file.feed
            return await self._in_thread(self._collection_path(uid), lambda: feed(shard, after_seq, limit))

    async def stats(self, uid: str, shard: int) -> ShardStats:
        file = self._collection(uid, shard).file
        with _translated(self._collection_path(uid)):
            return file.stats(shard)

    async def purge_tombstones(self, uid: str, shard: int, up_to_seq: int) -> int:
        async with self._using(uid, shard) as collection:
            purge = collection.file.purge_tombstones
            return await self._in_thread(self._collection_path(uid), lambda: purge(shard, up_to_seq))

    # -- open files ----------------------------------------------------------------------------------------------------

    def _collection(self, uid: str, shard: int) -> _OpenCollection:
        """The open collection, most recently used. Raises CollectionNotFound, DamagedStore when its file is gone."""
        pool = self._opened_pool()
        if not 0 <= shard < self._shards.get(uid, 0):
            raise unknown_shard(uid, shard)
        collection = self._open.get(uid)
        if collection is None:
            path = self._collection_path(uid)
            if not path.exists():
                raise DamagedStore(
                    f"{path} is missing; restore it from a backup, or drop the collection", path=str(path)
                )
            with _translated(path):
                file = CollectionFile(path, self._synchronous, self._receipt_ttl_seconds)
            collection = self._open[uid] = _OpenCollection(file, pool)
        self._open.move_to_end(uid)
        if len(self._open) > self._max_open_files:
            self._close_idle()
        return collection

    @asynccontextmanager
    async def _using(self, uid: str, shard: int) -> AsyncIterator[_OpenCollection]:
        """The open collection, which stays open for the block."""
        collection = self._collection(uid, shard)
        collection.users += 1
        try:
            yield collection
        finally:
            collection.users -= 1

    def _close_idle(self) -> None:
        """Close the files that went unused for longest, down to the maximum or to those in use."""
        *others, _ = self._open.items()
        idle = [uid for uid, collection in others if not collection.users and not collection.committer.busy]
        for uid in idle[: len(self._open) - self._max_open_files]:
            self._open.pop(uid).file.close()

    async def _close_collection(self, uid: str) -> None:
        collection = self._open.pop(uid, None)
        if collection is None:
            return
        await collection.committer.settle()
        async with collection.scan_lock:
            with _translated(self._collection_path(uid)):
                collection.file.close()

    def _collection_path(self, uid: str) -> Path:
        return self._folder / "collections" / f"{uid}.db"

    def _opened_catalog(self) -> Catalog:
        if self._catalog is None:
            raise StoreUnavailable("the store is not open")
        return self._catalog

    def _opened_pool(self) -> ThreadPoolExecutor:
        if self._pool is None:
            raise StoreUnavailable("the store is not open")
        return self._pool

    async def _in_thread(self, path: Path, call: Callable[[], Result]) -> Result:
        """Run a blocking call in the pool. A cancelled caller leaves only when the call is over: it may hold a lock."""
        future = asyncio.get_running_loop().run_in_executor(self._opened_pool(), call)
        try:
            with _translated(path):
                return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path) from error
