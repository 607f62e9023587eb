"""A copy of the catalog beside it: the catalog is small, and without it no collection can be used.

Each change is made in the catalog first and in the copy then, before it is acknowledged. At every start the copy is
compared with a catalog that is sound, and made anew where it is another. Where the catalog is damaged at a start, its
copy takes its place.
"""

import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from bebr.disk import sync_folder
from bebr.errors import DamagedStore
from bebr.store.sqlite.files import connect_reader, connect_writer, integrity_problem, transaction
from bebr.telemetry import event

log = logging.getLogger(__name__)
SUFFIXES = ("", "-wal", "-shm")


class CatalogCopy:
    """The copy of an open catalog. What it fails with is no failure of the change: it is given up then, and removed,
    for it must never be older than what was acknowledged."""

    def __init__(self, path: Path, catalog: sqlite3.Connection) -> None:
        self._path, self._catalog = path, catalog
        self._writer: sqlite3.Connection | None = None
        self._is_kept = True
        with self._giving_up():
            content = _content(catalog)
            if content != _content_of(path) if path.exists() else any(content[1:]):  # else there is nothing to lose yet
                _copy(catalog, path)

    def apply(self, change: Callable[[sqlite3.Connection], object]) -> None:
        """The same change that was made in the catalog."""
        with self._giving_up():
            if not self._is_kept:
                return
            if self._writer is None and not self._path.exists():
                _copy(self._catalog, self._path)
                return
            if self._writer is None:
                self._writer = connect_writer(self._path, "normal")  # the checkpoint makes it durable
            with transaction(self._writer, "begin immediate") as writer:
                change(writer)
            self._writer.execute("pragma wal_checkpoint(truncate)").fetchone()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, DamagedStore) as error:
            event(log, "the catalog has no copy until the next start", logging.WARNING, path=self._path, why=str(error))
            self._is_kept = False
            with suppress(sqlite3.Error):
                self.close()
            with suppress(OSError):
                _remove(self._path)


def take_copy_if_damaged(path: Path, copy: Path) -> None:
    """Put the copy in the place of a catalog that is damaged, which is kept beside it.

    Raises DamagedStore where there is no sound copy, and for a file that another program or a newer bebr wrote.
    """
    with suppress(sqlite3.Error):
        connect_reader(path).close()
    problem = integrity_problem(path)
    if problem is None:
        return
    problem_of_copy = integrity_problem(copy) if copy.exists() else "there is none"
    if problem_of_copy is not None:
        raise DamagedStore(
            f"{path} is damaged ({problem}), and its copy {copy.name} is no help ({problem_of_copy}). Restore the "
            "folder from a backup, such as one of `bebr backup` with `bebr restore FILE`",
            path=str(path),
        )
    aside = path.with_name(f"{path.name}.damaged")
    with suppress(OSError):  # a disk that cannot even read it
        shutil.copyfile(path, aside)
    fresh = path.with_name(f"{path.name}.tmp")
    with closing(sqlite3.connect(copy)) as source:
        _copy(source, fresh)
    _remove(path, SUFFIXES[1:])  # what is in its log was made for other pages
    fresh.replace(path)
    sync_folder(path.parent)
    event(log, "the catalog is damaged, its copy is used", logging.ERROR, path=path, why=problem, kept=aside)


def _content_of(path: Path) -> list[list[tuple[object, ...]]] | None:
    """None where it cannot be read."""
    try:
        with closing(connect_reader(path)) as connection:
            return _content(connection)
    except (sqlite3.Error, DamagedStore):
        return None


def _content(catalog: sqlite3.Connection) -> list[list[tuple[object, ...]]]:
    return [
        catalog.execute(f"select {columns} from {table} order by 1, 2").fetchall()
        for table, columns in (
            ("identity", "id, 0"),
            ("documents", "kind, cast(name as blob), cast(value as blob)"),
            ("collections", "uid, shards, dropped"),
            ("revisions", "kind, revision"),
        )
    ]


def _copy(source: sqlite3.Connection, path: Path) -> None:
    """All of a database as one file; after a crash the old one is there, or the new one."""
    fresh = path.with_name(f"{path.name}.new")
    _remove(fresh)
    with closing(sqlite3.connect(fresh)) as target:
        target.execute("pragma synchronous = off")
        source.backup(target)
        target.execute("pragma journal_mode = delete").fetchone()  # nothing of it is in another file
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    _remove(path)
    fresh.replace(path)
    sync_folder(path.parent)


def _remove(path: Path, suffixes: tuple[str, ...] = SUFFIXES) -> None:
    for suffix in suffixes:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
