"""The writer of shards on a real store: every write gets its own outcome, and the views stay equal to the store."""

import asyncio
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.shards.opened import OTHER, UID, bench, delete, put
from tests.waiting import PATIENCE_SECONDS, until

from bebr.core.operations import Commit, CommitOutcome, Committed, FeedPage, PutWrite, Receipt
from bebr.core.types import Puts
from bebr.errors import BebrError, DamagedStore, IdempotencyConflict, StoreUnavailable
from bebr.shards import group
from bebr.shards.changes import Patch, Reencode, ShardWrite
from bebr.shards.group import MAX_GROUP_OPERATIONS
from bebr.shards.replay import FEED_PAGE
from bebr.store.sqlite.store import SqliteStore


async def test_a_write_that_is_refused_fails_alone(tmp_path: Path) -> None:
    """Writes of many callers run in one batch; a conflict of one is no answer to the others, which are stored."""
    async with bench(tmp_path) as at:
        await at.write(put("first", receipt=Receipt("key", b"one")))
        writes = [put("a"), put("b"), put("x", receipt=Receipt("key", b"two")), put("c"), put("d")]
        outcomes = await asyncio.gather(*(at.write(write) for write in writes), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [
            Committed, Committed, IdempotencyConflict, Committed, Committed,
        ]  # fmt: skip
        assert at.ids() == ["a", "b", "c", "d", "first"] == await at.stored_ids()


async def test_a_store_that_is_away_fails_all_that_wait_and_is_caught_up_with(tmp_path: Path) -> None:
    class Away(SqliteStore):
        calls = 0
        away = False

        async def commit(self, uid: str, commits: Sequence[Commit]) -> list[CommitOutcome]:
            type(self).calls += 1
            outcomes = await super().commit(uid, commits)
            return [StoreUnavailable("the answer was lost")] * len(commits) if self.away else outcomes

    async with bench(tmp_path, Away) as at:
        Away.away = True
        writes = [put("a"), *(put(f"r{n}", receipt=Receipt(f"key{n}", b"one")) for n in range(20))]
        outcomes = await asyncio.gather(*(at.write(write) for write in writes), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
        assert Away.calls < 5, "each further commit would wait for its own timeout"
        Away.away = False

        async def is_equal() -> bool:
            return at.ids() == await at.stored_ids()

        await until(is_equal, "the writer recovers by itself")
        assert "a" in at.ids()


async def test_many_large_writes_are_committed_in_bounded_groups(tmp_path: Path) -> None:
    sizes: list[int] = []

    class Counting(SqliteStore):
        async def commit(self, uid: str, commits: Sequence[Commit]) -> list[CommitOutcome]:
            sizes.append(sum(commit.operations for commit in commits))
            return await super().commit(uid, commits)

    async with bench(tmp_path, Counting) as at:
        names = [[f"{n}-{i}" for i in range(4000)] for n in range(12)]
        await asyncio.gather(*(at.write(put(*ids)) for ids in names))
        assert sum(sizes) == 48_000 and max(sizes) <= MAX_GROUP_OPERATIONS
        assert len(at.ids()) == 48_000


async def test_an_index_that_failed_after_a_commit_is_caught_up_without_another_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path) as at:
        with monkeypatch.context() as patch:
            patch.setattr(at.shard, "apply", lambda *_: (_ for _ in ()).throw(MemoryError))
            with pytest.raises(MemoryError):
                await at.write(put("a", "b"))
        await until(lambda: at.ids() == ["a", "b"], "the writer recovers by itself")


async def test_errors_of_the_store_reach_the_caller(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.store.drop(UID)
        with pytest.raises(BebrError):
            await at.write(put("a"))


def doubled(records: np.ndarray) -> np.ndarray:
    """Records of version 0 -> records of version 1 that tell what they were made of."""
    return np.hstack([records[:, :2], records[:, :2], records[:, 2:]])


async def test_reencoding_moves_what_is_still_of_the_version_before(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.write(put("a", "b", "c", "d"))
        before = {p.id: p for p in await at.store.fetch(UID, 0, ["a", "d"], records=True) if p}
        other = Puts(["c"], 1, np.full((1, OTHER.record_size_bytes), 60, np.uint8), ["{}"])
        outcomes = await asyncio.gather(
            at.write(put("e")),
            at.write(delete("b")),
            at.write(ShardWrite(PutWrite(other), {})),
            at.write(Patch(["d"], {"n": 1}, 100)),
            at.write(Reencode(["a", "b", "c", "d", "absent"], 0, 1, doubled)),
            at.write(put("f")),
        )
        assert outcomes[4].applied == [True, False, False, True, False]
        assert at.ids() == await at.stored_ids() == ["a", "c", "d", "e", "f"]
        assert at.shard.view.points == {0: 2, 1: 3}
        after = {p.id: p for p in await at.store.fetch(UID, 0, ["a", "c", "d"], records=True) if p}
        for point_id in ("a", "d"):
            old = np.frombuffer(before[point_id].record, np.uint8)[None]
            assert after[point_id].record == doubled(old).tobytes() and after[point_id].version == 1
        assert after["c"].record == other.records.tobytes() and json.loads(after["d"].metadata) == {"n": 1}
        nothing = await at.write(Reencode(["a", "b"], 0, 1, doubled))
        assert nothing.applied == [False, False] and nothing.last_seq == at.shard.seq


async def test_an_encoder_that_fails_fails_its_own_item_only(tmp_path: Path) -> None:
    def fails(_: np.ndarray) -> np.ndarray:
        raise BebrError("no")

    async with bench(tmp_path) as at:
        await at.write(put("a"))
        outcomes = await asyncio.gather(
            at.write(put("b")),
            at.write(Reencode(["a"], 0, 1, fails)),
            at.write(put("c")),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [Committed, BebrError, Committed]
        assert at.ids() == ["a", "b", "c"] and at.shard.view.points == {0: 3}


class GatedStore(SqliteStore):
    """A real store that notes the shards of each call, and lets a call begin only when it may."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.calls: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def commit(self, uid: str, commits: Sequence[Commit]) -> list[CommitOutcome]:
        self.calls.append([commit.shard for commit in commits])
        await self.gate.wait()
        return await super().commit(uid, commits)


async def test_what_waits_is_committed_together_for_all_shards(tmp_path: Path) -> None:
    async with bench(tmp_path, GatedStore, shards=3) as at:
        store = at.store
        assert isinstance(store, GatedStore)
        store.gate.clear()
        writes = [asyncio.create_task(at.write(put("first"), 0))]
        await until(lambda: len(store.calls) == 1, "the first commit")
        receipts = [Receipt(f"k{n}", b"1") if n % 2 else None for n in range(30)]
        writes += [asyncio.create_task(at.write(put(f"p{n}", receipt=receipts[n]), n % 3)) for n in range(30)]
        await asyncio.sleep(0.01)
        store.gate.set()
        await asyncio.gather(*writes)
        assert store.calls[0] == [0] and sorted(store.calls[1]) == [0] * 10 + [1] * 10 + [2] * 10
        assert len(store.calls) == 2
        for shard in range(3):
            assert at.ids(shard) == await at.stored_ids(shard)


async def test_a_group_is_applied_while_the_next_is_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(tmp_path, GatedStore) as at:
        store = at.store
        assert isinstance(store, GatedStore)
        applying, go_on = threading.Event(), threading.Event()
        original = at.shard.apply

        def apply_slowly(*args: Any) -> None:
            applying.set()
            assert go_on.wait(PATIENCE_SECONDS)
            original(*args)

        monkeypatch.setattr(at.shard, "apply", apply_slowly)
        first = asyncio.create_task(at.write(put(*(f"a{n}" for n in range(100)))))  # many: applied in a thread
        await until(applying.is_set, "the first is applied")
        second = asyncio.create_task(at.write(put(*(f"b{n}" for n in range(100)))))
        await until(lambda: len(store.calls) == 2, "the second commit")

        async def are_stored() -> bool:
            return len(await at.stored_ids()) == 200

        await until(are_stored, "both commits")
        assert not first.done() and not second.done(), "durable, but not visible yet"
        go_on.set()
        assert (await first).last_seq == 100 and (await second).last_seq == 200
        assert at.ids() == await at.stored_ids()


async def test_a_change_has_its_shard_to_itself_and_holds_up_no_other(tmp_path: Path) -> None:
    async with bench(tmp_path, shards=2) as at:
        await at.write(put("a", "b"), 0)
        encoding, go_on = threading.Event(), threading.Event()

        def slowly(records: np.ndarray) -> np.ndarray:
            encoding.set()
            assert go_on.wait(PATIENCE_SECONDS)
            return doubled(records)

        change = asyncio.create_task(at.write(Reencode(["a", "b"], 0, 1, slowly), 0))
        await until(encoding.is_set, "encoding")
        behind = [asyncio.create_task(at.write(put("a"), 0)), asyncio.create_task(at.write(delete("b"), 0))]
        assert (await at.write(put("c"), 1)).last_seq == 1
        assert not any(task.done() for task in (change, *behind))
        go_on.set()
        assert (await change).applied == [True, True]
        assert [(await task).last_seq for task in behind] == [5, 6]
        assert at.followers[0].view.points == {0: 1} and at.ids(0) == await at.stored_ids(0) == ["a"]


async def test_shards_take_turns_when_more_waits_than_one_group_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "MAX_GROUP_OPERATIONS", 10)
    async with bench(tmp_path, GatedStore, shards=2) as at:
        store = at.store
        assert isinstance(store, GatedStore)
        store.gate.clear()
        writes = [asyncio.create_task(at.write(put(*(f"{n}-{i}" for i in range(10))), 0)) for n in range(8)]
        writes.append(asyncio.create_task(at.write(put("other"), 1)))
        await asyncio.sleep(0.01)
        store.gate.set()
        await asyncio.gather(*writes)
        assert [1] in store.calls[:3] and len(store.calls) == 9
        assert len(at.ids(0)) == 80 and at.ids(1) == ["other"]


async def test_a_shard_that_cannot_catch_up_takes_no_write_and_the_others_do(tmp_path: Path) -> None:
    class Broken(SqliteStore):
        broken = False

        async def feed(self, uid: str, shard: int, after_seq: int, limit: int) -> FeedPage:
            if self.broken and shard == 0 and limit == FEED_PAGE:
                raise DamagedStore("the counters are damaged")
            return await super().feed(uid, shard, after_seq, limit)

        async def commit(self, uid: str, commits: Sequence[Commit]) -> list[CommitOutcome]:
            outcomes = await super().commit(uid, commits)
            away = StoreUnavailable("the answer was lost")
            return [away if self.broken and c.shard == 0 else o for c, o in zip(commits, outcomes, strict=True)]

    async with bench(tmp_path, Broken, shards=2) as at:
        Broken.broken = True
        with pytest.raises(StoreUnavailable):
            await at.write(put("a"), 0)
        outcomes = await asyncio.gather(
            at.write(put("b"), 0), at.write(put("c"), 1), at.write(put("d"), 0), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [DamagedStore, Committed, DamagedStore]
        assert await at.stored_ids(0) == ["a"] and at.ids(0) == [] and at.ids(1) == ["c"]
        Broken.broken = False
        await until(lambda: at.ids(0) == ["a"], "a write")
        await at.write(put("e"), 0)
        assert at.ids(0) == await at.stored_ids(0) == ["a", "e"]


async def test_closing_lets_what_was_begun_end(tmp_path: Path) -> None:
    async with bench(tmp_path, GatedStore) as at:
        store = at.store
        assert isinstance(store, GatedStore)
        store.gate.clear()
        writes = [asyncio.create_task(at.write(put(f"p{n}"))) for n in range(5)]
        writes.append(asyncio.create_task(at.write(Patch(["p0"], {"n": 1}, 100))))
        await until(lambda: store.calls, "the first commit")
        closing = asyncio.create_task(at.writer.close())
        await asyncio.sleep(0.01)
        assert not closing.done()
        store.gate.set()
        await closing
        assert all(task.done() for task in writes) and (await writes[-1]).applied == [True]
        assert at.ids() == await at.stored_ids() == [f"p{n}" for n in range(5)]
