"""Random samples of the codes of one code version, and in which lists its rows are, over views of several shards."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.codes import join_records
from bebr.core.lists import Centroids
from bebr.index.columns import unpack_mask
from bebr.index.compaction import is_to_sort
from bebr.index.segment import SegmentView
from bebr.index.view import ShardView


@dataclass(frozen=True, slots=True)
class ListStats:
    """In which lists the living rows of one code version are."""

    current: int
    """Rows in lists of the current generation."""
    older: int
    """In lists of other centroids."""
    without: int
    """In none."""
    mean_score: float | None
    """Of the rows in lists of the current generation to their centroids; None: there are none."""
    largest: int
    """Rows of the largest list of one segment."""
    unsorted: int
    """Rows of segments that are still to be sorted by the lists of the current generation."""
    generations: tuple[int, ...]
    """Those that segments have."""


def sample(views: Sequence[ShardView], version: int, rows: int, seed: int) -> NDArray[np.uint8]:
    """Scan codes and gains (n, scan_record_size_bytes) uint8 of up to `rows` living points of a code version, drawn at
    random; the same of the same views. Raises DamagedSegment."""
    parts = [part for view in views for part in view.parts if part.version == version and part.live_count]
    starts = np.cumsum([0, *(part.live_count for part in parts)])
    drawn = np.random.default_rng(seed).choice(starts[-1], min(rows, int(starts[-1])), replace=False)
    drawn.sort()
    records = []
    for part, start, stop in zip(parts, starts[:-1], starts[1:], strict=True):
        if isinstance(part, SegmentView):
            part.segment.check()
        which = drawn[np.searchsorted(drawn, start) : np.searchsorted(drawn, stop)] - start
        if isinstance(part, SegmentView):
            part.segment.check()
        living = np.flatnonzero(unpack_mask(part.live, part.rows))[which]
        records.append(join_records(kernel.unpack(part.blocked, part.spec, living), part.gains[living]))
    return np.concatenate(records) if records else np.empty((0, 0), np.uint8)


def list_stats(views: Sequence[ShardView], version: int, centroids: Centroids | None) -> ListStats:
    """In which lists the living rows of a code version are. centroids: those by which rows are sorted now."""
    current, older, without, largest, unsorted, scores = 0, 0, 0, 0, 0, 0.0
    in_use = set()
    for part in (part for view in views for part in view.parts if part.version == version):
        lists = part.segment.lists if isinstance(part, SegmentView) else None
        if centroids is not None and isinstance(part, SegmentView) and is_to_sort(part, centroids):
            unsorted += part.live_count
        if lists is None:
            without += part.live_count
            continue
        in_use.add(lists.generation)
        if centroids is None or not lists.are_of(centroids):
            older += part.live_count
            continue
        current += part.live_count
        scores += lists.mean_score * part.live_count
        largest = max(largest, int(np.diff(lists.begin).max(initial=0)))
    mean_score = scores / current if current else None
    return ListStats(current, older, without, mean_score, largest, unsorted, tuple(sorted(in_use)))
