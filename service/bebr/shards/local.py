"""LocalShards: the shards of a collection in this process, each with its writer, its files and its maintenance."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from operator import is_
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec
from bebr.core.filters import Filter
from bebr.core.lists import Centroids
from bebr.core.operations import Committed
from bebr.core.types import Role
from bebr.errors import BebrError, DamagedSegment, Overloaded
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
from bebr.index.segment import ANY_SIZE
from bebr.shards import reads
from bebr.shards.changes import Change, Fields
from bebr.shards.client import ColumnStats, Misfits, Searched, ShardStats
from bebr.shards.columns import ColumnMaker, Pause, Report
from bebr.shards.files_follower import FilesFollower
from bebr.shards.follower import Follower
from bebr.shards.freshness import NO_SEQS, READ_WAIT_SECONDS, Freshness
from bebr.shards.scan_rate import ScanRate
from bebr.shards.shared_seqs import Acknowledged, SharedSeqs
from bebr.shards.snapshot import Snapshot
from bebr.shards.truth import Truth
from bebr.shards.upkeep import Upkeep, is_current
from bebr.shards.writer import Writer

log = logging.getLogger(__name__)
Result = TypeVar("Result")
RETRY_SECONDS = 1.0
SEALING_POLL_SECONDS = 0.01
MAX_BACKLOG = 8
"""Frozen segments that may wait to be sealed; a shard with more takes no write."""
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


class LocalShards:
    """A ShardClient over shards in a folder. Their files are mapped by `open`, which blocks; `catch_up` follows it.

    name: that of the collection, for log lines. role: a follower shares the folder with a primary, whose files it
    reads; it takes no writes. shares: a primary tells followers what it has acknowledged.
    """

    def __init__(
        self,
        truth: Truth,
        uid: str,
        folder: Path,
        *,
        name: str,
        shards: int,
        specs: Mapping[int, CodeSpec],
        fields: Fields,
        head_rows: int,
        max_queue: int,
        threads: ShardThreads,
        map_from_bytes: int = ANY_SIZE,
        role: Role = Role.PRIMARY,
        shares: bool = False,
        read_wait_seconds: float = READ_WAIT_SECONDS,
    ) -> None:
        self._name = name
        self._follows = role is Role.FOLLOWER
        self._shared = shared = _shared_seqs(folder, shards, role) if shares or self._follows else None
        self._threads = threads
        self._specs = dict(specs)
        self._lists: dict[int, Centroids] = {}
        """By code version: those by which rows are sorted from now on."""
        self._tables: Tables = {}
        """Of all generations that segments may have."""
        self._followers = [
            (FilesFollower if self._follows else Follower)(
                truth,
                uid,
                number,
                folder / f"shard-{number}",
                specs=self._specs,
                fields=fields,
                head_rows=head_rows,
                map_from_bytes=map_from_bytes,
                name=name,
                lists=self._lists,
                role=role,
                acknowledged=Acknowledged(shared, number) if shared is not None and not self._follows else None,
            )
            for number in range(shards)
        ]
        self._writer = Writer(truth, uid, self._followers, max_queue, name)
        self._scanned = ScanView.of(self._views(), self._tables)
        self._rate = ScanRate()
        self.upkeep = Upkeep(self._followers, self._writer, threads.maintenance, name)
        """What runs beside reads and writes."""
        self._freshness = Freshness(self._followers, self._writer, role, shared, name, read_wait_seconds)
        self._columns = ColumnMaker(truth, uid, self._followers, self.upkeep, threads.maintenance)

    def open(self, fields_change: bool = False) -> None:
        """Map the files that are there; a shard whose files are damaged starts empty, and is rebuilt by `catch_up`.

        fields_change: columns of some fields are still to be made, by `make_columns`.
        """
        for number, follower in enumerate(self._followers):
            follower.open(fields_change)
            if why := follower.shard.rebuilt_because:
                follower.damaged_files += 1
                log.warning("collection %s, shard %d: %s; rebuilding it from the store", self._name, number, why)

    # -- what others have written --------------------------------------------------------------------------------------

    def behind(self) -> bool:
        return self._freshness.is_behind()

    async def reach(self, seqs: Mapping[int, int] = NO_SEQS) -> None:
        await self._freshness.reach(seqs)

    async def reach_store(self) -> None:
        await self._freshness.reach_store()

    # -- reads ---------------------------------------------------------------------------------------------------------

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
                    await self._mend(damage)
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

    async def _mend(self, damage: DamagedSegment) -> None:
        """Return once the files of another process, which has replaced them, are read anew. Else raises NotReady."""
        for number, follower in enumerate(self._followers):
            if str(follower.shard.folder) == damage.fields["folder"] and follower.shard.is_outrun:
                return await self._writer.catch_up(number)
        raise self.upkeep.mend(damage) from None

    def lists(self) -> Mapping[int, ListsHeld]:
        return self._scan_view().lists

    async def needs(self, queries: ScanQueries) -> list[Needs]:
        while True:
            view = self._scan_view()
            find = partial(needs, view, queries)
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

    def commit_times(self) -> tuple[int, float]:
        return self._writer.commits, self._writer.commit_seconds

    def points(self) -> dict[int, int]:
        return dict(self._scan_view().points)

    def stats(self) -> list[ShardStats]:
        return [
            ShardStats(
                number,
                dict(follower.view.points),
                follower.view.seq,
                len(follower.view.parts),
                follower.view.scan_size_bytes,
                damaged=follower.damaged,
                damaged_files=follower.damaged_files,
                problem=follower.problem,
                rebuilds=follower.rebuilds,
                losses=follower.losses,
                behind=follower.behind,
            )
            for number, follower in enumerate(self._followers)
        ]

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

    # -- writes --------------------------------------------------------------------------------------------------------

    async def write(self, shard: int, change: Change) -> Committed:
        try:
            return await self._writer.write(shard, change)
        finally:
            self.upkeep.maintain(shard)

    def check_capacity(self, shards: Iterable[int]) -> None:
        for number in shards:
            self.upkeep.maintain(number)  # sealing that failed is tried again, or a shard that is full would stay so
            self._writer.check_queue(number)
            if self._is_full(number):
                raise Overloaded(
                    f"{self._followers[number].shard.backlog} segments wait to be sealed; try again later",
                    waiting="segments",
                )

    async def wait_for_capacity(self, shard: int) -> None:
        while self._is_full(shard) and not self.upkeep.closed:
            self.upkeep.maintain(shard)
            await asyncio.sleep(SEALING_POLL_SECONDS)  # a thread seals; polling is all there is

    def _is_full(self, shard: int) -> bool:
        return self._followers[shard].shard.backlog > MAX_BACKLOG

    # -- life ----------------------------------------------------------------------------------------------------------

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

    async def set_fields(self, fields: Fields) -> None:
        for number, follower in enumerate(self._followers):
            if follower.fields != fields:
                await self._writer.set_fields(number, fields)
                self.upkeep.maintain(number)

    def columns(self) -> ColumnStats:
        return self._columns.stats()

    async def make_columns(self, report: Report, pause: Pause) -> bool:
        return await self._columns.make_some(report, pause)

    async def misfits(self, fields: Fields, pause: Pause) -> dict[str, Misfits]:
        return await self._columns.misfits(fields, pause)

    def recheck(self, shard: int) -> None:
        self._followers[shard].problem = f"shard {shard} is compared with the store, which lost acknowledged writes"
        self._writer.recheck(shard)

    def seen(self, last_seqs: Mapping[int, int]) -> None:
        for shard, seq in last_seqs.items():
            if not self.upkeep.closed:
                self._writer.seen(shard, seq)

    async def scrub(self, bytes_per_second: int) -> None:
        await self.upkeep.scrub(bytes_per_second)

    async def catch_up(self) -> None:
        await self._freshness.reach_store()
        await self.upkeep.begin()
        self._freshness.begin()

    async def close(self, keep: bool) -> None:
        await self._freshness.close()
        await asyncio.gather(self.upkeep.close(), self._writer.close())
        for number, follower in enumerate(self._followers):
            try:
                await asyncio.to_thread(follower.close, keep)
            except (OSError, BebrError):
                log.exception("no checkpoint of collection %s, shard %d: the next start replays it", self._name, number)
        if self._shared is not None:
            self._shared.close()


def _shared_seqs(folder: Path, shards: int, role: Role) -> SharedSeqs:
    if role is Role.PRIMARY:
        folder.mkdir(parents=True, exist_ok=True)
    return SharedSeqs(folder / "shared-seqs", shards, role)


def _are_few(rescorings: Sequence[Rescoring] | None) -> bool:
    return rescorings is None or sum([one.limit - one.first for one in rescorings]) <= INLINE_RESCORE_ROWS


def _are_small_filters(rows: int, conditions: Sequence[Filter | None]) -> bool:
    size = sum([condition.size for condition in conditions if condition is not None])
    if size == 0:
        return True
    return size <= INLINE_FILTER_SIZE and size * rows <= INLINE_FILTER_ROWS
