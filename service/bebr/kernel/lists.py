"""Search by lists: centroids are scored first, and lists of rows are read, best first, by the rule of `core.lists`.

Also what makes the lists: which query scores a row best, and sums of rows. All calls release the GIL.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec
from bebr.core.scoring import DotQueries
from bebr.kernel import _kernel
from bebr.kernel.checks import Masks, check, check_dot_queries, check_rows, layout_of, select_isa
from bebr.kernel.parts import Candidates, CentroidTable, Selection

__all__ = ["CentroidTable", "accumulate", "assign", "best_queries", "centroid_scores", "list_candidates"]


def centroid_scores(table: CentroidTable, queries: DotQueries) -> NDArray[np.float32]:
    """What `core.lists.centroid_scores` makes of them: (queries, lists) float32."""
    select_isa()
    scores = np.empty((check_dot_queries(queries, table.spec), len(table)), np.float32)
    _kernel.centroid_scores(table.native, queries.values, queries.scales, scores)
    return scores


def list_candidates(
    selection: Selection,
    queries: DotQueries,
    k: int,
    masks: Sequence[Masks] = (),
    mask_of_query: NDArray[np.int32] | None = None,
    floors: NDArray[np.float32] | None = None,
    *,
    deltas: NDArray[np.float32],
    stop_at: NDArray[np.int32],
    flat_rows: NDArray[np.int64] | None = None,
) -> tuple[Candidates, NDArray[np.int64], NDArray[np.int64]]:
    """The k best rows of each query among those that it reads, and all that tie with the last of them; how many lists
    each query has read (queries,) int64, and how many rows in all (queries,) int64.

    Parts without lists are read first. A list is read over all parts that have its generation; lists without a row that
    is wanted are passed over, and rows that are not wanted do not count. deltas, stop_at: of a `core.lists.ListRule`.
    flat_rows: (queries,) int64; a query that has read more rows of lists than this reads all that is left, and finds
    what `dot_candidates` does. The other arguments are as there. A query finds the same alone and among others.
    """
    select_isa()
    count = check_dot_queries(queries, selection.spec)
    selection.check_wanted(k, masks, mask_of_query, count)
    if floors is not None:
        check(floors, np.float32, "floors", count)
    check(deltas, np.float32, "deltas", count)
    check(stop_at, np.int32, "stop_at", count)
    if flat_rows is None:
        flat_rows = np.full(count, np.iinfo(np.int64).max)
    check(flat_rows, np.int64, "flat_rows", count)
    found, lists, rows = _kernel.list_candidates(
        selection.parts.native, selection.places, queries.values, queries.scales, k, masks, mask_of_query, floors,
        deltas, stop_at, flat_rows,
    )  # fmt: skip
    return Candidates(*found), lists, rows


def assign(
    blocked: NDArray[np.uint8], rows: int, spec: CodeSpec, queries: DotQueries
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The query (rows,) int32 that scores each row best, the first of those that tie, and that score (rows,) float32,
    without the row's gain. Several threads may each take whole groups of the rows."""
    select_isa()
    check_rows(blocked, rows, layout_of(spec), 1)
    if not check_dot_queries(queries, spec):
        raise ValueError("expected at least one query")
    numbers, scores = np.empty(rows, np.int32), np.empty(rows, np.float32)
    _kernel.assign(layout_of(spec), blocked, rows, queries.values, queries.scales, numbers, scores)
    return numbers, scores


def best_queries(
    blocked: NDArray[np.uint8], rows: int, spec: CodeSpec, queries: DotQueries, k: int
) -> NDArray[np.int32]:
    """The k queries (rows, k) int32 that score each row best, best first, of those that tie the first ones; all of them
    where there are fewer. Several threads may each take whole groups of the rows."""
    select_isa()
    check_rows(blocked, rows, layout_of(spec), 1)
    count = check_dot_queries(queries, spec)
    if not count or k < 1:
        raise ValueError(f"expected at least one query and k of at least 1, got {count} and {k}")
    numbers = np.empty((rows, min(k, count)), np.int32)
    _kernel.best_queries(layout_of(spec), blocked, rows, queries.values, queries.scales, numbers)
    return numbers


def accumulate(
    blocked: NDArray[np.uint8],
    gains: NDArray[np.float16],
    rows: int,
    spec: CodeSpec,
    numbers: NDArray[np.int32],
    lists: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sums (lists, dims) float64 of gain * grid value over the rows of each list, and how many rows it has (lists,).

    numbers (rows,) int32: the list of each row. Times the steps of their blocks, sums are what rows add up to in code
    space. Millions of rows of usual gains add up exactly, in any order.
    """
    layout = layout_of(spec)
    check_rows(blocked, rows, layout, 1)
    check(gains, np.float16, "gains", rows)
    check(numbers, np.int32, "numbers", rows)
    if rows and not 0 <= int(numbers[:rows].min()) <= int(numbers[:rows].max()) < lists:
        raise ValueError(f"numbers must lie between 0 and {lists - 1}")
    sums, counts = np.zeros((lists, spec.dims)), np.zeros(lists, np.int64)
    _kernel.accumulate(layout, blocked, gains.view(np.uint16), rows, numbers, sums, counts)
    return sums, counts
