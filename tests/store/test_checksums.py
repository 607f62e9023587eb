"""What a store gives back is what was written, or an error that names the point: bits are flipped under its feet."""

import itertools
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis as redis_client
from tests.servers import Server
from tests.store.points import UID, commit, metadata, put, record, whole_feed

from bebr.errors import DamagedPoint
from bebr.store import DeleteWrite, MetadataStore
from bebr.store.redis.store import RedisStore
from bebr.store.sqlite.store import SqliteStore

IDS = [f"p{n:03d}" for n in range(80)]
DAMAGED = ["p003", "p040", "p077"]
Change = Callable[[bytes, bytes], tuple[bytes, bytes]]
"""(record, metadata) -> what is stored instead."""


def flipped(data: bytes, place: int, mask: int) -> bytes:
    return data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]


CHANGES: dict[str, Change] = {
    "a bit of the record": lambda record, text: (flipped(record, 2, 4), text),
    "a shorter record": lambda record, text: (record[:-1], text),
    "a digit of the metadata": lambda record, text: (record, text.replace(b'"seed": 0', b'"seed": 1')),
    "metadata that is no UTF-8": lambda record, text: (record, flipped(text, 3, 0x80)),
    "a zero byte in the metadata": lambda record, text: (record, text.replace(b"s", b"\0")),
    "metadata of another length": lambda record, text: (record, text[:-1]),
    "no metadata": lambda record, text: (record, b""),
}


def change_sqlite(path: Path, change: Change) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.text_factory = bytes
        for id in DAMAGED:
            row = connection.execute("select record, metadata from points_0 where id = ?", (id,)).fetchone()
            record, text = change(*row)
            statement = "update points_0 set record = ?, metadata = cast(? as text) where id = ?"
            connection.execute(statement, (record, text, id))


async def check(store: MetadataStore, changed: Change) -> None:
    """Reads of all sizes name the damaged points, and give the others as they were written."""
    sound = [id for id in IDS if id not in DAMAGED]
    for ids in (sound[:5], sound):
        found = await store.fetch(UID, 0, ids, records=True)
        assert [(p.record, p.metadata) for p in found if p] == [(record(i, 0), metadata(i, 0)) for i in ids]
    before = (record("p003", 0), metadata("p003", 0).encode())
    record_changed, text_changed = (a != b for a, b in zip(changed(*before), before, strict=True))
    for ids, named in ((["p003"], ["p003"]), (["p001", *DAMAGED], DAMAGED), (IDS, DAMAGED)):
        for options, affected in (
            ({"metadata": True, "records": True}, True),
            ({"metadata": True, "records": False}, text_changed),
            ({"metadata": False, "records": True}, record_changed),
        ):
            if affected:
                with pytest.raises(DamagedPoint) as raised:
                    await store.fetch_all(UID, {0: ids}, **options)
                assert raised.value.fields["ids"] == named and "delete" in raised.value.detail
            else:
                assert len(await store.fetch_all(UID, {0: ids}, **options)) == len(ids)
    feed = await whole_feed(store)
    assert [entry.id for entry in feed if entry.is_damaged] == DAMAGED
    assert [(e.id, e.record, e.metadata) for e in feed if not e.is_damaged] == [
        (id, record(id, 0), metadata(id, 0)) for id in sound
    ]


async def mend(store: MetadataStore) -> None:
    await commit(store, 0, [put("p003", seed=5), DeleteWrite(["p040"]), put("p077")])
    found = await store.fetch(UID, 0, DAMAGED, records=True)
    assert [p and p.record for p in found] == [record("p003", 5), None, record("p077", 0)]
    assert not [entry for entry in await whole_feed(store) if entry.is_damaged]


@pytest.mark.parametrize("change", CHANGES)
async def test_sqlite(tmp_path: Path, change: str) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    await store.create(UID, 1)
    await commit(store, 0, [put(*IDS)])
    await store.close()
    change_sqlite(tmp_path / "collections" / f"{UID}.db", CHANGES[change])
    await store.open()
    await check(store, CHANGES[change])
    await mend(store)
    await store.close()


@pytest.mark.parametrize("change", CHANGES)
async def test_redis(redis_server: Server, change: str) -> None:
    store = RedisStore(redis_server.url, timeout_seconds=60, prefix=f"bits-{list(CHANGES).index(change)}")
    await store.open()
    await store.create(UID, 1)
    await commit(store, 0, [put(*IDS)])
    head, size = 6 + 4 + 2 + 8, len(record("p003", 0))
    with redis_client.Redis.from_url(redis_server.url) as client:
        for id in DAMAGED:
            key = f"{{bits-{list(CHANGES).index(change)}:{UID}:0}}:points"
            value = client.hget(key, id)
            changed = CHANGES[change](value[head : head + size], value[head + size :])
            client.hset(key, id, value[:head] + b"".join(changed))
    await check(store, lambda record, text: (b"", b""))  # a value is read as a whole
    await mend(store)
    await store.close()


async def test_ids_and_versions_are_checked_too(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    await store.create(UID, 1)
    await commit(store, 0, [put(*IDS), DeleteWrite(["p001", "p002"])])
    await store.close()
    with closing(sqlite3.connect(tmp_path / "collections" / f"{UID}.db")) as connection, connection:
        connection.execute("update points_0 set version = 2 where id = 'p005'")
        connection.execute("update points_0 set id = 'q006' where id = 'p006'")
        connection.execute("update points_0 set id = 'p999' where id = 'p001'")
        connection.execute("update points_0 set record = null, metadata = null where id = 'p007'")
    await store.open()
    assert {entry.id for entry in await whole_feed(store) if entry.is_damaged} == {"p005", "q006", "p999", "p007"}
    await store.close()


async def test_files_of_older_releases_are_read_and_get_checksums(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    await store.create(UID, 2)
    await commit(store, 0, [put(*IDS)])
    await commit(store, 1, [put("x"), DeleteWrite(["x"])])
    await store.close()
    path = tmp_path / "collections" / f"{UID}.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        for shard in (0, 1):
            connection.execute(f"alter table points_{shard} drop column crc")
    await store.open()
    assert len(await whole_feed(store)) == 80 and len(await store.fetch_all(UID, {0: IDS}, records=True)) == 80
    await commit(store, 0, [put("p003")])
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select id from points_0 where crc is not null").fetchall() == [("p003",)]


def bits(size: int, count: int) -> Iterator[tuple[int, int]]:
    rng = random.Random(0)
    return ((rng.randrange(size), 1 << rng.randrange(8)) for _ in itertools.repeat(None, count))


async def test_any_bit_of_a_value_in_redis(redis_server: Server) -> None:
    """Whatever bit flips: the point is as it was written, or damaged; never another one."""
    store = RedisStore(redis_server.url, timeout_seconds=60, prefix="any-bit")
    await store.open()
    await store.create(UID, 1)
    await commit(store, 0, [put("a")])
    key = f"{{any-bit:{UID}:0}}:points"
    with redis_client.Redis.from_url(redis_server.url) as client:
        value = client.hget(key, "a")
        for place, mask in bits(len(value), 200):
            client.hset(key, "a", flipped(value, place, mask))
            try:
                (point,) = await store.fetch(UID, 0, ["a"], records=True)
            except DamagedPoint:
                point = None
            (entry,) = (await store.feed(UID, 0, 0, 10)).entries
            assert point is None or (place < 6 and (point.record, point.metadata) == (record("a", 0), metadata("a", 0)))
            assert entry.is_damaged if place >= 6 else entry.record == record("a", 0)  # a seq is mended
    await store.close()


@pytest.mark.parametrize("left", [6, 10])
async def test_what_is_left_of_a_point_in_redis_is_no_tombstone(redis_server: Server, left: int) -> None:
    """As long as a tombstone of now, or of older releases, which was a seq alone."""
    prefix = f"left-{left}"
    store = RedisStore(redis_server.url, timeout_seconds=60, prefix=prefix)
    await store.open()
    await store.create(UID, 1)
    await commit(store, 0, [put("a", "b", "c"), DeleteWrite(["c"])])
    with redis_client.Redis.from_url(redis_server.url) as client:
        key = f"{{{prefix}:{UID}:0}}:points"
        client.hset(key, "a", client.hget(key, "a")[:left])
        with pytest.raises(DamagedPoint, match="'a'"):
            await store.fetch(UID, 0, ["a", "b", "c"])
        assert [entry.id for entry in await whole_feed(store) if entry.is_damaged] == ["a"]
        value = client.hget(key, "c")
        assert len(value) == 10
        for place, mask in bits(4, 20):
            client.hset(key, "c", flipped(value, 6 + place, mask))
            assert [entry.id for entry in await whole_feed(store) if entry.is_damaged] == ["a", "c"]
            with pytest.raises(DamagedPoint, match="'c'"):
                await store.fetch(UID, 0, ["c"])
    await store.close()


async def test_tombstones_of_older_releases_are_read_in_redis(redis_server: Server) -> None:
    store = RedisStore(redis_server.url, timeout_seconds=60, prefix="bare")
    await store.open()
    await store.create(UID, 1)
    await commit(store, 0, [put("a", "b", "c"), DeleteWrite(["b", "c"])])
    with redis_client.Redis.from_url(redis_server.url) as client:
        client.set("bare:schema", 2)
        key = f"{{bare:{UID}:0}}"
        for id in ("b", "c"):
            client.hset(f"{key}:points", id, client.hget(f"{key}:points", id)[:6])
        client.hdel(f"{key}:info", "begun", "ended")
        await store.close()
        await store.open()
        assert client.get("bare:schema") == b"4"
        assert [(e.id, e.record is None, e.is_damaged) for e in await whole_feed(store)] == [
            ("a", False, False),
            ("b", True, False),
            ("c", True, False),
        ]
        assert (await store.history(UID, 0)).last_seq == 5
        assert await store.fetch(UID, 0, ["b"]) == [None]
        outcomes = await commit(store, 0, [DeleteWrite(["b"]), put("b")])
        assert [one.applied for one in outcomes] == [[False], [True]]
        assert (await store.counters(UID, 0)).points == 2
        assert await store.purge_tombstones(UID, 0, 10) == 1
        assert [entry.id for entry in await whole_feed(store)] == ["a", "b"]
    await store.close()
