"""What queries find, and what an upgrade changes: per query, and summarized over them.

Differences are paired by query; intervals are percentile bootstraps of 95 %.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bebr.encoding.bundles.manifest import AdapterKind

RESAMPLES = 1_000
"""Bootstrap samples of an interval."""
DECIMALS = 4
"""Decimals that summaries are rounded to."""

PerQuery = NDArray[np.float64]
"""(queries,) float64: one value for each query."""


@dataclass(frozen=True)
class Quality:
    """What each query of one kind found."""

    ndcg: PerQuery
    """nDCG@10."""
    recall: PerQuery
    """recall@10."""

    def mean(self) -> "MeanQuality":
        return MeanQuality(_rounded(float(self.ndcg.mean())), _rounded(float(self.recall.mean())))


@dataclass(frozen=True)
class MeanQuality:
    """Means over the queries."""

    ndcg_at_10: float
    recall_at_10: float


@dataclass(frozen=True)
class Interval:
    """A mean difference and its 95 % interval."""

    mean: float
    low: float
    high: float

    def rounded(self) -> "Interval":
        return Interval(_rounded(self.mean), _rounded(self.low), _rounded(self.high))


@dataclass(frozen=True)
class AdapterQuality(MeanQuality):
    """New queries on old codes through one kind of adapter."""

    gain: Interval | None
    """Over old queries on old codes; None where these could not be measured."""


@dataclass(frozen=True)
class UpgradeSummary:
    """An `UpgradeMatrix` in a few numbers. Cells that could not be measured are None or missing."""

    measure: Literal["ndcg_at_10", "recall_at_10"]
    """What decides, and what gains are in: nDCG with relevance judgments, else recall of the new float neighbors."""
    judged: bool
    """Whether there are relevance judgments."""
    queries: int
    points: int
    adapter: AdapterKind
    """The kind of adapter in the cells below."""
    old_to_old: MeanQuality | None
    new_to_old: MeanQuality
    new_to_new: MeanQuality | None
    mixed: Mapping[str, MeanQuality]
    """New queries, by percentage of points with new codes."""
    adapters: Mapping[AdapterKind, AdapterQuality]
    """New queries on old codes, by kind of adapter."""
    gain: Interval | None
    """Of new_to_old over old_to_old."""
    update_gain: float | None
    """Share of a full upgrade's gain that comes at once."""
    negative_flips: float | None
    """Share of the queries that get worse at once."""


@dataclass(frozen=True)
class UpgradeMatrix:
    """Old and new queries against old and new codes. Cells that could not be measured are None or missing."""

    judged: bool
    """Whether there are relevance judgments; without them the float neighbors of the new model count."""
    points: int
    """Number of points that were searched."""
    old_to_old: Quality | None
    new_to_old: Mapping[AdapterKind, Quality]
    new_to_new: Quality | None
    mixed: Mapping[int, Quality]
    """By percentage of points with new codes."""
    kind: AdapterKind
    """The kind of adapter that is reported on: the best, unless one was named."""

    def values(self, quality: Quality) -> PerQuery:
        """What decides: nDCG with relevance judgments, else recall of the float neighbors."""
        return quality.ndcg if self.judged else quality.recall

    @property
    def gain(self) -> Interval | None:
        """Of new->old over old->old."""
        return self._gain_of(self.new_to_old[self.kind])

    def summary(self) -> UpgradeSummary:
        """Means, gains and their intervals, rounded."""
        best, gain = self.new_to_old[self.kind], self.gain
        return UpgradeSummary(
            measure="ndcg_at_10" if self.judged else "recall_at_10",
            judged=self.judged,
            queries=len(best.ndcg),
            points=self.points,
            adapter=self.kind,
            old_to_old=None if self.old_to_old is None else self.old_to_old.mean(),
            new_to_old=best.mean(),
            new_to_new=None if self.new_to_new is None else self.new_to_new.mean(),
            mixed={str(share): quality.mean() for share, quality in self.mixed.items()},
            adapters={kind: self._summary_of(quality) for kind, quality in self.new_to_old.items()},
            gain=gain and gain.rounded(),
            update_gain=self._update_gain(),
            negative_flips=self._negative_flips(),
        )

    def _summary_of(self, quality: Quality) -> AdapterQuality:
        mean, gain = quality.mean(), self._gain_of(quality)
        return AdapterQuality(mean.ndcg_at_10, mean.recall_at_10, gain and gain.rounded())

    def _gain_of(self, quality: Quality) -> Interval | None:
        return None if self.old_to_old is None else paired(self.values(quality), self.values(self.old_to_old))

    def _update_gain(self) -> float | None:
        """(M(new, old) - M(old, old)) / (M(new, new) - M(old, old)): the share of the gain that comes at once."""
        if self.old_to_old is None or self.new_to_new is None:
            return None
        old, new, mapped = (
            float(self.values(quality).mean())
            for quality in (self.old_to_old, self.new_to_new, self.new_to_old[self.kind])
        )
        return None if abs(new - old) < 1e-6 else _rounded((mapped - old) / (new - old))

    def _negative_flips(self) -> float | None:
        """Share of the queries that get worse at once."""
        if self.old_to_old is None:
            return None
        flipped = self.values(self.new_to_old[self.kind]) < self.values(self.old_to_old) - 1e-9
        return _rounded(float(flipped.mean()))


def paired(one: PerQuery, other: PerQuery, seed: int = 0) -> Interval:
    """The mean of one - other over the queries, with its bootstrap interval."""
    differences = one - other
    draws = np.random.default_rng(seed).integers(0, len(differences), (RESAMPLES, len(differences)))
    low, high = np.percentile(differences[draws].mean(axis=1), (2.5, 97.5))
    return Interval(float(differences.mean()), float(low), float(high))


def _rounded(value: float) -> float:
    return round(value, DECIMALS)
