"""Centroids of no meaning, for tests that hold answers to be the same whatever the lists are."""

import numpy as np

from bebr.core.codes import CodeSpec
from bebr.core.lists import Cells, Centroids
from bebr.core.scoring import DotQueries


def random_centroids(
    rng: np.random.Generator, spec: CodeSpec, version: int = 0, generation: int = 1, lists: int = 5
) -> Centroids:
    """Every other generation has cells."""
    values = rng.integers(-127, 128, (lists, spec.dims)).astype(np.int8)
    scales = rng.random((lists, len(spec.blocks))).astype(np.float32)
    assigning = DotQueries(rng.integers(-127, 128, values.shape).astype(np.int8), scales)
    cells = random_cells(rng, spec, lists) if generation % 2 else None
    return Centroids(version, generation, spec, values, scales, assigning, cells=cells)


def random_cells(rng: np.random.Generator, spec: CodeSpec, lists: int, count: int = 12) -> Cells:
    begin = np.array([0, *sorted(rng.integers(0, lists + 1, count - 1).tolist()), lists], np.uint32)
    values = rng.integers(-127, 128, (count, spec.dims)).astype(np.int8)
    scales = rng.random((count, len(spec.blocks))).astype(np.float32)
    assigning = DotQueries(rng.integers(-127, 128, values.shape).astype(np.int8), scales)
    return Cells(begin, values, scales, assigning)
