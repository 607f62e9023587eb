"""Points at hand are those of the store, whatever is written meanwhile; they take no more than their memory."""

import asyncio
import random
from pathlib import Path
from sys import getsizeof

import pytest
from tests.store.points import UID, commit, metadata, put

from bebr.core.operations import DeleteWrite
from bebr.core.types import StoredPoint
from bebr.errors import DuplicateId, StoreUnavailable
from bebr.store import MetadataStore
from bebr.store.sqlite.point_cache import POINT_BYTES, PointCache
from bebr.store.sqlite.store import SqliteStore

OTHER = "b" * 16


def point(point_id: str, size: int = 100) -> StoredPoint:
    return StoredPoint(point_id, 1, 0, b"", "x" * size)


def size_of(one: StoredPoint) -> int:
    return getsizeof(one.id) + getsizeof(one.metadata) + POINT_BYTES


async def test_what_was_read_is_at_hand_until_it_is_written(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    await store.create(UID, 1)
    await commit(store, 0, [put("a", "b", "c")])
    assert store.at_hand(UID, ["a"]) == {}
    read = await store.fetch_all(UID, {0: ["a", "b", "absent"]})
    assert store.at_hand(UID, ["a", "b", "c", "absent"]) == read
    await commit(store, 0, [put("a", seed=1)])
    await commit(store, 0, [DeleteWrite(["b"])])
    assert store.at_hand(UID, ["a", "b"]) == {}
    assert (await store.fetch_all(UID, {0: ["a", "b"]}))["a"].metadata == metadata("a", 1)
    await store.fetch_all(UID, {0: ["c"]}, records=True)
    await store.fetch_all(UID, {0: ["c"]}, metadata=False)
    assert store.at_hand(UID, ["c"]) == {}, "it is whole, or not here"
    await store.drop(UID)
    assert store.at_hand(UID, ["a"]) == {}
    await store.close()


async def test_reads_beside_commits_leave_nothing_old(store: MetadataStore) -> None:
    """Readers and writers in random order; now and then a writer is cancelled."""
    chance = random.Random(7)
    await store.create(UID, 1)
    ids = [f"p{number}" for number in range(6)]

    async def write(point_id: str, seed: int) -> None:
        await commit(store, 0, [DeleteWrite([point_id]) if seed % 7 == 0 else put(point_id, seed=seed)])

    async def read() -> None:
        for _ in range(3):
            await store.fetch_all(UID, {0: chance.sample(ids, 3)})
            await asyncio.sleep(chance.choice([0, 0, 0.001]))

    for seed in range(1, 40):
        writers = [asyncio.create_task(write(one, seed)) for one in chance.sample(ids, 2)]
        readers = [asyncio.create_task(read()) for _ in range(3)]
        if seed % 5 == 0:
            await asyncio.sleep(0)
            writers[0].cancel()
        await asyncio.gather(*writers, *readers, return_exceptions=True)
        at_hand = store.at_hand(UID, ids)
        found = {one.id: one for one in await store.fetch(UID, 0, ids) if one is not None}
        assert at_hand == {point_id: found[point_id] for point_id in at_hand}


async def test_a_commit_that_fails_leaves_what_is_in_the_store(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    await store.create(UID, 1)
    await commit(store, 0, [put("a")])
    await store.fetch_all(UID, {0: ["a"]})
    with pytest.raises(DuplicateId):
        await commit(store, 0, [put("a", "a")])
    at_hand = store.at_hand(UID, ["a"])
    assert at_hand in ({}, await store.fetch_all(UID, {0: ["a"]}))
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.fetch_all(UID, {0: ["a"]})


def test_it_takes_no_more_than_its_memory_and_keeps_what_is_asked_for() -> None:
    one = size_of(point("p000"))
    cache = PointCache(2 * 10 * one)
    for number in range(100):
        cache.add(UID, {f"p{number:03}": point(f"p{number:03}")})
        assert cache.get(UID, ["p000"]), "it is asked for all the time"
        kept = [n for n in range(100) if f"p{n:03}" in {**cache._new.get(UID, {}), **cache._old.get(UID, {})}]
        assert len(kept) <= 20
    assert 99 in kept
    cache.add(OTHER, {"p099": point("p099")})
    cache.forget(UID, ["p099", "p000", "never"])
    assert cache.get(UID, ["p099", "p000"]) == {} and cache.get(OTHER, ["p099"])
    cache.forget_all(OTHER)
    assert cache.get(OTHER, ["p099"]) == {}


@pytest.mark.parametrize("max_bytes", [0, 1000])
def test_what_does_not_fit_is_not_kept(max_bytes: int) -> None:
    cache = PointCache(max_bytes)
    cache.add(UID, {"a": point("a", 1000)})
    assert cache.get(UID, ["a"]) == {}
