"""Which list a row belongs to: that of the centroid which, as a query, scores its code best; the first of several."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.codes import CodeSpec
from bebr.core.lists import Centroids
from bebr.core.scoring import DotQueries

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
    queries: DotQueries,
    is_wanted: Callable[[], bool] = lambda: True,
) -> Assigned:
    """Blocked codes and `Centroids.assigning` -> the list (rows,) int32 of each row, and its score (rows,) float32
    there, without its gain.

    is_wanted: asked now and then. Raises Stopped when it says no.
    """
    numbers, scores = np.empty(rows, np.int32), np.empty(rows, np.float32)
    for start in range(0, rows, CHUNK_ROWS):
        if not is_wanted():
            raise Stopped
        some = slice(start, min(rows, start + CHUNK_ROWS))
        of_some = blocked[kernel.blocked_size_bytes(spec, start) : kernel.blocked_size_bytes(spec, some.stop)]
        numbers[some], scores[some] = kernel.assign(of_some, some.stop - start, spec, queries)
    return numbers, scores
