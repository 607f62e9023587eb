"""Metrics of rankings, query by query: recall of the float neighbors and nDCG; means with bootstrap intervals.

Pure numpy. Every metric is an array with one number per query first, because intervals are drawn over queries. Two
methods are compared on the same queries (paired), which is far sharper than two intervals side by side.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebr.core.metrics import ndcg
from bebr_training.search.ranking import Rows

Values = NDArray[np.float64]
Judgments = Mapping[int, Mapping[int, float]]
"""Relevance judgments: query row -> document row -> grade. Documents without one have grade 0."""

RESAMPLES = 2_000
CONFIDENCE = 0.95
SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A mean over queries with its percentile bootstrap interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def recall_per_query(found: Rows, truth: Rows, k: int) -> Values:
    """found, truth (queries, at least k) int64 rows, best first -> (queries,) float64: share of the true k found.

    A row occurs at most once in a ranking; -1 means no row and may repeat.
    """
    both = np.sort(np.hstack([found[:, :k], truth[:, :k]]), axis=1)
    shared = ((both[:, 1:] == both[:, :-1]) & (both[:, 1:] >= 0)).sum(axis=1)
    share: Values = shared / k
    return share


def ndcg_per_query(found: Rows, judgments: Judgments, k: int = 10) -> tuple[Values, NDArray[np.int64]]:
    """nDCG@k, as `bebr.core.metrics.ndcg`, of every query that has judgments.

    found (queries, at least k) int64 -> (judged,) float64 and the judged query rows (judged,) int64, ascending.
    """
    judged = np.array(sorted(judgments), np.int64)
    values = np.array([ndcg(found[query].tolist(), judgments[query], k) for query in judged.tolist()])
    return values, judged


class Bootstrap:
    """Percentile bootstrap over queries (Efron, 1979); every metric uses the same resamples, so that pairs match."""

    def __init__(self, queries: int, resamples: int = RESAMPLES, seed: int = SEED) -> None:
        """Draws (resamples, queries) float32 weights: the share of each resample that each query makes up."""
        rng = np.random.default_rng(seed)
        counts = rng.multinomial(queries, np.full(queries, 1 / queries), size=resamples)
        self._weights = (counts / queries).astype(np.float32)

    def mean(self, values: Values) -> Estimate:
        """values (queries,) -> their mean with its interval."""
        # The mean is subtracted first, so that float32 weights err by parts in 10^7 of the spread, not of the value.
        centre = float(values.mean())
        means = self._weights @ (values - centre).astype(np.float32)
        low, high = np.quantile(means.astype(np.float64), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return Estimate(centre, centre + float(low), centre + float(high))

    def difference(self, values: Values, others: Values) -> Estimate:
        """Paired: mean of values - others over the same queries (queries,), with its interval."""
        return self.mean(values - others)

    def ratio(self, values: Values, others: Values) -> Estimate:
        """Paired: mean of values / mean of others, with its interval; NaN where the others' mean is zero."""
        if not others.mean() > 0:
            return Estimate(float("nan"), float("nan"), float("nan"))
        tops, bottoms = self._weights @ values.astype(np.float32), self._weights @ others.astype(np.float32)
        ratios = tops[bottoms > 0] / bottoms[bottoms > 0]
        low, high = np.quantile(ratios.astype(np.float64), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return Estimate(float(values.mean() / others.mean()), float(low), float(high))
