"""SQLite as bebr uses it: how a database file is opened, checked and locked, and what its errors mean.

Every file bears bebr's application id and a schema number, so that a foreign or newer file is refused, never changed.
Files are not memory-mapped: reads would take a sixth less time, but a failing disk would then kill the process with a
signal where it now raises an error.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bebr.disk import is_out_of_files, out_of_files_hint
from bebr.errors import BebrError, DamagedStore, InsufficientStorage, PayloadTooLarge, StoreUnavailable

SCHEMA = 1
APPLICATION_ID = int.from_bytes(b"bebr", "big")
BUSY_TIMEOUT_SECONDS = 5
WRITER_CACHE_KIB = 8 * 1024
READER_CACHE_KIB = 1024
"""Of each connection of each process: the inner pages. Leaves are seldom read twice, and the system's cache holds them;
points that are have a cache of their own."""
CHECKPOINT_PAGES = 4000
"""Size of the write-ahead log at which it is folded into the file: larger than the default, for fewer fsyncs."""
MAX_LOG_BYTES = 64 * 2**20


def connect_writer(path: Path, synchronous: str, *, create: bool = False) -> sqlite3.Connection:
    """The one connection that writes the file. `create` makes the file where there is none."""
    connection = _connect(path, "rwc" if create else "rw")
    try:
        check_schema(connection, path)  # before the first pragma that would change a foreign file
        if create:  # only before the first table; files of before it keep the space of what was deleted for new points
            connection.execute("pragma auto_vacuum = incremental")
        connection.execute("pragma journal_mode = wal")
        connection.execute(f"pragma synchronous = {synchronous}")
        connection.execute(f"pragma wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"pragma journal_size_limit = {MAX_LOG_BYTES}")
        connection.execute(f"pragma cache_size = -{WRITER_CACHE_KIB}")
        connection.execute("pragma temp_store = memory")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads; it sees the last commit and never waits for the writer."""
    connection = _connect(path, "rw")  # a reader of a WAL file needs to write its shared-memory index
    try:
        connection.execute(f"pragma cache_size = -{READER_CACHE_KIB}")
        connection.execute("pragma query_only = on")
        check_schema(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    # Connections move between the threads of a pool, used by one at a time.
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
    )


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Raise DamagedStore unless the file is empty or bears our application id and a schema number we read."""
    (application,) = connection.execute("pragma application_id").fetchone()
    (schema,) = connection.execute("pragma user_version").fetchone()
    if application == APPLICATION_ID and schema > SCHEMA:
        raise DamagedStore(
            f"{path} was written by a newer bebr (schema {schema}, this one reads up to {SCHEMA}); upgrade bebr, "
            "or restore the folder as it was before the newer one ran",
            path=str(path),
        )
    if (application, schema) not in ((0, 0), (APPLICATION_ID, SCHEMA)):
        raise DamagedStore(f"{path} is a database that bebr did not write; move it away", path=str(path))


def write_schema(connection: sqlite3.Connection, statements: list[str]) -> None:
    """Create the tables of a new file, whole or not at all."""
    with transaction(connection, "begin immediate"):
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"pragma application_id = {APPLICATION_ID}")
        connection.execute(f"pragma user_version = {SCHEMA}")


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str) -> Iterator[sqlite3.Connection]:
    """Commit at the end of the block, or roll back when it raises."""
    connection.execute(begin)
    try:
        yield connection
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:  # SQLite leaves it by itself on some errors
            connection.execute("rollback")
        raise


def translate(error: sqlite3.Error, path: Path) -> BebrError:
    """The bebr error that a SQLite error represents."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or _names_missing_part(error):
        return DamagedStore(f"{path} is damaged ({error}); restore it from a backup", path=str(path))
    if code == sqlite3.SQLITE_FULL:
        return InsufficientStorage(f"no room to write {path} ({error}); free some disk space", path=str(path))
    if code == sqlite3.SQLITE_CANTOPEN and _no_file_can_be_opened():
        return StoreUnavailable(f"{path} cannot be opened: {out_of_files_hint()}", path=str(path))
    if code == sqlite3.SQLITE_TOOBIG:
        return PayloadTooLarge(f"one value is larger than SQLite stores ({error})", path=str(path))
    return StoreUnavailable(f"{path} does not answer ({error})", path=str(path))


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise what SQLite raises in the block as the bebr error that it represents."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path) from error


def _no_file_can_be_opened() -> bool:
    """SQLite does not say why it could not open one."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return is_out_of_files(error)
    return False


def integrity_problem(path: Path) -> str | None:
    """What SQLite finds wrong with a file, all of which it reads; None: nothing."""
    try:
        with closing(connect_reader(path)) as connection:
            found = [str(row[0]) for row in connection.execute("pragma integrity_check(5)")]
    except (sqlite3.Error, DamagedStore) as error:
        return str(error)
    return None if found == ["ok"] else "; ".join(found)


def names_undecodable(error: sqlite3.Error) -> bool:
    """Whether a text is not UTF-8, or what should be JSON is not: SQLite has no error code of its own for these."""
    return str(error).startswith(("Could not decode to UTF-8", "malformed JSON"))


def _names_missing_part(error: sqlite3.Error) -> bool:
    """Whether a table or column is missing, or a text is not UTF-8: SQLite has no error code of its own for these."""
    return str(error).startswith(("no such table", "no such column")) or names_undecodable(error)
