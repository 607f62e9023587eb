"""The float neighbours of a sample of rows, and batches made of rows and their neighbours. Pure numpy."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

MAX_SEEDS = 10_000
"""Rows whose neighbours are known. More would cost more than they teach."""
DEPTH = 30
CHUNK = 256


class Neighbours:
    """seeds (seeds,) int64: rows of `rows` (rows, dims), unit. near (seeds, depth) int64: their nearest others."""

    def __init__(self, rows: Floats, rng: np.random.Generator) -> None:
        self.seeds = rng.permutation(len(rows))[:MAX_SEEDS]
        depth = min(DEPTH, len(rows) - 1)
        self.near = np.empty((len(self.seeds), depth), np.int64)
        for start in range(0, len(self.seeds), CHUNK):
            some = self.seeds[start : start + CHUNK]
            scores = rows[some] @ rows.T
            scores[np.arange(len(some)), some] = -2
            best = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
            order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
            self.near[start : start + CHUNK] = np.take_along_axis(best, order, axis=1)

    def batch(self, seeds: int, neighbours: int, rng: np.random.Generator) -> Rows:
        """Rows of a batch: `seeds` seeds, then `neighbours` neighbours of the first, of the second, ...; all drawn."""
        chosen = rng.integers(0, len(self.seeds), seeds)
        depth = self.near.shape[1]
        places = rng.random((seeds, depth)).argsort(axis=1)[:, : min(neighbours, depth)]
        near = np.take_along_axis(self.near[chosen], places, axis=1)
        return np.concatenate([self.seeds[chosen], near.ravel()])
