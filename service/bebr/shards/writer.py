"""The only writer of a collection's shards: it keeps the order of the writes, and decides what is committed together.

While one group of writes is committed, what arrives is gathered; it is the next group, of all shards, and the store
makes it durable in one call. A group is applied to the views while the next one is committed. So nothing waits when all
is idle, and one fsync serves everyone who waits.

In each shard the order of the store is the order of the view. A change that reads points first, and a catch-up, have
their shard to themselves: what came before is committed and applied, what comes after waits. Whenever view and store
may have parted (a commit whose outcome is unknown, a view that could not be changed), the shard catches up from the
store before anything else is written to it.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence

from bebr.core.operations import Commit, CommitOutcome, Committed
from bebr.errors import Overloaded, StoreUnavailable
from bebr.shards.changes import (
    Change,
    Fields,
    ShardWrite,
)
from bebr.shards.follower import Follower
from bebr.shards.group import CatchUp, Group, SetFields, Waiting
from bebr.shards.rewrites import Rewrites, nothing
from bebr.shards.runs import INLINE_OPERATIONS
from bebr.shards.truth import Truth

log = logging.getLogger(__name__)
RETRY_SECONDS = 0.5


class Writer:
    """Writes to all shards of one collection, on one event loop."""

    def __init__(self, truth: Truth, uid: str, followers: Sequence[Follower], max_queue: int, name: str) -> None:
        self._truth, self._uid, self._name = truth, uid, name
        self._followers = followers
        self.commits, self.commit_seconds = 0, 0.0
        """Calls of the store for commits so far, and how long they took in all."""
        self._max_queue = max_queue
        self._queues: list[deque[Waiting]] = [deque() for _ in followers]
        self._first = 0
        """The shard whose turn comes first in the next group."""
        self._behind: set[int] = set()
        """Shards whose view may have parted from the store. They catch up before anything else happens to them."""
        self._unseen: dict[int, list[tuple[Waiting, Committed]]] = {}
        """What was committed to a shard that is behind: visible once it has caught up."""
        self._alone: dict[int, asyncio.Task[None]] = {}
        """Shards that a change or a catch-up has to itself."""
        self._groups: asyncio.Task[None] | None = None
        self._applying: asyncio.Task[None] | None = None
        self._recoveries: dict[int, asyncio.Task[None]] = {}
        self._rewrites = Rewrites(truth, uid, followers, self._commit, self.recheck)

    async def write(self, shard: int, change: Change) -> Committed:
        """Durable in the store and visible to searches when this returns. A caller that goes away stops nothing.

        Raises Overloaded, whatever the store and the change raise.
        """
        self.check_queue(shard)
        return await self._outcome(shard, change)

    async def catch_up(self, shard: int) -> None:
        """Apply everything that the store has and the view has not. Raises what the store raises."""
        await self._outcome(shard, CatchUp())

    async def set_fields(self, shard: int, fields: Fields) -> None:
        """Rows have columns of these fields from now on. Raises what the store raises where the shard is behind it."""
        await self._outcome(shard, SetFields(fields))

    def seen(self, shard: int, seq: int) -> None:
        """The store was seen at `seq`: catch up where the view is not there once what is under way is applied."""
        if seq > self._followers[shard].shard.seq and shard not in self._behind:
            self._queues[shard].append(Waiting(shard, CatchUp(seq), asyncio.get_running_loop().create_future()))
            self._wake()

    def check_queue(self, shard: int) -> None:
        """Raise Overloaded when too many writes of the shard wait already."""
        waiting = len(self._queues[shard])
        if waiting >= self._max_queue:
            raise Overloaded(f"{waiting} writes wait already (the limit); try again later", waiting="writes")

    async def leave(self, shard: int, why: Exception) -> None:
        """Return when nothing happens to a shard any more, until it is caught up again. Who waits for it gets `why`."""
        queue = self._queues[shard]
        while True:
            if recovery := self._recoveries.get(shard):
                recovery.cancel()
                await asyncio.gather(recovery, return_exceptions=True)
            while queue:
                queue.popleft().resolve(why)
            if (alone := self._alone.get(shard)) is None:
                break
            await asyncio.wait([alone])
        self._behind.discard(shard)

    async def close(self) -> None:
        """Finish what is under way, and stop waiting for a store that does not answer. No write may follow."""
        for recovery in self._recoveries.values():
            recovery.cancel()
        await asyncio.gather(*self._recoveries.values(), return_exceptions=True)
        while tasks := [task for task in self._tasks() if not task.done()]:
            await asyncio.wait(tasks)

    def _tasks(self) -> list["asyncio.Task[None]"]:
        """What is under way."""
        return [task for task in (self._groups, self._applying, *self._alone.values()) if task is not None]

    async def _outcome(self, shard: int, change: Change | CatchUp | SetFields) -> Committed:
        item = Waiting(shard, change, asyncio.get_running_loop().create_future())
        self._queues[shard].append(item)
        self._wake()
        outcome = await asyncio.shield(item.outcome)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    # -- groups --------------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._groups is None:
            self._groups = asyncio.create_task(self._run_groups())

    async def _run_groups(self) -> None:
        """Commit what waits, group after group; each is applied while the next is committed."""
        try:
            while (group := self._take_group()).items:
                outcomes = await self._commit([Commit(item.shard, [change.write]) for item, change in group.items])
                await self._applied()
                apply = self._apply(group, outcomes)
                if group.operations <= INLINE_OPERATIONS:
                    await apply
                else:
                    self._applying = asyncio.create_task(apply)
        finally:
            self._groups = None

    def _take_group(self) -> Group:
        """The writes to commit next. What needs a shard to itself is started when its turn comes."""
        group = Group()
        shards = len(self._queues)
        for turn in range(shards):
            self._take_from((self._first + turn) % shards, group)
        self._first = (self._first + 1) % shards
        return group

    def _take_from(self, shard: int, group: Group) -> None:
        queue = self._queues[shard]
        if shard in self._behind and shard not in self._alone and (queue or shard in self._unseen):
            self._start_alone(Waiting(shard, CatchUp(), asyncio.get_running_loop().create_future()))
        while queue and shard not in self._alone:
            change = queue[0].change
            if isinstance(change, ShardWrite):
                if not group.takes(change):
                    return
                group.add(queue.popleft(), change)
            elif group.holds(shard):
                return
            else:
                self._start_alone(queue.popleft())

    async def _commit(self, commits: Sequence[Commit]) -> Sequence[CommitOutcome]:
        started = time.perf_counter()
        try:
            return await self._truth.commit(self._uid, commits)
        except Exception as error:
            return [error] * len(commits)
        finally:
            self.commits, self.commit_seconds = self.commits + 1, self.commit_seconds + time.perf_counter() - started

    async def _applied(self) -> None:
        """Return when the last group is applied."""
        if self._applying is not None:
            await self._applying
            self._applying = None

    async def _apply(self, group: Group, outcomes: Sequence[CommitOutcome]) -> None:
        of_shard: dict[int, list[tuple[Waiting, ShardWrite, CommitOutcome]]] = {}
        for (item, change), outcome in zip(group.items, outcomes, strict=True):
            of_shard.setdefault(item.shard, []).append((item, change, outcome))
        await asyncio.gather(*(self._apply_to_shard(shard, some) for shard, some in of_shard.items()))

    async def _apply_to_shard(self, shard: int, some: Sequence[tuple[Waiting, ShardWrite, CommitOutcome]]) -> None:
        done: list[tuple[Waiting, ShardWrite, Committed]] = []
        for item, change, outcome in some:
            if isinstance(outcome, Exception):
                self._note_failure(shard, outcome)
                item.resolve(outcome)
            else:
                done.append((item, change, outcome[0]))
        try:
            if shard in self._behind or not await self._followers[shard].apply([(c, result) for _, c, result in done]):
                self._behind.add(shard)
                self._unseen.setdefault(shard, []).extend((item, committed) for item, _, committed in done)
                self._wake()  # others go on while it catches up
                return
        except Exception as error:
            self.recheck(shard)
            for item, _, _ in done:
                item.resolve(error)
        else:
            for item, _, committed in done:
                item.resolve(committed)

    # -- one at a time -------------------------------------------------------------------------------------------------

    def _start_alone(self, item: Waiting) -> None:
        self._alone[item.shard] = asyncio.create_task(self._run_alone(item))

    async def _run_alone(self, item: Waiting) -> None:
        try:
            if self._applying is not None:
                await asyncio.wait([self._applying])
            item.resolve(await self._do(item.shard, item.change))
        except Exception as error:
            if isinstance(item.change, CatchUp):
                self._give_up(item.shard, error)
            else:
                self._note_failure(item.shard, error)
            item.resolve(error)
        finally:
            del self._alone[item.shard]
            self._wake()

    async def _do(self, shard: int, change: Change | CatchUp | SetFields) -> Committed:
        follower = self._followers[shard]
        if isinstance(change, CatchUp):
            if follower.shard.seq >= change.seq:
                return nothing(follower, 0)
            await follower.catch_up()
            self._behind.discard(shard)
            for item, committed in self._unseen.pop(shard, []):
                item.resolve(committed)
        elif isinstance(change, SetFields):
            follower.set_fields(change.fields)
        elif not isinstance(change, ShardWrite):
            return await self._rewrites.write(shard, change)
        return nothing(follower, 0)

    # -- failures ------------------------------------------------------------------------------------------------------

    def _note_failure(self, shard: int, error: Exception) -> None:
        """After a store that is away a commit may have happened all the same; the others would wait for it as long."""
        if isinstance(error, StoreUnavailable):
            self._give_up(shard, error)

    def _give_up(self, shard: int, error: Exception) -> None:
        """Fail all that waits for the shard, and go on trying to catch up."""
        self.recheck(shard)
        for item, _ in self._unseen.pop(shard, []):
            item.resolve(error)
        queue = self._queues[shard]
        while queue:
            queue.popleft().resolve(error)

    def recheck(self, shard: int) -> None:
        """Catch up as soon as the store answers, before anything else happens to the shard."""
        self._behind.add(shard)
        if shard not in self._recoveries:
            self._recoveries[shard] = asyncio.create_task(self._recover_later(shard))

    async def _recover_later(self, shard: int) -> None:
        reason = ""
        try:
            while shard in self._behind:
                await asyncio.sleep(RETRY_SECONDS)
                try:
                    await self.catch_up(shard)
                except Exception as error:
                    if str(error) != reason:
                        reason = str(error)
                        log.warning("shard %d of collection %s is behind the store: %s", shard, self._name, reason)
        finally:
            del self._recoveries[shard]
