"""The writes of one shard: committed to the store first, then applied to the index, one batch after the other.

All writes of a shard go through one `ShardWriter`, so the order of the store is the order of the index. Whenever the
two may have parted (a commit whose outcome is unknown, a seq that was not expected), the index catches up from the
store's feed before anything else happens.
"""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from bebr.coalescer import Coalescer
from bebr.core.types import Puts
from bebr.errors import BebrError, Overloaded, StoreUnavailable, Unavailable
from bebr.index.shard import Shard
from bebr.shards.changes import (
    Change,
    Fields,
    Patch,
    Reencode,
    Replace,
    ShardWrite,
    Values,
    affected,
    rewritten,
    values_of,
)
from bebr.store import Committed, DeleteWrite, FeedEntry, MetadataStore

FEED_PAGE = 5_000
INLINE_OPERATIONS = 64
"""Up to so many operations are applied on the event loop: a thread would cost more."""
MAX_GROUP_OPERATIONS = 20_000
"""A commit of many more holds up the store for so long that it seems to be away."""
MAX_BACKLOG = 8
RETRY_SECONDS = 0.5


class ShardWriter:
    """The only writer of one shard."""

    def __init__(
        self, store: MetadataStore, uid: str, number: int, shard: Shard, fields: Fields, max_queue: int
    ) -> None:
        self._store, self._uid, self._number = store, uid, number
        self._shard = shard
        self._fields = fields
        self._behind = False
        self._recovery: asyncio.Task[None] | None = None
        self._catching_up = asyncio.Lock()
        self._queue: Coalescer[Change, Committed | BebrError] = Coalescer(
            self._run, what="writes", max_batch=256, max_queue=max_queue
        )

    async def write(self, change: Change) -> Committed:
        """Durable in the store and visible to searches when this returns. A caller that goes away stops nothing."""
        outcome = await asyncio.shield(asyncio.ensure_future(self._queue.submit(change)))
        if isinstance(outcome, BebrError):
            raise outcome
        return outcome

    def check_room(self) -> None:
        """Raise Overloaded when this shard can take no write now."""
        self._queue.check_room()
        if self.sealing_lags:
            raise Overloaded(f"{self._shard.backlog} segments wait to be sealed; try again later", waiting="segments")

    @property
    def sealing_lags(self) -> bool:
        return self._shard.backlog > MAX_BACKLOG

    async def catch_up(self) -> None:
        """Apply everything that the store has and the shard has not. One at a time: a reset must not meet a replay."""
        async with self._catching_up:
            stats = await self._store.stats(self._uid, self._number)
            if stats.last_seq < self._shard.seq or stats.purged_seq > self._shard.seq:
                await asyncio.to_thread(self._shard.reset)  # another store, or deletes that can no longer be replayed
            while entries := await self._store.feed(self._uid, self._number, self._shard.seq, FEED_PAGE):
                await asyncio.to_thread(self._replay, entries)
                if self._shard.needs_maintenance:
                    await asyncio.to_thread(self._shard.maintain)
            self._shard.apply([], [], stats.last_seq)  # the last operations may be purged deletes, which no feed has
            self._behind = False

    async def close(self) -> None:
        """Stop waiting for a store that does not answer."""
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.gather(self._recovery, return_exceptions=True)

    async def purge(self) -> None:
        """Let the store forget the tombstones that this shard has on disk."""
        await self._store.purge_tombstones(self._uid, self._number, self._shard.checkpoint_seq)

    async def _run(self, items: list[Change]) -> list[Committed | BebrError]:
        """What became of each item. An error is that of its own commit only: what ran beside it is not undone."""
        if self._behind:
            await self.catch_up()
        outcomes: list[Committed | BebrError] = []
        for group in _groups(items):
            try:
                outcomes += await self._commit(group) if isinstance(group, list) else [await self._change(group)]
            except StoreUnavailable as error:
                return outcomes + [error] * (len(items) - len(outcomes))  # the others would wait for it just as long
            except BebrError as error:
                outcomes += [error] * (len(group) if isinstance(group, list) else 1)
        return outcomes

    async def _commit(self, group: list[ShardWrite]) -> list[Committed]:
        try:
            committed = await self._store.commit(self._uid, self._number, [item.write for item in group])
        except StoreUnavailable:
            self._recover_soon()  # it may have happened all the same
            raise
        try:
            await self._follow(group, committed)
        except Exception:
            self._recover_soon()
            raise
        return committed

    async def _follow(self, group: list[ShardWrite], committed: list[Committed]) -> None:
        """Bring the index to where the store is after the commit."""
        done = [(item, result) for item, result in zip(group, committed, strict=True) if not result.replayed]
        if done and done[0][1].first_seq != self._shard.seq + 1:
            if done[0][1].first_seq <= self._shard.seq:
                await asyncio.to_thread(self._shard.reset)  # the store lost what it had acknowledged
            await self.catch_up()
        elif sum(len(result.applied) for _, result in done) <= INLINE_OPERATIONS:
            self._apply(done)
        else:
            await asyncio.to_thread(self._apply, done)

    def _recover_soon(self) -> None:
        self._behind = True
        if self._recovery is None or self._recovery.done():
            self._recovery = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        """Catch up as soon as the store answers again, in line with the writes."""
        while self._behind:
            await asyncio.sleep(RETRY_SECONDS)
            with suppress(Unavailable, OSError):
                await self._queue.submit(Patch([], {}, 0))

    async def _change(self, change: Patch | Reencode | Replace) -> Committed:
        """Read points as they are now, and write what becomes of them; nothing comes between."""
        found = await self._store.fetch(self._uid, self._number, change.ids, metadata=True, records=True)
        points = affected(change, found)
        if not points:
            return Committed([False] * len(change.ids), self._shard.seq + 1, self._shard.seq)
        if isinstance(change, Reencode):
            group = await asyncio.to_thread(rewritten, change, points, self._fields)
        else:
            group = rewritten(change, points, self._fields)
        committed = await self._commit(group)
        changed = {point.id for point in points}
        return Committed([i in changed for i in change.ids], committed[0].first_seq, committed[-1].last_seq)

    def _apply(self, done: Sequence[tuple[ShardWrite, Committed]]) -> None:
        for item, result in done:
            if isinstance(item.write, DeleteWrite):
                ids = [i for i, applied in zip(item.write.ids, result.applied, strict=True) if applied]
                self._shard.apply([], ids, result.last_seq)
            else:
                self._shard.apply([_kept(item.write.puts, item.values, result.applied)], [], result.last_seq)

    def _replay(self, entries: Sequence[FeedEntry]) -> None:
        deletes = [entry.id for entry in entries if entry.record is None]
        by_version: dict[int, list[FeedEntry]] = {}
        for entry in entries:
            if entry.record is not None:
                by_version.setdefault(entry.version, []).append(entry)
        puts = []
        for version, some in by_version.items():
            records = np.frombuffer(b"".join(e.record or b"" for e in some), np.uint8).reshape(len(some), -1)
            metadata = [json.loads(entry.metadata or "{}") for entry in some] if self._fields else [{}] * len(some)
            puts.append((Puts([e.id for e in some], version, records, []), values_of(metadata, self._fields)))
        self._shard.apply(puts, deletes, entries[-1].seq)


def _groups(items: list[Change]) -> list[list[ShardWrite] | Patch | Reencode | Replace]:
    """Neighbouring writes are committed together. One with a receipt stands alone: its conflict must fail only it."""
    groups: list[list[ShardWrite] | Patch | Reencode | Replace] = []
    open_group: list[ShardWrite] | None = None
    size = 0
    for item in items:
        if not isinstance(item, ShardWrite):
            groups.append(item)
            open_group = None
            continue
        size += len(item.write.ids)
        if item.write.receipt is not None or open_group is None or size > MAX_GROUP_OPERATIONS:
            group = [item]
            groups.append(group)
            open_group, size = (group if item.write.receipt is None else None), len(item.write.ids)
        else:
            open_group.append(item)
    return groups


def _kept(puts: Puts, values: Values, applied: list[bool]) -> tuple[Puts, Values]:
    if all(applied):
        return puts, values
    keep = np.array(applied, bool)
    rows = np.flatnonzero(keep).tolist()
    kept = Puts([puts.ids[i] for i in rows], puts.version, puts.records[keep], [puts.metadata[i] for i in rows])
    return kept, {key: [column[i] for i in rows] for key, column in values.items()}
