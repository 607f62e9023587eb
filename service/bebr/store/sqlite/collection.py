"""One collection in one SQLite file: its connections, its transactions, and which thread may use which.

The file is written by one connection and read by two: one for the event loop, which fetches a few points faster than a
thread could be asked to, and one for long reads in the pool. Readers see the last commit and wait for nobody.
"""

import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from bebr.core.history import Epoch, History
from bebr.core.operations import Commit, CommitOutcome, FeedEntry, FeedPage, ShardCounters
from bebr.core.types import StoredPoint
from bebr.errors import IdempotencyConflict, StoreUnavailable
from bebr.store.protocol import only_follows, unknown_shard
from bebr.store.sqlite import statements as sql
from bebr.store.sqlite.files import connect_reader, connect_writer, transaction, translate, translated, write_schema
from bebr.store.sqlite.reading import read_feed, read_points
from bebr.store.sqlite.write_plan import ReceiptBook, ShardPlan

FEED_CHUNK_ROWS = 2000


def create_collection_file(path: Path, synchronous: str, shards: int) -> None:
    """Make the file and its tables, whole or not at all; one left over by a crash, which holds no points, is remade."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    connection = connect_writer(path, synchronous, create=True)
    try:
        write_schema(connection, sql.schema(shards))
    finally:
        connection.close()


def has_operations(path: Path) -> bool:
    """Whether anything was ever written to the collection of a file, which is not open. Raises DamagedStore."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with translated(path), closing(connect_reader(path)) as reader:
        if not reader.execute("select count(*) from sqlite_master").fetchone()[0]:
            return False  # a crash came before its tables, which are made in one transaction
        (last_seq,) = reader.execute("select max(last_seq) from shards").fetchone()
        return bool(last_seq)


class CollectionFile:
    """Reads and writes one collection file. All methods block.

    epoch: the name of the epoch that the first commit to each shard begins. follows: another process writes
    the file.

    `counters`, `history` and `fetch_few` belong to the event loop's thread; of `fetch_many` and `feed` one call at a
    time may run, in any thread; `commit_group` and `purge_tombstones` wait for each other.
    """

    def __init__(
        self, path: Path, synchronous: str, receipt_ttl_seconds: float, epoch: str, follows: bool = False
    ) -> None:
        self.path = path
        self._epoch = epoch
        self._follows = follows
        self._begun: set[int] = set()
        """Shards in which the epoch has begun."""
        self._synchronous = synchronous
        self._receipt_ttl_seconds = receipt_ttl_seconds
        self.reader = connect_reader(path)
        """For short reads, on the event loop."""
        if sql.lacks_checksums(self.reader):
            if follows:
                self.reader.close()
                raise StoreUnavailable(f"{path} is of an older release, and is still to be opened by the primary")
            writer = connect_writer(path, synchronous)
            with closing(writer), transaction(writer, "begin immediate"):
                sql.add_checksums(writer)
        self._scanner: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._write_lock = threading.Lock()

    def close(self) -> None:
        """Close all connections; the last one folds the write-ahead log into the file. No read may be under way."""
        with self._write_lock:
            for connection in (self.reader, self._scanner, self._writer):
                if connection is not None:
                    connection.close()

    def counters(self, shard: int) -> ShardCounters:
        return self._counters(self.reader, shard)

    def history(self, shard: int, store: str) -> History:
        return self._history(self.reader, shard, store, self._counters(self.reader, shard))

    def _history(self, connection: sqlite3.Connection, shard: int, store: str, counters: ShardCounters) -> History:
        epochs = sql.read_epochs(connection, shard)
        if not self._follows and (not epochs or epochs[-1].name != self._epoch):
            epochs.append(Epoch(counters.last_seq, self._epoch))
        return History(store, epochs, counters.last_seq, lossless=self._synchronous == "full")

    def version(self) -> int:
        """Another one after each commit of another process."""
        (version,) = self.reader.execute("pragma data_version").fetchone()
        return int(version)

    def fetch_few(self, shard: int, ids: Sequence[str], *, metadata: bool, records: bool) -> list[StoredPoint | None]:
        """Runs on the event loop: only for few points."""
        return read_points(self.reader, shard, ids, metadata=metadata, records=records)

    def fetch_many(self, shard: int, ids: Sequence[str], *, metadata: bool, records: bool) -> list[StoredPoint | None]:
        return read_points(self._open_scanner(), shard, ids, metadata=metadata, records=records)

    def feed(self, shard: int, after_seq: int, limit: int, store: str) -> FeedPage:
        """Read in chunks, to bound what SQLite joins at once, and in one transaction, so that no id comes twice."""
        entries: list[FeedEntry] = []
        with transaction(self._open_scanner(), "begin") as scanner:
            counters = self._counters(scanner, shard)
            history = self._history(scanner, shard, store, counters)
            while len(entries) < limit:
                wanted = min(limit - len(entries), FEED_CHUNK_ROWS)
                chunk = read_feed(scanner, shard, entries[-1].seq if entries else after_seq, wanted)
                entries += chunk
                if len(chunk) < wanted:
                    break
        return FeedPage(entries, counters, history)

    def commit_group(self, commits: Sequence[Commit]) -> list[CommitOutcome]:
        """All commits in one transaction; where that fails, each in its own, so that a bad one fails alone."""
        try:
            return self._commit_together(commits)
        except Exception as error:
            if len(commits) == 1:
                return [translate(error, self.path) if isinstance(error, sqlite3.Error) else error]
            return [self.commit_group([commit])[0] for commit in commits]

    def _commit_together(self, commits: Sequence[Commit]) -> list[CommitOutcome]:
        now = time.time()
        receipts = [(c.shard, write.receipt.key) for c in commits for write in c.writes if write.receipt]
        with self._write_lock, transaction(self._open_writer(), "begin immediate") as writer:
            book = ReceiptBook(sql.read_receipts(writer, receipts, now))
            shards = {commit.shard for commit in commits}
            for shard in shards - self._begun:
                sql.begin_epoch(writer, shard, Epoch(self._counters(writer, shard).last_seq, self._epoch))
            plans = {shard: self._read_plan(writer, shard, commits) for shard in shards}
            outcomes = [_decide(commit, plans[commit.shard], book) for commit in commits]
            for shard, plan in plans.items():
                sql.write_points(writer, shard, plan.put_rows())
                sql.write_tombstones(writer, shard, plan.tombstones())
                sql.write_counters(writer, shard, plan.counters)
            sql.write_receipts(writer, book, now, self._receipt_ttl_seconds)
        if shards - self._begun:
            self._fold_epochs(shards)
        if any(commit.shrinks for commit in commits):
            self._give_back_space()
        return outcomes

    def _fold_epochs(self, shards: set[int]) -> None:
        """Into the file itself: a lost write-ahead log shall not take the names of the epochs along."""
        with suppress(sqlite3.Error), self._write_lock:
            self._open_writer().execute("pragma wal_checkpoint(passive)").fetchall()
            self._begun |= shards

    def _read_plan(self, writer: sqlite3.Connection, shard: int, commits: Sequence[Commit]) -> ShardPlan:
        counters = self._counters(writer, shard)
        ids = [id for commit in commits if commit.shard == shard for write in commit.writes for id in write.ids]
        compared = [id for c in commits if c.shard == shard for write in c.writes if write.if_seqs for id in write.ids]
        return ShardPlan(counters, sql.read_living(writer, shard, ids), sql.read_seqs(writer, shard, compared))

    def purge_tombstones(self, shard: int, up_to_seq: int) -> int:
        with self._write_lock, transaction(self._open_writer(), "begin immediate") as writer:
            counters = self._counters(writer, shard)
            count, highest = sql.delete_tombstones(writer, shard, up_to_seq)
            sql.write_counters(writer, shard, replace(counters, purged_seq=max(counters.purged_seq, highest)))
        self._give_back_space()
        return count

    def _give_back_space(self) -> None:
        """A courtesy: what it fails with is no failure of the commit before it."""
        with self._write_lock, suppress(sqlite3.Error):
            sql.give_back_space(self._open_writer())

    def shorten_log(self) -> None:
        """Fold the write-ahead log into the file, so that the next transactions have its room, which it keeps."""
        with self._write_lock:
            self._open_writer().execute("pragma wal_checkpoint(restart)").fetchall()

    def _counters(self, connection: sqlite3.Connection, shard: int) -> ShardCounters:
        counters = sql.read_counters(connection, shard)
        if counters is None:
            raise unknown_shard(self.path.stem, shard)
        return counters

    def _open_scanner(self) -> sqlite3.Connection:
        if self._scanner is None:
            self._scanner = connect_reader(self.path)
        return self._scanner

    def _open_writer(self) -> sqlite3.Connection:
        if self._follows:
            raise only_follows()
        if self._writer is None:
            writer = connect_writer(self.path, self._synchronous)
            writer.execute(sql.EPOCHS)
            self._writer = writer
        return self._writer


def _decide(commit: Commit, plan: ShardPlan, book: ReceiptBook) -> CommitOutcome:
    """What each write of the commit does, or the conflict that stops them all."""
    try:
        book.check(commit.shard, commit.writes)
    except IdempotencyConflict as conflict:
        return conflict
    outcomes = []
    for write in commit.writes:
        committed = book.find(commit.shard, write.receipt)
        if committed is None:
            committed = plan.apply(write)
            book.note(commit.shard, write.receipt, committed)
        outcomes.append(committed)
    return outcomes
