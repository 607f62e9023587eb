"""The catalog file of a SqliteStore: its id, small JSON documents, and the collections that exist. All methods block.

Each change is folded into the file at once, so that nothing of it is in the write-ahead log alone.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from sqlite3 import Connection
from typing import TypeVar

from bebr.core.history import new_store_id
from bebr.errors import DamagedStore, StoreUnavailable
from bebr.store.protocol import (
    DamagedDocument,
    Document,
    pack_document,
    read_document,
    sound_document,
    stale_document,
)
from bebr.store.sqlite.catalog_copy import CatalogCopy
from bebr.store.sqlite.files import connect_reader, connect_writer, transaction, write_schema

Result = TypeVar("Result")
_TABLES = [
    "create table documents (kind text not null, name text not null, value text not null, primary key (kind, name)) "
    "without rowid",
    "create table collections (uid text primary key, shards integer not null, dropped integer not null default 0) "
    "without rowid",
]
_IDENTITY = "create table if not exists identity (id text not null)"
"""Also for files of releases that knew no ids."""
_REVISIONS = "create table if not exists revisions (kind text primary key, revision integer not null) without rowid"
"""Also for files of releases that counted no changes."""


def list_documents(connection: Connection, kind: str) -> dict[str, Document | DamagedDocument]:
    """All documents of a kind by name, in order of name."""
    statement = "select cast(name as blob), cast(value as blob) from documents where kind = ? order by name"
    rows = [(name.decode(errors="replace"), value) for name, value in connection.execute(statement, (kind,))]
    return {name: read_document(kind, name, value) for name, value in rows}


def get_document(connection: Connection, kind: str, name: str) -> Document | None:
    """Raises DamagedStore for one that is not what was written."""
    statement = "select cast(value as blob) from documents where kind = ? and name = ?"
    row = connection.execute(statement, (kind, name)).fetchone()
    return sound_document(kind, name, row[0]) if row else None


def _is_expected(connection: Connection, kind: str, name: str, expected: Document | None) -> bool:
    try:
        return get_document(connection, kind, name) == expected
    except DamagedStore:
        return False


class CatalogReader:
    """What is read of a catalog, on the event loop's thread."""

    path: Path
    identity: str
    _reader: Connection

    def close(self) -> None:
        self._reader.close()

    def ping(self) -> None:
        self._reader.execute("select 1 from documents limit 1").fetchone()

    def get_document(self, kind: str, name: str) -> Document | None:
        return get_document(self._reader, kind, name)

    def list_documents(self, kind: str) -> dict[str, Document | DamagedDocument]:
        return list_documents(self._reader, kind)

    def revision(self, kind: str) -> int:
        row = self._reader.execute("select revision from revisions where kind = ?", (kind,)).fetchone()
        return int(row[0]) if row else 0

    def collections(self) -> dict[str, int]:
        """uid -> number of shards."""
        return dict(self._reader.execute("select uid, shards from collections where not dropped"))


class FollowedCatalog(CatalogReader):
    """The catalog of a store that another process writes to."""

    def __init__(self, path: Path) -> None:
        """Raises StoreUnavailable where there is none yet."""
        self.path = path
        self._file: tuple[int, int] | None = None
        self._version = -1
        self.refresh()

    def close(self) -> None:
        if self._file is not None:
            self._reader.close()
            self._file = None

    def refresh(self) -> bool:
        """Whether anything is another than at the last call; also where a copy took the place of the file."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            raise self._not_yet() from None
        if (found.st_dev, found.st_ino) != self._file:
            self.close()
            self._reader = connect_reader(self.path)
            self._file, self._version = (found.st_dev, found.st_ino), -1
        (version,) = self._reader.execute("pragma data_version").fetchone()
        if version == self._version:
            return False
        if self._reader.execute("select 1 from sqlite_master where name = 'identity'").fetchone() is None:
            raise self._not_yet()
        row = self._reader.execute("select id from identity").fetchone()
        if row is None:
            raise self._not_yet()
        self.identity, self._version = row[0], version
        return True

    def _not_yet(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self.path} is not there yet; start the process that writes to the store first")


class Catalog(CatalogReader):
    """Of the methods that write, one call at a time may run, in any thread."""

    def __init__(self, path: Path, synchronous: str) -> None:
        self.path = path
        self._copy: CatalogCopy | None = None
        self._writer = connect_writer(path, synchronous, create=True)
        try:
            if self._writer.execute("pragma user_version").fetchone() == (0,):
                write_schema(self._writer, _TABLES)
            self._writer.execute(_IDENTITY)
            self._writer.execute(_REVISIONS)
            known = self._writer.execute("select id from identity").fetchone()
            self.identity = known[0] if known else self.renew_identity()
            self._reader = connect_reader(path)
        except BaseException:
            self._writer.close()
            raise

    def keep_copy(self, path: Path) -> None:
        """From now on, in that file."""
        self._copy = CatalogCopy(path, self._reader)

    def close(self) -> None:
        if self._copy is not None:
            self._copy.close()
        super().close()
        self._writer.close()

    def renew_identity(self) -> str:
        """Give the store a new id."""
        identity = new_store_id()

        def change(writer: Connection) -> None:
            writer.execute("delete from identity")
            writer.execute("insert into identity (id) values (?)", (identity,))

        self._change(change)
        self.identity = identity
        return identity

    def replace_documents(
        self, kind: str, puts: Mapping[str, Document], deletes: Sequence[str], expect: Mapping[str, Document | None]
    ) -> int:
        """Delete, then put, as one change; how many were deleted. Raises StaleDocument."""
        stored = [(kind, name, pack_document(kind, name, value)) for name, value in puts.items()]

        def change(writer: Connection) -> int:
            for name, expected in expect.items():
                if not _is_expected(writer, kind, name, expected):
                    raise stale_document(kind, name)
            writer.execute(
                "insert into revisions (kind, revision) values (?, 1) "
                "on conflict (kind) do update set revision = revision + 1",
                (kind,),
            )
            deleted = writer.executemany(
                "delete from documents where kind = ? and name = ?", [(kind, name) for name in deletes]
            ).rowcount
            writer.executemany("insert or replace into documents (kind, name, value) values (?, ?, ?)", stored)
            return deleted

        return self._change(change)

    def mentions(self, uid: str) -> bool:
        """Whether a document names the collection."""
        return self._reader.execute("select 1 from documents where instr(value, ?)", (uid,)).fetchone() is not None

    def dropped(self) -> list[str]:
        """Collections whose files are still to be deleted."""
        return [uid for (uid,) in self._reader.execute("select uid from collections where dropped")]

    def add_collection(self, uid: str, shards: int) -> None:
        self._write("insert into collections (uid, shards) values (?, ?)", (uid, shards))

    def mark_dropped(self, uid: str) -> None:
        self._write("update collections set dropped = 1 where uid = ?", (uid,))

    def remove_collection(self, uid: str) -> None:
        self._write("delete from collections where uid = ?", (uid,))

    def _write(self, statement: str, parameters: tuple[object, ...]) -> None:
        self._change(lambda writer: writer.execute(statement, parameters))

    def _change(self, change: Callable[[Connection], Result]) -> Result:
        """In one transaction; then in the copy."""
        with transaction(self._writer, "begin immediate") as writer:
            result = change(writer)
        self._writer.execute("pragma wal_checkpoint(truncate)").fetchone()
        if self._copy is not None:
            self._copy.apply(change)
        return result
