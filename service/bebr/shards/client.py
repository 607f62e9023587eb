"""ShardClient: the contract of the shards of one collection, wherever they are. The engine knows nothing else of them.

A shard is a view of the store: it holds the codes and the filterable fields of its points, and answers searches, counts
and lists of ids. Which shard a point belongs to is the caller's business. All of it can be rebuilt from the store.

What holds for every client, and is held by `tests/shards/test_client_contract.py`:
- A write is durable in the store and visible to every read that begins after `write` has returned. What `write` raised
  was not applied; after StoreUnavailable the outcome is unknown, and the shards catch up by themselves.
- Writes of one shard happen one after the other; a read sees all of a commit in a shard, or nothing of it.
- Results do not depend on the number of shards or threads: higher scores first, ties by ascending id.
- A search says what it covered, of the very views that it scanned. A point that moves from one code version to another
  meanwhile is found once.
- Reads never wait for writes. What a reader sees only moves towards the store; it is never emptied to be filled anew.
- Errors: Overloaded where a shard can take no write now; those of the store (StoreUnavailable, InsufficientStorage,
  DamagedStore, CollectionNotFound) as they come; those of the write itself (DuplicateId, IdempotencyConflict,
  PayloadTooLarge, InvalidMetadata, and what an encoder raises).
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec
from bebr.core.filters import Filter
from bebr.core.lists import Centroids
from bebr.core.operations import Committed
from bebr.index import (
    EmbeddingQueries,
    Grouping,
    ListsHeld,
    ListStats,
    Needs,
    Rescoring,
    ScanQueries,
)
from bebr.shards.changes import Change, Fields
from bebr.shards.searched import Searched
from bebr.shards.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class ShardStats:
    """The state of one shard."""

    number: int
    """From 0 up to the number of shards."""
    points: dict[int, int]
    """Living points by code version."""
    seq: int
    """Seq of the last operation that readers see."""
    parts: int
    """Growing, frozen and sealed segments that a search scans."""
    scan_size_bytes: int
    """Bytes of codes and gains that a search without a filter reads."""
    damaged: int = 0
    """Points that the store has, but damaged: they are left out."""
    problem: str | None = None
    """Why the shard is not what the store has, while it is rebuilt."""
    rebuilds: int = 0
    """How often it was rebuilt since it was opened."""
    losses: int = 0
    """How often the store was found to have lost what it had acknowledged, since the shard was opened."""
    behind: int = 0
    """Operations of the store that are still to be applied, at most, while the shard catches up."""
    damaged_files: int = 0
    """How often a damaged segment file was found since the start."""


@dataclass(frozen=True, slots=True)
class Misfits:
    """Points whose metadata has a value that does not fit a field."""

    count: int
    ids: tuple[str, ...]
    """The first of them."""


@dataclass(frozen=True, slots=True)
class ColumnStats:
    """Which columns of fields are still to be made."""

    rows: int
    """Of all shards."""
    outdated: int
    """Rows of segments that have not the columns of today's fields alone."""
    lacking: Mapping[str, int]
    """By field: rows without a column of it, at least 1."""

    def progress(self, key: str) -> float:
        """The share of rows that have the column of a field, 0 to 1."""
        return 1 - self.lacking.get(key, 0) / max(1, self.rows)


class ShardClient(Protocol):
    """All shards of one collection. One instance serves one event loop."""

    async def search(
        self,
        queries: Sequence[ScanQueries],
        grouping: Grouping | None = None,
        rescorings: Sequence[Rescoring] | None = None,
        *,
        on_loop: bool = True,
    ) -> Searched:
        """The best points of all code versions, in one pass over the same views.

        queries: of one code version each, the same queries in the same order. Without any it only says which points
        there are. With a grouping there is one query, and hits are what the grouping wants instead of the best of all.
        rescorings: of each query, where candidates are scored again by rescore codes; a grouping says so itself.
        on_loop: whether what takes a moment may run on the event loop.
        """

    def snapshot(self) -> Snapshot:
        """The shards as they are now, to be read for longer than a search takes."""

    def lists(self) -> Mapping[int, ListsHeld]:
        """The lists of each code version that has some, as of now."""

    async def needs(self, queries: ScanQueries, sample_rows: int | None = None) -> list[Needs]:
        """The best hits of each query and what it takes to find them by lists; of all points of its version, or of
        about so many random ones."""

    def nearest(self, queries: EmbeddingQueries) -> Searched | None:
        """What `search` finds for embeddings, at once. None: ask that, as it takes longer, or points are of other
        versions, too. Raises NotInMemory where a disk may have to be waited for."""

    async def nearest_on_thread(self, queries: EmbeddingQueries) -> Searched | None:
        """The same, and waits for it."""

    def is_small(self, queries: int) -> bool:
        """Whether a search of this many queries takes so little time that it may run on the event loop."""

    def scan_size_bytes(self) -> int:
        """Bytes of codes and gains that a search of one query reads without a filter: what it costs."""

    def commit_times(self) -> tuple[int, float]:
        """How many commits the store was asked for since the start, and the seconds that they took in all."""

    def points(self) -> dict[int, int]:
        """Living points by code version, as of now; versions without points are left out."""

    def stats(self) -> list[ShardStats]:
        """The state of each shard, in order of their numbers."""

    async def count(self, condition: Filter | None) -> int:
        """How many points the filter holds for; None: all."""

    async def ids(self, condition: Filter | None, after: str | None, limit: int) -> list[str]:
        """The first `limit` ids greater than `after` over all shards, ascending, of points the filter holds for."""

    async def matching(self, condition: Filter | None) -> dict[int, list[str]]:
        """All ids of points the filter holds for, by number of the shard, in no order."""

    async def version_ids(self, shard: int, version: int, limit: int | None) -> list[str]:
        """Up to `limit` ids, or all, of the points of one code version in one shard, in no order."""

    async def write(self, shard: int, change: Change) -> Committed:
        """Apply one change to the store and then to the shard. A caller that goes away stops nothing."""

    def check_capacity(self, shards: Iterable[int]) -> None:
        """Raise Overloaded when one of these shards can take no write now."""

    async def wait_for_capacity(self, shard: int) -> None:
        """Return when the shard can take a write. For writes of many pages: the first may be refused, the others go on
        as fast as segments are sealed."""

    def add_version(self, number: int, spec: CodeSpec) -> None:
        """Take points of one more code version from now on."""

    def use_lists(self, centroids: Centroids) -> None:
        """Sort the rows of a code version by these lists from now on, where it has none of a later generation.

        Segments that are sealed have them at once, older ones bit by bit. Searches find the same all the while.
        """

    def forget_lists(self, version: int, generation: int) -> None:
        """Lists of this generation are read no more; segments that have them are scanned whole."""

    async def sample(self, version: int, rows: int, seed: int) -> NDArray[np.uint8]:
        """Scan codes and gains (n, scan_record_size_bytes) uint8 of up to `rows` random points of a code version.

        The same by the same seed as long as no segment is sealed, merged or sorted.
        """

    def list_stats(self, version: int) -> ListStats:
        """In which lists the rows of a code version are, over all shards."""

    async def set_fields(self, fields: Fields) -> None:
        """Rows that are written from now on have columns of these fields; `make_columns` makes those of the others.

        Raises what the store raises where a shard is behind it.
        """

    def columns(self) -> ColumnStats:
        """Which columns are still to be made."""

    async def make_columns(
        self, report: Callable[[str, Mapping[str, Misfits]], Awaitable[None]], pause: Callable[[], Awaitable[None]]
    ) -> bool:
        """Make the columns that some rows lack, and drop those of fields that are gone; False: all is done.

        Reads and writes go on meanwhile. report: told of misfits by field, under a name of the rows that were read,
        before these are replaced; again under the same name where this was cut short. pause: called every now and then;
        what it raises ends this. Raises what the store raises, OSError, NotReady.
        """

    async def misfits(self, fields: Fields, pause: Callable[[], Awaitable[None]]) -> dict[str, Misfits]:
        """The points whose value does not fit, by field; of fields whose columns are made. Raises as `make_columns`."""

    def recheck(self, shard: int) -> None:
        """The store lost what it had acknowledged: bring the shard to what is left, and say so meanwhile."""

    def seen(self, last_seqs: Mapping[int, int]) -> None:
        """The store was seen at these seqs, by number of the shard: whichever has less catches up."""

    def behind(self) -> bool:
        """Whether other processes have acknowledged writes that reads may not see yet: `reach` before them. False at no
        cost where no other process writes."""

    async def reach(self, seqs: Mapping[int, int] = MappingProxyType({})) -> None:
        """Return once reads see all that the other processes of this folder have acknowledged, and the operations up to
        these seqs, by number of the shard. Raises NotReady where the store does not have them for too long, and what
        the store raises."""

    async def reach_store(self) -> None:
        """Return once reads see all that the store has now. Raises what the store raises."""

    async def catch_up(self) -> None:
        """Apply everything that the store has and the shards have not."""

    async def scrub(self, bytes_per_second: int) -> None:
        """Read all that lies on disk, no faster than that; what is damaged is made anew from the store."""

    async def close(self, keep: bool) -> None:
        """Finish what is under way; no write may follow. `keep`: save the state, so that the next start is quick."""
