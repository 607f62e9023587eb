"""What the shards need of the store that holds the points. `bebr.store.protocol` says what it promises."""

from collections.abc import Sequence
from typing import Protocol

from bebr.core.history import History
from bebr.core.operations import Commit, CommitOutcome, FeedPage, ShardCounters
from bebr.core.types import StoredPoint


class Truth(Protocol):
    """The points of all collections, and the feed of what happened to them. Handed in by whoever opens shards."""

    async def commit(self, uid: str, commits: Sequence[Commit]) -> list[CommitOutcome]: ...

    async def fetch(
        self, uid: str, shard: int, ids: Sequence[str], *, metadata: bool = True, records: bool = False
    ) -> list[StoredPoint | None]: ...

    async def feed(self, uid: str, shard: int, after_seq: int, limit: int) -> FeedPage: ...

    async def counters(self, uid: str, shard: int) -> ShardCounters: ...

    async def history(self, uid: str, shard: int) -> History: ...

    async def purge_tombstones(self, uid: str, shard: int, up_to_seq: int) -> int: ...
