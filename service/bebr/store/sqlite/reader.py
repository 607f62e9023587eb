"""SqliteReader: reads a folder that another process may be writing to, as a backup does. It takes no lock.

Each collection is read in one transaction, so that all of its shards are as they were at one moment. Meanwhile its
write-ahead log grows by what is written.
"""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from bebr.core.operations import FeedEntry, ShardCounters
from bebr.errors import DamagedStore, StoreUnavailable
from bebr.store.protocol import DamagedDocument, Document, unknown_shard
from bebr.store.sqlite.collection import CollectionFile
from bebr.store.sqlite.documents import get_document, list_documents
from bebr.store.sqlite.files import connect_reader, transaction, translated
from bebr.store.sqlite.reading import read_feed
from bebr.store.sqlite.statements import read_counters


class SqliteReader:
    """A StoreReader of a folder of SQLite files."""

    def __init__(self, path: Path) -> None:
        self._folder = Path(path)
        self._catalog: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Raises StoreUnavailable where there is no store."""
        path = self._folder / "catalog.db"
        if not path.is_file():
            raise StoreUnavailable(f"there is no store in {self._folder}; give the data folder with --data-dir")
        with translated(path):
            self._catalog = connect_reader(path)

    async def close(self) -> None:
        if self._catalog is not None:
            self._catalog.close()
            self._catalog = None

    async def get_document(self, kind: str, name: str) -> Document | None:
        with translated(self._folder / "catalog.db"):
            return get_document(self._opened(), kind, name)

    async def list_documents(self, kind: str) -> dict[str, Document | DamagedDocument]:
        with translated(self._folder / "catalog.db"):
            return list_documents(self._opened(), kind)

    def _opened(self) -> sqlite3.Connection:
        if self._catalog is None:
            raise StoreUnavailable("the store is not open")
        return self._catalog

    @asynccontextmanager
    async def frozen(self, uid: str, shards: int) -> AsyncIterator["FrozenFile"]:
        path = self._folder / "collections" / f"{uid}.db"
        if not path.is_file():
            raise DamagedStore(f"{path} is missing; restore it from a backup, or drop the collection", path=str(path))
        with translated(path):
            CollectionFile(path, "full", 0.0, "").close()  # a file of an older release is made one of this
            with closing(connect_reader(path)) as reader, transaction(reader, "begin"):
                read_counters(reader, 0)  # a transaction sees what is there when it first reads
                yield FrozenFile(reader, uid, path)


class FrozenFile:
    """A collection file as it was when the transaction of `reader` began."""

    def __init__(self, reader: sqlite3.Connection, uid: str, path: Path) -> None:
        self._reader, self._uid, self._path = reader, uid, path

    async def feed(self, shard: int, after_seq: int, limit: int) -> list[FeedEntry]:
        with translated(self._path):
            return read_feed(self._reader, shard, after_seq, limit)

    async def counters(self, shard: int) -> ShardCounters:
        with translated(self._path):
            counters = read_counters(self._reader, shard)
        if counters is None:
            raise unknown_shard(self._uid, shard)
        return counters
