"""The catalog of a store that is open, and the collections that it names: they are made and dropped here.

A process that writes has the catalog to itself, and changes it by one call at a time. A follower reads it anew before
each use, since another process makes and drops the collections, and changes nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from bebr.errors import AlreadyExists, DamagedStore, InsufficientStorage, StoreUnavailable
from bebr.store.protocol import Document, check_uid, only_follows, unknown_shard
from bebr.store.sqlite.catalog_copy import take_copy_if_damaged
from bebr.store.sqlite.collection import create_collection_file
from bebr.store.sqlite.documents import Catalog, CatalogReader, FollowedCatalog
from bebr.store.sqlite.files import translated
from bebr.store.sqlite.open_files import OpenFiles
from bebr.store.sqlite.point_cache import PointCache
from bebr.store.sqlite.reserve import Reserve
from bebr.store.sqlite.threads import Threads

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class OpenCatalog:
    """Which collections there are, and the documents beside them."""

    def __init__(
        self, folder: Path, synchronous: str, files: OpenFiles, cache: PointCache, reserve: Reserve, threads: Threads
    ) -> None:
        """files, cache: what they have of a collection goes when it is dropped. reserve: given up when the disk is
        full."""
        self._path, self._copy = folder / "catalog.db", folder / "catalog-copy.db"
        self._synchronous = synchronous
        self._files, self._cache, self._reserve, self._threads = files, cache, reserve, threads
        self._written: Catalog | None = None
        self._followed: FollowedCatalog | None = None
        """The catalog of a follower, which has no other."""
        self._lock = asyncio.Lock()
        """Held while the catalog changes."""
        self.shards: dict[str, int] = {}
        """uid -> number of shards, of each collection."""

    # -- life ----------------------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self._written is not None or self._followed is not None

    def open(self) -> None:
        """To write; finish the drops that a crash interrupted. Blocks. Raises DamagedStore."""
        if not self._path.exists():
            self._check_strays(self._files.strays([]), "is missing")
        elif self._path.stat().st_size:
            take_copy_if_damaged(self._path, self._copy)
        with translated(self._path):
            self._written = catalog = Catalog(self._path, self._synchronous)
            for uid in catalog.dropped():
                self._forget(catalog, uid)
            self.shards = catalog.collections()
        # a file that only a document names is for its reader to judge: one damaged collection stops no other
        known = [*self.shards, *catalog.dropped()]
        strays = [file for file in self._files.strays(known) if not catalog.mentions(file.stem)]
        self._check_strays(strays, "does not know all of its collections")
        catalog.keep_copy(self._copy)

    def follow(self) -> None:
        """Open what another process writes."""
        with translated(self._path):
            self._followed = FollowedCatalog(self._path)
        self.shards = self._followed.collections()

    def _check_strays(self, strays: Sequence[Path], what: str) -> None:
        """Raise DamagedStore where there are files of collections with points that the catalog does not know."""
        if strays:
            copy, catalog = self._copy, self._path
            hint = f" (`mv {copy} {catalog}` puts back the copy that the service keeps)" if copy.exists() else ""
            raise DamagedStore(
                f"{catalog} {what}: there are {', '.join(path.name for path in strays[:3])} with points in "
                f"{strays[0].parent}. Restore {catalog.name} from the same backup as these files{hint}; or, to go on "
                "without their points, move these files to another folder, and start again",
                path=str(catalog),
            )

    def forget_collections(self) -> None:
        """So that nobody opens a file while the files are closed."""
        self.shards = {}

    def close(self) -> None:
        if self._written is not None:
            self._written.close()
            self._written = None
        if self._followed is not None:
            self._followed.close()
            self._followed = None

    # -- reads ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[CatalogReader]:
        """As it is now, whoever writes it, for reads that the block makes of it."""
        with translated(self._path):
            yield self.current()

    def current(self) -> CatalogReader:
        if self._followed is None:
            return self.writable()
        if self._followed.refresh():
            self.shards = self._followed.collections()
            for uid in self._files.let_go(self.shards):
                self._cache.forget_all(uid)
        return self._followed

    def check_shard(self, uid: str, shard: int) -> None:
        """Raises NotFound for one that no collection has, StoreUnavailable while the store is not open."""
        if self._written is None:
            with translated(self._path):
                self.current()
        if not 0 <= shard < self.shards.get(uid, 0):
            raise unknown_shard(uid, shard)

    # -- changes -------------------------------------------------------------------------------------------------------

    def writable(self) -> Catalog:
        """Raises StoreUnavailable while the store is not open, and for a follower that it only follows."""
        if self._followed is not None:
            raise only_follows()
        if self._written is None:
            raise StoreUnavailable("the store is not open")
        return self._written

    async def renew_identity(self) -> str:
        catalog = self.writable()
        async with self._lock:
            return await self._threads.run(self._path, catalog.renew_identity)

    async def replace_documents(
        self, kind: str, puts: Mapping[str, Document], deletes: Sequence[str], expect: Mapping[str, Document | None]
    ) -> int:
        """As one change; how many were deleted. Raises StaleDocument."""
        catalog = self.writable()
        async with self._lock:
            return await self._write(lambda: catalog.replace_documents(kind, puts, deletes, expect))

    async def _write(self, write: Callable[[], Result]) -> Result:
        """Documents are small, and say what is to be deleted: they pass although the disk is full."""
        try:
            return await self._threads.run(self._path, write)
        except InsufficientStorage:
            self._reserve.release()
            return await self._threads.run(self._path, write)

    async def create(self, uid: str, shards: int) -> None:
        check_uid(uid)
        catalog = self.writable()
        async with self._lock:
            if uid in self.shards:
                if self.shards[uid] != shards:
                    raise AlreadyExists(
                        f"collection {uid} exists with {self.shards[uid]} shards, not {shards}", uid=uid
                    )
                return
            await self._threads.run(self._path, lambda: self._make(catalog, uid, shards))

    def _make(self, catalog: Catalog, uid: str, shards: int) -> None:
        """First the file, then its entry: a crash in between leaves an empty file that nobody refers to."""
        create_collection_file(self._files.path(uid), self._synchronous, shards)
        catalog.add_collection(uid, shards)
        self.shards[uid] = shards

    async def drop(self, uid: str) -> None:
        check_uid(uid)
        catalog = self.writable()
        async with self._lock:
            self.shards.pop(uid, None)
            self._cache.forget_all(uid)
            await self._write(lambda: catalog.mark_dropped(uid))
            await self._files.close(uid)
            await self._write(lambda: self._forget(catalog, uid))
            self._reserve.fill()

    def _forget(self, catalog: Catalog, uid: str) -> None:
        """Delete the files of a dropped collection, then its entry; what stays is tried again at the next start."""
        path = self._files.path(uid)
        try:
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
        except OSError as error:
            log.warning("a file of a dropped collection cannot be deleted: %s", error)
            return
        catalog.remove_collection(uid)
