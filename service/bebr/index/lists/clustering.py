"""Centroids of codes: spherical k-means in code space, on a sample of the codes themselves.

A round assigns every row to its best centroid, which becomes the unit vector along the sum of its rows. A list that no
row belongs to begins anew at a row drawn from all. The same sample, seed and settings make the same centroids.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.codes import CodeSpec, grid_values, split_records, unpack_levels
from bebr.core.lists import Centroids, rounded, unit_centroids
from bebr.core.scoring import DotQueries, prepare_adc
from bebr.index.lists.assigning import assign

ROWS_PER_LIST = 110
"""About so many rows of a code version make a list."""
MAX_LISTS = 2**14
"""More are not made: every search scores all centroids."""
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
    is_wanted: Callable[[], bool] = lambda: True,
) -> Centroids:
    """The centroids of a sample of records (n, at least scan_record_size_bytes) uint8, n at least `lists`.

    rows: of the version. is_wanted: asked now and then. Raises Stopped when it says no. It computes for long: for
    threads.
    """
    random = np.random.default_rng(seed)
    codes, gains = split_records(records[:, : space.spec.scan_record_size_bytes], space.spec.scan)
    held_out = min(len(codes) - lists, int(len(codes) * HELD_OUT_SHARE), HELD_OUT_ROWS)
    order = random.permutation(len(codes))
    sample = _Sample(codes[order[held_out:]], gains[order[held_out:]], space)
    units = unit_centroids(sample.rows(random.choice(len(sample), lists, replace=False)), space.metric)
    for _ in range(rounds):
        numbers, _ = sample.assigned(space.queries(units), is_wanted)
        sums, counts = sample.sums(numbers, lists)
        empty = np.flatnonzero(counts == 0)
        sums[empty] = sample.rows(random.integers(0, len(sample), len(empty)))
        units = unit_centroids(sums, space.metric)
    queries = space.queries(units)
    rest = _Sample(codes[order[:held_out]], gains[order[:held_out]], space) if held_out else sample
    _, scores = rest.assigned(queries, is_wanted)
    mean_score = float((scores * rest.gains.astype(np.float32)).mean())
    values, scales = rounded(units, space.spec, space.steps)
    return Centroids(version, generation, space.spec, values, scales, queries, rows, mean_score)


class _Sample:
    """Codes that centroids are made of."""

    def __init__(self, codes: NDArray[np.uint8], gains: NDArray[np.float16], space: CodeSpace) -> None:
        self.gains = gains
        self._codes, self._space = codes, space
        self._blocked = kernel.allocate(kernel.blocked_size_bytes(space.spec, len(codes)))
        kernel.pack(codes, space.spec, self._blocked, 0)
        self._steps = np.repeat(space.steps.astype(np.float64), space.spec.block_dims)

    def __len__(self) -> int:
        return len(self._codes)

    def rows(self, which: NDArray[np.int64]) -> Floats:
        """(n, dims): what these rows are in code space."""
        grid = grid_values(unpack_levels(self._codes[which], self._space.spec.scan), self._space.spec.scan)
        rows: Floats = grid * self._steps * self.gains[which].astype(np.float64)[:, None]
        return rows

    def assigned(
        self, queries: DotQueries, is_wanted: Callable[[], bool]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The list and the score of each row."""
        return assign(self._blocked, len(self), self._space.spec, queries, is_wanted)

    def sums(self, numbers: NDArray[np.int32], lists: int) -> tuple[Floats, NDArray[np.int64]]:
        """The sum (lists, dims) of the rows of each list in code space, and how many these are."""
        sums, counts = kernel.accumulate(self._blocked, self.gains, len(self), self._space.spec, numbers, lists)
        return sums * self._steps, counts
