"""What every MetadataStore promises of commits that come together or at once."""

import asyncio
from contextlib import suppress

import numpy as np
import pytest
from tests.store.points import UID, MakeStore, commit, metadata, put, whole_feed

from bebr.core import operations
from bebr.core.types import Puts, Role, StoredPoint, WriteMode
from bebr.errors import (
    CollectionNotFound,
    DuplicateId,
    IdempotencyConflict,
    PayloadTooLarge,
)
from bebr.store import Commit, Committed, DeleteWrite, MetadataStore, PutWrite, Receipt, ShardCounters

# -- several at once ---------------------------------------------------------------------------------------------------


async def test_commits_at_once_on_one_shard_take_their_own_seqs(store: MetadataStore) -> None:
    await store.create(UID, 1)
    commits = [commit(store, 0, [put(f"{number}-a", f"{number}-b")]) for number in range(100)]
    seqs = [(committed.first_seq, committed.last_seq) for (committed,) in await asyncio.gather(*commits)]
    assert sorted(seqs) == [(seq, seq + 1) for seq in range(1, 201, 2)]
    assert await store.counters(UID, 0) == ShardCounters(200, 200)
    for (first_seq, _), number in zip(seqs, range(100), strict=True):
        (point,) = await store.fetch(UID, 0, [f"{number}-a"], metadata=False)
        assert point == StoredPoint(f"{number}-a", first_seq, 1, b"", "")


async def test_commits_at_once_on_several_shards(store: MetadataStore) -> None:
    await store.create(UID, 4)
    commits = [commit(store, number % 4, [put(f"p{number}")]) for number in range(100)]
    await asyncio.gather(*commits)
    assert [await store.counters(UID, shard) for shard in range(4)] == [ShardCounters(25, 25)] * 4


async def test_of_many_inserts_of_one_id_one_wins(store: MetadataStore) -> None:
    await store.create(UID, 1)
    inserts = [put("a", seed=seed, mode=WriteMode.INSERT_ONLY) for seed in range(30)]
    outcomes = await asyncio.gather(*(commit(store, 0, [insert]) for insert in inserts))
    winners = [seed for seed, (committed,) in enumerate(outcomes) if committed.applied == [True]]
    assert len(winners) == 1
    assert [entry.metadata for entry in await whole_feed(store)] == [metadata("a", winners[0])]


async def test_of_many_equal_receipts_one_is_applied(store: MetadataStore) -> None:
    await store.create(UID, 1)
    write = put("a", receipt=Receipt("k", b"1"))
    outcomes = await asyncio.gather(*(commit(store, 0, [write]) for _ in range(20)))
    assert sorted(committed.replayed for (committed,) in outcomes) == [False] + [True] * 19
    assert {(committed.first_seq, committed.last_seq) for (committed,) in outcomes} == {(1, 1)}


async def test_a_bad_commit_fails_alone(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await commit(store, 0, [put("a", receipt=Receipt("k", b"1"))])
    bad_text = Puts(["bad"], 1, np.zeros((1, 6), np.uint8), ["\ud800"])
    outcomes = await asyncio.gather(
        commit(store, 0, [put("b")]),
        commit(store, 0, [put("c", receipt=Receipt("k", b"2"))]),
        commit(store, 0, [PutWrite(bad_text)]),
        commit(store, 0, [put("d")]),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [list, IdempotencyConflict, UnicodeEncodeError, list]
    assert sorted(entry.id for entry in await whole_feed(store)) == ["a", "b", "d"]


async def test_a_cancelled_commit_is_whole_or_absent(store: MetadataStore) -> None:
    await store.create(UID, 1)
    ids = [f"p{number}" for number in range(1000)]
    task = asyncio.create_task(commit(store, 0, [put(*ids)]))
    await asyncio.sleep(0.003)
    task.cancel()
    with suppress(asyncio.CancelledError):  # it may have been faster
        await task
    assert await commit(store, 0, [put("after")])
    assert (await store.counters(UID, 0)).points in (1, 1001)


async def test_a_feed_read_during_commits_is_in_order(store: MetadataStore) -> None:
    await store.create(UID, 1)
    ids = [f"p{number}" for number in range(3000)]
    await commit(store, 0, [put(*ids)])

    async def rewrite() -> None:
        for start in range(0, 3000, 100):
            await commit(store, 0, [put(*ids[start : start + 100], seed=1)])

    writer = asyncio.create_task(rewrite())
    while not writer.done():
        feed = (await store.feed(UID, 0, 0, 10_000)).entries
        assert [entry.seq for entry in feed] == sorted(entry.seq for entry in feed)
        assert len({entry.id for entry in feed}) == len(feed)
    await writer


# -- several commits in one call ---------------------------------------------------------------------------------------


async def test_one_call_carries_commits_of_several_shards(store: MetadataStore) -> None:
    await store.create(UID, 3)
    commits = [Commit(n % 3, [put(f"p{n}", f"q{n}"), DeleteWrite([f"q{n}"])]) for n in range(60)]
    outcomes = await store.commit(UID, commits)
    for n, outcome in enumerate(outcomes):
        first = n // 3 * 3 + 1
        assert outcome == [Committed([True, True], first, first + 1), Committed([True], first + 2, first + 2)]
    assert [await store.counters(UID, shard) for shard in range(3)] == [ShardCounters(20, 60)] * 3
    assert await store.commit(UID, []) == []


async def test_commits_of_one_call_are_applied_in_order(store: MetadataStore) -> None:
    await store.create(UID, 1)
    modes = [WriteMode.UPDATE_ONLY, WriteMode.INSERT_ONLY, WriteMode.UPDATE_ONLY, WriteMode.INSERT_ONLY]
    outcomes = await store.commit(UID, [Commit(0, [put("a", seed=n, mode=mode)]) for n, mode in enumerate(modes)])
    assert [outcome[0].applied for outcome in outcomes if isinstance(outcome, list)] == [
        [False],
        [True],
        [True],
        [False],
    ]
    assert [entry.metadata for entry in await whole_feed(store)] == [metadata("a", 2)]


async def test_a_bad_commit_of_a_call_fails_alone(store: MetadataStore) -> None:
    await store.create(UID, 2)
    await commit(store, 0, [put("a", receipt=Receipt("k", b"1"))])
    bad_text = PutWrite(Puts(["bad"], 1, np.zeros((1, 6), np.uint8), ["\ud800"]))
    outcomes = await store.commit(
        UID,
        [
            Commit(0, [put("b")]),
            Commit(0, [put("c"), put("c", receipt=Receipt("k", b"2"))]),
            Commit(1, [put("d"), bad_text]),
            Commit(0, [put("e", "e")]),
            Commit(2, [put("f")]),
            Commit(1, [put("g", receipt=Receipt("k", b"2"))]),
            Commit(0, [put("h")]),
        ],
    )
    assert [type(outcome) for outcome in outcomes] == [
        list,
        IdempotencyConflict,
        UnicodeEncodeError,
        DuplicateId,
        CollectionNotFound,
        list,
        list,
    ]
    assert [entry.id for entry in await whole_feed(store)] == ["a", "b", "h"]
    assert [entry.id for entry in await whole_feed(store, shard=1)] == ["g"]


async def test_an_unknown_collection_is_the_outcome_of_each_commit(store: MetadataStore) -> None:
    outcomes = await store.commit("f" * 16, [Commit(0, [put("a")]), Commit(1, [put("b")])])
    assert [type(outcome) for outcome in outcomes] == [CollectionNotFound] * 2


@pytest.mark.parametrize("limit", ["MAX_COMMIT_OPERATIONS", "MAX_COMMIT_BYTES"])
async def test_a_commit_over_the_limits_is_refused_whole(
    store: MetadataStore, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.create(UID, 1)
    writes = [put(*(f"p{number}" for number in range(20))), DeleteWrite(["p0"])]
    size = {"MAX_COMMIT_OPERATIONS": 21, "MAX_COMMIT_BYTES": sum(write.size_bytes for write in writes)}[limit]
    monkeypatch.setattr(operations, limit, size - 1)
    refused, small = await store.commit(UID, [Commit(0, writes), Commit(0, [put("small")])])
    assert isinstance(refused, PayloadTooLarge) and str(size) in refused.detail and "fewer points" in refused.detail
    assert small == [Committed([True], 1, 1)]
    monkeypatch.setattr(operations, limit, size)
    assert len(await commit(store, 0, writes)) == 2


async def test_many_small_commits_of_one_call(store: MetadataStore) -> None:
    """More than one call of a script or one statement is meant to carry."""
    await store.create(UID, 2)
    text = '"' + "x" * 200_000 + '"'
    one = np.zeros((1, 66), np.uint8)
    commits = [Commit(n % 2, [PutWrite(Puts([f"p{n}"], 1, one, [text]))]) for n in range(400)]
    assert all(isinstance(outcome, list) for outcome in await store.commit(UID, commits))
    assert [await store.counters(UID, shard) for shard in (0, 1)] == [ShardCounters(200, 200)] * 2


async def test_a_page_of_the_feed_is_of_one_moment(store: MetadataStore, make_store: MakeStore) -> None:
    """Its counters and history are those of its entries, whatever is committed meanwhile, and in a follower too."""
    await store.create(UID, 1)
    await commit(store, 0, [put("a", "b", "c"), DeleteWrite(["b"])])
    follower = make_store(role=Role.FOLLOWER)
    await follower.open()

    async def write() -> None:
        for seed in range(60):
            await commit(
                store, 0, [put("a", seed=seed)] if seed % 3 else [DeleteWrite(["c"]), put("c", "d", seed=seed)]
            )

    writer = asyncio.create_task(write())
    while not writer.done():
        for reader in (store, follower):
            page = await reader.feed(UID, 0, 0, 1000)
            assert page.counters.last_seq == page.entries[-1].seq == page.history.last_seq
            assert page.counters.points == sum(entry.record is not None for entry in page.entries)
            assert page.history.lost(page.history.mark(page.entries[-1].seq)) is None
        await asyncio.sleep(0)
    await writer
    page, empty = await store.feed(UID, 0, 0, 1), await store.feed(UID, 0, page.counters.last_seq, 9)
    assert (page.counters, page.history) == (await store.counters(UID, 0), await store.history(UID, 0))
    assert (empty.entries, empty.counters, empty.history) == ([], page.counters, page.history)
    await follower.close()
