"""HeldShards: those shards of a collection that a leaf has, which may become others while it serves.

A shard that is not held is one without points, of which nothing is read from the store. Reads name the shards that they
are of: what came meanwhile is not in their answer, and what they read is not let go before they end.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bebr.core.filters import Filter
from bebr.core.lists import Centroids
from bebr.errors import NotReady
from bebr.shards.follower import Follower
from bebr.shards.local import LocalShards
from bebr.shards.reader import Reader
from bebr.shards.truth import Truth

MAX_SUBSETS = 64
"""Sets of shards that reads named of late, for each of which the parts of a scan are kept."""


class NotHeld(Exception):
    """Shards that were asked for are not here."""

    def __init__(self, shards: Sequence[int]) -> None:
        super().__init__(f"shards {', '.join(map(str, shards))} are not held here")
        self.shards = tuple(shards)


class SomeShards(Reader):
    """The reads of some shards alone."""

    def __init__(self, numbers: Sequence[int], followers: list[Follower], *rest: Any) -> None:
        """followers: of those numbers. rest: as of Reader."""
        super().__init__(followers, *rest)
        self.numbers = tuple(numbers)

    async def matching(self, condition: Filter | None) -> dict[int, list[str]]:
        found = await super().matching(condition)
        return {self.numbers[place]: ids for place, ids in found.items()}

    async def version_ids(self, shard: int, version: int, limit: int | None) -> list[str]:
        return await super().version_ids(self.numbers.index(shard), version, limit)

    def seqs(self) -> dict[int, int]:
        """How far readers see, by number of the shard."""
        return {number: one.view.seq for number, one in zip(self.numbers, self._followers, strict=True)}


class HeldShards(LocalShards):
    """A ShardClient of the shards of a leaf: those that are held, and ready."""

    def __init__(self, truth: Truth, uid: str, folder: Path, **options: Any) -> None:
        """As LocalShards; nothing is held at first."""
        super().__init__(truth, uid, folder, held=(), **options)
        self._folder = folder
        self._ready: set[int] = set()
        self._reads: Counter[int] = Counter()
        """Reads under way, by number of the shard."""
        self._idle = asyncio.Event()
        """Set whenever a read ends."""
        self._subsets: dict[tuple[int, ...], SomeShards] = {}

    @property
    def held(self) -> frozenset[int]:
        """The shards that are here, or on their way."""
        return frozenset(self._held)

    @property
    def ready(self) -> frozenset[int]:
        """Those of them that answer reads: they were equal to the store."""
        return frozenset(self._ready)

    def seq(self, shard: int) -> int:
        """How far readers of a shard see."""
        return self._followers[shard].view.seq

    async def hold(self, shard: int, fields_change: bool = False) -> None:
        """Take a shard: from the files that are there, and from the store. It is ready when this returns.

        Raises what the store raises; it is held all the same, and may be taken again. fields_change: as of `open`.
        """
        if shard not in self._held:
            await asyncio.to_thread(self._open, shard, fields_change)
            self._held.add(shard)
        await self._writer.catch_up(shard)
        if shard in self._held:
            self._ready.add(shard)
            self.upkeep.maintain(shard)

    async def release(self, shard: int) -> None:
        """Let a shard go, with its files, once nobody reads it any more."""
        self._ready.discard(shard)
        while self._reads[shard]:
            self._idle.clear()
            await self._idle.wait()
        self._held.discard(shard)
        self._subsets = {numbers: one for numbers, one in self._subsets.items() if shard not in numbers}
        await self.upkeep.leave(shard)
        await self._writer.leave(shard, NotReady(f"collection '{self._name}': shard {shard} has left this leaf"))
        old = self._followers[shard]
        new = self._new_follower(shard, self._folder / f"shard-{shard}")
        new.set_fields(old.fields)
        self._followers[shard] = new
        await asyncio.to_thread(old.drop)

    @contextmanager
    def reading(self, shards: Sequence[int]) -> Iterator[SomeShards]:
        """The reads of these shards. Raises NotHeld where one of them is not ready."""
        if missing := [shard for shard in shards if shard not in self._ready]:
            raise NotHeld(missing)
        self._reads.update(shards)
        try:
            yield self._subset(tuple(shards))
        finally:
            self._reads.subtract(shards)
            self._idle.set()

    def _subset(self, shards: tuple[int, ...]) -> SomeShards:
        found = self._subsets.pop(shards, None)
        if found is None:
            followers = [self._followers[shard] for shard in shards]
            rest = (self.upkeep, self._threads, self._specs, self._lists, self._tables, self._rate)
            found = SomeShards(shards, followers, *rest)
            if len(self._subsets) >= MAX_SUBSETS:
                del self._subsets[next(iter(self._subsets))]
        self._subsets[shards] = found
        return found

    def use_lists(self, centroids: Centroids) -> None:
        super().use_lists(centroids)
        self._subsets.clear()

    def forget_lists(self, version: int, generation: int) -> None:
        super().forget_lists(version, generation)
        self._subsets.clear()
