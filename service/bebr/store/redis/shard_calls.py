"""The calls of scripts that work on one shard, and what it means when one of them declines."""

from collections.abc import Sequence
from typing import Any

from bebr.errors import BebrError
from bebr.store.protocol import receipt_conflict, unknown_shard
from bebr.store.redis.client import Argument, RedisClient, Refused, Script
from bebr.store.redis.keys import PARTS, Keys
from bebr.store.redis.watch import Torn, Watch


class ShardCalls:
    """Runs scripts on a shard's keys, in the order that all of them expect."""

    def __init__(self, client: RedisClient, keys: Keys, watch: Watch) -> None:
        self._client, self._keys, self._watch = client, keys, watch

    async def run(
        self,
        script: Script,
        uid: str,
        shard: int,
        arguments: Sequence[Argument],
        *,
        others: Sequence[str] = (),
        receipts: Sequence[str] = (),
        changes: bool,
        size_bytes: int = 0,
        past_maxmemory: bool = False,
    ) -> Any:
        """Raises Torn where the shard must be mended first, CollectionNotFound, whatever the client raises."""
        keys = [*self._keys.shard(uid, shard), *(self._keys.part(uid, shard, part) for part in others)]
        keys += [self._keys.part(uid, shard, f"receipt:{key}") for key in receipts]
        try:
            return await self._client.run(
                script, keys, arguments, changes=changes, size_bytes=size_bytes, past_maxmemory=past_maxmemory
            )
        except Refused as refused:
            if refused.reason == "BEBRCONFLICT":
                raise receipt_conflict(receipts[int(refused.detail) - len(PARTS) - 1]) from None
            if refused.reason == "BEBRWENTBACK":
                raise self._watch.went_back(uid, shard, int(refused.detail)) from None
            if refused.reason == "BEBRTORN":
                raise Torn from None
            self._watch.check_fence(refused)
            raise await self.missing(uid, shard) from None

    async def missing(self, uid: str, shard: int) -> BebrError:
        """The error for a shard that is not there. Raises StoreUnavailable where it must be."""
        await self._watch.missing(uid, shard)
        return unknown_shard(uid, shard)
