"""Rewrites: changes that read the points of a shard first, and write what becomes of them.

The writer gives them the shard to themselves; what other processes write meanwhile is read and changed again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from bebr.core.operations import Commit, CommitOutcome, Committed
from bebr.core.types import StoredPoint
from bebr.errors import BebrError, DamagedPoint
from bebr.shards.changes import (
    Patch,
    Reencode,
    Replace,
    ShardWrite,
    affected,
    commits_of,
    of_ids,
    rewritten,
)
from bebr.shards.follower import Follower
from bebr.shards.truth import Truth


class Rewrites:
    """Those of all shards of one collection."""

    def __init__(
        self,
        truth: Truth,
        uid: str,
        followers: Sequence[Follower],
        commit: Callable[[Sequence[Commit]], Awaitable[Sequence[CommitOutcome]]],
        recheck: Callable[[int], None],
    ) -> None:
        """commit: in the store. recheck: is told of a shard whose view may have parted from the store."""
        self._truth, self._uid = truth, uid
        self._followers = followers
        self._commit, self._recheck = commit, recheck

    async def write(self, shard: int, change: Patch | Reencode | Replace) -> Committed:
        """Read points as they are now, and write what becomes of them. Nothing of this process comes between; what
        another one writes meanwhile is read again."""
        follower = self._followers[shard]
        results: list[Committed] = []
        changed: set[str] = set()
        left = change
        while points := affected(left, await self._read(shard, left)):
            if isinstance(change, Reencode):
                writes = await asyncio.to_thread(rewritten, left, points, follower.fields)
            else:
                writes = rewritten(left, points, follower.fields)
            applied = await self._write_again(shard, commits_of(writes), results)
            changed |= applied
            left = of_ids(left, [point.id for point in points if point.id not in applied])
        if not results:
            return nothing(follower, len(change.ids))
        return Committed([i in changed for i in change.ids], results[0].first_seq, results[-1].last_seq)

    async def _write_again(
        self, shard: int, commits: Sequence[Sequence[ShardWrite]], results: list[Committed]
    ) -> set[str]:
        """The ids of the points that were still as they were read. results: takes what the store did."""
        follower = self._followers[shard]
        applied: set[str] = set()
        for together in commits:
            (outcome,) = await self._commit([Commit(shard, [item.write for item in together])])
            if isinstance(outcome, Exception):
                raise _after_others(outcome) if results else outcome
            try:
                if not await follower.apply(list(zip(together, outcome, strict=True))):
                    await follower.catch_up()
            except Exception:
                self._recheck(shard)
                raise
            results += outcome
            for item, made in zip(together, outcome, strict=True):
                applied.update(i for i, yes in zip(item.write.ids, made.applied, strict=True) if yes)
        return applied

    async def _read(self, shard: int, change: Patch | Reencode | Replace) -> list[StoredPoint | None]:
        """The points of a change. Damaged ones are an error for a patch; new codes are made of the others."""
        ids = change.ids
        while True:
            try:
                found = await self._truth.fetch(self._uid, shard, ids, metadata=True, records=True)
            except DamagedPoint as error:
                if isinstance(change, Patch):
                    raise
                self._followers[shard].leave_out(error.fields["ids"])
                ids = [point_id for point_id in ids if point_id not in error.fields["ids"]]
            else:
                return found


def _after_others(error: Exception) -> Exception:
    """What a commit failed with whose predecessors of the same change were applied."""
    return type(error)(error.detail, **error.fields, partly_applied=True) if isinstance(error, BebrError) else error


def nothing(follower: Follower, operations: int) -> Committed:
    """What a write did that changed nothing."""
    seq = follower.shard.seq
    return Committed([False] * operations, seq + 1, seq)
