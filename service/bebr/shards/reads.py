"""Reads of several shards at once, each of views that do not change meanwhile. Pure functions of the views."""

from collections.abc import Sequence
from concurrent.futures import Executor
from heapq import merge as merge_sorted
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from bebr.core.filters import Filter
from bebr.index.candidates import Candidates, Found, Part, best_of, read_hits
from bebr.index.columns import unpack_mask
from bebr.index.grouped import Grouping, merge_groups, scan_groups
from bebr.index.scan import ScanQueries, finished, scan_parts
from bebr.index.segment import SegmentView
from bebr.index.view import ShardView

Views = Sequence[ShardView]


def search(
    parts: Sequence[Part],
    queries: Sequence[ScanQueries],
    grouping: Grouping | None = None,
    scanners: Executor | None = None,
    slices: int = 1,
) -> list[Found]:
    """The hits of each query, of all versions and parts: the same for any number of shards and threads.

    queries: for each version, the same queries in the same order. scanners: where there are several slices, each is
    scanned by a task of its own but the first one.
    """
    if not queries:
        return []
    if grouping is not None:
        return [merge_groups([scan_groups(parts, of_version, grouping) for of_version in queries], grouping)]
    by_version = [_scan(parts, of_version, scanners, slices) for of_version in queries]
    limit = max(of_version.limit for of_version in queries)
    return [
        read_hits(parts, found[0] if len(found) == 1 else best_of(found, limit), limit)
        for found in zip(*by_version, strict=True)
    ]


def _scan(
    parts: Sequence[Part], queries: ScanQueries, scanners: Executor | None = None, slices: int = 1
) -> list[Candidates]:
    """For each query the best rows of one version, with the scores of the answer."""
    places = [place for place, part in enumerate(parts) if part.version == queries.version]
    if scanners is None or slices == 1:
        found = [scan_parts(parts, places, queries)]
    else:
        first, *others = _sliced(parts, places, slices)
        tasks = [scanners.submit(scan_parts, parts, some, queries) for some in others]
        found = [scan_parts(parts, first, queries), *(task.result() for task in tasks)]
    dims = parts[places[0]].spec.dims if places else 1
    return [
        finished(of_slices[0] if len(found) == 1 else best_of(of_slices, queries.limit), query, queries, dims)
        for query, of_slices in enumerate(zip(*found, strict=True))
    ]


def _sliced(parts: Sequence[Part], places: Sequence[int], slices: int) -> list[list[int]]:
    """Places of parts, in slices of about as many rows."""
    sliced: list[list[int]] = [[] for _ in range(slices)]
    rows = [0] * slices
    for place in sorted(places, key=lambda place: -parts[place].rows):
        least = rows.index(min(rows))
        sliced[least].append(place)
        rows[least] += parts[place].rows
    return sliced


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
