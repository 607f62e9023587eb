"""SqliteStore: the embedded store. A folder with one catalog file and one file per collection.

    <folder>/lock                     held while a store is open, so that a second process is refused
    <folder>/catalog.db               documents, and which collections exist
    <folder>/catalog-copy.db          the same, used where that one is damaged
    <folder>/collections/<uid>.db     points, receipts and counters of one collection
    <folder>/leases/<name>            who has a lease, locked while he has it
    <folder>/reserve                  room that deletes take when the disk is full

All commits of one call share a transaction, and its fsync. Calls for one collection are served one after the other.
With `synchronous = full`, the default, an acknowledged commit survives a power failure; with `normal` it survives the
death of the process, but not of the machine.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Literal, TypeVar

from bebr.core.history import History, new_epoch
from bebr.core.operations import Commit, CommitOutcome, FeedPage, ShardCounters, check_commit
from bebr.core.types import Role, StoredPoint
from bebr.disk import FolderLock, raise_open_files_limit
from bebr.errors import AlreadyExists, BebrError, DamagedStore, InsufficientStorage, StoreUnavailable
from bebr.store.protocol import (
    DamagedDocument,
    Document,
    HeldLease,
    check_lease_name,
    check_uid,
    only_follows,
    unknown_shard,
)
from bebr.store.sqlite.catalog_copy import take_copy_if_damaged
from bebr.store.sqlite.collection import CollectionFile, create_collection_file
from bebr.store.sqlite.documents import Catalog, CatalogReader, FollowedCatalog
from bebr.store.sqlite.files import translate, translated
from bebr.store.sqlite.open_files import OpenFile, OpenFiles
from bebr.store.sqlite.point_cache import PointCache
from bebr.store.sqlite.reading import FEW_IDS, read_few_points
from bebr.store.sqlite.reserve import Reserve
from bebr.store.sqlite.task_leases import TaskLeases

log = logging.getLogger(__name__)
COPY = "catalog-copy.db"
POOL_THREADS = 4
MAX_OPEN_FILES = 64
"""Collections open at a time; each takes up to three connections of three file descriptors."""
MIN_OPEN_FILES, FILES_SHARE = 4, 16
"""Collections that may be open where the process may open few files, and file descriptors that are counted for each."""

POINT_CACHE_BYTES = 16 * 2**20

Result = TypeVar("Result")


class SqliteStore:
    """A MetadataStore in a folder of SQLite files."""

    def __init__(
        self,
        path: Path,
        synchronous: Literal["full", "normal"] = "full",
        receipt_ttl_seconds: float = 86_400,
        max_open_files: int = MAX_OPEN_FILES,
        point_cache_bytes: int = POINT_CACHE_BYTES,
        role: Role = Role.PRIMARY,
    ) -> None:
        """role: a follower locks, makes and changes nothing; the folder is another process's."""
        self._folder = Path(path)
        self.on_documents: Callable[[str], None] = lambda kind: None
        self._max_open_files = max_open_files
        self._synchronous = synchronous
        self._files = OpenFiles(self._folder / "collections", synchronous, receipt_ttl_seconds, max_open_files)
        self._lock = FolderLock(self._folder)
        self._leases = TaskLeases(self._folder / "leases")
        self._reserve = Reserve(self._folder / "reserve")
        self._cache = PointCache(point_cache_bytes)
        self._pool: ThreadPoolExecutor | None = None
        self._catalog: Catalog | None = None
        self._followed: FollowedCatalog | None = None
        """The catalog of a follower, which has no other."""
        self._follows = self._files.follows = role is Role.FOLLOWER
        self._catalog_lock = asyncio.Lock()
        self._shards: dict[str, int] = {}

    # -- life ----------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Lock the folder and open the catalog; finish the drops that a crash interrupted.

        Raises StoreUnavailable when another process has the folder, DamagedStore when a file is missing or not ours.
        """
        if self._catalog is not None or self._followed is not None:
            return
        if self._follows:
            self._open_to_follow()
            return
        try:
            (self._folder / "collections").mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except BlockingIOError as error:
            raise StoreUnavailable(str(error), path=str(self._folder)) from error
        except OSError as error:
            raise StoreUnavailable(f"the data folder {self._folder} cannot be used: {error}") from error
        try:
            self._files.epoch = new_epoch()
            await asyncio.to_thread(self._open_catalog)
            self._start_pool()
            self._reserve.fill()
        except BaseException:
            await self.close()
            raise

    def _open_to_follow(self) -> None:
        path = self._folder / "catalog.db"
        with translated(path):
            self._followed = FollowedCatalog(path)
        self._shards = self._followed.collections()
        self._start_pool()

    def _start_pool(self) -> None:
        self._files.most = min(self._max_open_files, max(MIN_OPEN_FILES, raise_open_files_limit() // FILES_SHARE))
        self._pool = ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="bebr-sqlite")

    def _open_catalog(self) -> None:
        path, copy = self._folder / "catalog.db", self._folder / COPY
        if not path.exists():
            self._check_strays(path, self._files.strays([]), "is missing")
        elif path.stat().st_size:
            take_copy_if_damaged(path, copy)
        with translated(path):
            self._catalog = Catalog(path, self._synchronous)
            for uid in self._catalog.dropped():
                self._forget(uid)
            self._shards = self._catalog.collections()
        # a file that only a document names is for its reader to judge: one damaged collection stops no other
        known = [*self._shards, *self._catalog.dropped()]
        strays = [file for file in self._files.strays(known) if not self._catalog.mentions(file.stem)]
        self._check_strays(path, strays, "does not know all of its collections")
        self._catalog.keep_copy(copy)

    def _check_strays(self, catalog: Path, strays: Sequence[Path], what: str) -> None:
        """Raise DamagedStore where there are files of collections with points that the catalog does not know."""
        if strays:
            copy = self._folder / COPY
            hint = f" (`mv {copy} {catalog}` puts back the copy that the service keeps)" if copy.exists() else ""
            raise DamagedStore(
                f"{catalog} {what}: there are {', '.join(path.name for path in strays[:3])} with points in "
                f"{strays[0].parent}. Restore {catalog.name} from the same backup as these files{hint}; or, to go on "
                "without their points, move these files to another folder, and start again",
                path=str(catalog),
            )

    async def close(self) -> None:
        """Write what is queued and close every file."""
        self._shards = {}
        await self._files.close_all()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        if self._catalog is not None:
            self._catalog.close()
            self._catalog = None
        if self._followed is not None:
            self._followed.close()
            self._followed = None
        self._leases.release_all()
        self._lock.release()

    async def ping(self) -> None:
        with translated(self._folder / "catalog.db"):
            self._current_catalog().ping()

    def listen(
        self, on_loss: Callable[[str, int], None], on_look: Callable[[Mapping[str, Mapping[int, int]]], None]
    ) -> None:
        """Files that are open lose nothing, and a commit is over when its call returns."""

    async def identity(self) -> str:
        with translated(self._folder / "catalog.db"):
            return self._current_catalog().identity

    async def renew_identity(self) -> str:
        catalog = self._opened_catalog()
        async with self._catalog_lock:
            return await self._in_thread(catalog.path, catalog.renew_identity)

    # -- documents -----------------------------------------------------------------------------------------------------

    async def put_document(self, kind: str, name: str, value: Document) -> None:
        await self.replace_documents(kind, {name: value}, [])

    async def get_document(self, kind: str, name: str) -> Document | None:
        with translated(self._folder / "catalog.db"):
            return self._current_catalog().get_document(kind, name)

    async def list_documents(self, kind: str) -> dict[str, Document | DamagedDocument]:
        with translated(self._folder / "catalog.db"):
            return self._current_catalog().list_documents(kind)

    async def delete_document(self, kind: str, name: str) -> bool:
        return await self._change_documents(kind, {}, [name], {}) > 0

    async def replace_documents(
        self,
        kind: str,
        puts: Mapping[str, Document],
        deletes: Sequence[str],
        *,
        expect: Mapping[str, Document | None] | None = None,
    ) -> None:
        await self._change_documents(kind, puts, deletes, expect or {})

    async def _change_documents(
        self, kind: str, puts: Mapping[str, Document], deletes: Sequence[str], expect: Mapping[str, Document | None]
    ) -> int:
        catalog = self._opened_catalog()
        async with self._catalog_lock:
            try:
                return await self._write_catalog(
                    catalog, lambda: catalog.replace_documents(kind, puts, deletes, expect)
                )
            finally:
                self.on_documents(kind)

    async def revision(self, kind: str) -> int:
        with translated(self._folder / "catalog.db"):
            return self._current_catalog().revision(kind)

    async def _write_catalog(self, catalog: Catalog, write: Callable[[], Result]) -> Result:
        """Documents are small, and say what is to be deleted: they pass although the disk is full."""
        try:
            return await self._in_thread(catalog.path, write)
        except InsufficientStorage:
            self._reserve.release()
            return await self._in_thread(catalog.path, write)

    # -- leases --------------------------------------------------------------------------------------------------------

    async def take_lease(self, name: str, holder: str, seconds: float) -> int | None:
        check_lease_name(name)
        self._opened_catalog()
        try:
            return self._leases.take(name, holder)
        except OSError as error:
            raise StoreUnavailable(f"the lease {name} cannot be written: {error}") from error

    async def renew_lease(self, name: str, token: int, seconds: float) -> bool:
        return self._leases.renew(name, token)

    async def release_lease(self, name: str, token: int) -> None:
        self._leases.release(name, token)

    async def leases(self) -> list[HeldLease]:
        self._current_catalog()
        return self._leases.held()

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
        create_collection_file(self._files.path(uid), self._synchronous, shards)
        catalog.add_collection(uid, shards)
        self._shards[uid] = shards

    async def drop(self, uid: str) -> None:
        check_uid(uid)
        catalog = self._opened_catalog()
        async with self._catalog_lock:
            self._shards.pop(uid, None)
            self._cache.forget_all(uid)
            await self._write_catalog(catalog, lambda: catalog.mark_dropped(uid))
            await self._files.close(uid)
            await self._write_catalog(catalog, lambda: self._forget(uid))
            self._reserve.fill()

    def _forget(self, uid: str) -> None:
        """Delete the files of a dropped collection, then its entry; what stays is tried again at the next start."""
        path = self._files.path(uid)
        try:
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
        except OSError as error:
            log.warning("a file of a dropped collection cannot be deleted: %s", error)
            return
        self._opened_catalog().remove_collection(uid)

    # -- points --------------------------------------------------------------------------------------------------------

    async def commit(self, uid: str, commits: Sequence[Commit]) -> list[CommitOutcome]:
        refusals = [self._refusal(uid, commit) for commit in commits]
        sound = [commit for commit, refusal in zip(commits, refusals, strict=True) if refusal is None]
        outcomes = iter(await self._commit_sound(uid, sound) if sound else [])
        return [next(outcomes) if refusal is None else refusal for refusal in refusals]

    def _refusal(self, uid: str, commit: Commit) -> BebrError | None:
        """Why a commit cannot even be tried."""
        try:
            if self._follows:
                raise only_follows()
            check_commit(commit)
            self._file(uid, commit.shard)
        except BebrError as error:
            return error
        return None

    async def _commit_sound(self, uid: str, commits: Sequence[Commit]) -> list[CommitOutcome]:
        async with self._using(uid, commits[0].shard) as opened, opened.commit_lock:
            try:
                return await self._commit_in_thread(opened, commits)
            finally:  # no thread writes any more, whatever came of it
                for commit in commits:
                    for write in commit.writes:
                        self._cache.forget(uid, write.ids)

    async def _commit_in_thread(self, opened: OpenFile, commits: Sequence[Commit]) -> list[CommitOutcome]:
        commit = opened.file.commit_group
        outcomes = await self._in_thread(opened.file.path, lambda: commit(commits))
        refused = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, InsufficientStorage)]
        if again := [n for n in refused if commits[n].shrinks]:
            await self._make_room(opened.file)
            some = [commits[n] for n in again]
            for place, outcome in zip(
                again, await self._in_thread(opened.file.path, lambda: commit(some)), strict=True
            ):
                outcomes[place] = outcome
        return outcomes

    async def _make_room(self, file: CollectionFile) -> None:
        """For what must pass although the disk is full."""
        self._reserve.release()
        with suppress(BebrError):
            await self._in_thread(file.path, file.shorten_log)

    async def fetch(
        self, uid: str, shard: int, ids: Sequence[str], *, metadata: bool = True, records: bool = False
    ) -> list[StoredPoint | None]:
        if len(ids) <= FEW_IDS:
            file = self._file(uid, shard)
            try:
                return file.fetch_few(shard, ids, metadata=metadata, records=records)
            except sqlite3.Error as error:
                raise translate(error, file.path) from error
        async with self._using(uid, shard) as opened, opened.scan_lock:
            fetch = opened.file.fetch_many
            return await self._in_thread(
                self._files.path(uid), lambda: fetch(shard, ids, metadata=metadata, records=records)
            )

    async def fetch_all(
        self, uid: str, ids_of_shard: Mapping[int, Sequence[str]], *, metadata: bool = True, records: bool = False
    ) -> dict[str, StoredPoint]:
        found: dict[str, StoredPoint] = {}
        if 0 < sum(map(len, ids_of_shard.values())) <= FEW_IDS:
            files = [self._file(uid, shard) for shard in ids_of_shard]  # the same one; each shard is checked
            try:
                found = read_few_points(files[0].reader, ids_of_shard, metadata=metadata, records=records)
            except sqlite3.Error as error:
                raise translate(error, files[0].path) from error
            if metadata and not records:
                self._cache.add(uid, found)
            return found
        for shard, ids in ids_of_shard.items():
            points = await self.fetch(uid, shard, ids, metadata=metadata, records=records)
            found |= {point.id: point for point in points if point is not None}
        return found

    def at_hand(self, uid: str, ids: Sequence[str]) -> dict[str, StoredPoint]:
        if self._follows:
            self._forget_changed(uid)
        return self._cache.get(uid, ids)

    async def feed(self, uid: str, shard: int, after_seq: int, limit: int) -> FeedPage:
        store = await self.identity()
        async with self._using(uid, shard) as opened, opened.scan_lock:
            feed = opened.file.feed
            return await self._in_thread(self._files.path(uid), lambda: feed(shard, after_seq, limit, store))

    async def counters(self, uid: str, shard: int) -> ShardCounters:
        file = self._file(uid, shard)
        with translated(self._files.path(uid)):
            return file.counters(shard)

    async def history(self, uid: str, shard: int) -> History:
        file = self._file(uid, shard)
        with translated(self._files.path(uid)):
            return file.history(shard, self._current_catalog().identity)

    async def purge_tombstones(self, uid: str, shard: int, up_to_seq: int) -> int:
        if self._follows:
            raise only_follows()
        async with self._using(uid, shard) as opened, opened.commit_lock:
            purge = opened.file.purge_tombstones
            purged = await self._in_thread(self._files.path(uid), lambda: purge(shard, up_to_seq))
            self._reserve.fill()
            return purged

    def _file(self, uid: str, shard: int) -> CollectionFile:
        return self._open_file(uid, shard).file

    def _using(self, uid: str, shard: int) -> AbstractAsyncContextManager[OpenFile]:
        self._open_file(uid, shard)
        return self._files.using(uid)

    def _open_file(self, uid: str, shard: int) -> OpenFile:
        self._check_shard(uid, shard)
        try:
            return self._files.get(uid)
        except DamagedStore:
            self._check_shard(uid, shard)  # another process may have dropped it just now
            raise

    def _check_shard(self, uid: str, shard: int) -> None:
        self._opened_pool()
        if self._follows:
            with translated(self._folder / "catalog.db"):
                self._current_catalog()
        if not 0 <= shard < self._shards.get(uid, 0):
            raise unknown_shard(uid, shard)

    def _current_catalog(self) -> CatalogReader:
        """For reads: as it is now, whoever writes it."""
        if self._followed is None:
            return self._opened_catalog()
        if self._followed.refresh():
            self._shards = self._followed.collections()
            for uid in self._files.let_go(self._shards):
                self._cache.forget_all(uid)
        return self._followed

    def _forget_changed(self, uid: str) -> None:
        """Of what was read: nothing of a collection that another process has written to since."""
        opened = self._files.peek(uid)
        version = opened.file.version() if opened is not None else None
        if opened is None or version != opened.version:
            self._cache.forget_all(uid)
            if opened is not None:
                opened.version = version

    def _opened_catalog(self) -> Catalog:
        if self._followed is not None:
            raise only_follows()
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
            with translated(path):
                return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise
