"""Which list a row belongs to: that of the centroid which, as a query, scores its code best; the first of several.

Where there are many lists, a row is only compared with those near its coarse centroid: a tenth of the work, and nearly
always the same list.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.codes import CodeSpec, grid_values, unpack_levels
from bebr.core.lists import Centroids, centroid_scores
from bebr.core.scoring import DotQueries

CHUNK_SCORES = 2**22
"""Scores that are in memory at once."""
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
            numbers[some], scores[some] = _best_queries(of_some, some.stop - start, spec, centroids.assigning)
        else:
            numbers[some], scores[some] = _best_near(of_some, some.stop - start, spec, centroids)
    return numbers, scores


def _best_near(blocked: NDArray[np.uint8], rows: int, spec: CodeSpec, centroids: Centroids) -> Assigned:
    assert centroids.coarse is not None
    numbers, scores = np.empty(rows, np.int32), np.empty(rows, np.float32)
    coarse_of, _ = _best_queries(blocked, rows, spec, centroids.coarse)
    of_lists = centroid_scores(centroids, centroids.coarse)
    wanted = max(MIN_NEAR, len(centroids) // NEAR_SHARE)
    for number in np.unique(coarse_of).tolist():
        which = np.flatnonzero(coarse_of == number)
        near = np.sort(np.argsort(-of_lists[number], kind="stable")[:wanted])
        queries = DotQueries(centroids.assigning.values[near], centroids.assigning.scales[near])
        some = kernel.allocate(kernel.blocked_size_bytes(spec, len(which)))
        kernel.pack(kernel.unpack(blocked, spec, which), spec, some, 0)
        found, scores[which] = _best_queries(some, len(which), spec, queries)
        numbers[which] = near[found]
    return numbers, scores


def _best_queries(blocked: NDArray[np.uint8], rows: int, spec: CodeSpec, queries: DotQueries) -> Assigned:
    """The query (rows,) that scores each row best, and that score (rows,)."""
    numbers, scores = np.empty(rows, np.int32), np.empty(rows, np.float32)
    values = queries.values.astype(np.float32).T
    step = max(1, CHUNK_SCORES // len(queries))
    for start in range(0, rows, step):
        some = np.arange(start, min(rows, start + step))
        grid = grid_values(unpack_levels(kernel.unpack(blocked, spec, some), spec), spec).astype(np.float32)
        total = np.zeros((len(some), len(queries)), np.float32)
        for b, dims in enumerate(spec.dim_slices):  # float32 holds these integer sums exactly
            total += queries.scales[None, :, b] * (grid[:, dims] @ values[dims])
        numbers[some] = total.argmax(axis=1)
        scores[some] = total[np.arange(len(some)), numbers[some]]
    return numbers, scores
