"""The float neighbors of a sample of rows, and batches of rows with their neighbors. Pure numpy."""

import numpy as np

from bebr.core.arrays import Floats
from bebr_training.search.ranking import Rows

MAX_SEEDS = 10_000
"""Maximum number of rows whose neighbors are computed. More cost time and teach little."""
DEPTH = 30
"""Neighbors that are kept of each."""
CHUNK = 256


class Neighbors:
    """The nearest other rows, among rows (rows, dims), unit, of some of them.

    seeds (seeds,) int64: the rows whose neighbors are known. near (seeds, depth) int64: their neighbors, nearest first.
    """

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

    def batch(self, seeds: int, neighbors: int, rng: np.random.Generator) -> Rows:
        """A random batch of rows: `seeds` seeds, then `neighbors` neighbors of the first, of the second, and so on."""
        chosen = rng.integers(0, len(self.seeds), seeds)
        depth = self.near.shape[1]
        places = rng.random((seeds, depth)).argsort(axis=1)[:, : min(neighbors, depth)]
        near = np.take_along_axis(self.near[chosen], places, axis=1)
        return np.concatenate([self.seeds[chosen], near.ravel()])
