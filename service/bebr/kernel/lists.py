"""Search by lists: centroids are scored first, and lists of rows are read, best first, by the rule of `core.lists`."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bebr.core.scoring import DotQueries
from bebr.kernel import _kernel
from bebr.kernel.checks import Masks, check, check_dot_queries, select_isa
from bebr.kernel.parts import Candidates, CentroidTable, Selection

__all__ = ["CentroidTable", "centroid_scores", "list_candidates"]


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
    if count and not 1 <= int(stop_at.min()) <= int(stop_at.max()) <= k:
        raise ValueError(f"stop_at must lie between 1 and {k}")
    if flat_rows is None:
        flat_rows = np.full(count, np.iinfo(np.int64).max)
    check(flat_rows, np.int64, "flat_rows", count)
    found, lists, rows = _kernel.list_candidates(
        selection.parts.native, selection.places, queries.values, queries.scales, k, masks, mask_of_query, floors,
        deltas, stop_at, flat_rows,
    )  # fmt: skip
    return Candidates(*found), lists, rows
