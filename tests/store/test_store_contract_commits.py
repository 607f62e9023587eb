"""What every MetadataStore promises of commits that come together or at once."""

import asyncio
import json
from contextlib import suppress

import numpy as np
import pytest
from tests.store.points import UID, MakeStore, commit, metadata, put, puts, whole_feed

from bebr.core import operations
from bebr.core.types import Puts, Role, StoredPoint, WriteMode
from bebr.errors import (
    CollectionNotFound,
    DuplicateId,
    IdempotencyConflict,
    InvalidOption,
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
    page = await store.feed(UID, 0, 0, 1)
    empty = await store.feed(UID, 0, page.counters.last_seq, 9)
    assert (page.counters, page.history) == (await store.counters(UID, 0), await store.history(UID, 0))
    assert (empty.entries, empty.counters, empty.history) == ([], page.counters, page.history)
    await follower.close()


# -- conditions --------------------------------------------------------------------------------------------------------


async def test_an_operation_with_a_seq_is_for_the_point_that_has_it(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await commit(store, 0, [put("a", "b", "c", "d"), DeleteWrite(["d"])])  # 1 to 5
    ids = ["a", "b", "c", "d", "x"]
    (committed,) = await commit(store, 0, [PutWrite(puts(ids, seed=1), if_seqs=[1, 1, 0, 0, 0])])
    assert committed == Committed([True, False, False, True, True], 6, 8)
    assert [p and p.seq for p in await store.fetch(UID, 0, ids)] == [6, 2, 3, 7, 8]
    (committed,) = await commit(store, 0, [PutWrite(puts(["d", "y"], seed=2), if_seqs=[5, 9])])
    assert committed == Committed([False, False], 9, 8), "5 was a delete, and a point that is none has 0"
    (committed,) = await commit(store, 0, [DeleteWrite(["a", "b", "z"], if_seqs=[1, 2, 0])])
    assert committed == Committed([False, True, False], 9, 9)
    assert await store.counters(UID, 0) == ShardCounters(4, 9)


async def test_seqs_are_compared_write_after_write(store: MetadataStore) -> None:
    """Also within one commit, and among those that come in one call."""
    await store.create(UID, 1)
    await commit(store, 0, [put("a")])
    first = PutWrite(puts(["a"], seed=1), if_seqs=[1])
    second = PutWrite(puts(["a"], seed=2), if_seqs=[2])
    late = PutWrite(puts(["a"], seed=3), if_seqs=[1])
    outcomes = await commit(store, 0, [first, late, second, DeleteWrite(["a"], if_seqs=[3]), second, put("a")])
    assert [committed.applied for committed in outcomes] == [[True], [False], [True], [True], [False], [True]]
    both = await store.commit(UID, [Commit(0, [PutWrite(puts(["a"]), if_seqs=[5])]) for _ in range(3)])
    applied = [outcome[0].applied for outcome in both if isinstance(outcome, list)]
    assert applied == [[True], [False], [False]]


async def test_a_mode_holds_beside_the_seqs(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await commit(store, 0, [put("a")])
    modes = {WriteMode.INSERT_ONLY: [False, True], WriteMode.UPDATE_ONLY: [True, False]}
    for mode, applied in modes.items():
        seqs = [point.seq if point else 0 for point in await store.fetch(UID, 0, ["a", mode.value])]
        (committed,) = await commit(store, 0, [PutWrite(puts(["a", mode.value]), mode, if_seqs=seqs)])
        assert committed.applied == applied


async def test_changes_of_what_was_read_lose_nothing(store: MetadataStore) -> None:
    """Many that each read a point, change it and write it where it is still what they read."""
    await store.create(UID, 1)
    await commit(store, 0, [put("a")])

    async def add_one() -> int:
        tries = 0
        while True:
            tries += 1
            (point,) = await store.fetch(UID, 0, ["a"])
            assert point is not None
            write = PutWrite(puts(["a"], seed=json.loads(point.metadata)["seed"] + 1), if_seqs=[point.seq])
            (committed,) = await commit(store, 0, [write])
            if committed.applied == [True]:
                return tries

    tries = await asyncio.gather(*(add_one() for _ in range(40)))
    (point,) = await store.fetch(UID, 0, ["a"])
    assert point is not None and point.metadata == metadata("a", 40) and point.seq == 41
    assert max(tries) > 1


async def test_receipts_remember_what_the_seqs_refused(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await commit(store, 0, [put("a", "b")])
    write = PutWrite(puts(["a", "b"], seed=1), receipt=Receipt("k", b"d"), if_seqs=[1, 1])
    (first,) = await commit(store, 0, [write])
    (again,) = await commit(store, 0, [write])
    assert (first.applied, again.applied, again.replayed) == ([True, False], [True, False], True)


@pytest.mark.parametrize("seqs", [[], [1], [1, 2, 3]])
async def test_there_is_a_seq_for_each_id(store: MetadataStore, seqs: list[int]) -> None:
    await store.create(UID, 1)
    with pytest.raises(InvalidOption, match="if_seqs needs a seq for each of 2 ids"):
        await commit(store, 0, [PutWrite(puts(["a", "b"]), if_seqs=seqs)])
    with pytest.raises(InvalidOption):
        await commit(store, 0, [DeleteWrite(["a", "b"], if_seqs=seqs)])
    assert await store.counters(UID, 0) == ShardCounters(0, 0)
