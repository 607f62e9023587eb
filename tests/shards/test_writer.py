"""The writer of shards on a real store: every write gets its own outcome, and the views stay equal to the store."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.shards.opened import OTHER, UID, bench, delete, put

from bebr.core.operations import Commit, CommitOutcome, Committed, PutWrite, Receipt
from bebr.core.types import Puts
from bebr.errors import BebrError, IdempotencyConflict, StoreUnavailable
from bebr.shards.changes import Patch, Reencode, ShardWrite
from bebr.shards.writer import MAX_GROUP_OPERATIONS
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
        async with asyncio.timeout(5):
            while at.ids() != await at.stored_ids():  # the writer recovers by itself
                await asyncio.sleep(0.05)
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
        async with asyncio.timeout(5):
            while at.ids() != ["a", "b"]:
                await asyncio.sleep(0.05)


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
