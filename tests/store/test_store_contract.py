"""What every MetadataStore promises of points, feed and receipts, held against SQLite, Redis and Valkey alike."""

import asyncio

import numpy as np
import pytest
from tests.store.points import UID, MakeStore, commit, metadata, put, puts, record, whole_feed

from bebr.core.operations import MAX_COMMIT_BYTES, Commit
from bebr.core.types import Puts, StoredPoint, WriteMode
from bebr.errors import DuplicateId, IdempotencyConflict, PayloadTooLarge
from bebr.store import Committed, DeleteWrite, FeedEntry, MetadataStore, PutWrite, Receipt, ShardCounters

STRANGE_IDS = [
    *("ünïcödé", "日本語", "😀👩\u200d👩\u200d👧", "a'b\"c\\d", "a,b;c", "null", "1", "1e5", " ", "\n\t\x01\x1e"),
    *("{brace}", "x" * 256, "é" * 128),
]


# -- puts and modes ----------------------------------------------------------------------------------------------------


async def test_a_put_is_stored_whole(store: MetadataStore) -> None:
    await store.create(UID, 2)
    assert await commit(store, 1, [put("a", "b", seed=7, version=3)]) == [Committed([True, True], 1, 2)]
    assert await store.fetch(UID, 1, ["b", "a"], records=True) == [
        StoredPoint("b", 2, 3, record("b", 7), metadata("b", 7)),
        StoredPoint("a", 1, 3, record("a", 7), metadata("a", 7)),
    ]
    assert await store.fetch(UID, 0, ["a"]) == [None]
    assert await store.counters(UID, 1) == ShardCounters(2, 2)
    assert await store.counters(UID, 0) == ShardCounters(0, 0)


async def test_what_was_not_asked_for_comes_back_empty(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await commit(store, 0, [put("a")])
    assert await store.fetch(UID, 0, ["a"], metadata=False) == [StoredPoint("a", 1, 1, b"", "")]
    assert await store.fetch(UID, 0, ["a"]) == [StoredPoint("a", 1, 1, b"", metadata("a", 0))]


async def test_an_upsert_replaces_and_takes_a_new_seq(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await commit(store, 0, [put("a", "b")])
    assert await commit(store, 0, [put("a", seed=1)]) == [Committed([True], 3, 3)]
    assert [(entry.seq, entry.id) for entry in await whole_feed(store)] == [(2, "b"), (3, "a")]
    assert await store.counters(UID, 0) == ShardCounters(2, 3)


async def test_insert_only_refuses_what_exists(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await commit(store, 0, [put("a", "b")])
    (committed,) = await commit(store, 0, [put("c", "a", "d", seed=1, mode=WriteMode.INSERT_ONLY)])
    assert committed == Committed([True, False, True], 3, 4)
    points = await store.fetch(UID, 0, ["a", "c", "d"])
    assert [point and (point.seq, point.metadata) for point in points] == [
        (1, metadata("a", 0)),
        (3, metadata("c", 1)),
        (4, metadata("d", 1)),
    ]


async def test_update_only_refuses_what_does_not_exist(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await commit(store, 0, [put("a")])
    await commit(store, 0, [put("gone"), DeleteWrite(["gone"])])
    (committed,) = await commit(store, 0, [put("x", "a", "gone", seed=1, mode=WriteMode.UPDATE_ONLY)])
    assert committed == Committed([False, True, False], 4, 4)
    assert await store.fetch(UID, 0, ["x", "gone"]) == [None, None]


async def test_a_write_that_changes_nothing_takes_no_seq(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await commit(store, 0, [put("a")])
    writes = [put("x", mode=WriteMode.UPDATE_ONLY), DeleteWrite(["y"]), PutWrite(puts([])), DeleteWrite([]), put("b")]
    assert await commit(store, 0, writes) == [
        Committed([False], 2, 1),
        Committed([False], 2, 1),
        Committed([], 2, 1),
        Committed([], 2, 1),
        Committed([True], 2, 2),
    ]
    assert await commit(store, 0, []) == []


async def test_an_id_twice_in_one_write_is_refused(store: MetadataStore) -> None:
    await store.create(UID, 1)
    with pytest.raises(DuplicateId, match="'b'"):
        await commit(store, 0, [put("x"), put("a", "b", "b")])
    assert await store.counters(UID, 0) == ShardCounters(0, 0)


async def test_an_id_in_several_writes_of_a_commit(store: MetadataStore) -> None:
    """The later write sees what the earlier one did."""
    await store.create(UID, 1)
    writes = [
        put("a", "b"),
        DeleteWrite(["a"]),
        put("a", seed=1, mode=WriteMode.INSERT_ONLY),
        put("b", seed=2, mode=WriteMode.INSERT_ONLY),
        put("b", seed=3, mode=WriteMode.UPDATE_ONLY),
        DeleteWrite(["b"]),
    ]
    assert await commit(store, 0, writes) == [
        Committed([True, True], 1, 2),
        Committed([True], 3, 3),
        Committed([True], 4, 4),
        Committed([False], 5, 4),
        Committed([True], 5, 5),
        Committed([True], 6, 6),
    ]
    assert await whole_feed(store) == [
        FeedEntry(4, "a", 1, record("a", 1), metadata("a", 1)),
        FeedEntry(6, "b", 0, None, None),
    ]
    assert await store.counters(UID, 0) == ShardCounters(1, 6)


# -- deletes and tombstones --------------------------------------------------------------------------------------------


async def test_a_delete_leaves_a_tombstone(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await commit(store, 0, [put("a", "b", "c")])
    assert await commit(store, 0, [DeleteWrite(["b", "x", "a"])]) == [Committed([True, False, True], 4, 5)]
    assert await store.fetch(UID, 0, ["a", "b", "c"], metadata=False) == [None, None, StoredPoint("c", 3, 1, b"", "")]
    assert await whole_feed(store) == [
        FeedEntry(3, "c", 1, record("c", 0), metadata("c", 0)),
        FeedEntry(4, "b", 0, None, None),
        FeedEntry(5, "a", 0, None, None),
    ]
    assert await commit(store, 0, [DeleteWrite(["a"])]) == [Committed([False], 6, 5)]
    assert await store.counters(UID, 0) == ShardCounters(1, 5)


async def test_a_deleted_id_can_come_back(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await commit(store, 0, [put("a"), DeleteWrite(["a"]), put("a", seed=9, mode=WriteMode.INSERT_ONLY)])
    assert await whole_feed(store) == [FeedEntry(3, "a", 1, record("a", 9), metadata("a", 9))]
    assert await store.purge_tombstones(UID, 0, 100) == 0
    assert await store.counters(UID, 0) == ShardCounters(1, 3)


async def test_purging_removes_tombstones_up_to_a_seq(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await commit(store, 0, [put("a", "b", "c"), DeleteWrite(["a", "b", "c"]), put("d")])
    assert await store.purge_tombstones(UID, 0, 5) == 2
    assert [(entry.seq, entry.id) for entry in await whole_feed(store)] == [(6, "c"), (7, "d")]
    assert await store.counters(UID, 0) == ShardCounters(1, 7, purged_seq=5)
    assert await store.purge_tombstones(UID, 0, 5) == 0
    assert await store.counters(UID, 0) == ShardCounters(1, 7, purged_seq=5)
    assert await commit(store, 0, [put("a")]) == [Committed([True], 8, 8)]


async def test_purging_many(store: MetadataStore) -> None:
    """More than one script or statement handles at a time."""
    await store.create(UID, 1)
    ids = [f"p{number}" for number in range(2500)]
    await commit(store, 0, [put(*ids), DeleteWrite(ids)])
    assert await store.purge_tombstones(UID, 0, 10_000) == 2500
    assert await whole_feed(store) == []
    assert await store.counters(UID, 0) == ShardCounters(0, 5000, purged_seq=5000)


# -- the feed ----------------------------------------------------------------------------------------------------------


async def test_the_feed_begins_after_a_seq_and_ends_at_its_limit(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await commit(store, 0, [put(*"abcdef")])
    assert [entry.id for entry in (await store.feed(UID, 0, 2, 3)).entries] == ["c", "d", "e"]
    assert [entry.id for entry in (await store.feed(UID, 0, 5, 3)).entries] == ["f"]
    assert (await store.feed(UID, 0, 6, 3)).entries == []
    assert (await store.feed(UID, 0, 0, 0)).entries == []


async def test_the_feed_is_the_same_in_any_pages(store: MetadataStore) -> None:
    await store.create(UID, 1)
    ids = [f"p{number}" for number in range(3000)]
    await commit(store, 0, [put(*ids), put(*ids[::3], seed=1), DeleteWrite(ids[::7])])
    feed = await whole_feed(store)
    assert [entry.seq for entry in feed] == sorted({entry.seq for entry in feed})
    assert sorted(entry.id for entry in feed) == sorted(ids)
    assert {entry.id for entry in feed if entry.record is None} == set(ids[::7])
    assert await whole_feed(store, limit=17) == feed
    assert await whole_feed(store, limit=2999) == feed


async def test_the_feed_holds_points_of_several_versions(store: MetadataStore) -> None:
    """A newer version may have longer records; both may come in one commit."""
    await store.create(UID, 1)
    wide = Puts(["w"], 2, np.arange(130, dtype=np.uint8).reshape(1, 130), ["{}"])
    await commit(store, 0, [put("a", version=1), PutWrite(wide), put("b", version=1)])
    assert [(entry.id, entry.version, len(entry.record or b"")) for entry in await whole_feed(store)] == [
        ("a", 1, 6),
        ("w", 2, 130),
        ("b", 1, 6),
    ]
    assert (await store.fetch(UID, 0, ["w"], records=True))[0] == StoredPoint("w", 2, 2, bytes(range(130)), "{}")


# -- receipts ----------------------------------------------------------------------------------------------------------


async def test_a_receipt_makes_a_write_happen_once(store: MetadataStore) -> None:
    await store.create(UID, 1)
    receipt = Receipt("request-1", b"digest")
    write = put("a", "b", mode=WriteMode.INSERT_ONLY, receipt=receipt)
    assert await commit(store, 0, [put("b")]) == [Committed([True], 1, 1)]
    assert await commit(store, 0, [write]) == [Committed([True, False], 2, 2)]
    await commit(store, 0, [put("c")])
    assert await commit(store, 0, [write]) == [Committed([True, False], 2, 2, replayed=True)]
    assert await store.counters(UID, 0) == ShardCounters(3, 3)


async def test_the_digest_decides_what_is_the_same(store: MetadataStore) -> None:
    """Encoding a text again may give other bits; the request is the same."""
    await store.create(UID, 1)
    receipt = Receipt("request-1", bytes(range(32)))
    await commit(store, 0, [put("a", seed=1, receipt=receipt)])
    (again,) = await commit(store, 0, [put("a", seed=2, receipt=receipt)])
    assert again == Committed([True], 1, 1, replayed=True)
    assert (await store.fetch(UID, 0, ["a"], records=True))[0] == StoredPoint(
        "a", 1, 1, record("a", 1), metadata("a", 1)
    )


async def test_another_digest_under_a_known_key_is_a_conflict(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await commit(store, 0, [put("a", receipt=Receipt("k", b"1"))])
    with pytest.raises(IdempotencyConflict, match="'k'"):
        await commit(store, 0, [put("b"), DeleteWrite(["a"], Receipt("k", b"2"))])
    with pytest.raises(IdempotencyConflict, match="'new'"):
        await commit(store, 0, [put("b", receipt=Receipt("new", b"1")), put("c", receipt=Receipt("new", b"2"))])
    assert await store.counters(UID, 0) == ShardCounters(1, 1)
    assert await commit(store, 0, [put("b", receipt=Receipt("new", b"2"))]) == [Committed([True], 2, 2)]


async def test_receipts_of_deletes_and_of_one_commit(store: MetadataStore) -> None:
    await store.create(UID, 1)
    delete = DeleteWrite(["a", "x"], Receipt("d", b""))
    assert await commit(store, 0, [put("a"), delete, delete]) == [
        Committed([True], 1, 1),
        Committed([True, False], 2, 2),
        Committed([True, False], 2, 2, replayed=True),
    ]
    assert await commit(store, 0, [put("a"), delete]) == [
        Committed([True], 3, 3),
        Committed([True, False], 2, 2, replayed=True),
    ]


async def test_receipts_belong_to_a_shard(store: MetadataStore) -> None:
    await store.create(UID, 2)
    receipt = Receipt("k", b"digest")
    assert (await commit(store, 0, [put("a", receipt=receipt)]))[0].replayed is False
    assert (await commit(store, 1, [put("b", receipt=receipt)]))[0].replayed is False


async def test_a_receipt_expires(make_store: MakeStore) -> None:
    store = make_store(receipt_ttl_seconds=0.2)
    await store.open()
    await store.create(UID, 1)
    write = put("a", receipt=Receipt("k", b"1"))
    await commit(store, 0, [write])
    await asyncio.sleep(0.3)
    assert await commit(store, 0, [write]) == [Committed([True], 2, 2)]
    await asyncio.sleep(0.3)
    assert await commit(store, 0, [put("b", receipt=Receipt("k", b"2"))]) == [Committed([True], 3, 3)]
    await store.close()


# -- strange and large values ------------------------------------------------------------------------------------------


async def test_ids_may_be_any_text(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await commit(store, 0, [put(*STRANGE_IDS)])
    points = await store.fetch(UID, 0, STRANGE_IDS, records=True)
    assert points == [
        StoredPoint(id, seq, 1, record(id, 0), metadata(id, 0)) for seq, id in enumerate(STRANGE_IDS, start=1)
    ]
    assert [entry.id for entry in await whole_feed(store)] == STRANGE_IDS
    assert (await commit(store, 0, [DeleteWrite(STRANGE_IDS)]))[0].applied == [True] * len(STRANGE_IDS)
    assert await store.counters(UID, 0) == ShardCounters(0, 2 * len(STRANGE_IDS))


async def test_metadata_may_be_large_or_strange(store: MetadataStore) -> None:
    await store.create(UID, 1)
    texts = ['{"t":"' + "日" * 20_000 + '"}', "{}", '{"t":"\x1e,😀"}', '{"t":"' + "x" * 65_000 + '"}', ""]
    ids = [f"p{number}" for number in range(len(texts))]
    records = np.random.default_rng(0).integers(0, 256, (len(texts), 66), dtype=np.uint8)
    await commit(store, 0, [PutWrite(Puts(ids, 1, records, texts))])
    assert [point and point.metadata for point in await store.fetch(UID, 0, ids)] == texts
    assert [(entry.metadata, entry.record) for entry in await whole_feed(store)] == [
        (text, row.tobytes()) for text, row in zip(texts, records, strict=True)
    ]


async def test_a_large_batch(store: MetadataStore) -> None:
    """As much as one commit carries; a store is done with it well within its deadline. One point may be larger."""
    await store.create(UID, 1)
    count = MAX_COMMIT_BYTES // 4200
    ids = [f"p{number}" for number in range(count)]
    batch = Puts(ids, 1, np.zeros((count, 66), np.uint8), ['{"t":"' + "x" * 4000 + '"}'] * count)
    assert await commit(store, 0, [PutWrite(batch)]) == [Committed([True] * count, 1, count)]
    assert await store.counters(UID, 0) == ShardCounters(count, count)
    assert all(await store.fetch(UID, 0, ids))
    text = '{"t":"' + "x" * MAX_COMMIT_BYTES + '"}'
    one, two = (
        PutWrite(Puts(some, 1, np.zeros((len(some), 66), np.uint8), [text] * len(some))) for some in (["a"], ["b", "c"])
    )
    outcomes = await store.commit(UID, [Commit(0, [two]), Commit(0, [one])])
    assert isinstance(outcomes[0], PayloadTooLarge) and isinstance(outcomes[1], list)


async def test_fetching_nothing_missing_and_repeated_ids(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await commit(store, 0, [put("a")])
    a = StoredPoint("a", 1, 1, b"", metadata("a", 0))
    assert await store.fetch(UID, 0, []) == []
    assert await store.fetch(UID, 0, ["x", "a", "y", "a"]) == [None, a, None, a]


async def test_records_may_be_of_any_memory_layout(store: MetadataStore) -> None:
    await store.create(UID, 1)
    wide = np.arange(48, dtype=np.uint8).reshape(4, 12)
    await commit(store, 0, [PutWrite(Puts(["a", "b"], 1, wide[::2, ::3], ["{}", "{}"]))])
    points = await store.fetch(UID, 0, ["a", "b"], records=True)
    assert [point and point.record for point in points] == [bytes([0, 3, 6, 9]), bytes([24, 27, 30, 33])]
