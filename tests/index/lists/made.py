"""Centroids of no meaning, for tests that hold answers to be the same whatever the lists are."""

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec
from bebr.core.lists import Cells, Centroids
from bebr.core.scoring import DotQueries, dot_scores
from bebr.index.lists.assigning import CELLS_COMPARED


def random_centroids(
    rng: np.random.Generator, spec: CodeSpec, version: int = 0, generation: int = 1, lists: int = 5
) -> Centroids:
    """Every other generation has cells."""
    values = rng.integers(-127, 128, (lists, spec.dims)).astype(np.int8)
    scales = rng.random((lists, len(spec.blocks))).astype(np.float32)
    assigning = DotQueries(rng.integers(-127, 128, values.shape).astype(np.int8), scales)
    cells = random_cells(np.random.default_rng(generation), spec, lists) if generation % 2 else None
    return Centroids(version, generation, spec, values, scales, assigning, cells=cells)


def list_scores(centroids: Centroids, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(lists, rows): of the lists that each row is compared with; -inf of others."""
    ones = np.ones(len(codes), np.float16)
    scores = dot_scores(centroids.assigning, codes, ones, centroids.spec)
    if (cells := centroids.cells) is None:
        return scores
    of_cells = dot_scores(cells.assigning, codes, ones, centroids.spec)
    compared = np.zeros(of_cells.shape, bool)
    np.put_along_axis(compared, np.argsort(-of_cells, axis=0, kind="stable")[:CELLS_COMPARED], True, axis=0)
    compared = np.repeat(compared, np.diff(cells.begin.astype(int)), axis=0)
    compared[:, ~compared.any(axis=0)] = True
    return np.where(compared, scores, np.float32(-np.inf))


def random_cells(rng: np.random.Generator, spec: CodeSpec, lists: int, count: int = 12) -> Cells:
    begin = np.array([0, *sorted(rng.integers(0, lists + 1, count - 1).tolist()), lists], np.uint32)
    values = rng.integers(-127, 128, (count, spec.dims)).astype(np.int8)
    scales = rng.random((count, len(spec.blocks))).astype(np.float32)
    assigning = DotQueries(rng.integers(-127, 128, values.shape).astype(np.int8), scales)
    return Cells(begin, values, scales, assigning)
