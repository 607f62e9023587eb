"""Points in Redis: commits, reads by id, the feed, and what is known of a shard."""

import asyncio
from collections.abc import Mapping, Sequence

from bebr.core.history import Epoch, History
from bebr.core.operations import Commit, CommitOutcome, Committed, FeedEntry, FeedPage, ShardCounters
from bebr.core.types import StoredPoint
from bebr.errors import StoreUnavailable
from bebr.store.protocol import damaged_points
from bebr.store.redis.client import Argument, RedisClient, Script
from bebr.store.redis.commit_calls import CommitCall, commit_calls
from bebr.store.redis.keys import PARTS, Keys
from bebr.store.redis.members import Membership
from bebr.store.redis.mending import Mender
from bebr.store.redis.shard_calls import ShardCalls
from bebr.store.redis.values import is_bare_tombstone, seq_of, unpack_value
from bebr.store.redis.watch import Torn, Watch

FEED_PAGE_ENTRIES = 1000
PURGE_CHUNK_ENTRIES = 1000
"""What one script handles of a long read or purge: the server serves nobody else meanwhile."""


class RedisPoints:
    """The points of one store."""

    def __init__(self, client: RedisClient, keys: Keys, watch: Watch, receipt_ttl_ms: int, tombstone_ms: int) -> None:
        """tombstone_ms: for how long deletes are kept at least where several services share the store."""
        self._tombstone_ms = tombstone_ms
        self._client, self._keys, self._watch, self._receipt_ttl_ms = client, keys, watch, receipt_ttl_ms
        self._calls = ShardCalls(client, keys, watch)
        self.mender = Mender(self._calls, watch)
        self._commit, self._feed, self._purge = map(Script.of_shard, ("commit.lua", "feed.lua", "purge.lua"))

    async def commit(self, uid: str, commits: Sequence[Commit]) -> list[CommitOutcome]:
        """The shards at once, each with as few calls as its commits allow."""
        outcomes: dict[int, CommitOutcome] = {}
        calls = commit_calls(commits, first_receipt=len(PARTS) + 1, refused=outcomes)
        await asyncio.gather(*(self._commit_shard(uid, shard, some, outcomes) for shard, some in calls.items()))
        return [outcomes[place] for place in range(len(commits))]

    async def _commit_shard(
        self, uid: str, shard: int, calls: Sequence[CommitCall], outcomes: dict[int, CommitOutcome]
    ) -> None:
        """One call after the other; once the server is away, the rest is not tried: each would wait as long."""
        away: StoreUnavailable | None = None
        for call in calls:
            try:
                if away is not None:
                    raise away
                outcomes |= call.split(await self._commit_whole(uid, shard, call))
            except Exception as error:
                away = error if isinstance(error, StoreUnavailable) else None
                outcomes |= dict.fromkeys(call.places, error)

    async def _commit_whole(self, uid: str, shard: int, call: CommitCall) -> list[Committed]:
        """A shard that is torn takes no commit, and is mended first."""
        try:
            return await self._commit_call(uid, shard, call)
        except Torn:
            await self.mender.mend(uid, shard)
            return await self._commit_call(uid, shard, call)

    async def _commit_call(self, uid: str, shard: int, call: CommitCall) -> list[Committed]:
        parted, floor = self._watch.expected(uid, shard)
        arguments: list[Argument] = [self._receipt_ttl_ms, self._watch.token, self._watch.process, parted, floor]
        arguments += [call.writes, *call.arguments]
        name, began, replicas, results = await self._calls.run(
            self._commit,
            uid,
            shard,
            arguments,
            receipts=call.receipts,
            changes=True,
            size_bytes=call.size_bytes,
            past_maxmemory=call.shrinks,
        )
        self._client.saw_replicas(replicas)
        epoch = Epoch(began, name.decode())
        committed = [
            Committed([flag == ord("1") for flag in flags], first_seq, last_seq, bool(replayed), epoch)
            for replayed, first_seq, last_seq, flags in results
        ]
        last_seq = max([floor, *(one.last_seq for one in committed)])
        self._watch.acknowledged(uid, shard, epoch.name, last_seq, began >= 0)
        return committed

    async def fetch(
        self, uid: str, shard: int, ids: Sequence[str], *, metadata: bool = True, records: bool = False
    ) -> list[StoredPoint | None]:
        values = await self._client.read("HMGET", self._keys.part(uid, shard, "points"), *ids) if ids else []
        if not any(values) and not await self._client.read("EXISTS", self._keys.part(uid, shard, "info")):
            raise await self._calls.missing(uid, shard)
        found: list[StoredPoint | None] = []
        damaged = []
        for id, value in zip(ids, values, strict=True):
            entry = unpack_value(id, value) if value else None
            if entry is not None and (entry.is_damaged or await self._is_remnant(uid, shard, id, value)):
                damaged.append(id)
            if entry is None or entry.record is None or entry.metadata is None:
                found.append(None)
                continue
            record, text = entry.record if records else b"", entry.metadata if metadata else ""
            found.append(StoredPoint(id, entry.seq, entry.version, record, text))
        if damaged:
            raise damaged_points(damaged)
        return found

    async def _is_remnant(self, uid: str, shard: int, id: str, value: bytes) -> bool:
        """Whether what looks like a tombstone of an older release is what is left of a point."""
        if not is_bare_tombstone(value):
            return False
        return await self._client.read("ZSCORE", self._keys.part(uid, shard, "tombstones"), id) is None

    async def fetch_all(
        self, uid: str, ids_of_shard: Mapping[int, Sequence[str]], *, metadata: bool = True, records: bool = False
    ) -> dict[str, StoredPoint]:
        pages = await asyncio.gather(
            *(self.fetch(uid, shard, ids, metadata=metadata, records=records) for shard, ids in ids_of_shard.items())
        )
        return {point.id: point for page in pages for point in page if point is not None}

    async def feed(self, uid: str, shard: int, after_seq: int, limit: int) -> FeedPage:
        """One call of the script, and so of one moment. A shard that shows damage is mended first."""
        for is_mended in (False, True):
            arguments: list[Argument] = [
                after_seq,
                min(limit, FEED_PAGE_ENTRIES),
                self._watch.token,
                self._watch.process,
            ]
            info, parts = await self._calls.run(self._feed, uid, shard, arguments, changes=False)
            page = list(zip(parts[::3], parts[1::3], map(int, parts[2::3]), strict=True))
            if is_mended or all(value is not None and seq_of(value) in (seq, None) for _, value, seq in page):
                break
            await self.mender.mend(uid, shard)
        last_seq, points, purged_seq, epochs, following = info
        counters = ShardCounters(int(points), int(last_seq), int(purged_seq))
        history = self._watch.noted(uid, shard, counters.last_seq, epochs, following)
        return FeedPage([_feed_entry(*one) for one in page], counters, history)

    async def counters(self, uid: str, shard: int) -> ShardCounters:
        info = self._keys.part(uid, shard, "info")
        points, last_seq, purged_seq = await self._client.read("HMGET", info, "points", "last_seq", "purged_seq")
        if last_seq is None:
            raise await self._calls.missing(uid, shard)
        return ShardCounters(int(points), int(last_seq), int(purged_seq))

    async def history(self, uid: str, shard: int) -> History:
        """Of a shard that is whole: it is mended first where it is not."""
        try:
            found = await self._watch.history(uid, shard)
        except Torn:
            await self.mender.mend(uid, shard)
            found = await self._watch.history(uid, shard)
        if found is None:
            raise await self._calls.missing(uid, shard)
        return found

    async def hold_tombstones(self, uid: str, shard: int, seconds: int) -> None:
        """Let nobody purge tombstones for so long; 0: no more."""
        key = self._keys.part(uid, shard, "hold")
        await (self._client.write("SET", key, 1, "EX", seconds) if seconds else self._client.write("DEL", key))

    async def purge_tombstones(self, uid: str, shard: int, up_to_seq: int) -> int:
        purged = 0
        while True:
            arguments: list[Argument] = [up_to_seq, PURGE_CHUNK_ENTRIES, self._watch.token]
            if isinstance(self._watch.lease, Membership):
                arguments += [self._tombstone_ms, self._watch.lease.id, *self._watch.lease.viewers]
            count: int = await self._calls.run(
                self._purge, uid, shard, arguments, others=("hold",), changes=True, past_maxmemory=True
            )
            purged += count
            if count < PURGE_CHUNK_ENTRIES:
                return purged


def _feed_entry(raw_id: bytes, value: bytes | None, seq: int) -> FeedEntry:
    """Marked as damaged where the value is not what stands at this place of the feed."""
    entry = unpack_value(raw_id.decode(errors="replace"), value or b"")
    return entry if entry.seq == seq else FeedEntry(seq, entry.id, 0, None, None, True)
