"""Reads of several shards at once, each of views that do not change meanwhile. Pure functions of the views."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from heapq import merge as merge_sorted
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bebr.core.filters import Filter
from bebr.index.candidates import NOTHING, Candidates, Found, Part, best_of, hits_of
from bebr.index.columns import unpack_mask
from bebr.index.grouped import Grouping, merge_groups, rescore_groups, scan_groups
from bebr.index.nearest import EmbeddingQueries
from bebr.index.nearest import nearest as find_nearest
from bebr.index.probe import ListsHeld, ListsRead, probe
from bebr.index.rescoring import Rescored, Rescoring, rescore_hits
from bebr.index.scan import ScanQueries, Selection, finished, scan
from bebr.index.scan_view import DamagedRows, ScanView
from bebr.index.segment import SegmentView
from bebr.index.view import ShardView
from bebr.shards.scan_rate import ScanRate
from bebr.shards.searched import Searched

Views = Sequence[ShardView]
Result = TypeVar("Result")


def search(
    view: ScanView,
    queries: Sequence[ScanQueries],
    grouping: Grouping | None = None,
    rescorings: Sequence[Rescoring] | None = None,
    rate: ScanRate | None = None,
    scanners: Executor | None = None,
    slices: int = 1,
    waits: bool = True,
) -> Searched:
    """The hits of each query, of all versions and parts: the same for any number of shards and threads.

    queries: for each version, the same queries in the same order. rescorings: of each query; None: candidates are hits
    by the scores of the scan. rate: is told how long the scan took. scanners: where there are several slices, each is
    scanned by a task of its own but the first one. Raises DamagedSegment; without `waits` NotInMemory where rescore
    codes would have to be waited for.
    """
    if not queries:
        return Searched([], dict(view.points))
    if not view.is_in_files:
        return _search(view, queries, grouping, rescorings, rate, scanners, slices, waits)
    checks_all = grouping is not None  # other scans check what they read
    while True:
        lost = view.begin_scan(checks_all=checks_all)
        try:
            found = _search(view, queries, grouping, rescorings, rate, scanners, slices, waits)
        except DamagedRows:
            checks_all = True  # which says where the damage is
            continue
        if view.is_unhurt(lost):
            return found


def _search(
    view: ScanView,
    queries: Sequence[ScanQueries],
    grouping: Grouping | None,
    rescorings: Sequence[Rescoring] | None,
    rate: ScanRate | None,
    scanners: Executor | None,
    slices: int,
    waits: bool,
) -> Searched:
    points = dict(view.points)
    if grouping is not None:
        return Searched(*_search_groups(view, queries, grouping, waits))
    limit = max([of_version.limit for of_version in queries])
    is_whole = all(one.lists is None for one in queries) and not any(queries[0].filters)
    measured = rate is not None and is_whole and rate.is_next(view.scan_size_bytes * len(queries[0]))
    began = time.thread_time() if measured else 0.0
    scans = [_scan(view, of_version, scanners, slices) for of_version in queries]
    by_version = [found for found, _ in scans]
    lists = {one.version: read for one, (_, read) in zip(queries, scans, strict=True) if read is not None}
    if rate is not None and measured:
        rate.note(view.scan_size_bytes, len(queries[0]), (time.thread_time() - began) * slices)
    joined = by_version[0] if len(queries) == 1 else [best_of(found, limit) for found in zip(*by_version, strict=True)]
    if rescorings is None:
        hits = [hits_of(view.parts, found, view.ids(found.places, found.rows), limit) for found in joined]
        return Searched(hits, points, lists=lists)
    started = time.perf_counter()
    hits, rows = rescore_hits(view, joined, queries, rescorings, waits)
    return Searched(hits, points, Rescored(rows, time.perf_counter() - started), lists)


def nearest(view: ScanView, queries: EmbeddingQueries, rate: ScanRate, waits: bool = False) -> Searched | None:
    """The same for embeddings; None: they cannot go the shortest way. rate: is told how long the scan took.

    Raises DamagedSegment; without `waits` NotInMemory.
    """
    held = lists_of(view, queries)
    is_whole = queries.lists is None and queries.filters is None
    measures = is_whole and rate.is_next(view.scan_size_bytes * len(queries))
    while True:
        lost = view.begin_scan(checks_all=False) if view.is_in_files else 0
        try:
            found = find_nearest(view, queries, held, waits=waits, measures=measures)
        except DamagedRows:
            return None
        if found is None:
            return None
        if not view.is_in_files or view.is_unhurt(lost):
            break
    if measures:
        rate.note(view.scan_size_bytes, len(queries), found.seconds)
    lists = {} if found.lists is None else {queries.version: found.lists}
    return Searched(found.found, dict(view.points), lists=lists, queries=found.queries)


def _search_groups(
    view: ScanView, queries: Sequence[ScanQueries], grouping: Grouping, waits: bool
) -> tuple[list[Found], dict[int, int], Rescored | None]:
    found = merge_groups([scan_groups(view.parts, of_version, grouping) for of_version in queries], grouping)
    if not grouping.kept:
        return [found], dict(view.points), None
    started = time.perf_counter()
    found, rows = rescore_groups(view, found, queries, grouping, waits)
    return [found], dict(view.points), Rescored([rows], time.perf_counter() - started)


def _scan(
    view: ScanView, queries: ScanQueries, scanners: Executor | None, slices: int
) -> tuple[list[Candidates], ListsRead | None]:
    """For each query the best rows of one version, with the scores of the answer; and which lists were read."""
    selection = view.of_version.get(queries.version)
    if selection is None:
        return [finished(NOTHING, query, queries, 1) for query in range(len(queries))], None
    read = None
    if (held := lists_of(view, queries)) is not None:
        found, read = probe(selection, view.parts, queries, held)
    elif scanners is None or slices == 1:
        found = scan(selection, view.parts, queries)
    else:
        first, *others = (view.native.select(places) for places in _sliced(selection, slices) if places)
        tasks = [scanners.submit(scan, some, view.parts, queries) for some in others]
        of_slices = [scan(first, view.parts, queries), *(task.result() for task in tasks)]
        found = [best_of(of_query, queries.limit) for of_query in zip(*of_slices, strict=True)]
    return [finished(one, query, queries, selection.spec.dims) for query, one in enumerate(found)], read


def lists_of(view: ScanView, queries: ScanQueries | EmbeddingQueries) -> ListsHeld | None:
    """The lists that a scan of these queries reads; None: it reads all rows, for few of them are in lists."""
    held = None if queries.lists is None else view.lists.get(queries.version)
    return None if held is None or 2 * held.rows < view.points[queries.version] else held


def _sliced(selection: Selection, slices: int) -> list[list[int]]:
    """The places of parts, in slices of about as many rows."""
    sliced: list[list[int]] = [[] for _ in range(slices)]
    totals = [0] * slices
    for rows, place in sorted(zip(selection.rows, selection.places, strict=True), reverse=True):
        least = totals.index(min(totals))
        sliced[least].append(place)
        totals[least] += rows
    return sliced


def unhurt(view: ScanView, read: Callable[[], Result]) -> Result:
    """What is read of columns and masks, again where a file that they are mapped from was cut short meanwhile. Raises
    DamagedSegment."""
    if not view.shared:
        return read()
    while True:
        lost = view.begin_scan(checks_all=False)
        found = read()
        if view.is_unhurt(lost):
            return found


def count(views: Views, condition: Filter | None) -> int:
    """How many points the filter holds for."""
    return sum(_count(part, condition) for view in views for part in view.parts)


def ids(views: Views, condition: Filter | None, after: str | None, limit: int) -> list[str]:
    """The first `limit` ids greater than `after`, ascending, of points the filter holds for."""
    streams = [_page(part, condition, after, limit) for view in views for part in view.parts]
    return list(islice(merge_sorted(*streams), limit))


def shard_ids(view: ShardView, condition: Filter | None) -> list[str]:
    """All ids of one shard the filter holds for, in no order."""
    return [point_id for part in view.parts for point_id in _some(part, condition, None)]


def version_ids(view: ShardView, version: int, limit: int | None) -> list[str]:
    """Up to `limit` ids, or all, of the living points of one code version in one shard, in no order."""
    pages = (_some(part, None, limit) for part in view.parts if part.version == version)
    return list(islice((point_id for page in pages for point_id in page), limit))


def _mask(part: Part, condition: Filter | None) -> NDArray[np.uint16]:
    return part.live if condition is None else part.mask(condition)


def _count(part: Part, condition: Filter | None) -> int:
    if condition is None:
        return part.live_count
    return int(unpack_mask(_mask(part, condition), part.rows).sum())


def _some(part: Part, condition: Filter | None, limit: int | None) -> Sequence[str]:
    """Up to `limit` ids, or all, in no order."""
    return part.ids_at(np.flatnonzero(unpack_mask(_mask(part, condition), part.rows))[:limit].tolist())


def _page(part: Part, condition: Filter | None, after: str | None, limit: int) -> Sequence[str]:
    """The first `limit` ids greater than `after`, ascending."""
    keep = unpack_mask(_mask(part, condition), part.rows)
    if isinstance(part, SegmentView):
        return part.ids_at(part.segment.first_kept(keep, after, limit).tolist())
    every = part.ids_at(np.flatnonzero(keep).tolist())
    return sorted(point_id for point_id in every if after is None or point_id > after)[:limit]
