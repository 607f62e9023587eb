"""Measures what an upgrade would do: old and new queries against old and new codes of the same points.

    old->old     the old model's queries on old codes: what there is today
    new->old     the new model's queries on old codes, by each adapter: what promotion gives, nothing re-encoded
    new->new     the new model's queries on new codes: what a full backfill gives
    mixed        new queries where 25, 50 and 75 % of the points have new codes

Quality is nDCG@10 and recall@10: of relevant points where there are judgments; without them, of the 10 nearest by the
new model's float cosines. All arrays are in embedding space: a code counts by what it represents, so that an inner
product is its adc score.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats
from bebr.core.metrics import Grades, ndcg, recall
from bebr.core.topk import top_rows
from bebr.encoding.adapters.adapter import Adapter, TextAdapter
from bebr.encoding.adapters.quality import Quality, UpgradeMatrix
from bebr.encoding.bundles.manifest import AdapterKind
from bebr.errors import InvalidOption

Judgments = Sequence[Grades]
"""For each query: row of a point -> its grade."""
K = 10
SHARES = (25, 50, 75)
"""Percentages of points with new codes that are measured."""
BATCH = 64
"""Queries that are scored at once."""


@dataclass(frozen=True)
class Pool:
    """The points that are searched."""

    old: Floats
    """(points, old dims) float32: what their old codes represent."""
    new: Floats | None
    """(points, new dims) float32: what their new codes would represent; None where these are not known."""


@dataclass(frozen=True)
class Queries:
    """The queries, as unit rows."""

    old: Floats | None
    """(queries, old dims) float32: by the old model; None where it is not on hand."""
    new: Floats
    """(queries, new dims) float32: by the new model."""
    source_row: NDArray[np.int64]
    """(queries,): row of the point that a query was made from, excluded from its results; -1 for none."""


def measure(
    adapter: Adapter | TextAdapter,
    pool: Pool,
    queries: Queries,
    judgments: Judgments,
    *,
    judged: bool,
    kinds: Sequence[AdapterKind] | None = None,
    kind: AdapterKind | None = None,
    seed: int = 0,
) -> UpgradeMatrix:
    """Measure all cells that can be measured.

    judgments: as many as queries; where none are given, those of `nearest`. judged: whether they were given. kinds: the
    kinds of adapter to compare; None: all. kind: the one to report on; None: the best. seed: decides which points of
    the mixed cells have new codes. Raises InvalidOption where no adapter can be measured.
    """
    able = _measurable(adapter, queries, kinds, kind)
    searches = _Searches(pool, queries, judgments)
    mapped = {one: adapter.map(one, queries.new, queries.old) for one in able}
    new_to_old = {one: searches.mapped(rows) for one, rows in mapped.items()}
    best = kind or max(able, key=lambda one: _mean(new_to_old[one], judged))
    return UpgradeMatrix(
        judged=judged,
        points=len(pool.old),
        old_to_old=searches.old(),
        new_to_old=new_to_old,
        new_to_new=searches.new(),
        mixed=searches.mixed(adapter, best, mapped[best], seed),
        kind=best,
    )


def nearest(queries: Floats, points: Floats, source_row: NDArray[np.int64]) -> list[dict[int, float]]:
    """The K nearest points of each query by float cosine, as judgments. Unit rows of one model."""
    found = []
    for start in range(0, len(queries), BATCH):
        scores = queries[start : start + BATCH] @ points.T
        found += [dict.fromkeys(row.tolist(), 1.0) for row in _top(scores, source_row[start : start + BATCH])]
    return found


@dataclass(frozen=True)
class _Searches:
    """The cells of a matrix, each measured by one exact search of all queries."""

    pool: Pool
    queries: Queries
    judgments: Judgments

    def old(self) -> Quality | None:
        old = self.queries.old
        return None if old is None else self._quality(lambda rows: old[rows] @ self.pool.old.T)

    def mapped(self, mapped: Floats) -> Quality:
        """mapped (queries, old dims) float32: what an adapter makes of the new queries."""
        return self._quality(lambda rows: mapped[rows] @ self.pool.old.T)

    def new(self) -> Quality | None:
        new = self.pool.new
        return None if new is None else self._quality(lambda rows: self.queries.new[rows] @ new.T)

    def mixed(
        self, adapter: Adapter | TextAdapter, kind: AdapterKind, mapped: Floats, seed: int
    ) -> Mapping[int, Quality]:
        """By percentage of points with new codes, with the scores of both sides on one scale."""
        new = self.pool.new
        if new is None:
            return {}
        place = np.random.default_rng(seed).permutation(len(new)) / len(new)
        scale, offsets = np.float32(adapter.scales[kind]), adapter.offsets(kind, self.queries.new, mapped)

        def scores(share: int, rows: slice) -> Floats:
            there = scale * (mapped[rows] @ self.pool.old.T) + offsets[rows, None].astype(np.float32)
            return np.where(place < share / 100, self.queries.new[rows] @ new.T, there)

        return {share: self._quality(partial(scores, share)) for share in SHARES}

    def _quality(self, scores: Callable[[slice], Floats]) -> Quality:
        """scores: rows of the queries (a slice) -> (rows, points) float32."""
        values: list[tuple[float, float]] = []
        for start in range(0, len(self.queries.new), BATCH):
            rows = slice(start, min(start + BATCH, len(self.queries.new)))
            found = _top(scores(rows), self.queries.source_row[rows]).tolist()
            pairs = zip(found, self.judgments[rows], strict=True)
            values += [(ndcg(row, grades, K), recall(row, grades, K)) for row, grades in pairs]
        return Quality(*np.array(values, np.float64).reshape(-1, 2).T)


def _measurable(
    adapter: Adapter | TextAdapter, queries: Queries, kinds: Sequence[AdapterKind] | None, kind: AdapterKind | None
) -> list[AdapterKind]:
    """The kinds of adapter to compare. Raises InvalidOption where there is none, or not the one that was named."""
    possible = [one for one in adapter.scales if queries.old is not None or not one.needs_text]
    able = [one for one in (kinds or possible) if one in possible]
    if not able:
        raise InvalidOption(
            "no adapter leads from these queries to the old codes; send texts, or train an adapter", key="queries"
        )
    if kind is not None and kind not in able:
        raise InvalidOption(f"adapter '{kind}' cannot be measured here; available: {', '.join(able)}", key="adapter")
    return able


def _mean(quality: Quality, judged: bool) -> float:
    return float((quality.ndcg if judged else quality.recall).mean())


def _top(scores: Floats, source_row: NDArray[np.int64]) -> NDArray[np.int64]:
    """(rows, K) or fewer where there are fewer points, best first; ties by the lower row."""
    own = np.flatnonzero(source_row >= 0)
    scores[own, source_row[own]] = -np.inf
    return top_rows(scores, K)
