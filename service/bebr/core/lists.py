"""Lists (IVF) over codes: what centroids are, how queries score them, and which lists a search reads. Plain numpy.

The rows of a sealed segment are sorted by *list*: that of the centroid whose unit vector scores the row best. Centroids
are those of one *generation* of a code version, the same for all of its segments. A query scores the centroids,

    centroid score(q, l) = sum_b s_qb t_lb <v_q, c_l>_b       v_q, s_qb: the query's values and scales of block b
                                                              c_l, t_lb: the centroid's

and reads lists, best first, while

    centroid score >= score of the k-th best hit so far - delta

where a floor that scores must reach counts as a hit. Rows that are in no list are read before. `delta` says how much a
row may score above the centroid of its list and still be found: a larger one finds more and reads more.

Where there are very many lists they lie in *cells*, whose centroids are scored first: a cell is a range of lists near
each other. A query scores the lists of its best cells only. Once it has passed a share of them, so that others might be
as good, it scores those of twice as many cells, and goes on with the best list that it has not passed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec
from bebr.core.scoring import DotQueries

MAX_LISTS = 2**17
FIRST_CELLS = 4
"""The lists of one of so many cells are scored first, of twice as many at every later stage."""
PASSED = 64
"""Once a query has passed one of so many of the lists that are scored, it scores more."""
DEFAULT_RECALL = 0.98
"""Share of the exact hits that searches by lists find, unless they say otherwise."""
MIN_RECALL, MAX_RECALL = 0.5, 0.999
"""What can be wanted of them."""


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of a generation of lists, of which each is a range of lists."""

    begin: NDArray[np.uint32]
    """(cells + 1,): cell c has the lists begin[c] up to begin[c + 1]."""
    values: NDArray[np.int8]
    """(cells, dims): their centroids, as those of lists."""
    scales: NDArray[np.float32]
    """(cells, blocks)."""
    assigning: DotQueries
    """Their centroids as queries: a row is compared with the lists of the cells that score it best."""

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Centroids:
    """The centroids of one generation, for the codes of one version. They never change."""

    version: int
    """Number of the code version."""
    generation: int
    """From 1; a later one replaces it."""
    spec: CodeSpec
    """Of the scan codes."""
    values: NDArray[np.int8]
    """(lists, dims): unit centroids in code space, in grid units, rounded."""
    scales: NDArray[np.float32]
    """(lists, blocks): of the values, so that value * scale is in grid units."""
    assigning: DotQueries
    """The centroids as queries: a row belongs to the list whose query scores it best, the first of those that tie."""
    rows: int = 0
    """Rows of the version when the centroids were made."""
    mean_score: float = 0.0
    """Mean score of rows like those that they were made of to the centroid of their list; falls where data drift."""
    cells: Cells | None = None
    """Where there are very many lists."""
    checksum: int = field(init=False)
    """crc32 of values and scales: tells these centroids from others with the same number."""

    def __post_init__(self) -> None:
        found = crc32(np.ascontiguousarray(self.scales).data, crc32(np.ascontiguousarray(self.values).data))
        object.__setattr__(self, "checksum", found)

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class ListRule:
    """How the lists are read for the queries of one scan."""

    deltas: NDArray[np.float32]
    """(queries,): see above; infinite: all lists are read."""
    stop_at: NDArray[np.int32]
    """(queries,): which hit is the k-th of the rule: 1 up to the hits wanted."""


def unit_centroids(sums: NDArray[np.float64], metric: NDArray[np.float32] | None) -> NDArray[np.float64]:
    """Sums (lists, dims) of decoded rows in code space -> the same as unit vectors of what codes represent.

    metric: (dims, dims), the product of decoded dimensions, so that <a, b> of what two vectors of code space represent
    is a @ metric @ b; None: dimensions are orthogonal. A zero sum stays zero.
    """
    products = sums if metric is None else sums @ metric.astype(np.float64)
    norms = np.sqrt(np.maximum((products * sums).sum(axis=1, keepdims=True), 0))
    units: NDArray[np.float64] = np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0)
    return units


def rounded(
    centroids: NDArray[np.float64], spec: CodeSpec, steps: NDArray[np.float32]
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Centroids (lists, dims) in code space -> values (lists, dims) int8 and scales (lists, blocks) float32."""
    in_grid = centroids / np.repeat(steps.astype(np.float64), spec.block_dims)
    peaks = np.maximum.reduceat(np.abs(in_grid), spec.block_starts, axis=1)
    peaks[peaks == 0] = 1
    scales = (peaks / 127).astype(np.float32)
    values = np.rint(in_grid / np.repeat(peaks / 127, spec.block_dims, axis=1))
    return values.astype(np.int8), scales


def centroid_scores(centroids: Centroids, queries: DotQueries) -> NDArray[np.float32]:
    """(queries, lists) float32."""
    return dot_sums(queries, centroids.values, centroids.scales, centroids.spec)


def dot_sums(
    queries: DotQueries, values: NDArray[np.int8], scales: NDArray[np.float32], spec: CodeSpec
) -> NDArray[np.float32]:
    """What centroids (n, dims), (n, blocks) of lists or cells score: (queries, n) float32.

    Integer sums per block; then, in float32 and in this order: (scale_q0 * scale_l0) * sum_0, + ... of the next block.
    """
    total = np.zeros((len(queries), len(values)), np.float32)
    for b, dims in enumerate(spec.dim_slices):
        sums = queries.values[:, dims].astype(np.float64) @ values[:, dims].T.astype(np.float64)
        total += (queries.scales[:, b, None] * scales[None, :, b]) * sums.astype(np.float32)
    return total


def lists_scored(centroids: Centroids, query: DotQueries, stage: int) -> NDArray[np.bool_]:
    """(lists,): those that one query scores at a stage, which are all of them where there are no cells."""
    cells = centroids.cells
    if cells is None:
        return np.ones(len(centroids), bool)
    count = min(len(cells), max(1, len(cells) // FIRST_CELLS) << stage)
    scores = dot_sums(query, cells.values, cells.scales, centroids.spec)[0]
    is_scored = np.zeros(len(cells), bool)
    is_scored[np.argsort(-scores, kind="stable")[:count]] = True
    begin = cells.begin.astype(np.int64)
    return np.repeat(is_scored, begin[1:] - begin[:-1])


def in_order(scores: NDArray[np.float32], stages: Sequence[NDArray[np.bool_]]) -> Iterator[int]:
    """All lists in the order in which a query passes them, if nothing stops it.

    scores: (lists,) of their centroids. stages: which lists are scored at each stage; all of them at the last.
    """
    passed: list[int] = []
    for is_scored in stages:
        limit = len(scores) if is_scored.all() else int(is_scored.sum()) // PASSED
        left = np.setdiff1d(np.flatnonzero(is_scored), passed)
        for number in left[np.argsort(-scores[left], kind="stable")].tolist():
            if len(passed) >= limit:
                break
            passed.append(number)
            yield number


def lists_read(
    scores: NDArray[np.float32],
    rows_of_list: Sequence[NDArray[np.int64]],
    row_scores: NDArray[np.float32],
    first_rows: NDArray[np.int64],
    *,
    stop_at: int,
    delta: float,
    floor: float = -np.inf,
    stages: Sequence[NDArray[np.bool_]] = (),
) -> tuple[list[int], NDArray[np.int64]]:
    """The lists that a query reads, in order, and all rows that it has read then.

    scores: (lists,) of the centroids; those of several generations stand one after the other. rows_of_list: the rows of
    each that count; a list without any is passed over. row_scores: (rows,) of all rows. first_rows: those in no list.
    stages: see `in_order`; none: all lists are scored at once.
    """
    read: list[int] = []
    rows = first_rows
    for number in in_order(scores, stages or [np.ones(len(scores), bool)]):
        so_far = np.sort(row_scores[rows])[::-1]
        best = float(so_far[stop_at - 1]) if len(so_far) >= stop_at else -np.inf
        if not scores[number] >= np.float32(np.float32(max(best, floor)) - np.float32(delta)):
            break
        if len(rows_of_list[number]):
            read.append(number)
            rows = np.concatenate([rows, rows_of_list[number]])
    return read, rows
