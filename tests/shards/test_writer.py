"""The writer of one shard on a real store: every write gets its own outcome, and the index stays equal to the store."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bebr.core.codes import CodeSpec, join_records
from bebr.core.types import Puts, WriteMode
from bebr.errors import BebrError, IdempotencyConflict, StoreUnavailable
from bebr.index.shard import Shard
from bebr.shards.changes import Patch, Reencode, ShardWrite
from bebr.shards.writer import ShardWriter
from bebr.store import Committed, DeleteWrite, FeedEntry, PutWrite, Receipt
from bebr.store.sqlite.store import SqliteStore

UID = "a" * 24
SPEC, OTHER = CodeSpec.parse("16x1"), CodeSpec.parse("8x4")


@dataclass
class Bench:
    store: SqliteStore
    shard: Shard
    writer: ShardWriter

    def ids(self) -> list[str]:
        """What the index holds."""
        parts = self.shard.view.parts
        rows = [[row for row in range(part.rows) if part.live[row // 16] >> (row % 16) & 1] for part in parts]
        return sorted(i for part, alive in zip(parts, rows, strict=True) for i in part.ids_at(alive))

    async def stored_ids(self) -> list[str]:
        entries = await self.store.feed(UID, 0, 0, 10_000)
        return sorted(entry.id for entry in entries if entry.record is not None)


class SlowStore(SqliteStore):
    """A real store that gives short pages, and all but the first only after it was let to."""

    pages = 0
    gate = asyncio.Event()

    async def feed(self, uid: str, shard: int, after_seq: int, limit: int) -> list[FeedEntry]:
        entries = await super().feed(uid, shard, after_seq, min(limit, 20))
        type(self).pages += 1
        if self.pages > 1:
            await self.gate.wait()
        return entries


@asynccontextmanager
async def bench(folder: Path, store_class: type[SqliteStore] = SqliteStore) -> AsyncIterator[Bench]:
    store = store_class(folder / "store")
    await store.open()
    await store.create(UID, 1)
    shard = Shard(folder / "shard", {0: SPEC, 1: OTHER}, {}, 32)
    shard.open()
    writer = ShardWriter(store, UID, 0, shard, {}, max_queue=1000)
    try:
        yield Bench(store, shard, writer)
    finally:
        await writer.close()
        await store.close()


def put(*ids: str, receipt: Receipt | None = None) -> ShardWrite:
    codes = np.zeros((len(ids), SPEC.code_size_bytes), np.uint8)
    records = join_records(codes, np.ones(len(ids), np.float16))
    puts = Puts(list(ids), 0, records, [json.dumps({})] * len(ids))
    return ShardWrite(PutWrite(puts, WriteMode.UPSERT, receipt), {})


def delete(*ids: str) -> ShardWrite:
    return ShardWrite(DeleteWrite(list(ids)), {})


def numbered(start: int, stop: int) -> list[str]:
    return [f"p{number:03d}" for number in range(start, stop)]


async def test_a_write_that_is_refused_fails_alone(tmp_path: Path) -> None:
    """Writes of many callers run in one batch; a conflict of one is no answer to the others, which are stored."""
    async with bench(tmp_path) as at:
        await at.writer.write(put("first", receipt=Receipt("key", b"one")))
        writes = [put("a"), put("b"), put("x", receipt=Receipt("key", b"two")), put("c"), put("d")]
        outcomes = await asyncio.gather(*(at.writer.write(write) for write in writes), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [
            Committed, Committed, IdempotencyConflict, Committed, Committed,
        ]  # fmt: skip
        assert at.ids() == ["a", "b", "c", "d", "first"] == await at.stored_ids()


async def test_a_store_that_is_away_fails_all_that_wait_and_is_caught_up_with(tmp_path: Path) -> None:
    class Away(SqliteStore):
        calls = 0
        away = False

        async def commit(self, *args: object) -> list[Committed]:
            type(self).calls += 1
            committed = await super().commit(*args)  # type: ignore[arg-type]
            if self.away:
                raise StoreUnavailable("the answer was lost")
            return committed

    async with bench(tmp_path, Away) as at:
        Away.away = True
        writes = [put("a"), *(put(f"r{n}", receipt=Receipt(f"key{n}", b"one")) for n in range(20))]
        outcomes = await asyncio.gather(*(at.writer.write(write) for write in writes), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
        assert Away.calls < 5, "each further commit would wait for its own timeout"
        Away.away = False
        async with asyncio.timeout(5):
            while at.ids() != await at.stored_ids():  # the writer recovers by itself
                await asyncio.sleep(0.05)
        assert "a" in at.ids()


async def test_many_large_writes_are_committed_in_bounded_groups(tmp_path: Path) -> None:
    from bebr.shards import writer

    sizes: list[int] = []

    class Counting(SqliteStore):
        async def commit(self, *args: object) -> list[Committed]:
            sizes.append(sum(len(write.ids) for write in args[2]))  # type: ignore[attr-defined]
            return await super().commit(*args)  # type: ignore[arg-type]

    async with bench(tmp_path, Counting) as at:
        names = [[f"{n}-{i}" for i in range(4000)] for n in range(12)]
        await asyncio.gather(*(at.writer.write(put(*ids)) for ids in names))
        assert sum(sizes) == 48_000 and max(sizes) <= writer.MAX_GROUP_OPERATIONS
        assert len(at.ids()) == 48_000


async def test_a_store_that_lost_acknowledged_writes_is_noticed_by_its_seqs(tmp_path: Path) -> None:
    """A store without fsync may come back older and then overtake the index in one batch."""
    async with bench(tmp_path) as at:
        await at.writer.write(put(*numbered(0, 10)))
        lost = put(*numbered(100, 105)).write
        assert isinstance(lost, PutWrite)
        at.shard.apply([(lost.puts, {})], ["p001"], 16)  # acknowledged as seq 11 to 16; the store knows nothing of it
        await at.writer.write(put(*numbered(50, 70)))
        assert at.ids() == await at.stored_ids() == sorted(numbered(0, 10) + numbered(50, 70))
        assert at.shard.seq == (await at.store.stats(UID, 0)).last_seq


async def test_two_catch_ups_at_once_lose_nothing(tmp_path: Path) -> None:
    """The second one, of a start that was tried again, must not empty the shard under the first."""
    async with bench(tmp_path, SlowStore) as at:
        await at.writer.write(put(*numbered(0, 60)))
        await at.writer.write(put("gone", "also-gone"))
        await at.writer.write(delete("gone", "also-gone"))
        await at.store.purge_tombstones(UID, 0, 64)
        await at.writer.write(put(*numbered(60, 100)))
        at.shard.reset()
        first = asyncio.create_task(at.writer.catch_up())
        while not at.shard.seq:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(at.writer.catch_up())
        await asyncio.sleep(0.1)
        SlowStore.gate.set()
        await asyncio.gather(first, second)
        assert at.ids() == numbered(0, 100) and at.shard.seq == 104


async def test_a_rebuilt_index_knows_of_deletes_that_were_purged(tmp_path: Path) -> None:
    """The last operation may be a purged one; an index that stays below it would be rebuilt again and again."""
    async with bench(tmp_path) as at:
        await at.writer.write(put("a", "b", "c"))
        await at.writer.write(delete("c"))
        await at.store.purge_tombstones(UID, 0, 4)
        at.shard.reset()
        await at.writer.catch_up()
        assert at.shard.seq == 4 and at.ids() == ["a", "b"]
        at.shard.flush()
        assert at.shard.checkpoint_seq == 4


async def test_an_index_that_failed_after_a_commit_is_caught_up_without_another_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path) as at:
        with monkeypatch.context() as patch:
            patch.setattr(at.shard, "apply", lambda *_: (_ for _ in ()).throw(MemoryError))
            with pytest.raises(MemoryError):
                await at.writer.write(put("a", "b"))
        async with asyncio.timeout(5):
            while at.ids() != ["a", "b"]:
                await asyncio.sleep(0.05)


async def test_errors_of_the_store_reach_the_caller(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.store.drop(UID)
        with pytest.raises(BebrError):
            await at.writer.write(put("a"))


def doubled(records: np.ndarray) -> np.ndarray:
    """Records of version 0 -> records of version 1 that tell what they were made of."""
    return np.hstack([records[:, :2], records[:, :2], records[:, 2:]])


async def test_reencoding_moves_what_is_still_of_the_version_before(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.writer.write(put("a", "b", "c", "d"))
        before = {p.id: p for p in await at.store.fetch(UID, 0, ["a", "d"], records=True) if p}
        other = Puts(["c"], 1, np.full((1, OTHER.record_size_bytes), 60, np.uint8), ["{}"])
        outcomes = await asyncio.gather(
            at.writer.write(put("e")),
            at.writer.write(delete("b")),
            at.writer.write(ShardWrite(PutWrite(other), {})),
            at.writer.write(Patch(["d"], {"n": 1}, 100)),
            at.writer.write(Reencode(["a", "b", "c", "d", "absent"], 0, 1, doubled)),
            at.writer.write(put("f")),
        )
        assert outcomes[4].applied == [True, False, False, True, False]
        assert at.ids() == await at.stored_ids() == ["a", "c", "d", "e", "f"]
        assert at.shard.view.points() == {0: 2, 1: 3}
        after = {p.id: p for p in await at.store.fetch(UID, 0, ["a", "c", "d"], records=True) if p}
        for point_id in ("a", "d"):
            old = np.frombuffer(before[point_id].record, np.uint8)[None]
            assert after[point_id].record == doubled(old).tobytes() and after[point_id].version == 1
        assert after["c"].record == other.records.tobytes() and json.loads(after["d"].metadata) == {"n": 1}
        nothing = await at.writer.write(Reencode(["a", "b"], 0, 1, doubled))
        assert nothing.applied == [False, False] and nothing.last_seq == at.shard.seq


async def test_an_encoder_that_fails_fails_its_own_item_only(tmp_path: Path) -> None:
    def fails(_: np.ndarray) -> np.ndarray:
        raise BebrError("no")

    async with bench(tmp_path) as at:
        await at.writer.write(put("a"))
        outcomes = await asyncio.gather(
            at.writer.write(put("b")),
            at.writer.write(Reencode(["a"], 0, 1, fails)),
            at.writer.write(put("c")),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [Committed, BebrError, Committed]
        assert at.ids() == ["a", "b", "c"] and at.shard.view.points() == {0: 3}
