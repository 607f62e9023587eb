"""What waits to be written, and the group of writes that is committed next."""

import asyncio
import math
from dataclasses import dataclass

from bebr.core.operations import Committed
from bebr.shards.changes import Change, Fields, ShardWrite

MAX_GROUP_OPERATIONS = 20_000
MAX_GROUP_BYTES = 16 * 2**20
"""Writes are joined up to here. A larger commit would save no more, and hold up the store for those who only read."""


@dataclass(frozen=True, slots=True)
class CatchUp:
    """Bring the view of a shard up to the store, in line with its writes."""

    seq: float = math.inf
    """Not where the view is there already."""


@dataclass(frozen=True, slots=True)
class SetFields:
    """Rows have columns of these fields from here on, in line with the writes."""

    fields: Fields


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """What was requested, and who waits for it."""

    shard: int
    change: Change | CatchUp | SetFields
    outcome: "asyncio.Future[Committed | Exception]"

    def resolve(self, outcome: Committed | Exception) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class Group:
    """Writes of any shards that are committed in one call."""

    def __init__(self) -> None:
        self.items: list[tuple[Waiting, ShardWrite]] = []
        self.operations = 0
        self._size_bytes = 0
        self._shards: set[int] = set()

    def takes(self, change: ShardWrite) -> bool:
        """Whether it has place for one more; for the first one it always has."""
        return not self.items or (
            self.operations + len(change.write.ids) <= MAX_GROUP_OPERATIONS
            and self._size_bytes + change.write.size_bytes <= MAX_GROUP_BYTES
        )

    def holds(self, shard: int) -> bool:
        """Whether it has a write of the shard."""
        return shard in self._shards

    def add(self, item: Waiting, change: ShardWrite) -> None:
        self.items.append((item, change))
        self.operations += len(change.write.ids)
        self._size_bytes += change.write.size_bytes
        self._shards.add(item.shard)
