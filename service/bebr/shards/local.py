"""LocalShards: the shards of a collection in this process, with their writer, their files and their maintenance."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from bebr.core.codes import CodeSpec
from bebr.core.lists import Centroids
from bebr.core.operations import Committed
from bebr.core.types import Role
from bebr.errors import BebrError, Overloaded
from bebr.index.segment import ANY_SIZE
from bebr.shards.changes import Change, Fields
from bebr.shards.client import ColumnStats, Misfits, ShardStats
from bebr.shards.columns import ColumnMaker, Pause, Report
from bebr.shards.files_follower import FilesFollower
from bebr.shards.follower import Follower
from bebr.shards.freshness import NO_SEQS, READ_WAIT_SECONDS, Freshness
from bebr.shards.reader import Reader, ShardThreads
from bebr.shards.shared_seqs import Acknowledged, SharedSeqs
from bebr.shards.truth import Truth
from bebr.shards.upkeep import Upkeep
from bebr.shards.writer import Writer

log = logging.getLogger(__name__)
Result = TypeVar("Result")
RETRY_SECONDS = 1.0
SEALING_POLL_SECONDS = 0.01
MAX_BACKLOG = 8
"""Frozen segments that may wait to be sealed; a shard with more takes no write."""


class LocalShards(Reader):
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
        held: Iterable[int] | None = None,
    ) -> None:
        """held: numbers of the shards that are here; None: all. The others are without points, and nothing happens to
        them (`held.py`)."""
        self._name = name
        self._held = set(range(shards) if held is None else held)
        is_primary = role is Role.PRIMARY
        self._shared = shared = _shared_seqs(folder, shards, role) if shares or not is_primary else None
        by_version, lists = dict(specs), dict[int, Centroids]()
        self._new_follower = new = partial(
            Follower if is_primary else FilesFollower,
            truth,
            uid,
            specs=by_version,
            fields=fields,
            head_rows=head_rows,
            map_from_bytes=map_from_bytes,
            name=name,
            lists=lists,
            role=role,
        )
        told = [Acknowledged(shared, number) if shared is not None and is_primary else None for number in range(shards)]
        self._followers = followers = [new(n, folder / f"shard-{n}", acknowledged=one) for n, one in enumerate(told)]
        self._writer = Writer(truth, uid, followers, max_queue, name)
        upkeep = Upkeep(followers, self._writer, threads.maintenance, name)
        super().__init__(followers, upkeep, threads, by_version, lists)
        self._freshness = Freshness(followers, self._writer, role, shared, name, read_wait_seconds, self._held)
        self._columns = ColumnMaker(truth, uid, followers, self.upkeep, threads.maintenance)

    def open(self, fields_change: bool = False) -> None:
        """Map the files that are there; a shard whose files are damaged starts empty, and is rebuilt by `catch_up`.

        fields_change: columns of some fields are still to be made, by `make_columns`.
        """
        try:
            for number in sorted(self._held):
                self._open(number, fields_change)
        except BaseException:
            for follower in self._followers:
                follower.close(False)
            if self._shared is not None:
                self._shared.close()
            raise

    def _open(self, number: int, fields_change: bool) -> None:
        follower = self._followers[number]
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

    # -- what they say of themselves -----------------------------------------------------------------------------------

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
            if number in self._held
        ]

    def commit_times(self) -> tuple[int, float]:
        return self._writer.commits, self._writer.commit_seconds

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
        if shard not in self._held:
            return
        self._followers[shard].problem = f"shard {shard} is compared with the store, which lost acknowledged writes"
        self._writer.recheck(shard)

    def seen(self, last_seqs: Mapping[int, int]) -> None:
        for shard, seq in last_seqs.items():
            if shard in self._held and not self.upkeep.closed:
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
        for number in sorted(self._held):
            try:
                await asyncio.to_thread(self._followers[number].close, keep)
            except (OSError, BebrError):
                log.exception("no checkpoint of collection %s, shard %d: the next start replays it", self._name, number)
        if self._shared is not None:
            self._shared.close()


def _shared_seqs(folder: Path, shards: int, role: Role) -> SharedSeqs:
    if role is Role.PRIMARY:
        folder.mkdir(parents=True, exist_ok=True)
    return SharedSeqs(folder / "shared-seqs", shards, role)
