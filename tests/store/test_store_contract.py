"""What every MetadataStore promises, held against SQLite, Redis and Valkey alike."""

import asyncio
from contextlib import suppress

import numpy as np
import pytest
from tests.store.points import UID, MakeStore, metadata, put, puts, record, whole_feed

from bebr.core.types import Puts, StoredPoint, WriteMode
from bebr.errors import (
    AlreadyExists,
    CollectionNotFound,
    DuplicateId,
    IdempotencyConflict,
    InvalidOption,
    StoreUnavailable,
)
from bebr.store import Committed, DeleteWrite, FeedEntry, MetadataStore, PutWrite, Receipt, ShardStats

STRANGE_IDS = [
    *("ünïcödé", "日本語", "😀👩\u200d👩\u200d👧", "a'b\"c\\d", "a,b;c", "null", "1", "1e5", " ", "\n\t\x01\x1e"),
    *("{brace}", "x" * 256, "é" * 128),
]


# -- puts and modes ----------------------------------------------------------------------------------------------------


async def test_a_put_is_stored_whole(store: MetadataStore) -> None:
    await store.create(UID, 2)
    assert await store.commit(UID, 1, [put("a", "b", seed=7, version=3)]) == [Committed([True, True], 1, 2)]
    assert await store.fetch(UID, 1, ["b", "a"], records=True) == [
        StoredPoint("b", 2, 3, record("b", 7), metadata("b", 7)),
        StoredPoint("a", 1, 3, record("a", 7), metadata("a", 7)),
    ]
    assert await store.fetch(UID, 0, ["a"]) == [None]
    assert await store.stats(UID, 1) == ShardStats(2, 2)
    assert await store.stats(UID, 0) == ShardStats(0, 0)


async def test_what_was_not_asked_for_comes_back_empty(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await store.commit(UID, 0, [put("a")])
    assert await store.fetch(UID, 0, ["a"], metadata=False) == [StoredPoint("a", 1, 1, b"", "")]
    assert await store.fetch(UID, 0, ["a"]) == [StoredPoint("a", 1, 1, b"", metadata("a", 0))]


async def test_an_upsert_replaces_and_takes_a_new_seq(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await store.commit(UID, 0, [put("a", "b")])
    assert await store.commit(UID, 0, [put("a", seed=1)]) == [Committed([True], 3, 3)]
    assert [(entry.seq, entry.id) for entry in await whole_feed(store)] == [(2, "b"), (3, "a")]
    assert await store.stats(UID, 0) == ShardStats(2, 3)


async def test_insert_only_refuses_what_exists(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await store.commit(UID, 0, [put("a", "b")])
    (committed,) = await store.commit(UID, 0, [put("c", "a", "d", seed=1, mode=WriteMode.INSERT_ONLY)])
    assert committed == Committed([True, False, True], 3, 4)
    points = await store.fetch(UID, 0, ["a", "c", "d"])
    assert [point and (point.seq, point.metadata) for point in points] == [
        (1, metadata("a", 0)),
        (3, metadata("c", 1)),
        (4, metadata("d", 1)),
    ]


async def test_update_only_refuses_what_does_not_exist(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await store.commit(UID, 0, [put("a")])
    await store.commit(UID, 0, [put("gone"), DeleteWrite(["gone"])])
    (committed,) = await store.commit(UID, 0, [put("x", "a", "gone", seed=1, mode=WriteMode.UPDATE_ONLY)])
    assert committed == Committed([False, True, False], 4, 4)
    assert await store.fetch(UID, 0, ["x", "gone"]) == [None, None]


async def test_a_write_that_changes_nothing_takes_no_seq(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await store.commit(UID, 0, [put("a")])
    writes = [put("x", mode=WriteMode.UPDATE_ONLY), DeleteWrite(["y"]), PutWrite(puts([])), DeleteWrite([]), put("b")]
    assert await store.commit(UID, 0, writes) == [
        Committed([False], 2, 1),
        Committed([False], 2, 1),
        Committed([], 2, 1),
        Committed([], 2, 1),
        Committed([True], 2, 2),
    ]
    assert await store.commit(UID, 0, []) == []


async def test_an_id_twice_in_one_write_is_refused(store: MetadataStore) -> None:
    await store.create(UID, 1)
    with pytest.raises(DuplicateId, match="'b'"):
        await store.commit(UID, 0, [put("x"), put("a", "b", "b")])
    assert await store.stats(UID, 0) == ShardStats(0, 0)


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
    assert await store.commit(UID, 0, writes) == [
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
    assert await store.stats(UID, 0) == ShardStats(1, 6)


# -- deletes and tombstones --------------------------------------------------------------------------------------------


async def test_a_delete_leaves_a_tombstone(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await store.commit(UID, 0, [put("a", "b", "c")])
    assert await store.commit(UID, 0, [DeleteWrite(["b", "x", "a"])]) == [Committed([True, False, True], 4, 5)]
    assert await store.fetch(UID, 0, ["a", "b", "c"], metadata=False) == [None, None, StoredPoint("c", 3, 1, b"", "")]
    assert await whole_feed(store) == [
        FeedEntry(3, "c", 1, record("c", 0), metadata("c", 0)),
        FeedEntry(4, "b", 0, None, None),
        FeedEntry(5, "a", 0, None, None),
    ]
    assert await store.commit(UID, 0, [DeleteWrite(["a"])]) == [Committed([False], 6, 5)]
    assert await store.stats(UID, 0) == ShardStats(1, 5)


async def test_a_deleted_id_can_come_back(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await store.commit(UID, 0, [put("a"), DeleteWrite(["a"]), put("a", seed=9, mode=WriteMode.INSERT_ONLY)])
    assert await whole_feed(store) == [FeedEntry(3, "a", 1, record("a", 9), metadata("a", 9))]
    assert await store.purge_tombstones(UID, 0, 100) == 0
    assert await store.stats(UID, 0) == ShardStats(1, 3)


async def test_purging_removes_tombstones_up_to_a_seq(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await store.commit(UID, 0, [put("a", "b", "c"), DeleteWrite(["a", "b", "c"]), put("d")])
    assert await store.purge_tombstones(UID, 0, 5) == 2
    assert [(entry.seq, entry.id) for entry in await whole_feed(store)] == [(6, "c"), (7, "d")]
    assert await store.stats(UID, 0) == ShardStats(1, 7, purged_seq=5)
    assert await store.purge_tombstones(UID, 0, 5) == 0
    assert await store.stats(UID, 0) == ShardStats(1, 7, purged_seq=5)
    assert await store.commit(UID, 0, [put("a")]) == [Committed([True], 8, 8)]


async def test_purging_many(store: MetadataStore) -> None:
    """More than one script or statement handles at a time."""
    await store.create(UID, 1)
    ids = [f"p{number}" for number in range(2500)]
    await store.commit(UID, 0, [put(*ids), DeleteWrite(ids)])
    assert await store.purge_tombstones(UID, 0, 10_000) == 2500
    assert await whole_feed(store) == []
    assert await store.stats(UID, 0) == ShardStats(0, 5000, purged_seq=5000)


# -- the feed ----------------------------------------------------------------------------------------------------------


async def test_the_feed_begins_after_a_seq_and_ends_at_its_limit(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await store.commit(UID, 0, [put(*"abcdef")])
    assert [entry.id for entry in await store.feed(UID, 0, 2, 3)] == ["c", "d", "e"]
    assert [entry.id for entry in await store.feed(UID, 0, 5, 3)] == ["f"]
    assert await store.feed(UID, 0, 6, 3) == []
    assert await store.feed(UID, 0, 0, 0) == []


async def test_the_feed_is_the_same_in_any_pages(store: MetadataStore) -> None:
    await store.create(UID, 1)
    ids = [f"p{number}" for number in range(3000)]
    await store.commit(UID, 0, [put(*ids), put(*ids[::3], seed=1), DeleteWrite(ids[::7])])
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
    await store.commit(UID, 0, [put("a", version=1), PutWrite(wide), put("b", version=1)])
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
    assert await store.commit(UID, 0, [put("b")]) == [Committed([True], 1, 1)]
    assert await store.commit(UID, 0, [write]) == [Committed([True, False], 2, 2)]
    await store.commit(UID, 0, [put("c")])
    assert await store.commit(UID, 0, [write]) == [Committed([True, False], 2, 2, replayed=True)]
    assert await store.stats(UID, 0) == ShardStats(3, 3)


async def test_the_digest_decides_what_is_the_same(store: MetadataStore) -> None:
    """Encoding a text again may give other bits; the request is the same."""
    await store.create(UID, 1)
    receipt = Receipt("request-1", bytes(range(32)))
    await store.commit(UID, 0, [put("a", seed=1, receipt=receipt)])
    (again,) = await store.commit(UID, 0, [put("a", seed=2, receipt=receipt)])
    assert again == Committed([True], 1, 1, replayed=True)
    assert (await store.fetch(UID, 0, ["a"], records=True))[0] == StoredPoint(
        "a", 1, 1, record("a", 1), metadata("a", 1)
    )


async def test_another_digest_under_a_known_key_is_a_conflict(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await store.commit(UID, 0, [put("a", receipt=Receipt("k", b"1"))])
    with pytest.raises(IdempotencyConflict, match="'k'"):
        await store.commit(UID, 0, [put("b"), DeleteWrite(["a"], Receipt("k", b"2"))])
    with pytest.raises(IdempotencyConflict, match="'new'"):
        await store.commit(UID, 0, [put("b", receipt=Receipt("new", b"1")), put("c", receipt=Receipt("new", b"2"))])
    assert await store.stats(UID, 0) == ShardStats(1, 1)
    assert await store.commit(UID, 0, [put("b", receipt=Receipt("new", b"2"))]) == [Committed([True], 2, 2)]


async def test_receipts_of_deletes_and_of_one_commit(store: MetadataStore) -> None:
    await store.create(UID, 1)
    delete = DeleteWrite(["a", "x"], Receipt("d", b""))
    assert await store.commit(UID, 0, [put("a"), delete, delete]) == [
        Committed([True], 1, 1),
        Committed([True, False], 2, 2),
        Committed([True, False], 2, 2, replayed=True),
    ]
    assert await store.commit(UID, 0, [put("a"), delete]) == [
        Committed([True], 3, 3),
        Committed([True, False], 2, 2, replayed=True),
    ]


async def test_receipts_belong_to_a_shard(store: MetadataStore) -> None:
    await store.create(UID, 2)
    receipt = Receipt("k", b"digest")
    assert (await store.commit(UID, 0, [put("a", receipt=receipt)]))[0].replayed is False
    assert (await store.commit(UID, 1, [put("b", receipt=receipt)]))[0].replayed is False


async def test_a_receipt_expires(make_store: MakeStore) -> None:
    store = make_store(receipt_ttl_seconds=0.2)
    await store.open()
    await store.create(UID, 1)
    write = put("a", receipt=Receipt("k", b"1"))
    await store.commit(UID, 0, [write])
    await asyncio.sleep(0.3)
    assert await store.commit(UID, 0, [write]) == [Committed([True], 2, 2)]
    await asyncio.sleep(0.3)
    assert await store.commit(UID, 0, [put("b", receipt=Receipt("k", b"2"))]) == [Committed([True], 3, 3)]
    await store.close()


# -- strange and large values ------------------------------------------------------------------------------------------


async def test_ids_may_be_any_text(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await store.commit(UID, 0, [put(*STRANGE_IDS)])
    points = await store.fetch(UID, 0, STRANGE_IDS, records=True)
    assert points == [
        StoredPoint(id, seq, 1, record(id, 0), metadata(id, 0)) for seq, id in enumerate(STRANGE_IDS, start=1)
    ]
    assert [entry.id for entry in await whole_feed(store)] == STRANGE_IDS
    assert (await store.commit(UID, 0, [DeleteWrite(STRANGE_IDS)]))[0].applied == [True] * len(STRANGE_IDS)
    assert await store.stats(UID, 0) == ShardStats(0, 2 * len(STRANGE_IDS))


async def test_metadata_may_be_large_or_strange(store: MetadataStore) -> None:
    await store.create(UID, 1)
    texts = ['{"t":"' + "日" * 20_000 + '"}', "{}", '{"t":"\x1e,😀"}', '{"t":"' + "x" * 65_000 + '"}', ""]
    ids = [f"p{number}" for number in range(len(texts))]
    records = np.random.default_rng(0).integers(0, 256, (len(texts), 66), dtype=np.uint8)
    await store.commit(UID, 0, [PutWrite(Puts(ids, 1, records, texts))])
    assert [point and point.metadata for point in await store.fetch(UID, 0, ids)] == texts
    assert [(entry.metadata, entry.record) for entry in await whole_feed(store)] == [
        (text, row.tobytes()) for text, row in zip(texts, records, strict=True)
    ]


async def test_a_large_batch(store: MetadataStore) -> None:
    """10,000 points, and more metadata than one statement takes."""
    await store.create(UID, 1)
    ids = [f"p{number}" for number in range(10_000)]
    batch = Puts(ids, 1, np.zeros((10_000, 66), np.uint8), ['{"t":"' + "x" * 4000 + '"}'] * 10_000)
    assert await store.commit(UID, 0, [PutWrite(batch)]) == [Committed([True] * 10_000, 1, 10_000)]
    assert await store.stats(UID, 0) == ShardStats(10_000, 10_000)
    assert all(await store.fetch(UID, 0, ids))


async def test_fetching_nothing_missing_and_repeated_ids(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await store.commit(UID, 0, [put("a")])
    a = StoredPoint("a", 1, 1, b"", metadata("a", 0))
    assert await store.fetch(UID, 0, []) == []
    assert await store.fetch(UID, 0, ["x", "a", "y", "a"]) == [None, a, None, a]


async def test_records_may_be_of_any_memory_layout(store: MetadataStore) -> None:
    await store.create(UID, 1)
    wide = np.arange(48, dtype=np.uint8).reshape(4, 12)
    await store.commit(UID, 0, [PutWrite(Puts(["a", "b"], 1, wide[::2, ::3], ["{}", "{}"]))])
    points = await store.fetch(UID, 0, ["a", "b"], records=True)
    assert [point and point.record for point in points] == [bytes([0, 3, 6, 9]), bytes([24, 27, 30, 33])]


# -- several at once ---------------------------------------------------------------------------------------------------


async def test_commits_at_once_on_one_shard_take_their_own_seqs(store: MetadataStore) -> None:
    await store.create(UID, 1)
    commits = [store.commit(UID, 0, [put(f"{number}-a", f"{number}-b")]) for number in range(100)]
    seqs = [(committed.first_seq, committed.last_seq) for (committed,) in await asyncio.gather(*commits)]
    assert sorted(seqs) == [(seq, seq + 1) for seq in range(1, 201, 2)]
    assert await store.stats(UID, 0) == ShardStats(200, 200)
    for (first_seq, _), number in zip(seqs, range(100), strict=True):
        (point,) = await store.fetch(UID, 0, [f"{number}-a"], metadata=False)
        assert point == StoredPoint(f"{number}-a", first_seq, 1, b"", "")


async def test_commits_at_once_on_several_shards(store: MetadataStore) -> None:
    await store.create(UID, 4)
    commits = [store.commit(UID, number % 4, [put(f"p{number}")]) for number in range(100)]
    await asyncio.gather(*commits)
    assert [await store.stats(UID, shard) for shard in range(4)] == [ShardStats(25, 25)] * 4


async def test_of_many_inserts_of_one_id_one_wins(store: MetadataStore) -> None:
    await store.create(UID, 1)
    inserts = [put("a", seed=seed, mode=WriteMode.INSERT_ONLY) for seed in range(30)]
    outcomes = await asyncio.gather(*(store.commit(UID, 0, [insert]) for insert in inserts))
    winners = [seed for seed, (committed,) in enumerate(outcomes) if committed.applied == [True]]
    assert len(winners) == 1
    assert [entry.metadata for entry in await whole_feed(store)] == [metadata("a", winners[0])]


async def test_of_many_equal_receipts_one_is_applied(store: MetadataStore) -> None:
    await store.create(UID, 1)
    write = put("a", receipt=Receipt("k", b"1"))
    outcomes = await asyncio.gather(*(store.commit(UID, 0, [write]) for _ in range(20)))
    assert sorted(committed.replayed for (committed,) in outcomes) == [False] + [True] * 19
    assert {(committed.first_seq, committed.last_seq) for (committed,) in outcomes} == {(1, 1)}


async def test_a_bad_commit_fails_alone(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await store.commit(UID, 0, [put("a", receipt=Receipt("k", b"1"))])
    bad_text = Puts(["bad"], 1, np.zeros((1, 6), np.uint8), ["\ud800"])
    outcomes = await asyncio.gather(
        store.commit(UID, 0, [put("b")]),
        store.commit(UID, 0, [put("c", receipt=Receipt("k", b"2"))]),
        store.commit(UID, 0, [PutWrite(bad_text)]),
        store.commit(UID, 0, [put("d")]),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [list, IdempotencyConflict, UnicodeEncodeError, list]
    assert sorted(entry.id for entry in await whole_feed(store)) == ["a", "b", "d"]


async def test_a_cancelled_commit_is_whole_or_absent(store: MetadataStore) -> None:
    await store.create(UID, 1)
    ids = [f"p{number}" for number in range(1000)]
    task = asyncio.create_task(store.commit(UID, 0, [put(*ids)]))
    await asyncio.sleep(0.003)
    task.cancel()
    with suppress(asyncio.CancelledError):  # it may have been faster
        await task
    assert await store.commit(UID, 0, [put("after")])
    assert (await store.stats(UID, 0)).points in (1, 1001)


async def test_a_feed_read_during_commits_is_in_order(store: MetadataStore) -> None:
    await store.create(UID, 1)
    ids = [f"p{number}" for number in range(3000)]
    await store.commit(UID, 0, [put(*ids)])

    async def rewrite() -> None:
        for start in range(0, 3000, 100):
            await store.commit(UID, 0, [put(*ids[start : start + 100], seed=1)])

    writer = asyncio.create_task(rewrite())
    while not writer.done():
        feed = await store.feed(UID, 0, 0, 10_000)
        assert [entry.seq for entry in feed] == sorted(entry.seq for entry in feed)
        assert len({entry.id for entry in feed}) == len(feed)
    await writer


# -- collections -------------------------------------------------------------------------------------------------------


async def test_creating_again_changes_nothing(store: MetadataStore) -> None:
    await store.create(UID, 2)
    await store.commit(UID, 1, [put("a")])
    await store.create(UID, 2)
    assert await store.stats(UID, 1) == ShardStats(1, 1)
    with pytest.raises(AlreadyExists, match="2 shards"):
        await store.create(UID, 3)


async def test_what_was_never_created_is_not_found(store: MetadataStore) -> None:
    await store.create(UID, 1)
    for uid, shard in (("f" * 16, 0), (UID, 1)):
        with pytest.raises(CollectionNotFound):
            await store.commit(uid, shard, [put("a")])
        with pytest.raises(CollectionNotFound):
            await store.fetch(uid, shard, ["a"])
        with pytest.raises(CollectionNotFound):
            await store.feed(uid, shard, 0, 10)
        with pytest.raises(CollectionNotFound):
            await store.stats(uid, shard)
        with pytest.raises(CollectionNotFound):
            await store.purge_tombstones(uid, shard, 10)


async def test_a_dropped_collection_is_gone(store: MetadataStore) -> None:
    other = "f" * 32
    await store.create(UID, 2)
    await store.create(other, 2)
    await store.commit(UID, 0, [put("a"), DeleteWrite(["a"]), put("b")])
    await store.commit(other, 0, [put("a")])
    await store.drop(UID)
    await store.drop(UID)
    with pytest.raises(CollectionNotFound):
        await store.commit(UID, 0, [put("a")])
    assert await store.stats(other, 0) == ShardStats(1, 1)
    await store.create(UID, 1)
    assert await store.stats(UID, 0) == ShardStats(0, 0)
    assert await whole_feed(store) == []


@pytest.mark.parametrize("uid", ["short", "UPPERCASE0123456", "../../../etc/passwd", "a" * 33, ""])
async def test_a_uid_that_could_leave_its_place_is_refused(store: MetadataStore, uid: str) -> None:
    with pytest.raises(InvalidOption):
        await store.create(uid, 1)


# -- documents ---------------------------------------------------------------------------------------------------------


async def test_documents(store: MetadataStore) -> None:
    assert await store.get_document("alias", "prod") is None
    assert await store.list_documents("alias") == {}
    await store.put_document("alias", "prod", {"collection": "docs", "größe": [1, 2.5, None, True, {"x": "😀"}]})
    await store.put_document("collection", "prod", {"other": "kind"})
    assert await store.get_document("alias", "prod") == {
        "collection": "docs",
        "größe": [1, 2.5, None, True, {"x": "😀"}],
    }
    await store.put_document("alias", "prod", {})
    assert await store.get_document("alias", "prod") == {}
    assert await store.delete_document("alias", "prod") is True
    assert await store.delete_document("alias", "prod") is False
    assert await store.get_document("collection", "prod") == {"other": "kind"}


async def test_documents_are_listed_by_name(store: MetadataStore) -> None:
    names = ["b", "a", "ä", "B", "日本", "a b"]
    for number, name in enumerate(names):
        await store.put_document("k", name, {"number": number})
    listed = await store.list_documents("k")
    assert list(listed) == sorted(names, key=str.encode)
    assert listed["ä"] == {"number": 2}


async def test_replacing_documents_deletes_then_puts(store: MetadataStore) -> None:
    await store.replace_documents("alias", {"a": {"to": 1}, "b": {"to": 2}}, [])
    await store.replace_documents("alias", {"b": {"to": 3}, "c": {"to": 4}}, ["a", "b", "missing"])
    assert await store.list_documents("alias") == {"b": {"to": 3}, "c": {"to": 4}}
    await store.replace_documents("alias", {}, [])
    await store.replace_documents("alias", {}, ["b", "c"])
    assert await store.list_documents("alias") == {}


async def test_documents_are_replaced_at_once(store: MetadataStore) -> None:
    """No reader ever sees the alias under both names, or under none."""
    await store.put_document("alias", "x0", {})

    async def rename() -> None:
        for number in range(50):
            await store.replace_documents("alias", {f"x{number + 1}": {}}, [f"x{number}"])

    writer = asyncio.create_task(rename())
    while not writer.done():
        assert len(await store.list_documents("alias")) == 1
        await asyncio.sleep(0)
    await writer


# -- life --------------------------------------------------------------------------------------------------------------


async def test_everything_is_there_after_reopening(make_store: MakeStore) -> None:
    first = make_store()
    await first.open()
    await first.create(UID, 2)
    write = put("a", "b", receipt=Receipt("k", b"1"))
    await first.commit(UID, 0, [write, DeleteWrite(["a"])])
    await first.put_document("k", "n", {"v": 1})
    feed, stats = await whole_feed(first), await first.stats(UID, 0)
    await first.close()

    second = make_store()
    await second.open()
    assert await whole_feed(second) == feed
    assert await second.stats(UID, 0) == stats
    assert await second.commit(UID, 0, [write]) == [Committed([True, True], 1, 2, replayed=True)]
    assert await second.get_document("k", "n") == {"v": 1}
    await second.close()


async def test_a_closed_store_says_so_and_can_be_opened_again(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await store.commit(UID, 0, [put("a")])
    await store.close()
    await store.close()
    for call in (
        store.ping(),
        store.commit(UID, 0, [put("b")]),
        store.fetch(UID, 0, ["a"]),
        store.get_document("k", "n"),
    ):
        with pytest.raises(StoreUnavailable):
            await call
    await store.open()
    await store.ping()
    assert await store.stats(UID, 0) == ShardStats(1, 1)


async def test_closing_finishes_the_commits_under_way(make_store: MakeStore) -> None:
    store = make_store()
    await store.open()
    await store.create(UID, 1)
    commits = [asyncio.create_task(store.commit(UID, 0, [put(f"p{number}")])) for number in range(20)]
    await asyncio.sleep(0)
    await store.close()
    outcomes = await asyncio.gather(*commits, return_exceptions=True)
    acknowledged = sum(not isinstance(outcome, BaseException) for outcome in outcomes)
    assert all(isinstance(outcome, list | StoreUnavailable) for outcome in outcomes)
    await store.open()
    assert (await store.stats(UID, 0)).points >= acknowledged
    await store.close()


async def test_fetch_all_joins_the_shards(store: MetadataStore) -> None:
    """Few ids go one way and many another; both say the same."""
    await store.create(UID, 2)
    for shard in (0, 1):
        await store.commit(UID, shard, [put(*[f"s{shard}-{i}" for i in range(60)])])
    await store.commit(UID, 1, [DeleteWrite(["s1-3"])])
    for count in (2, 60):
        wanted = {shard: [f"s{shard}-{i}" for i in range(count)] + ["absent", "s1-3"] for shard in (0, 1)}
        found = await store.fetch_all(UID, wanted, records=True)
        pages = [await store.fetch(UID, shard, ids, records=True) for shard, ids in wanted.items()]
        assert found == {point.id: point for page in pages for point in page if point is not None}
        assert len(found) == 2 * count - (count > 3)
    bare = await store.fetch_all(UID, {0: ["s0-1"]}, metadata=False)
    assert (bare["s0-1"].metadata, bare["s0-1"].record) == ("", b"")
    assert await store.fetch_all(UID, {}) == {}
