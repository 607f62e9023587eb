"""The index of one collection: its shards, searched together.

`scan` is the seam behind which shards may one day live in other processes.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from heapq import merge as merge_sorted
from itertools import islice
from pathlib import Path

import numpy as np

from bebr.core.codes import CodeSpec
from bebr.core.filters import Filter
from bebr.core.types import FieldType
from bebr.index.columns import unpack_mask
from bebr.index.scan import Found, Part, ScanQueries, merge, scan_parts
from bebr.index.segment import SegmentView
from bebr.index.shard import Shard, ShardView

Views = Sequence[ShardView]


class CollectionIndex:
    """All shards of a collection in this process."""

    def __init__(
        self,
        folder: Path,
        shards: int,
        specs: Mapping[int, CodeSpec],
        fields: Mapping[str, FieldType],
        head_rows: int,
        scanners: Executor | None = None,
    ) -> None:
        self._specs = dict(specs)
        self.shards = [Shard(folder / f"shard-{number}", self._specs, fields, head_rows) for number in range(shards)]
        self._scanners = scanners

    def open(self) -> None:
        for shard in self.shards:
            shard.open()

    def add_version(self, number: int, spec: CodeSpec) -> None:
        """Take points of one more code version from now on."""
        self._specs[number] = spec

    def views(self) -> Views:
        """The points as they are now, for several looks at the same ones."""
        return [shard.view for shard in self.shards]

    def scan(self, queries: ScanQueries, parallel: bool = True, views: Views | None = None) -> list[Found]:
        """The best `limit` points of the queries' code version for each query, ties by ascending id.

        Deterministic for any number of shards and threads. `parallel`: one thread per shard.
        """
        return self.scan_versions([queries], parallel, views)[0]

    def scan_versions(
        self, queries: Sequence[ScanQueries], parallel: bool = True, views: Views | None = None
    ) -> list[list[Found]]:
        """`scan` for several code versions at once, each with queries of its own: one list for each.

        A shard's thread scans all versions. Points that move between them meanwhile are neither missed nor found twice.
        """
        views = self.views() if views is None else views
        if not parallel or self._scanners is None or len(views) == 1:
            return _scan_all([part for view in views for part in view.parts], queries)
        others = [self._scanners.submit(_scan_all, view.parts, queries) for view in views[1:]]
        found = [_scan_all(views[0].parts, queries), *(other.result() for other in others)]
        return [
            [merge([of_shard[version][q] for of_shard in found], wanted.limit) for q in range(len(wanted))]
            for version, wanted in enumerate(queries)
        ]

    def points(self, views: Views | None = None) -> dict[int, int]:
        """Living points by code version number."""
        totals: dict[int, int] = {}
        for view in self.views() if views is None else views:
            for version, count in view.points().items():
                totals[version] = totals.get(version, 0) + count
        return totals

    def version_ids(self, number: int, version: int, limit: int | None) -> list[str]:
        """Up to `limit` ids, or all, of the living points of one code version in one shard, in no order."""
        pages = (_page(p, None, None, limit) for p in self.shards[number].view.parts if p.version == version)
        return list(islice((point_id for page in pages for point_id in page), limit))

    def scan_size_bytes(self) -> int:
        """Bytes that one scan reads."""
        return sum(part.rows * part.spec.record_size_bytes for shard in self.shards for part in shard.view.parts)

    def count(self, condition: Filter | None) -> int:
        """Points for which the filter holds."""
        return sum(_count(part, condition) for shard in self.shards for part in shard.view.parts)

    def ids(self, condition: Filter | None, after: str | None, limit: int) -> list[str]:
        """The first `limit` ids greater than `after`, ascending, of points for which the filter holds."""
        streams = [_page(part, condition, after, limit) for shard in self.shards for part in shard.view.parts]
        return list(islice(merge_sorted(*streams), limit))

    def shard_ids(self, number: int, condition: Filter | None) -> list[str]:
        """All ids of one shard for which the filter holds, in no order."""
        return [point_id for part in self.shards[number].view.parts for point_id in _page(part, condition, None, None)]

    def maintain(self, submit: Callable[[Callable[[], None]], object]) -> None:
        """Hand each shard that needs maintenance to `submit`."""
        for shard in self.shards:
            if shard.needs_maintenance:
                submit(shard.maintain)


def _scan_all(parts: Sequence[Part], queries: Sequence[ScanQueries]) -> list[list[Found]]:
    return [scan_parts(parts, of_version) for of_version in queries]


def _mask(part: Part, condition: Filter | None) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    return part.live if condition is None else part.mask(condition)


def _count(part: Part, condition: Filter | None) -> int:
    if condition is None:
        return part.live_count
    return int(unpack_mask(_mask(part, condition), part.rows).sum())


def _page(part: Part, condition: Filter | None, after: str | None, limit: int | None) -> Sequence[str]:
    rows = np.flatnonzero(unpack_mask(_mask(part, condition), part.rows))
    if isinstance(part, SegmentView):
        if after is not None:
            rows = rows[np.searchsorted(rows, part.segment.ids.first_after(after)) :]
        return part.ids_at(rows[:limit].tolist())
    ids = sorted(point_id for point_id in part.ids_at(rows.tolist()) if after is None or point_id > after)
    return ids[:limit]
