"""RedisReader: reads a prefix that a service may be writing to, as a backup does. It writes holds and nothing else.

A shard is read by its feed until nothing follows: then what was read is the shard at one seq, provided that no
tombstone was purged meanwhile. A *hold*, a key that expires by itself, keeps services from purging.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from bebr.core.operations import FeedEntry, ShardCounters
from bebr.errors import Conflict, StoreUnavailable
from bebr.store.protocol import DamagedDocument, Document
from bebr.store.redis.store import RedisStore

HOLD_SECONDS = 60


class RedisReader:
    """A StoreReader of a Redis prefix. store: not open."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    async def open(self) -> None:
        """Raises StoreUnavailable where there is no store."""
        if not await self._store.open_for_reading():
            await self._store.close()
            raise StoreUnavailable("there is no store under this Redis prefix; check redis_url and redis_prefix")

    async def close(self) -> None:
        await self._store.close()

    async def get_document(self, kind: str, name: str) -> Document | None:
        return await self._store.get_document(kind, name)

    async def list_documents(self, kind: str) -> dict[str, Document | DamagedDocument]:
        return await self._store.list_documents(kind)

    @asynccontextmanager
    async def frozen(self, uid: str, shards: int) -> AsyncIterator["FrozenShards"]:
        await self._hold(uid, shards, HOLD_SECONDS)
        holding = asyncio.create_task(self._hold_on(uid, shards))
        try:
            for number in range(shards):
                await self._store.history(uid, number)  # raises where a shard is to be mended first
            purged = [(await self._store.counters(uid, number)).purged_seq for number in range(shards)]
            yield FrozenShards(self._store, uid, purged)
        finally:
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)
            await self._hold(uid, shards, 0)

    async def _hold_on(self, uid: str, shards: int) -> None:
        while True:
            await asyncio.sleep(HOLD_SECONDS / 4)
            with suppress(StoreUnavailable):
                await self._hold(uid, shards, HOLD_SECONDS)

    async def _hold(self, uid: str, shards: int, seconds: int) -> None:
        for number in range(shards):
            await self._store.hold_tombstones(uid, number, seconds)


class FrozenShards:
    """The shards of a collection while their tombstones are held."""

    def __init__(self, store: RedisStore, uid: str, purged: list[int]) -> None:
        self._store, self._uid, self._purged = store, uid, purged

    async def feed(self, shard: int, after_seq: int, limit: int) -> list[FeedEntry]:
        return list((await self._store.feed(self._uid, shard, after_seq, limit)).entries)

    async def counters(self, shard: int) -> ShardCounters:
        """Raises Conflict where a tombstone was purged all the same: what was read may hold what was deleted."""
        counters = await self._store.counters(self._uid, shard)
        if counters.purged_seq != self._purged[shard]:
            raise Conflict(f"deletes of shard {shard} were forgotten while they were read")
        return counters
