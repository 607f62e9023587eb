"""Measures what a rescore code adds: how much more is found, and how many candidates of a scan it takes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats

CANDIDATES = (10, 20, 30, 50, 100, 200, 500)
"""Numbers of candidates that are measured, for the 10 nearest."""
ENOUGH_COVERAGE = 0.998
"""Share of the nearest neighbors that the candidates of a scan must hold."""
QUERY_BATCH = 128


@dataclass(frozen=True)
class Coverage:
    """How many of the nearest neighbors are among the best candidates of the scan."""

    candidates: int
    share: float


@dataclass(frozen=True)
class Rescored:
    """What a rescore code adds."""

    recall: float
    """recall@10 after rescoring `candidates`."""
    candidates: int
    """The fewest of CANDIDATES that cover enough; the most where none do."""
    coverage: tuple[Coverage, ...]


def most_candidates(rows: int) -> int:
    """How many candidates are measured among so many rows."""
    return min(CANDIDATES[-1], rows)


def measure_rescored(queries: Floats, scanned: Floats, finer: Floats, nearest: NDArray[np.int64]) -> Rescored:
    """queries (queries, dims) -> how well they find their `nearest` (queries, k) rows.

    scanned: what the scan codes of the rows represent (rows, dims); finer: what the rescore codes add (rows, dims).
    """
    best, scores = _candidates(queries, scanned, scanned + finer, most_candidates(len(scanned)))
    return rescored_of(best, scores, nearest)


def rescored_of(best: NDArray[np.int64], scores: Floats, nearest: NDArray[np.int64]) -> Rescored:
    """best (queries, candidates): rows in the order of the scan; scores: their finer ones; nearest (queries, k)."""
    most = best.shape[1]
    counts = [*(count for count in CANDIDATES if count < most), most]
    hit = (best[:, :, None] == nearest[:, None, :]).any(axis=2)
    coverage = [Coverage(count, round(float(hit[:, :count].sum() / nearest.size), 4)) for count in counts]
    chosen = next((one.candidates for one in coverage if one.share >= ENOUGH_COVERAGE), most)
    top = np.argsort(-scores[:, :chosen], axis=1)[:, : nearest.shape[1]]
    recall = float(np.take_along_axis(hit, top, axis=1).sum() / nearest.size)
    return Rescored(round(recall, 4), chosen, tuple(coverage))


def _candidates(queries: Floats, scanned: Floats, whole: Floats, count: int) -> tuple[NDArray[np.int64], Floats]:
    """(queries, count): the rows that the scan ranks first, best first, and their finer scores."""
    best, scores = np.empty((len(queries), count), np.int64), np.empty((len(queries), count), np.float32)
    for start in range(0, len(queries), QUERY_BATCH):
        batch = slice(start, start + QUERY_BATCH)
        scan = queries[batch] @ scanned.T
        rows = np.argpartition(-scan, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(scan, rows, axis=1), axis=1)
        best[batch] = np.take_along_axis(rows, order, axis=1)
        scores[batch] = np.take_along_axis(queries[batch] @ whole.T, best[batch], axis=1)
    return best, scores
