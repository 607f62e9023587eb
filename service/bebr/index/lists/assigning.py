"""Which list a row belongs to: that of the centroid which, as a query, scores its code best; the first of several.

Where lists lie in cells, only those of the row's best cells are compared.
"""

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.codes import CodeSpec
from bebr.core.lists import Cells, Centroids
from bebr.core.scoring import DotQueries
from bebr.kernel import blocked_size_bytes as blocked_bytes

CHUNK_ROWS = 2**17
"""Rows that are assigned between two questions whether to go on; whole groups."""

CELLS_COMPARED = 8
"""Of a row with the lists of its best cells (docs/benchmarks.md#cells)."""

Assigned = tuple[NDArray[np.int32], NDArray[np.float32]]


class Stopped(Exception):
    """Whoever wanted it wants it no more."""


def chunks_of(rows: int) -> int:
    """How often `assign` asks whether to go on with so many rows."""
    return -(-rows // CHUNK_ROWS)


def have_room(rows: int, centroids: Centroids) -> bool:
    """Whether this many rows are worth lists: with fewer rows than lists, most would be empty."""
    return rows >= len(centroids)


def assign(
    blocked: NDArray[np.uint8],
    rows: int,
    spec: CodeSpec,
    queries: DotQueries,
    cells: Cells | None = None,
    is_wanted: Callable[[], bool] = lambda: True,
) -> Assigned:
    """Blocked codes and `Centroids.assigning` -> the list (rows,) int32 of each row, and its score (rows,) float32
    there, without its gain.

    cells: in which these lists lie. is_wanted: asked now and then. Raises Stopped when it says no.
    """
    numbers, scores = np.empty(rows, np.int32), np.empty(rows, np.float32)
    for start in range(0, rows, CHUNK_ROWS):
        if not is_wanted():
            raise Stopped
        some = slice(start, min(rows, start + CHUNK_ROWS))
        of_some = blocked[blocked_bytes(spec, start) : blocked_bytes(spec, some.stop)]
        count = some.stop - start
        if cells is None:
            numbers[some], scores[some] = kernel.assign(of_some, count, spec, queries)
        else:
            numbers[some], scores[some] = _assign_by_cells(of_some, count, spec, queries, cells)
    return numbers, scores


def assign_lists(
    blocked: NDArray[np.uint8], rows: int, centroids: Centroids, is_wanted: Callable[[], bool] = lambda: True
) -> Assigned:
    """As `assign`."""
    return assign(blocked, rows, centroids.spec, centroids.assigning, centroids.cells, is_wanted)


def _assign_by_cells(
    blocked: NDArray[np.uint8], rows: int, spec: CodeSpec, queries: DotQueries, cells: Cells
) -> Assigned:
    numbers, scores = np.zeros(rows, np.int32), np.full(rows, -np.inf, np.float32)
    compared = kernel.best_queries(blocked, rows, spec, cells.assigning, CELLS_COMPARED)
    codes = kernel.unpack(blocked, spec, np.arange(rows))
    order = np.argsort(compared.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(compared.ravel(), minlength=len(cells))).tolist()
    for (first, end), (start, stop) in zip(
        itertools.pairwise(cells.begin.tolist()), itertools.pairwise([0, *ends]), strict=True
    ):
        if first == end or start == stop:
            continue
        members = order[start:stop] // compared.shape[1]
        packed = kernel.allocate(blocked_bytes(spec, len(members)))
        kernel.pack(codes[members], spec, packed, 0)
        of_cell = DotQueries(queries.values[first:end], queries.scales[first:end])
        found, of_found = kernel.assign(packed, len(members), spec, of_cell)
        better = of_found > scores[members]
        numbers[members[better]], scores[members[better]] = first + found[better], of_found[better]
    left = np.flatnonzero(np.isneginf(scores))  # none of their cells has a list
    if len(left):
        packed = kernel.allocate(blocked_bytes(spec, len(left)))
        kernel.pack(codes[left], spec, packed, 0)
        numbers[left], scores[left] = kernel.assign(packed, len(left), spec, queries)
    return numbers, scores
