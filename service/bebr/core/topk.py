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
