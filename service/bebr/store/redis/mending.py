"""Mending: a shard whose feed and counters do not agree with its points is made whole again, from its points.

`lua/mend.lua` says how a shard comes to that, and does it, a page at a time. Whoever finds such a shard (its history at
the start and after each restart of the server, a commit that is declined, a page of the feed) has it mended first. What
was corrected ends the shard's past: every view is made anew from the store, and whoever listens hears of a loss. For a
write that nobody was answered for may have come late, and of one with more points than one call takes only a part.
"""

import asyncio
import logging

from bebr.core.history import new_epoch
from bebr.errors import StoreUnavailable
from bebr.store.redis.client import Argument, Script
from bebr.store.redis.shard_calls import ShardCalls
from bebr.store.redis.watch import Shard, Watch
from bebr.telemetry import event

log = logging.getLogger(__name__)
PAGE = 1000
"""About how many entries one call looks at: the server serves nobody else meanwhile."""
STEPS = ("begin", "feed", "points", "tombstones", "end")


class Mender:
    """Mends the shards of one store, each once at a time."""

    def __init__(self, calls: ShardCalls, watch: Watch) -> None:
        self._calls, self._watch = calls, watch
        self._script = Script.of_shard("mend.lua")
        self._under_way: dict[Shard, asyncio.Task[None]] = {}
        self.only_reads = False
        """The store is open beside a service, which is to do it."""

    async def mend(self, uid: str, shard: int) -> None:
        """Return when the shard is whole. A caller that goes away stops nothing. Raises what the client raises."""
        if self.only_reads:
            raise StoreUnavailable(
                f"the feed of shard {shard} of collection {uid} does not agree with its points; start the service on "
                "this store, which makes it whole, and try again"
            )
        task = self._under_way.get((uid, shard))
        if task is None:
            task = self._under_way[uid, shard] = asyncio.create_task(self._mend(uid, shard))
            task.add_done_callback(lambda _: self._under_way.pop((uid, shard)))
        await asyncio.wait([task])
        task.result()

    async def stop(self) -> None:
        for task in list(self._under_way.values()):
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def _mend(self, uid: str, shard: int) -> None:
        event(log, "the feed of a shard is compared with its points", logging.WARNING, collection=uid, shard=shard)
        epoch, corrected = new_epoch(), 0
        for step in STEPS:
            cursor: bytes | str = "0"
            while True:
                arguments: list[Argument] = [self._watch.token, step, cursor, PAGE, epoch]
                cursor, corrected = await self._calls.run(
                    self._script, uid, shard, arguments, changes=False, past_maxmemory=True
                )
                if cursor == b"0":
                    break
        if corrected:
            self._watch.mended(uid, shard, corrected)
