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
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Literal

from bebr.core.history import History, new_epoch
from bebr.core.operations import Commit, CommitOutcome, FeedPage, ShardCounters, check_commit
from bebr.core.types import Role, StoredPoint
from bebr.disk import FolderLock, raise_open_files_limit
from bebr.errors import BebrError, DamagedStore, InsufficientStorage, InvalidOption, StoreUnavailable
from bebr.store.protocol import DamagedDocument, Document, HeldLease, Member, check_lease_name, only_follows
from bebr.store.sqlite.collection import CollectionFile
from bebr.store.sqlite.files import translate, translated
from bebr.store.sqlite.open_catalog import OpenCatalog
from bebr.store.sqlite.open_files import OpenFile, OpenFiles
from bebr.store.sqlite.point_cache import PointCache
from bebr.store.sqlite.reading import FEW_IDS, read_few_points
from bebr.store.sqlite.reserve import Reserve
from bebr.store.sqlite.task_leases import TaskLeases
from bebr.store.sqlite.threads import Threads

MAX_OPEN_FILES = 64
"""Collections open at a time; each takes up to three connections of three file descriptors."""
MIN_OPEN_FILES, FILES_SHARE = 4, 16
"""Collections that may be open where the process may open few files, and file descriptors that are counted for each."""

POINT_CACHE_BYTES = 16 * 2**20


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
        self.on_documents: Callable[[str, Collection[str]], None] = lambda kind, names: None
        self._max_open_files = max_open_files
        self._files = OpenFiles(self._folder / "collections", synchronous, receipt_ttl_seconds, max_open_files)
        self._lock = FolderLock(self._folder)
        self._leases = TaskLeases(self._folder / "leases")
        self._reserve = Reserve(self._folder / "reserve")
        self._cache = PointCache(point_cache_bytes)
        self._threads = Threads()
        self._catalog = OpenCatalog(self._folder, synchronous, self._files, self._cache, self._reserve, self._threads)
        self._follows = self._files.follows = role is Role.FOLLOWER

    # -- life ----------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Lock the folder and open the catalog; finish the drops that a crash interrupted.

        Raises StoreUnavailable when another process has the folder, DamagedStore when a file is missing or not ours.
        """
        if self._catalog.is_open:
            return
        if self._follows:
            self._catalog.follow()
            self._start_threads()
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
            await asyncio.to_thread(self._catalog.open)
            self._start_threads()
            self._reserve.fill()
        except BaseException:
            await self.close()
            raise

    def _start_threads(self) -> None:
        self._files.most = min(self._max_open_files, max(MIN_OPEN_FILES, raise_open_files_limit() // FILES_SHARE))
        self._threads.start()

    async def close(self) -> None:
        """Write what is queued and close every file."""
        self._catalog.forget_collections()
        await self._files.close_all()
        self._threads.stop()
        self._catalog.close()
        self._leases.release_all()
        self._lock.release()

    async def ping(self) -> None:
        with self._catalog.reading() as catalog:
            catalog.ping()

    def listen(
        self, on_loss: Callable[[str, int], None], on_look: Callable[[Mapping[str, Mapping[int, int]]], None]
    ) -> None:
        """Files that are open lose nothing, and a commit is over when its call returns."""

    async def identity(self) -> str:
        with self._catalog.reading() as catalog:
            return catalog.identity

    async def renew_identity(self) -> str:
        return await self._catalog.renew_identity()

    # -- documents -----------------------------------------------------------------------------------------------------

    async def put_document(self, kind: str, name: str, value: Document) -> None:
        await self.replace_documents(kind, {name: value}, [])

    async def get_document(self, kind: str, name: str) -> Document | None:
        with self._catalog.reading() as catalog:
            return catalog.get_document(kind, name)

    async def list_documents(self, kind: str) -> dict[str, Document | DamagedDocument]:
        with self._catalog.reading() as catalog:
            return catalog.list_documents(kind)

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
        self._catalog.writable()
        try:
            return await self._catalog.replace_documents(kind, puts, deletes, expect)
        finally:
            self.on_documents(kind, [*puts, *deletes])

    async def revision(self, kind: str) -> int:
        with self._catalog.reading() as catalog:
            return catalog.revision(kind)

    # -- leases --------------------------------------------------------------------------------------------------------

    async def take_lease(self, name: str, holder: str, seconds: float) -> int | None:
        check_lease_name(name)
        self._catalog.writable()
        try:
            return self._leases.take(name, holder)
        except OSError as error:
            raise StoreUnavailable(f"the lease {name} cannot be written: {error}") from error

    async def renew_lease(self, name: str, token: int, seconds: float) -> bool:
        return self._leases.renew(name, token)

    async def release_lease(self, name: str, token: int) -> None:
        self._leases.release(name, token)

    async def leases(self) -> list[HeldLease]:
        self._catalog.current()
        return self._leases.held()

    async def announce(self, name: str, text: str, seconds: float) -> dict[str, str]:
        raise InvalidOption("leaves and gateways share a Redis or Valkey store, and this is SQLite; set redis_url")

    async def announced(self) -> dict[str, str]:
        return {}

    def members(self) -> list[Member]:
        return []

    # -- collections ---------------------------------------------------------------------------------------------------

    async def create(self, uid: str, shards: int) -> None:
        await self._catalog.create(uid, shards)

    async def drop(self, uid: str) -> None:
        await self._catalog.drop(uid)

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
        outcomes = await self._threads.run(opened.file.path, lambda: commit(commits))
        refused = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, InsufficientStorage)]
        if again := [n for n in refused if commits[n].shrinks]:
            await self._make_room(opened.file)
            some = [commits[n] for n in again]
            for place, outcome in zip(
                again, await self._threads.run(opened.file.path, lambda: commit(some)), strict=True
            ):
                outcomes[place] = outcome
        return outcomes

    async def _make_room(self, file: CollectionFile) -> None:
        """For what must pass although the disk is full."""
        self._reserve.release()
        with suppress(BebrError):
            await self._threads.run(file.path, file.shorten_log)

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
            return await self._threads.run(
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
            return await self._threads.run(self._files.path(uid), lambda: feed(shard, after_seq, limit, store))

    async def counters(self, uid: str, shard: int) -> ShardCounters:
        file = self._file(uid, shard)
        with translated(self._files.path(uid)):
            return file.counters(shard)

    async def history(self, uid: str, shard: int) -> History:
        file = self._file(uid, shard)
        with translated(self._files.path(uid)):
            return file.history(shard, self._catalog.current().identity)

    async def purge_tombstones(self, uid: str, shard: int, up_to_seq: int) -> int:
        if self._follows:
            raise only_follows()
        async with self._using(uid, shard) as opened, opened.commit_lock:
            purge = opened.file.purge_tombstones
            purged = await self._threads.run(self._files.path(uid), lambda: purge(shard, up_to_seq))
            self._reserve.fill()
            return purged

    def _file(self, uid: str, shard: int) -> CollectionFile:
        return self._open_file(uid, shard).file

    def _using(self, uid: str, shard: int) -> AbstractAsyncContextManager[OpenFile]:
        self._open_file(uid, shard)
        return self._files.using(uid)

    def _open_file(self, uid: str, shard: int) -> OpenFile:
        self._catalog.check_shard(uid, shard)
        try:
            return self._files.get(uid)
        except DamagedStore:
            self._catalog.check_shard(uid, shard)  # another process may have dropped it just now
            raise

    def _forget_changed(self, uid: str) -> None:
        """Of what was read: nothing of a collection that another process has written to since."""
        opened = self._files.peek(uid)
        version = opened.file.version() if opened is not None else None
        if opened is None or version != opened.version:
            self._cache.forget_all(uid)
            if opened is not None:
                opened.version = version
