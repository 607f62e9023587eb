"""Centroids of codes: spherical k-means in code space, on a sample of the codes themselves.

A round assigns every row to its best centroid, which becomes the unit vector along the sum of its rows. A list that no
row belongs to begins anew at a row drawn from all. The same sample, seed and settings make the same centroids.

Very many lists lie in cells, about as many as a cell has lists. Cells are clustered first, of a small part of the
sample; lists then as ever, but that rows are compared with those of their best cells only, and lists put into the cell
that they are nearest to after every round.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.codes import CodeSpec, grid_values, split_records, unpack_levels
from bebr.core.lists import MAX_LISTS, Cells, Centroids, rounded, unit_centroids
from bebr.core.scoring import DotQueries, prepare_adc
from bebr.index.lists.assigning import assign, assign_lists, chunks_of

ROWS_PER_LIST = 110
"""About so many rows of a code version make a list."""
CELLS_ABOVE_LISTS = 2**14
"""More lists lie in cells, as a search that scored all their centroids would do little else."""
SAMPLE_ROWS_PER_CELL = 256
MAX_SAMPLE_ROWS = 2**22
"""More are not taken: lists are made of fewer rows each."""
SAMPLE_ROWS_PER_LIST = 64
"""Rows that centroids are made of."""
ROUNDS = 8
HELD_OUT_ROWS, HELD_OUT_SHARE = 4096, 0.25
"""So many rows of the sample, and no larger share, make no centroid: their scores are those of rows to come."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CodeSpace:
    """How codes of a version are compared."""

    spec: CodeSpec
    steps: NDArray[np.float32]
    """(blocks,): the step of each block's grid."""
    metric: NDArray[np.float32] | None
    """(dims, dims): see `core.lists.unit_centroids`."""

    def queries(self, units: Floats) -> DotQueries:
        """Unit vectors (n, dims) in code space as queries."""
        products = units if self.metric is None else units @ self.metric.astype(np.float64)
        return prepare_adc(products.astype(np.float32), self.spec, self.steps)


def lists_for(rows: int) -> int:
    """How many lists a code version of this many rows has: a power of two."""
    return int(min(MAX_LISTS, max(2, 2 ** round(np.log2(max(1, rows) / ROWS_PER_LIST)))))


def sample_rows_for(lists: int) -> int:
    """Of how many rows so many centroids are made."""
    return min(lists * SAMPLE_ROWS_PER_LIST, MAX_SAMPLE_ROWS)


def cells_for(lists: int) -> int:
    """In how many cells so many lists lie: a power of two."""
    return int(2 ** ((int(np.log2(lists)) + 1) // 2))


def cluster(
    records: NDArray[np.uint8],
    space: CodeSpace,
    lists: int,
    *,
    version: int,
    generation: int,
    rows: int,
    seed: int = 0,
    rounds: int = ROUNDS,
    cells_above: int | None = None,
    is_wanted: Callable[[], bool] = lambda: True,
    advanced: Callable[[float], None] = lambda share: None,
) -> Centroids:
    """The centroids of a sample of records (n, at least scan_record_size_bytes) uint8, n at least `lists`.

    rows: of the version. cells_above: more lists lie in cells, by default than CELLS_ABOVE_LISTS. is_wanted: asked now
    and then. advanced: told before each of these questions which share of the work is done. Raises Stopped when
    is_wanted says no. It computes for long: for threads.
    """
    random = np.random.default_rng(seed)
    codes, gains = split_records(records[:, : space.spec.scan_record_size_bytes], space.spec.scan)
    held_out = min(len(codes) - lists, int(len(codes) * HELD_OUT_SHARE), HELD_OUT_ROWS)
    order = random.permutation(len(codes))
    sample = _Sample(codes[order[held_out:]], gains[order[held_out:]], space)
    rounds_of = _Rounds(random, rounds, is_wanted, advanced)
    if lists > (CELLS_ABOVE_LISTS if cells_above is None else cells_above):
        units, cells = _cluster_by_cells(sample, lists, rounds_of)
    else:
        units, cells = rounds_of.centroids(sample, lists), None
    values, scales = rounded(units, space.spec, space.steps)
    made = Centroids(version, generation, space.spec, values, scales, space.queries(units), rows, cells=cells)
    rest = _Sample(codes[order[:held_out]], gains[order[:held_out]], space) if held_out else sample
    _, of_rest = assign_lists(rest.blocked, len(rest), made, is_wanted)
    return replace(made, mean_score=float((of_rest * rest.gains.astype(np.float32)).mean()))


def _cluster_by_cells(sample: "_Sample", lists: int, rounds: "_Rounds") -> tuple[Floats, Cells]:
    """Unit centroids (lists, dims), those of each cell together, and the cells."""
    space, count = sample.space, cells_for(lists)
    few = np.sort(rounds.random.permutation(len(sample))[: count * SAMPLE_ROWS_PER_CELL])
    of_cells = replace(rounds, advanced=lambda share: None)  # it takes next to no time beside the lists
    cells = _Cells(of_cells.centroids(sample.part(few), count), space)
    return rounds.centroids(sample, lists, cells), cells.last


class _Cells:
    """Cells that lists are put into after each round."""

    def __init__(self, units: Floats, space: CodeSpace) -> None:
        """units (cells, dims): their centroids."""
        products = units if space.metric is None else units @ space.metric.astype(np.float64)
        self._products, self._queries = products, space.queries(units)
        self._rounded = rounded(units, space.spec, space.steps)

    def sorted(self, units: Floats) -> Floats:
        """Units (lists, dims) of lists, those of each cell together."""
        cell_of = np.argmax(units @ self._products.T, axis=1)
        sizes = np.bincount(cell_of, minlength=len(self._products))
        begin = np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint32)
        self.last = Cells(begin, *self._rounded, self._queries)
        return units[np.argsort(cell_of, kind="stable")]


@dataclass(frozen=True, slots=True)
class _Rounds:
    """K-means, so many rounds of it."""

    random: np.random.Generator
    count: int
    is_wanted: Callable[[], bool]
    advanced: Callable[[float], None]

    def centroids(self, sample: "_Sample", lists: int, cells: "_Cells | None" = None) -> Floats:
        """Unit vectors (lists, dims) in code space."""
        space, random = sample.space, self.random
        done, chunks = itertools.count(), self.count * chunks_of(len(sample))

        def goes_on() -> bool:
            """Asked before each chunk of rows."""
            self.advanced(next(done) / chunks)
            return self.is_wanted()

        units = unit_centroids(sample.rows(random.choice(len(sample), lists, replace=False)), space.metric)
        for _ in range(self.count):
            units = cells.sorted(units) if cells else units
            numbers, _ = sample.assigned(space.queries(units), goes_on, cells.last if cells else None)
            sums, counts = sample.sums(numbers, lists)
            empty = np.flatnonzero(counts == 0)
            sums[empty] = sample.rows(random.integers(0, len(sample), len(empty)))
            units = unit_centroids(sums, space.metric)
        return cells.sorted(units) if cells else units


class _Sample:
    """Codes that centroids are made of."""

    def __init__(self, codes: NDArray[np.uint8], gains: NDArray[np.float16], space: CodeSpace) -> None:
        self.gains, self.space = gains, space
        self._codes = codes
        self.blocked = kernel.allocate(kernel.blocked_size_bytes(space.spec, len(codes)))
        kernel.pack(codes, space.spec, self.blocked, 0)
        self._steps = np.repeat(space.steps.astype(np.float64), space.spec.block_dims)

    def __len__(self) -> int:
        return len(self._codes)

    def part(self, which: NDArray[np.int64]) -> "_Sample":
        """These rows of it."""
        return _Sample(self._codes[which], self.gains[which], self.space)

    def rows(self, which: NDArray[np.int64]) -> Floats:
        """(n, dims): what these rows are in code space."""
        grid = grid_values(unpack_levels(self._codes[which], self.space.spec.scan), self.space.spec.scan)
        rows: Floats = grid * self._steps * self.gains[which].astype(np.float64)[:, None]
        return rows

    def assigned(
        self, queries: DotQueries, is_wanted: Callable[[], bool], cells: Cells | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The list and the score of each row."""
        return assign(self.blocked, len(self), self.space.spec, queries, cells, is_wanted)

    def sums(self, numbers: NDArray[np.int32], lists: int) -> tuple[Floats, NDArray[np.int64]]:
        """The sum (lists, dims) of the rows of each list in code space, and how many these are."""
        sums, counts = kernel.accumulate(self.blocked, self.gains, len(self), self.space.spec, numbers, lists)
        return sums * self._steps, counts
