"""Which list a row belongs to: that of the centroid which, as a query, scores its code best; the first of several."""

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.codes import CodeSpec, grid_values, unpack_levels
from bebr.core.lists import Centroids

CHUNK_SCORES = 2**22
"""Scores that are in memory at once."""


def have_room(rows: int, centroids: Centroids) -> bool:
    """Whether this many rows are worth lists: with fewer rows than lists, most would be empty."""
    return rows >= len(centroids)


def assign(
    blocked: NDArray[np.uint8], rows: int, spec: CodeSpec, centroids: Centroids
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Blocked codes -> the list (rows,) int32 of each row, and its score (rows,) float32 there, without its gain."""
    numbers, scores = np.empty(rows, np.int32), np.empty(rows, np.float32)
    queries = centroids.assigning
    values = queries.values.astype(np.float32).T
    step = max(1, CHUNK_SCORES // len(centroids))
    for start in range(0, rows, step):
        some = np.arange(start, min(rows, start + step))
        grid = grid_values(unpack_levels(kernel.unpack(blocked, spec, some), spec), spec).astype(np.float32)
        total = np.zeros((len(some), len(centroids)), np.float32)
        for b, dims in enumerate(spec.dim_slices):  # float32 holds these integer sums exactly
            total += queries.scales[None, :, b] * (grid[:, dims] @ values[dims])
        numbers[some] = total.argmax(axis=1)
        scores[some] = total[np.arange(len(some)), numbers[some]]
    return numbers, scores
