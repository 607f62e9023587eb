"""The SQL of a collection file: its tables, and one function per statement that writes or reads them.

Every statement handles a whole batch and yields one row. Python's sqlite3 gives up the interpreter lock for each row
that it binds or fetches, and must wait for it where a second thread is busy. So rows go in as one JSON array plus one
blob each for records and metadata, cut up by `substr`, and come out joined. docs/benchmarks.md has the figures
("Writing to SQLite").

Tables: one `points_<shard>` per shard. Its key is the seq, so that the feed is a scan in order of storage; an upsert
deletes the id's old row and appends the new one (`insert or replace` on the unique id). A tombstone has no record.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from sqlite3 import Connection

from bebr.core.checksums import point_checksums
from bebr.core.history import MAX_EPOCHS, Epoch
from bebr.core.operations import Committed, ShardCounters
from bebr.store.protocol import to_json
from bebr.store.sqlite.write_plan import PutRows, ReceiptBook, ReceiptKey, StoredReceipt

INSERT_CHUNK_BYTES = 32 * 2**20
"""Metadata of one insert statement; SQLite refuses values near 1 GB."""
KEPT_FREE_PAGES = 1000
"""Free pages that a file keeps for what is written next."""
GIVEN_BACK_PAGES = 2000
"""How many free pages are given back to the disk at a time; a quarter of all of them where that is more."""


EPOCHS = (
    "create table if not exists epochs (shard integer not null, start_seq integer not null, name text not null, "
    "primary key (shard, start_seq)) without rowid"
)
"""Also for files of releases that knew no epochs."""


def schema(shards: int) -> list[str]:
    """The statements that make a new collection file."""
    statements = [
        "create table shards (shard integer primary key, points integer not null, last_seq integer not null, "
        "purged_seq integer not null)",
        "create table receipts (shard integer not null, key text not null, digest text not null, "
        "applied text not null, first_seq integer not null, last_seq integer not null, expires real not null, "
        "primary key (shard, key)) without rowid",
        "create index receipts_by_expiry on receipts (expires)",
        EPOCHS,
    ]
    for shard in range(shards):
        statements += [
            f"create table points_{shard} (seq integer primary key, id text not null unique, "
            "version integer not null, record blob, metadata text, crc blob)",
            f"create index tombstones_{shard} on points_{shard} (seq) where record is null",
            f"insert into shards values ({shard}, 0, 0, 0)",
        ]
    return statements


def lacks_checksums(connection: Connection) -> bool:
    """Whether the file was made by a release that kept none."""
    columns = [row[1] for row in connection.execute("pragma table_info(points_0)")]
    return bool(columns) and "crc" not in columns


def add_checksums(connection: Connection) -> None:
    """Make room for them; a point gets its own when it is written again."""
    for (shard,) in connection.execute("select shard from shards").fetchall():
        connection.execute(f"alter table points_{int(shard)} add column crc blob")


# -- shards ----------------------------------------------------------------------------------------------------------


def read_counters(connection: Connection, shard: int) -> ShardCounters | None:
    """None when there is no such shard."""
    row = connection.execute("select points, last_seq, purged_seq from shards where shard = ?", (shard,)).fetchone()
    return ShardCounters(*row) if row else None


def write_counters(connection: Connection, shard: int, counters: ShardCounters) -> None:
    connection.execute(
        "update shards set points = ?, last_seq = ?, purged_seq = ? where shard = ?",
        (counters.points, counters.last_seq, counters.purged_seq, shard),
    )


def read_epochs(connection: Connection, shard: int) -> list[Epoch]:
    """By ascending start."""
    if connection.execute("select 1 from sqlite_master where name = 'epochs'").fetchone() is None:
        return []
    rows = connection.execute("select start_seq, name from epochs where shard = ? order by start_seq", (shard,))
    return [Epoch(*row) for row in rows]


def begin_epoch(connection: Connection, shard: int, epoch: Epoch) -> None:
    """Note the epoch unless it has begun already, and forget the oldest ones."""
    connection.execute(
        "insert or replace into epochs (shard, start_seq, name) "
        "select ?1, ?2, ?3 where not exists (select 1 from epochs where shard = ?1 and name = ?3)",
        (shard, *epoch),
    )
    connection.execute(
        "delete from epochs where shard = ?1 and start_seq < (select min(start_seq) from "
        "(select start_seq from epochs where shard = ?1 order by start_seq desc limit ?2))",
        (shard, MAX_EPOCHS),
    )


# -- points ----------------------------------------------------------------------------------------------------------


def read_living(connection: Connection, shard: int, ids: Sequence[str]) -> set[str]:
    """Those of the ids that are points."""
    (positions,) = connection.execute(
        "select json_group_array(wanted.key) "
        f"from json_each(?) wanted cross join points_{shard} p on p.id = wanted.value where record is not null",
        (to_json(ids),),
    ).fetchone()
    return {ids[position] for position in json.loads(positions)}


def read_seqs(connection: Connection, shard: int, ids: Sequence[str]) -> dict[str, int]:
    """Of those of the ids that are points or were."""
    if not ids:
        return {}
    (found,) = connection.execute(
        "select json_group_array(json_array(wanted.key, p.seq)) "
        f"from json_each(?) wanted cross join points_{shard} p on p.id = wanted.value",
        (to_json(ids),),
    ).fetchone()
    return {ids[position]: seq for position, seq in json.loads(found)}


def write_points(connection: Connection, shard: int, put_rows: Iterable[PutRows]) -> None:
    """Store points, each in place of what its id was before."""
    for (version, record_size_bytes), columns in _columns(put_rows).items():
        records = b"".join(columns.records)
        for start, stop in _chunks(columns.metadata, INSERT_CHUNK_BYTES):
            rows, offset = [], 1
            for seq, id, text in zip(
                columns.seqs[start:stop], columns.ids[start:stop], columns.metadata[start:stop], strict=True
            ):
                rows.append((seq, id, offset, len(text)))
                offset += len(text)
            connection.execute(
                f"insert or replace into points_{shard} (seq, id, version, record, metadata, crc) "
                "select value ->> 0, value ->> 1, ?1, substr(?2, key * ?3 + 1, ?3), "
                "cast(substr(?4, value ->> 2, value ->> 3) as text), substr(?6, key * 8 + 1, 8) from json_each(?5)",
                (
                    version,
                    records[start * record_size_bytes : stop * record_size_bytes],
                    record_size_bytes,
                    b"".join(columns.metadata[start:stop]),
                    to_json(rows),
                    b"".join(columns.checksums[start:stop]),
                ),
            )


def write_tombstones(connection: Connection, shard: int, tombstones: Sequence[tuple[int, str]]) -> None:
    """Store (seq, id) tombstones, each in place of what its id was before."""
    if tombstones:
        connection.execute(
            f"insert or replace into points_{shard} (seq, id, version, crc) "
            "select value ->> 0, value ->> 1, 0, substr(?2, key * 8 + 1, 8) from json_each(?1)",
            (to_json(tombstones), b"".join(point_checksums(id, 0, b"", b"") for _, id in tombstones)),
        )


def delete_tombstones(connection: Connection, shard: int, up_to_seq: int) -> tuple[int, int]:
    """(how many were deleted, the highest seq among them or 0)."""
    which = f"from points_{shard} where record is null and seq <= ?"
    (highest,) = connection.execute(f"select max(seq) {which}", (up_to_seq,)).fetchone()
    return connection.execute(f"delete {which}", (up_to_seq,)).rowcount, highest or 0


def give_back_space(connection: Connection) -> None:
    """Shorten the file by some of its free pages, in a transaction of its own. A file made without `auto_vacuum` stays
    as long as it is."""
    (free,) = connection.execute("pragma freelist_count").fetchone()
    if free > KEPT_FREE_PAGES:
        pages = min(free - KEPT_FREE_PAGES, max(GIVEN_BACK_PAGES, free // 4))
        connection.executescript(f"pragma incremental_vacuum({pages})")  # `execute` would stop after one page


@dataclass(slots=True)
class _Columns:
    """Points of one code version and record size, from any number of writes."""

    seqs: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    records: list[bytes] = field(default_factory=list)
    metadata: list[bytes] = field(default_factory=list)
    checksums: list[bytes] = field(default_factory=list)


def _columns(put_rows: Iterable[PutRows]) -> dict[tuple[int, int], _Columns]:
    batches: dict[tuple[int, int], _Columns] = {}
    for rows in put_rows:
        puts, size = rows.puts, rows.puts.records.shape[1]
        columns = batches.setdefault((puts.version, size), _Columns())
        ids = [puts.ids[position] for position in rows.positions]
        records = puts.records[rows.positions].tobytes()
        metadata = [puts.metadata[position].encode() for position in rows.positions]
        columns.seqs += rows.seqs
        columns.ids += ids
        columns.records.append(records)
        columns.metadata += metadata
        columns.checksums += [
            point_checksums(id, puts.version, records[start : start + size], text)
            for id, start, text in zip(ids, range(0, len(records), size), metadata, strict=True)
        ]
    return batches


def _chunks(texts: Sequence[bytes], limit_bytes: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of runs of at most `limit_bytes`, or of one text that is larger."""
    start = size = 0
    for position, text in enumerate(texts):
        if size and size + len(text) > limit_bytes:
            yield start, position
            start, size = position, 0
        size += len(text)
    if start < len(texts):
        yield start, len(texts)


# -- receipts --------------------------------------------------------------------------------------------------------


def read_receipts(connection: Connection, wanted: Sequence[ReceiptKey], now: float) -> dict[ReceiptKey, StoredReceipt]:
    """Those of the receipts that are stored and have not expired."""
    if not wanted:
        return {}
    rows = connection.execute(
        "select r.shard, r.key, digest, applied, first_seq, last_seq from json_each(?) w "
        "cross join receipts r on r.shard = w.value ->> 0 and r.key = w.value ->> 1 where expires > ?",
        (to_json(wanted), now),
    ).fetchall()
    return {
        (shard, key): (bytes.fromhex(digest), Committed([flag == "1" for flag in applied], first_seq, last_seq))
        for shard, key, digest, applied, first_seq, last_seq in rows
    }


def write_receipts(connection: Connection, book: ReceiptBook, now: float, ttl_seconds: float) -> None:
    """Store the receipts that the book added, and forget the expired ones."""
    if not book.added:
        return
    rows = [
        (shard, receipt.key, receipt.digest.hex(), flags(committed.applied), committed.first_seq, committed.last_seq)
        for shard, receipt, committed in book.added
    ]
    connection.execute("delete from receipts where expires <= ?", (now,))
    connection.execute(
        "insert or replace into receipts (shard, key, digest, applied, first_seq, last_seq, expires) "
        "select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, ? from json_each(?)",
        (now + ttl_seconds, to_json(rows)),
    )


def flags(applied: list[bool]) -> str:
    """[True, False] -> "10"."""
    return "".join("1" if yes else "0" for yes in applied)
