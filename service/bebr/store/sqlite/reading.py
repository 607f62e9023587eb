"""Reading points and the feed from a collection file: fast while all is sound, row by row where something is not.

The fast statements join whole columns (see `statements`), so that one damaged value may shift those after it. Whatever
does not match its checksum is therefore read once more, each row by itself, which shows exactly what is damaged.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from sqlite3 import Connection, OperationalError
from typing import AnyStr

from bebr.core.checksums import CHECKSUMS_SIZE_BYTES, is_metadata_sound, is_sound
from bebr.core.operations import FeedEntry
from bebr.core.types import StoredPoint
from bebr.store.protocol import damaged_points, to_json
from bebr.store.sqlite.files import names_undecodable

FEW_IDS = 32
"""Up to this many points are fetched row by row, on the event loop. Of more SQLite joins the columns, in a thread: they
may have megabytes of metadata."""
_NO_CHECKSUMS = bytes(CHECKSUMS_SIZE_BYTES)
_CHECKSUMS = f"cast(group_concat(coalesce(crc, zeroblob({CHECKSUMS_SIZE_BYTES})), '') as blob)"


class _Unsound(Exception):
    """Something is not what was written. Which row it is shows when they are read one by one."""


def read_points(
    connection: Connection, shard: int, ids: Sequence[str], *, metadata: bool, records: bool
) -> list[StoredPoint | None]:
    """The points of the ids, None where there is none. Raises DamagedPoint.

    A few ids are read row by row; of many, SQLite joins the columns, because between two rows the interpreter lock
    is given away and must be won back.
    """
    if len(ids) <= FEW_IDS:
        points = read_few_points(connection, {shard: ids}, metadata=metadata, records=records)
    else:
        try:
            points = _read_joined(connection, shard, ids, metadata=metadata, records=records)
        except (_Unsound, ValueError, OperationalError) as error:
            _check_cause(error)
            points = _read_one_by_one(connection, {shard: ids}, metadata=metadata, records=records)
    return [points.get(id) for id in ids]


def read_few_points(
    connection: Connection, ids_of_shard: Mapping[int, Sequence[str]], *, metadata: bool, records: bool
) -> dict[str, StoredPoint]:
    """The points that exist among a few ids of several shards, by id. Raises DamagedPoint."""
    statement = _few_points(tuple((shard, len(ids)) for shard, ids in ids_of_shard.items() if ids), metadata, records)
    wanted = [id for ids in ids_of_shard.values() for id in ids]
    if not wanted:
        return {}
    points: dict[str, StoredPoint] = {}
    try:
        rows = connection.execute(statement, wanted).fetchall()
        if metadata and not records:
            if not all(row[5] is None or is_metadata_sound(row[5], row[0], row[2], row[4]) for row in rows):
                raise _Unsound
            return {row[0]: StoredPoint(*row[:5]) for row in rows}
        for id, seq, version, one_record, one_text, crc in rows:
            if crc is not None and not is_sound(
                crc, id, version, one_record if records else None, one_text if metadata else None
            ):
                raise _Unsound
            points[id] = StoredPoint(id, seq, version, one_record, one_text)
    except (_Unsound, TypeError, AttributeError, OperationalError) as error:
        _check_cause(error)
        return _read_one_by_one(connection, ids_of_shard, metadata=metadata, records=records)
    return points


@lru_cache(maxsize=4096)
def _few_points(counts: tuple[tuple[int, int], ...], metadata: bool, records: bool) -> str:
    """The statement that reads so many points of each shard: one text for each shape, which SQLite prepares once."""
    record, text = "record" if records else "x''", "metadata" if metadata else "''"
    return " union all ".join(
        # not `id in (...)`, for which SQLite makes a table of its own
        f"select id, seq, version, {record}, {text}, crc from (values {','.join(['(?)'] * count)}) "
        f"cross join points_{shard} on id = column1 where record is not null"
        for shard, count in counts
    )


def read_feed(connection: Connection, shard: int, after_seq: int, limit: int) -> list[FeedEntry]:
    """Points and tombstones by ascending seq; what is damaged is marked."""
    try:
        return _read_joined_feed(connection, shard, after_seq, limit)
    except (_Unsound, ValueError, TypeError, OperationalError) as error:
        _check_cause(error)
    rows = connection.execute(
        "select seq, cast(id as blob), version, record, cast(metadata as blob), crc "
        f"from points_{shard} where seq > ? order by seq limit ?",
        (after_seq, limit),
    )
    return [_entry(*row) for row in rows]


def _read_joined(
    connection: Connection, shard: int, ids: Sequence[str], *, metadata: bool, records: bool
) -> dict[str, StoredPoint]:
    texts = "group_concat(length(metadata)), group_concat(metadata, '')" if metadata else "null, null"
    blobs = "group_concat(length(record)), cast(group_concat(record, '') as blob)" if records else "null, null"
    positions, seqs, versions, text_lengths, text, record_lengths, record, crcs = connection.execute(
        f"select group_concat(wanted.key), group_concat(seq), group_concat(version), {texts}, {blobs}, {_CHECKSUMS} "
        f"from json_each(?) wanted cross join points_{shard} p on p.id = wanted.value where record is not null",
        (to_json(ids),),
    ).fetchone()
    if positions is None:
        return {}
    where = _integers(positions)
    points: dict[str, StoredPoint] = {}
    for position, seq, version, one_record, one_text, crc in zip(
        where,
        _integers(seqs),
        _integers(versions),
        _split(record, _integers(record_lengths)) if records else [b""] * len(where),
        _split(text, _integers(text_lengths)) if metadata else [""] * len(where),
        _split(crcs, [CHECKSUMS_SIZE_BYTES] * len(where)),
        strict=True,
    ):
        id = ids[position]
        if crc != _NO_CHECKSUMS and not is_sound(
            crc, id, version, one_record if records else None, one_text if metadata else None
        ):
            raise _Unsound
        points[id] = StoredPoint(id, seq, version, one_record, one_text)
    return points


def _read_joined_feed(connection: Connection, shard: int, after_seq: int, limit: int) -> list[FeedEntry]:
    heads, record, text, crcs = connection.execute(
        "select json_group_array(json_array(seq, id, version, length(record), length(metadata))), "
        f"cast(group_concat(record, '') as blob), group_concat(metadata, ''), {_CHECKSUMS} "
        f"from (select * from points_{shard} where seq > ? order by seq limit ?)",
        (after_seq, limit),
    ).fetchone()
    entries = []
    record_start = text_start = 0
    for place, (seq, id, version, record_length, text_length) in enumerate(json.loads(heads)):
        record_stop, text_stop = record_start + (record_length or 0), text_start + (text_length or 0)
        one_record, one_text = (record or b"")[record_start:record_stop], (text or "")[text_start:text_stop]
        crc = crcs[place * CHECKSUMS_SIZE_BYTES : (place + 1) * CHECKSUMS_SIZE_BYTES]
        if crc != _NO_CHECKSUMS and not is_sound(crc, id, version, one_record, one_text):
            raise _Unsound
        is_point = record_length is not None
        entries.append(FeedEntry(seq, id, version, one_record if is_point else None, one_text if is_point else None))
        record_start, text_start = record_stop, text_stop
    return entries


def _read_one_by_one(
    connection: Connection, ids_of_shard: Mapping[int, Sequence[str]], *, metadata: bool, records: bool
) -> dict[str, StoredPoint]:
    points: dict[str, StoredPoint] = {}
    damaged: list[str] = []
    for shard, ids in ids_of_shard.items():
        for id in ids:
            row = connection.execute(
                f"select seq, cast(? as blob), version, record, cast(metadata as blob), crc from points_{shard} "
                "where id = ? and record is not null",
                (id, id),
            ).fetchone()
            if row is None:
                continue
            entry = _entry(*row)
            if entry.is_damaged:
                damaged.append(id)
            else:
                record, text = entry.record or b"", entry.metadata or ""
                point = StoredPoint(id, entry.seq, entry.version, record if records else b"", text if metadata else "")
                points[id] = point
    if damaged:
        raise damaged_points(damaged)
    return points


def _entry(seq: int, id: bytes, version: object, record: object, metadata: object, crc: object) -> FeedEntry:
    """One row, whatever it holds; ids and metadata as bytes."""
    try:
        point_id, text = id.decode(), metadata.decode() if isinstance(metadata, bytes) else None
    except UnicodeDecodeError:
        return FeedEntry(seq, id.decode(errors="replace"), 0, None, None, True)
    damaged = FeedEntry(seq, point_id, 0, None, None, True)
    if not isinstance(version, int) or not isinstance(record, bytes | None) or (record is None) != (text is None):
        return damaged
    if crc is not None and not (isinstance(crc, bytes) and is_sound(crc, point_id, version, record or b"", text or "")):
        return damaged
    return FeedEntry(seq, point_id, version, record, text)


def _check_cause(error: Exception) -> None:
    """Raise it unless it may come from a damaged value of a row."""
    if isinstance(error, OperationalError) and not names_undecodable(error):
        raise error


def _integers(joined: str) -> list[int]:
    return [int(part) for part in joined.split(",")]


def _split(joined: AnyStr, lengths: list[int]) -> list[AnyStr]:
    """Cut `joined` into pieces of these lengths."""
    pieces, start = [], 0
    for length in lengths:
        pieces.append(joined[start : start + length])
        start += length
    return pieces
