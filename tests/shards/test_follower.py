"""A view is brought up to the store, or rebuilt beside the one that is served; it never empties meanwhile."""

import asyncio
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

import pytest
from tests.shards.opened import FIELDS, HEAD_ROWS, SPECS, UID, bench, delete, ids_of, numbered, put
from tests.waiting import PATIENCE_SECONDS, until

from bebr.core.operations import Commit, Committed, FeedPage, PutWrite
from bebr.errors import StoreUnavailable
from bebr.index.view import ShardView
from bebr.shards import reads
from bebr.shards.changes import ShardWrite
from bebr.shards.follower import Follower
from bebr.store.sqlite.store import SqliteStore


class SlowStore(SqliteStore):
    """A real store that gives short pages, and all but the first only after it was let to."""

    pages = 0
    gate = asyncio.Event()

    async def feed(self, uid: str, shard: int, after_seq: int, limit: int) -> FeedPage:
        entries = await super().feed(uid, shard, after_seq, min(limit, 20))
        type(self).pages += 1
        if self.pages > 1:
            await self.gate.wait()
        return entries


async def test_a_store_that_lost_acknowledged_writes_is_noticed_by_its_seqs(tmp_path: Path) -> None:
    """A store without fsync may come back older and then overtake the index in one batch."""
    async with bench(tmp_path) as at:
        await at.write(put(*numbered(0, 10)))
        lost = put(*numbered(100, 105)).write
        assert isinstance(lost, PutWrite)
        at.shard.apply([(lost.puts, {})], ["p001"], 16)  # acknowledged as seq 11 to 16; the store knows nothing of it
        await at.write(put(*numbered(50, 70)))
        assert at.ids() == await at.stored_ids() == sorted(numbered(0, 10) + numbered(50, 70))
        assert at.shard.seq == (await at.store.counters(UID, 0)).last_seq


async def test_a_store_that_lost_acknowledged_writes_and_took_others_is_noticed_by_their_ids(tmp_path: Path) -> None:
    """Its seqs are beyond the view's by the time it answers again: only the ids tell that its history is another."""
    async with bench(tmp_path) as at:
        await at.write(put(*numbered(0, 10)))
        lost = [(put(*numbered(100, 105)), Committed([True] * 5, 11, 15)), (delete("p001"), Committed([True], 16, 16))]
        assert await at.followers[0].apply(lost)  # acknowledged; the store knows nothing of it
        (outcome,) = await at.store.commit(UID, [Commit(0, [put(*numbered(50, 70)).write])])
        assert isinstance(outcome, list) and outcome[0].last_seq == 30
        with Reader(at.followers[0]) as reader:
            await at.writer.catch_up(0)
        assert set(reader.counts) <= {14, 30}
        assert at.ids() == await at.stored_ids() == sorted(numbered(0, 10) + numbered(50, 70))
        (outcome,) = await at.store.commit(UID, [Commit(0, [delete("p050", "p069").write, put("p051").write])])
        before = at.shard
        await at.writer.catch_up(0)
        assert at.shard is before, "the same history needs no rebuild"
        assert at.ids() == await at.stored_ids() and at.shard.seq == 33


async def test_two_catch_ups_at_once_lose_nothing(tmp_path: Path) -> None:
    """The second one, of a start that was tried again, must not empty the shard under the first."""
    async with bench(tmp_path, SlowStore) as at:
        await at.write(put(*numbered(0, 60)))
        await at.write(put("gone", "also-gone"))
        await at.write(delete("gone", "also-gone"))
        await at.store.purge_tombstones(UID, 0, 64)
        await at.write(put(*numbered(60, 100)))
        at.forget()
        first = asyncio.create_task(at.writer.catch_up(0))
        await until(lambda: at.shard.seq, "the first page")
        second = asyncio.create_task(at.writer.catch_up(0))
        await asyncio.sleep(0.1)
        SlowStore.gate.set()
        await asyncio.gather(first, second)
        assert at.ids() == numbered(0, 100) and at.shard.seq == 104


async def test_a_rebuilt_index_knows_of_deletes_that_were_purged(tmp_path: Path) -> None:
    """The last operation may be a purged one; an index that stays below it would be rebuilt again and again."""
    async with bench(tmp_path) as at:
        await at.write(put("a", "b", "c"))
        await at.write(delete("c"))
        await at.store.purge_tombstones(UID, 0, 4)
        at.forget()
        await at.writer.catch_up(0)
        assert at.shard.seq == 4 and at.ids() == ["a", "b"]
        at.shard.flush()
        assert at.shard.checkpoint_seq == 4


class Reader:
    """A thread that looks at the view without pause, and remembers how many points each view had."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.counts: list[int] = []

    def _look(self) -> None:
        last: ShardView | None = None
        stopped = False
        while not stopped:
            stopped = self._stop.is_set()  # one more look after it
            view = self._follower.view
            if view is not last:
                last = view
                found = len(reads.ids([view], None, None, 10**6))
                self.counts.append(found if found == sum(view.points.values()) else -1)

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()


async def test_readers_see_every_point_while_a_view_is_rebuilt_after_a_loss(tmp_path: Path) -> None:
    """The store lost what it had acknowledged: the view goes from what it was to what the store has, at once."""
    async with bench(tmp_path) as at:
        await at.write(put(*(f"p{n:04}" for n in range(3000))))
        at.shard.maintain()
        lost = put(*(f"lost{n}" for n in range(50))).write
        assert isinstance(lost, PutWrite)
        at.shard.apply([(lost.puts, {})], [], 3050)
        with Reader(at.followers[0]) as reader:
            await at.write(put(*(f"q{n}" for n in range(20))))  # takes the seqs 3001 to 3020
        assert set(reader.counts) <= {3050, 3020}
        assert at.ids() == await at.stored_ids() and len(at.ids()) == 3020
        assert at.shard.seq == 3020 and [path.name for path in tmp_path.glob("shard*")] == ["shard-0"]
        await at.write(put("later"))
        at.shard.flush()
    async with bench(tmp_path) as at:
        assert at.shard.seq == 3021 and len(at.ids()) == 3021


async def test_readers_see_every_point_while_purged_deletes_are_made_up_for(tmp_path: Path) -> None:
    """A follower that was away for so long that the deletes it missed were purged, as another process would be."""
    async with bench(tmp_path) as at:
        await at.write(put(*numbered(0, 200)))
        other = Follower(at.store, UID, 0, tmp_path / "other", specs=SPECS, fields=FIELDS, head_rows=HEAD_ROWS)
        other.open()
        await other.catch_up()
        await at.write(delete(*numbered(0, 50)))
        await at.write(put(*numbered(300, 320)))
        assert await at.store.purge_tombstones(UID, 0, 10_000) == 50
        with Reader(other) as reader:
            await other.catch_up()
        assert set(reader.counts) <= {200, 170} and reader.counts[-1] == 170
        assert ids_of(other) == await at.stored_ids() and other.shard.seq == 270


async def test_deletes_that_are_purged_while_the_feed_is_read_are_not_missed(tmp_path: Path) -> None:
    """The point was read already when its delete came and went; only a second reading can tell."""

    class Purging(SqliteStore):
        meanwhile: list[ShardWrite]

        async def feed(self, uid: str, shard: int, after_seq: int, limit: int) -> FeedPage:
            entries = await super().feed(uid, shard, after_seq, min(limit, 50))
            if self.meanwhile and after_seq == 50:
                commits = [Commit(0, [self.meanwhile.pop().write])]
                assert all(isinstance(outcome, list) for outcome in await self.commit(uid, commits))
                assert await self.purge_tombstones(uid, shard, 10_000) == 5
            return entries

    Purging.meanwhile = []
    async with bench(tmp_path, Purging) as at:
        await at.write(put(*numbered(0, 200)))
        other = Follower(at.store, UID, 0, tmp_path / "other", specs=SPECS, fields=FIELDS, head_rows=HEAD_ROWS)
        other.open()
        Purging.meanwhile = [delete(*numbered(0, 5))]
        await other.catch_up()
        assert ids_of(other) == await at.stored_ids() == numbered(5, 200)


async def test_a_rebuild_that_failed_leaves_the_view_and_is_begun_anew(tmp_path: Path) -> None:
    class Failing(SqliteStore):
        fails = False

        async def feed(self, uid: str, shard: int, after_seq: int, limit: int) -> FeedPage:
            if self.fails and after_seq:
                raise StoreUnavailable("away")
            return await super().feed(uid, shard, after_seq, min(limit, 50))

    async with bench(tmp_path, Failing) as at:
        await at.write(put(*numbered(0, 200)))
        at.shard.apply([], [], 210)  # as if the store had lost the last ones
        Failing.fails = True
        with Reader(at.followers[0]) as reader, pytest.raises(StoreUnavailable):
            await at.followers[0].catch_up()
        assert reader.counts == [200] and at.ids() == numbered(0, 200)
        Failing.fails = False
        with Reader(at.followers[0]) as reader:
            await at.followers[0].catch_up()
        assert set(reader.counts) == {200} and at.ids() == await at.stored_ids()
        assert [path.name for path in tmp_path.glob("shard*")] == ["shard-0"]


KILLED = """
import asyncio, os, pathlib, shutil, signal, sys
from tests.shards.opened import bench, numbered, put

step = int(sys.argv[2])
calls = 0

def dying(do):
    def call(*args, **kwargs):
        global calls
        if any(str(a).startswith(str(folder / "shard-0")) for a in args):
            calls += 1
            if calls > step:
                os.kill(os.getpid(), signal.SIGKILL)
        return do(*args, **kwargs)
    return call

folder = pathlib.Path(sys.argv[1])

async def main():
    async with bench(folder) as at:
        await at.write(put(*numbered(0, 200)))
        at.shard.flush()
        await at.write(put(*numbered(150, 260)))
        pathlib.Path.rename = dying(pathlib.Path.rename)
        shutil.rmtree = dying(shutil.rmtree)
        at.shard.apply([], [], at.shard.seq + 5)  # as if the store had lost the last ones
        await at.followers[0].catch_up()
        print("survived", calls, flush=True)

asyncio.run(main())
"""


def test_a_rebuild_that_is_killed_at_any_step_costs_time_only(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    steps = 0
    while True:
        folder = tmp_path / f"step{steps}"
        command = [sys.executable, "-c", KILLED, str(folder), str(steps)]
        ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
        asyncio.run(_check_whole(folder))
        if ended.returncode == 0:
            break
        steps += 1
    assert steps >= 5, "the program is killed before each rename and each deletion"


async def _check_whole(folder: Path) -> None:
    async with bench(folder) as at:
        await at.writer.catch_up(0)
        assert at.ids() == await at.stored_ids() == numbered(0, 260)
        assert [path.name for path in folder.glob("shard*")] == ["shard-0"]
        at.shard.flush()
    async with bench(folder) as at:
        assert at.ids() == numbered(0, 260) and at.shard.rebuilt_because is None


async def test_tombstones_are_purged_once_they_are_on_disk(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        (follower,) = at.followers
        await at.write(put(*numbered(0, 100)))
        await at.write(delete(*numbered(0, 10)))
        await follower.purge()
        assert len((await at.store.feed(UID, 0, 0, 1000)).entries) == 100
        at.shard.flush()
        await follower.purge()
        assert len((await at.store.feed(UID, 0, 0, 1000)).entries) == 90
        await follower.catch_up()
        assert at.ids() == numbered(10, 100)


async def test_a_shard_that_is_rebuilt_holds_up_no_other(tmp_path: Path) -> None:
    """Callers that write to it wait until it is rebuilt; those that write to other shards do not."""

    class Gated(SqliteStore):
        gate = asyncio.Event()
        gated = False

        async def feed(self, uid: str, shard: int, after_seq: int, limit: int) -> FeedPage:
            if self.gated and shard == 0:
                await self.gate.wait()
            return await super().feed(uid, shard, after_seq, limit)

    async with bench(tmp_path, Gated, shards=2) as at:
        await at.write(put(*numbered(0, 100)), 0)
        lost = put("lost0", "lost1").write
        assert isinstance(lost, PutWrite)
        at.shard.apply([(lost.puts, {})], [], 102)
        Gated.gated = True
        waiting = [asyncio.create_task(at.write(put(f"new{n}"), 0)) for n in range(3)]
        for n in range(20):
            await at.write(put(f"other{n}"), 1)
        waiting.append(asyncio.create_task(at.write(delete("p000"), 0)))
        await asyncio.sleep(0.05)
        assert len(at.ids(1)) == 20 and not any(task.done() for task in waiting)
        assert "lost0" in at.ids(0) and len(at.ids(0)) == 102, "readers see the view of before"
        Gated.gate.set()
        assert [(await task).applied for task in waiting] == [[True]] * 4
        assert at.ids(0) == await at.stored_ids(0) == sorted([*numbered(1, 100), "new0", "new1", "new2"])


async def test_a_store_that_is_older_than_the_files_is_noticed_at_the_start(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await at.write(put(*numbered(0, 100)))
        lost = put(*numbered(200, 230)).write
        assert isinstance(lost, PutWrite)
        at.shard.apply([(lost.puts, {})], numbered(0, 10), 140)
        at.shard.flush()
    async with bench(tmp_path) as at:
        assert len(at.ids()) == 120
        with Reader(at.followers[0]) as reader:
            await at.writer.catch_up(0)
        assert set(reader.counts) <= {120, 100} and at.ids() == await at.stored_ids() == numbered(0, 100)
        assert at.shard.seq == 100


async def test_how_far_a_view_is_behind_is_known_while_it_catches_up(tmp_path: Path) -> None:
    class Short(SqliteStore):
        """A real store that gives short pages and sees how far its follower is."""

        follower: Follower
        behind: ClassVar[list[int]] = []

        async def feed(self, uid: str, shard: int, after_seq: int, limit: int) -> FeedPage:
            self.behind.append(self.follower.behind)
            return await super().feed(uid, shard, after_seq, 20)

    async with bench(tmp_path, Short) as at:
        Short.follower = at.followers[0]
        await at.write(put(*numbered(0, 50)))
        assert at.writer.commits == 1 and at.writer.commit_seconds > 0
        at.forget()
        Short.follower = at.followers[0]
        Short.behind.clear()
        await at.writer.catch_up(0)
        assert Short.behind == [0, 30, 10] and at.followers[0].behind == 0
