"""Deterministic top-k: higher score first, ties by ascending position or id."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def top_k(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """scores (rows,) -> the rows of the k highest, best first, ties by ascending row: (min(k, rows),) int64."""
    order: NDArray[np.int64] = np.argsort(-scores, kind="stable")[:k]
    return order


def rank_by_score_then_id(scores: NDArray[np.floating[Any]], ids: list[str], k: int) -> list[int]:
    """Positions of the k best of `scores` (n,), best first, ties by ascending id (order of code points)."""
    return [position for _, _, position in sorted(zip((-scores).tolist(), ids, range(len(ids)), strict=True))[:k]]


def top_rows(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """scores (queries, rows) -> the rows of the k highest of each query: (queries, min(k, rows)) int64, as `top_k`."""
    place = scores.shape[1] - k
    if place <= 0:
        return np.argsort(-scores, axis=1, kind="stable")
    least = np.partition(scores, place, axis=1)[:, place]
    found = np.empty((len(scores), k), np.int64)
    for row, (line, floor) in enumerate(zip(scores, least, strict=True)):
        # All that are at least as good as the k-th, in the order of rows, so that a stable sort settles ties.
        candidates = np.flatnonzero(line >= floor)
        found[row] = candidates[np.argsort(-line[candidates], kind="stable")[:k]]
    return found
