"""What an upgrade would do, in figures: old and new queries against old and new codes of the same points.

    old->old     the old model's queries on old codes: what there is today
    new->old     the new model's queries on old codes, by each adapter: what promotion gives, nothing re-encoded
    new->new     the new model's queries on new codes: what a full backfill gives
    mixed        new queries where 25, 50 and 75 % of the points have new codes

Quality is nDCG@10 and recall@10: of judged documents; without judgements, of the 10 nearest by the new model's float
cosines. Differences are paired by query; intervals are percentile bootstraps of 95 %. All arrays are in embedding
space: a code counts by what it stands for, so that an inner product is its adc score.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats
from bebr.core.metrics import ndcg, recall
from bebr.core.topk import top_rows
from bebr.encoding.adapters.adapter import Adapter, TextAdapter
from bebr.encoding.bundles.manifest import AdapterKind
from bebr.errors import InvalidOption

Judgements = Sequence[Mapping[int, float]]
"""For each query: row of a point -> its grade; 0 and less: not relevant."""
K = 10
SHARES = (25, 50, 75)
RESAMPLES = 1_000
BATCH = 64


@dataclass(frozen=True)
class Pool:
    """Points: what their old codes stand for (points, old dims), and their new ones (points, new dims) where known."""

    old: Floats
    new: Floats | None


@dataclass(frozen=True)
class Queries:
    """Unit rows: by the old model (queries, old dims), where it is at hand, and by the new one (queries, new dims).

    itself (queries,): the row of the point that a query was made from, which it must not find; -1 for none.
    """

    old: Floats | None
    new: Floats
    itself: NDArray[np.int64]


@dataclass(frozen=True)
class Quality:
    """(queries,) float64 each."""

    ndcg: NDArray[np.float64]
    recall: NDArray[np.float64]

    def to_json(self) -> dict[str, float]:
        return {"ndcg_at_10": round(float(self.ndcg.mean()), 4), "recall_at_10": round(float(self.recall.mean()), 4)}


@dataclass(frozen=True)
class Interval:
    """A mean difference and its 95 % interval."""

    mean: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return {"mean": round(self.mean, 4), "low": round(self.low, 4), "high": round(self.high, 4)}


@dataclass(frozen=True)
class UpgradeMatrix:
    """See the module. Cells that could not be measured are None or missing. kind: of the best adapter measured."""

    judged: bool
    points: int
    old_to_old: Quality | None
    new_to_old: Mapping[AdapterKind, Quality]
    new_to_new: Quality | None
    mixed: Mapping[int, Quality]
    kind: AdapterKind

    def values(self, quality: Quality) -> NDArray[np.float64]:
        """What decides: nDCG where there are judgements, recall of the float neighbours where there are none."""
        return quality.ndcg if self.judged else quality.recall

    @property
    def gain(self) -> Interval | None:
        """Of new->old over old->old."""
        if self.old_to_old is None:
            return None
        return paired(self.values(self.new_to_old[self.kind]), self.values(self.old_to_old))

    def to_json(self) -> dict[str, Any]:
        best, gain = self.new_to_old[self.kind], self.gain
        kinds = {}
        for kind, quality in self.new_to_old.items():
            over = self.old_to_old and paired(self.values(quality), self.values(self.old_to_old)).to_json()
            kinds[str(kind)] = quality.to_json() | {"gain": over}
        return {
            "measure": "ndcg_at_10" if self.judged else "recall_at_10",
            "judged": self.judged,
            "queries": len(best.ndcg),
            "points": self.points,
            "adapter": str(self.kind),
            "old_to_old": self.old_to_old and self.old_to_old.to_json(),
            "new_to_old": best.to_json(),
            "new_to_new": self.new_to_new and self.new_to_new.to_json(),
            "mixed": {str(share): quality.to_json() for share, quality in self.mixed.items()},
            "adapters": kinds,
            "gain": gain and gain.to_json(),
            "update_gain": self._update_gain(),
            "negative_flips": self._negative_flips(),
        }

    def _update_gain(self) -> float | None:
        """(M(new, old) - M(old, old)) / (M(new, new) - M(old, old)): the share of the gain that comes at once."""
        if self.old_to_old is None or self.new_to_new is None:
            return None
        old, new, crossed = (
            float(self.values(quality).mean())
            for quality in (self.old_to_old, self.new_to_new, self.new_to_old[self.kind])
        )
        return None if abs(new - old) < 1e-6 else round((crossed - old) / (new - old), 4)

    def _negative_flips(self) -> float | None:
        """Share of the queries that get worse at once."""
        if self.old_to_old is None:
            return None
        flipped = self.values(self.new_to_old[self.kind]) < self.values(self.old_to_old) - 1e-9
        return round(float(flipped.mean()), 4)


def measure(
    adapter: Adapter | TextAdapter,
    pool: Pool,
    queries: Queries,
    judgements: Judgements,
    *,
    judged: bool,
    kinds: Sequence[AdapterKind] | None = None,
    kind: AdapterKind | None = None,
    seed: int = 0,
) -> UpgradeMatrix:
    """Measure all cells that can be. judgements: as many as queries; those without judgements come from `nearest`.

    kinds: the kinds of adapter to compare; None: all that can be measured. kind: the one to report on; None: the best.
    """
    able = [w for w in adapter.scales if queries.old is not None or not w.needs_text]
    able = [w for w in (kinds or able) if w in able]
    if not able:
        raise InvalidOption(
            "no adapter leads from these queries to the old codes; send texts, or train an adapter", key="queries"
        )
    if kind is not None and kind not in able:
        raise InvalidOption(f"adapter '{kind}' cannot be measured here; available: {', '.join(able)}", key="adapter")
    crossed = {w: adapter.cross(w, queries.new, queries.old) for w in able}
    new_to_old = {w: _quality(queries, judgements, lambda r, c=c: c[r] @ pool.old.T) for w, c in crossed.items()}
    best = kind or max(able, key=lambda w: float((new_to_old[w].ndcg if judged else new_to_old[w].recall).mean()))
    old, new = queries.old, pool.new
    old_to_old = _quality(queries, judgements, lambda r: old[r] @ pool.old.T) if old is not None else None
    new_to_new, mixed = None, {}
    if new is not None:
        new_to_new = _quality(queries, judgements, lambda r: queries.new[r] @ new.T)
        place = np.random.default_rng(seed).permutation(len(new)) / len(new)
        scale, offsets = np.float32(adapter.scales[best]), adapter.offsets(best, queries.new, crossed[best])

        def together(rows: slice, share: int) -> Floats:
            there = scale * (crossed[best][rows] @ pool.old.T) + offsets[rows, None].astype(np.float32)
            scores: Floats = np.where(place < share / 100, queries.new[rows] @ new.T, there)
            return scores

        mixed = {s: _quality(queries, judgements, lambda r, s=s: together(r, s)) for s in SHARES}
    return UpgradeMatrix(judged, len(pool.old), old_to_old, new_to_old, new_to_new, mixed, best)


def nearest(queries: Floats, points: Floats, itself: NDArray[np.int64]) -> list[dict[int, float]]:
    """The K nearest points of each query by float cosine, as judgements. Unit rows of one model."""
    found = []
    for start in range(0, len(queries), BATCH):
        scores = queries[start : start + BATCH] @ points.T
        found += [dict.fromkeys(row.tolist(), 1.0) for row in _top(scores, itself[start : start + BATCH])]
    return found


def paired(one: NDArray[np.float64], other: NDArray[np.float64], seed: int = 0) -> Interval:
    """The mean of one - other over the queries, with its bootstrap interval."""
    differences = one - other
    draws = np.random.default_rng(seed).integers(0, len(differences), (RESAMPLES, len(differences)))
    low, high = np.percentile(differences[draws].mean(axis=1), (2.5, 97.5))
    return Interval(float(differences.mean()), float(low), float(high))


def _quality(queries: Queries, judgements: Judgements, scores: Any) -> Quality:
    """scores: rows of the queries (a slice) -> (rows, points) float32."""
    values: list[tuple[float, float]] = []
    for start in range(0, len(queries.new), BATCH):
        rows = slice(start, min(start + BATCH, len(queries.new)))
        found = _top(scores(rows), queries.itself[rows]).tolist()
        values += [(ndcg(row, g, K), recall(row, g, K)) for row, g in zip(found, judgements[rows], strict=True)]
    return Quality(*np.array(values, np.float64).reshape(-1, 2).T)


def _top(scores: Floats, itself: NDArray[np.int64]) -> NDArray[np.int64]:
    """(rows, K) or fewer where there are fewer points, best first; ties by the lower row."""
    own = np.flatnonzero(itself >= 0)
    scores[own, itself[own]] = -np.inf
    return top_rows(scores, K)
