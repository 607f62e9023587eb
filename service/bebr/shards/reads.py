"""Reads of several shards at once, each of views that do not change meanwhile. Pure functions of the views."""

from collections.abc import Sequence
from concurrent.futures import Executor
from heapq import merge as merge_sorted
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from bebr.core.filters import Filter
from bebr.index.columns import unpack_mask
from bebr.index.grouped import Grouping, merge_groups, scan_groups
from bebr.index.scan import Found, Part, ScanQueries, merge, scan_parts
from bebr.index.segment import SegmentView
from bebr.index.view import ShardView

Views = Sequence[ShardView]


def search(
    views: Views, queries: Sequence[ScanQueries], scanners: Executor, grouping: Grouping | None = None
) -> list[list[Found]]:
    """The best points for each ScanQueries and each query of it, the same for any number of shards and threads.

    scanners: one task for each shard, which scans all versions.
    """
    others = [scanners.submit(scan, view.parts, queries, grouping) for view in views[1:]]
    found = [scan(views[0].parts, queries, grouping), *(other.result() for other in others)]
    if grouping is not None:
        return [[merge_groups([hits for (hits,) in of_version], grouping)] for of_version in zip(*found, strict=True)]
    return [
        [merge([of_shard[version][q] for of_shard in found], wanted.limit) for q in range(len(wanted))]
        for version, wanted in enumerate(queries)
    ]


def scan(parts: Sequence[Part], queries: Sequence[ScanQueries], grouping: Grouping | None = None) -> list[list[Found]]:
    """The best points in these parts for each ScanQueries and each query of it."""
    if grouping is not None:
        return [[scan_groups(parts, of_version, grouping)] for of_version in queries]
    return [scan_parts(parts, of_version) for of_version in queries]


def count(views: Views, condition: Filter | None) -> int:
    """How many points the filter holds for."""
    return sum(_count(part, condition) for view in views for part in view.parts)


def ids(views: Views, condition: Filter | None, after: str | None, limit: int) -> list[str]:
    """The first `limit` ids greater than `after`, ascending, of points the filter holds for."""
    streams = [_page(part, condition, after, limit) for view in views for part in view.parts]
    return list(islice(merge_sorted(*streams), limit))


def shard_ids(view: ShardView, condition: Filter | None) -> list[str]:
    """All ids of one shard the filter holds for, in no order."""
    return [point_id for part in view.parts for point_id in _page(part, condition, None, None)]


def version_ids(view: ShardView, version: int, limit: int | None) -> list[str]:
    """Up to `limit` ids, or all, of the living points of one code version in one shard, in no order."""
    pages = (_page(part, None, None, limit) for part in view.parts if part.version == version)
    return list(islice((point_id for page in pages for point_id in page), limit))


def _mask(part: Part, condition: Filter | None) -> NDArray[np.uint16]:
    return part.live if condition is None else part.mask(condition)


def _count(part: Part, condition: Filter | None) -> int:
    if condition is None:
        return part.live_count
    return int(unpack_mask(_mask(part, condition), part.rows).sum())


def _page(part: Part, condition: Filter | None, after: str | None, limit: int | None) -> Sequence[str]:
    rows = np.flatnonzero(unpack_mask(_mask(part, condition), part.rows))
    if isinstance(part, SegmentView):
        if after is not None:
            rows = rows[np.searchsorted(rows, part.segment.first_after(after)) :]
        return part.ids_at(rows[:limit].tolist())
    found = sorted(point_id for point_id in part.ids_at(rows.tolist()) if after is None or point_id > after)
    return found[:limit]
