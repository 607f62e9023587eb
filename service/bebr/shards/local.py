"""LocalShards: the shards of a collection in this process, each with its writer, its files and its maintenance."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from bebr.core.codes import CodeSpec
from bebr.core.filters import Filter
from bebr.errors import BebrError
from bebr.index import ScanQueries
from bebr.index.shard import Shard
from bebr.shards import reads
from bebr.shards.changes import Change, Fields
from bebr.shards.client import Searched, ShardStats
from bebr.shards.memory import release_free_memory
from bebr.shards.writer import ShardWriter
from bebr.store import Committed, MetadataStore

log = logging.getLogger(__name__)
Result = TypeVar("Result")
RETRY_SECONDS = 1.0
SEALING_POLL_SECONDS = 0.01
INLINE_SCAN_BYTES = 2**21
"""Searches that scan no more than this run on the event loop: a thread would cost more."""
INLINE_READ_BYTES = 2**20
"""Counts and lists of ids of shards of this size run on the event loop."""


@dataclass(frozen=True, slots=True)
class ShardThreads:
    """The threads that all collections share."""

    scans: Executor
    """Scan one shard each."""
    searches: Executor
    """Wait for the scans of one search."""
    maintenance: Executor
    """Seal, compact and write checkpoints."""


class LocalShards:
    """A ShardClient over shards in a folder. Their files are mapped by `open`, which blocks; `catch_up` follows it.

    name: that of the collection, for log lines.
    """

    def __init__(
        self,
        store: MetadataStore,
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
    ) -> None:
        self._name = name
        self._threads = threads
        self._specs = dict(specs)
        self._shards = [Shard(folder / f"shard-{number}", self._specs, fields, head_rows) for number in range(shards)]
        self._writers = [
            ShardWriter(store, uid, number, shard, fields, max_queue) for number, shard in enumerate(self._shards)
        ]
        self._maintaining: dict[int, asyncio.Task[None]] = {}
        self._closed = False

    def open(self) -> None:
        """Map the files that are there; a shard whose files are damaged starts empty, and is rebuilt by `catch_up`."""
        for number, shard in enumerate(self._shards):
            shard.open()
            if shard.rebuilt_because:
                log.warning(
                    "collection %s, shard %d: %s; rebuilding it from the store",
                    self._name, number, shard.rebuilt_because,
                )  # fmt: skip

    # -- reads ---------------------------------------------------------------------------------------------------------

    async def search(self, queries: Sequence[ScanQueries]) -> Searched:
        views = self._views()
        if self.is_small(max(map(len, queries), default=0)):
            found = reads.search(views, queries, None)
        else:
            search = partial(reads.search, views, queries, self._threads.scans)
            found = await asyncio.get_running_loop().run_in_executor(self._threads.searches, search)
        return Searched(found, reads.points(views))

    def is_small(self, queries: int) -> bool:
        return reads.scan_size_bytes(self._views()) * queries <= INLINE_SCAN_BYTES

    def points(self) -> dict[int, int]:
        return reads.points(self._views())

    def stats(self) -> list[ShardStats]:
        return [
            ShardStats(number, view.points(), view.seq, len(view.parts), reads.scan_size_bytes([view]))
            for number, view in enumerate(self._views())
        ]

    async def count(self, condition: Filter | None) -> int:
        return await self._read(partial(reads.count, self._views(), condition))

    async def ids(self, condition: Filter | None, after: str | None, limit: int) -> list[str]:
        return await self._read(partial(reads.ids, self._views(), condition, after, limit))

    async def matching(self, condition: Filter | None) -> dict[int, list[str]]:
        views = self._views()
        return await self._read(lambda: {n: reads.shard_ids(view, condition) for n, view in enumerate(views)})

    async def version_ids(self, shard: int, version: int, limit: int | None) -> list[str]:
        return await self._read(partial(reads.version_ids, self._shards[shard].view, version, limit))

    def _views(self) -> reads.Views:
        return [shard.view for shard in self._shards]

    async def _read(self, read: Callable[[], Result]) -> Result:
        """Here when the shards are small, in a thread when it would hold up others."""
        if reads.scan_size_bytes(self._views()) <= INLINE_READ_BYTES:
            return read()
        return await asyncio.to_thread(read)

    # -- writes --------------------------------------------------------------------------------------------------------

    async def write(self, shard: int, change: Change) -> Committed:
        try:
            return await self._writers[shard].write(change)
        finally:
            self._maintain()

    def check_capacity(self, shards: Iterable[int]) -> None:
        self._maintain()  # sealing that failed is tried again, or a shard that is full would stay so
        for number in shards:
            self._writers[number].check_room()

    async def wait_for_capacity(self, shard: int) -> None:
        while self._writers[shard].sealing_lags and not self._closed:
            self._maintain()
            await asyncio.sleep(SEALING_POLL_SECONDS)  # a thread seals; polling is all there is

    # -- life ----------------------------------------------------------------------------------------------------------

    def add_version(self, number: int, spec: CodeSpec) -> None:
        self._specs[number] = spec

    async def catch_up(self) -> None:
        await asyncio.gather(*(writer.catch_up() for writer in self._writers))
        await asyncio.to_thread(release_free_memory)
        self._maintain()

    async def close(self, keep: bool) -> None:
        self._closed = True
        await asyncio.gather(*self._maintaining.values(), *(writer.close() for writer in self._writers))
        for number, shard in enumerate(self._shards) if keep else ():
            try:
                await asyncio.to_thread(shard.flush)
            except (OSError, BebrError):
                log.exception("no checkpoint of collection %s, shard %d: the next start replays it", self._name, number)

    def _maintain(self) -> None:
        """Start maintenance of the shards that need it, unless it runs already or the shards are closed."""
        for number, shard in enumerate(self._shards):
            if shard.needs_maintenance and number not in self._maintaining and not self._closed:
                self._maintaining[number] = asyncio.create_task(self._maintain_shard(number))

    async def _maintain_shard(self, number: int) -> None:
        try:
            loop, shard = asyncio.get_running_loop(), self._shards[number]
            await loop.run_in_executor(self._threads.maintenance, shard.maintain)
            await loop.run_in_executor(self._threads.maintenance, release_free_memory)
            await self._writers[number].purge()
        except Exception:
            # growing segments stay in memory and the store has everything: the next write tries again, but not at once
            log.exception("maintenance of collection %s, shard %d failed", self._name, number)
            await asyncio.sleep(0 if self._closed else RETRY_SECONDS)
        finally:
            del self._maintaining[number]
