"""Reader: the reads of shards in this process: where they run, on which view, and what is done where a file is damaged.

Short ones run on the event loop, long ones on threads, by what the scans before took.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from operator import is_
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec
from bebr.core.filters import Filter
from bebr.core.lists import Centroids
from bebr.errors import DamagedSegment
from bebr.index import (
    EmbeddingQueries,
    Grouping,
    ListsHeld,
    ListStats,
    Needs,
    Rescoring,
    ScanQueries,
    samples,
)
from bebr.index.needs import needs
from bebr.index.probe import Tables
from bebr.index.rescoring import NotInMemory
from bebr.index.scan_view import ScanView, table_of
from bebr.shards import reads
from bebr.shards.follower import Follower
from bebr.shards.scan_rate import ScanRate
from bebr.shards.searched import Searched
from bebr.shards.snapshot import Snapshot
from bebr.shards.upkeep import Upkeep, is_current

Result = TypeVar("Result")
INLINE_SCAN_SECONDS = 0.003
"""Scans that take no longer than this run on the event loop: a thread would cost more."""
SLICE_SECONDS = 0.003
"""For how long each thread scans at least where several scan for one search: less costs more than it saves."""
INLINE_READ_BYTES = 2**20
"""Counts and lists of ids of shards of this size run on the event loop."""
INLINE_RESCORE_ROWS = 500
"""More rescore codes than these are read and scored on a thread."""
INLINE_FILTER_SIZE = 100
"""Filters with more conditions and values are evaluated in a thread."""
INLINE_FILTER_ROWS = 2**20
"""Also where they are evaluated for more rows than this, counted once for each condition and value."""


@dataclass(frozen=True, slots=True)
class ShardThreads:
    """The threads that all collections share."""

    scans: Executor
    """Help with searches that scan very much."""
    scanners: int
    """How many threads scan at once for one search."""
    searches: Executor
    """Scan."""
    maintenance: Executor
    """Seal, compact and write checkpoints."""


class Reader:
    """The reads of a ShardClient."""

    def __init__(
        self,
        followers: list[Follower],
        upkeep: Upkeep,
        threads: ShardThreads,
        specs: dict[int, CodeSpec],
        lists: dict[int, Centroids],
        tables: Tables | None = None,
        rate: ScanRate | None = None,
    ) -> None:
        """specs and lists: by code version, those that the followers read too; they change here. tables: of the lists
        so far. rate: of other reads of the same machine."""
        self._followers = followers
        self.upkeep = upkeep
        """What runs beside reads and writes."""
        self._threads = threads
        self._specs = specs
        self._lists = lists
        """By code version: those by which rows are sorted from now on."""
        self._tables: Tables = tables or {}
        """Of all generations that segments may have."""
        self._scanned = ScanView.of(self._views(), self._tables)
        self._rate = rate or ScanRate()

    async def search(
        self,
        queries: Sequence[ScanQueries],
        grouping: Grouping | None = None,
        rescorings: Sequence[Rescoring] | None = None,
        *,
        on_loop: bool = True,
    ) -> Searched:
        while True:
            view = self._scan_view()
            try:
                return await self._search(view, queries, grouping, rescorings, on_loop)
            except DamagedSegment as damage:
                if is_current(damage, view, self._scan_view()):
                    await self.upkeep.reread(damage)
                # else the view has outlived its file, which was merged or rebuilt since; the next one has others

    async def _search(
        self,
        view: ScanView,
        queries: Sequence[ScanQueries],
        grouping: Grouping | None,
        rescorings: Sequence[Rescoring] | None,
        on_loop: bool,
    ) -> Searched:
        count = max(map(len, queries), default=0)
        share = max([one.share if reads.lists_of(view, one) else 1.0 for one in queries], default=1.0)
        seconds = self._rate.seconds(view.scan_size_bytes, count) * share
        is_quick = grouping is None and seconds <= INLINE_SCAN_SECONDS and _are_few(rescorings)
        if (
            on_loop
            and is_quick
            and not view.mapped
            and _are_small_filters(view.rows, [c for one in queries for c in one.filters])
        ):
            try:
                return reads.search(view, queries, None, rescorings, self._rate, waits=False)
            except NotInMemory:  # the event loop waits for no disk
                pass
        slices = max(1, min(self._threads.scanners, int(seconds / SLICE_SECONDS)))
        search = partial(reads.search, view, queries, grouping, rescorings, self._rate, self._threads.scans, slices)
        return await asyncio.get_running_loop().run_in_executor(self._threads.searches, search)

    def lists(self) -> Mapping[int, ListsHeld]:
        return self._scan_view().lists

    async def needs(self, queries: ScanQueries, sample_rows: int | None = None) -> list[Needs]:
        while True:
            view = self._scan_view()
            find = partial(needs, view, queries, sample_rows)
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads.searches, find)
            except DamagedSegment as damage:
                if is_current(damage, view, self._scan_view()):
                    raise self.upkeep.mend(damage) from None

    def nearest(self, queries: EmbeddingQueries) -> Searched | None:
        view = self._scan_view()
        share = queries.share if reads.lists_of(view, queries) else 1.0
        if self._rate.seconds(view.scan_size_bytes, len(queries)) * share > INLINE_SCAN_SECONDS:
            return None
        if queries.candidates is not None and int(queries.candidates.sum()) > INLINE_RESCORE_ROWS:
            return None
        if queries.filters is not None and not _are_small_filters(view.rows, queries.filters):
            return None
        if view.mapped:
            raise NotInMemory
        try:
            return reads.nearest(view, queries, self._rate)
        except DamagedSegment:  # the long way says where, and has it mended
            return None

    async def nearest_on_thread(self, queries: EmbeddingQueries) -> Searched | None:
        find = partial(reads.nearest, self._scan_view(), queries, self._rate, waits=True)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads.searches, find)
        except DamagedSegment:
            return None

    def snapshot(self) -> Snapshot:
        view = self._scan_view()

        def found(damage: DamagedSegment) -> None:
            if not self.upkeep.closed and is_current(damage, view, self._scan_view()):
                self.upkeep.mend(damage)

        return Snapshot(view, found)

    def is_small(self, queries: int) -> bool:
        return self._rate.seconds(self._scan_view().scan_size_bytes, queries) <= INLINE_SCAN_SECONDS

    def scan_size_bytes(self) -> int:
        return self._scan_view().scan_size_bytes

    def points(self) -> dict[int, int]:
        return dict(self._scan_view().points)

    async def count(self, condition: Filter | None) -> int:
        return await self._read(partial(reads.count, self._views(), condition), condition)

    async def ids(self, condition: Filter | None, after: str | None, limit: int) -> list[str]:
        return await self._read(partial(reads.ids, self._views(), condition, after, limit), condition)

    async def matching(self, condition: Filter | None) -> dict[int, list[str]]:
        views = self._views()
        return await self._read(
            lambda: {n: reads.shard_ids(view, condition) for n, view in enumerate(views)}, condition
        )

    async def version_ids(self, shard: int, version: int, limit: int | None) -> list[str]:
        return await self._read(partial(reads.version_ids, self._followers[shard].view, version, limit))

    def _scan_view(self) -> ScanView:
        """All shards as they are now; the same object until one of them changes."""
        views, scanned = self._views(), self._scanned
        if not all(map(is_, views, scanned.views)):
            scanned = self._scanned = ScanView.of(views, self._tables)
        return scanned

    def _views(self) -> reads.Views:
        return [follower.shard.view for follower in self._followers]

    async def _read(self, read: Callable[[], Result], condition: Filter | None = None) -> Result:
        """Here when the shards are small, in a thread when it would hold up others."""
        view = self._scan_view()
        try:
            if view.scan_size_bytes <= INLINE_READ_BYTES and _are_small_filters(view.rows, [condition]):
                return reads.unhurt(view, read)
            return await asyncio.to_thread(reads.unhurt, view, read)
        except DamagedSegment as damage:
            raise self.upkeep.mend(damage) from None

    # -- lists ---------------------------------------------------------------------------------------------------------

    def add_version(self, number: int, spec: CodeSpec) -> None:
        self._specs[number] = spec

    def use_lists(self, centroids: Centroids) -> None:
        newest = self._lists.get(centroids.version)
        if newest is None or newest.generation < centroids.generation:
            self._lists[centroids.version] = centroids
        table = table_of(centroids, self._specs[centroids.version])
        self._tables = {**self._tables, (centroids.version, centroids.generation): table}
        self._scanned = ScanView.of(self._views(), self._tables)
        self.upkeep.sort()

    def forget_lists(self, version: int, generation: int) -> None:
        self._tables = {key: table for key, table in self._tables.items() if key != (version, generation)}

    async def sample(self, version: int, rows: int, seed: int) -> NDArray[np.uint8]:
        return await self._read(partial(samples.sample, self._views(), version, rows, seed))

    def list_stats(self, version: int) -> ListStats:
        return samples.list_stats(self._views(), version, self._lists.get(version))


def _are_few(rescorings: Sequence[Rescoring] | None) -> bool:
    return rescorings is None or sum([one.limit - one.first for one in rescorings]) <= INLINE_RESCORE_ROWS


def _are_small_filters(rows: int, conditions: Sequence[Filter | None]) -> bool:
    size = sum([condition.size for condition in conditions if condition is not None])
    if size == 0:
        return True
    return size <= INLINE_FILTER_SIZE and size * rows <= INLINE_FILTER_ROWS
