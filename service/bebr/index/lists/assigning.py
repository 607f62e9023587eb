"""Which list a row belongs to: that of the centroid which, as a query, scores its code best; the first of several.

Where there are many lists, a row is only compared with those near its coarse centroid: a tenth of the work, and nearly
always the same list.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.codes import CodeSpec
from bebr.core.lists import Centroids, centroid_scores
from bebr.core.scoring import DotQueries

MIN_NEAR, NEAR_SHARE = 512, 8
"""With how many lists a row is compared: an eighth of all, but no fewer than these."""

CHUNK_ROWS = 2**17
"""Rows that are assigned between two questions whether to go on; whole groups."""

Assigned = tuple[NDArray[np.int32], NDArray[np.float32]]


class Stopped(Exception):
    """Whoever wanted it wants it no more."""


def have_room(rows: int, centroids: Centroids) -> bool:
    """Whether this many rows are worth lists: with fewer rows than lists, most would be empty."""
    return rows >= len(centroids)


def assign(
    blocked: NDArray[np.uint8],
    rows: int,
    spec: CodeSpec,
    centroids: Centroids,
    is_wanted: Callable[[], bool] = lambda: True,
) -> Assigned:
    """Blocked codes -> the list (rows,) int32 of each row, and its score (rows,) float32 there, without its gain.

    is_wanted: asked now and then. Raises Stopped when it says no.
    """
    numbers, scores = np.empty(rows, np.int32), np.empty(rows, np.float32)
    for start in range(0, rows, CHUNK_ROWS):
        if not is_wanted():
            raise Stopped
        some = slice(start, min(rows, start + CHUNK_ROWS))
        of_some = blocked[kernel.blocked_size_bytes(spec, start) : kernel.blocked_size_bytes(spec, some.stop)]
        if centroids.coarse is None:
            numbers[some], scores[some] = kernel.assign(of_some, some.stop - start, spec, centroids.assigning)
        else:
            numbers[some], scores[some] = _best_near(of_some, some.stop - start, spec, centroids)
    return numbers, scores


def _best_near(blocked: NDArray[np.uint8], rows: int, spec: CodeSpec, centroids: Centroids) -> Assigned:
    assert centroids.coarse is not None
    numbers, scores = np.empty(rows, np.int32), np.empty(rows, np.float32)
    coarse_of, _ = kernel.assign(blocked, rows, spec, centroids.coarse)
    of_lists = centroid_scores(centroids, centroids.coarse)
    wanted = max(MIN_NEAR, len(centroids) // NEAR_SHARE)
    for number in np.unique(coarse_of).tolist():
        which = np.flatnonzero(coarse_of == number)
        near = np.sort(np.argsort(-of_lists[number], kind="stable")[:wanted])
        queries = DotQueries(centroids.assigning.values[near], centroids.assigning.scales[near])
        some = kernel.allocate(kernel.blocked_size_bytes(spec, len(which)))
        kernel.pack(kernel.unpack(blocked, spec, which), spec, some, 0)
        found, scores[which] = kernel.assign(some, len(which), spec, queries)
        numbers[which] = near[found]
    return numbers, scores
