"""Calibration: how many lists a search has to read for a recall, measured on queries of the collection itself.

The rule of `bebr.core.lists` reads every list whose centroid scores at least the k-th best hit less `delta`. So a hit
is found for certain where delta is at least what it *needs*,

    need(q, hit) = score of the k-th best hit of q - centroid score(q, list of the hit)

and the quantiles of the needs of all hits say which deltas are worth measuring. A search stops later than that, because
the k-th best hit so far scores less than the k-th best of all. What it finds and reads is therefore measured by
searches with these deltas, and every recall in between is interpolated. Queries are of several *kinds*: points of the
collection, and searches of its users. The kind that finds least is what counts, and what a few queries found is taken
for one standard error less: others would have found a little more or less.

Where the best hits of all rows lie in one list, those say nothing of lists that come later. A filter may leave few rows
of every list, or none of the best ones, and a search for more hits goes farther, too. *Deep* needs stand for these:
those of the d best hits among a random sample of the rows, against the d-th, for all d. The d that needs most counts.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RECALLS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999)
"""Shares of hits whose deltas are measured; the largest need of all comes after them."""
FILTERED_MISSES = 0.6
"""Searches with a filter read lists as for this share of the misses (docs/benchmarks.md#lists)."""
LIKENESS = 0.9
"""Until searches are known: share of the misses of queries that points as queries have (docs/benchmarks.md#lists)."""
LIKENESS_OF_FEW, FEW = 0.65, 200_000
"""The same of fewer points than that: the fewer there are, the less a query is like any of them."""
LIST_ROWS = 5
"""What a list costs whose centroid is scored, in rows of a scan of all codes."""
LISTED_ROW_ROWS = 2.2
"""What it costs to read a row of a list, in rows of a scan of all codes (docs/benchmarks.md#lists)."""
DEEP_ROWS, DEEP_HITS = 2**13, 2**11
"""Of how many random rows deep needs are measured, and of how many best hits among them."""
MARGIN = 1e-6
"""How much larger a measured delta is than the need, as a share of the scores: the rule rounds to float32."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What searches with one delta found."""

    delta: float
    recall: float
    """Share of the exact hits that the kind of queries with the least found, less one standard error."""
    share: float
    """Share of the rows in lists that they read."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """By how much lists have to be read for a recall."""

    measured: tuple[Measured, ...]
    """By ascending delta; neither recall nor share ever falls. At least one."""
    deep: tuple[Measured, ...] = ()
    """The same of deep hits, with the recalls that their needs promise; () where it was not measured."""

    def delta(self, recall: float) -> float:
        """The delta of searches that find this share of the exact hits."""
        return self.at(recall).delta

    def at(self, recall: float) -> Measured:
        """What searches that find this share of the exact hits do. Of more than was measured the last."""
        return _at(self.measured, recall)

    def deep_at(self, recall: float) -> Measured:
        """What searches do that find this share of their hits with a filter, or of more hits than were measured."""
        found = self.at(recall)
        deep = _at(self.deep, recall) if self.deep else found
        return deep if deep.delta > found.delta else found

    def to_document(self) -> dict[str, Any]:
        """As the store keeps it."""
        curves = {"curve": self.measured, "deep": self.deep}
        return {name: [[one.delta, one.recall, one.share] for one in curve] for name, curve in curves.items()}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Calibration":
        """An older release knew of no deep needs."""
        curves = [document["curve"], document.get("deep", ())]
        return cls(*[tuple([Measured(*map(float, one)) for one in curve]) for curve in curves])


def _at(curve: tuple[Measured, ...], recall: float) -> Measured:
    recalls = [one.recall for one in curve]
    place = bisect_left(recalls, recall)
    if place == len(recalls):
        return curve[-1]
    after = curve[place]
    if place == 0 or after.recall == recall:
        return after
    before = curve[place - 1]
    # misses fall about exponentially as delta grows
    misses = [max(1 - one, 1e-4) for one in (before.recall, recall, after.recall)]
    step = float(np.log(misses[0] / misses[1]) / np.log(misses[0] / misses[2])) if misses[0] > misses[2] else 1.0
    delta = before.delta + (after.delta - before.delta) * step
    return Measured(delta, recall, before.share + (after.share - before.share) * step)


def needs_of(scores: NDArray[np.float64], centroid_scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """The needs (hits,) of the best hits of one query, the k-th last: scores (hits,), and those of the centroids of
    their lists (hits,), inf for a row that is in no list."""
    if not len(scores):
        return np.empty(0, np.float32)
    needs: NDArray[np.float32] = np.float32(scores[-1]) - centroid_scores
    return needs


def deep_deltas(
    hits_of_kinds: Sequence[Sequence[tuple[NDArray[np.float64], NDArray[np.float32]]]],
) -> tuple[float, ...]:
    """The delta for each of RECALLS that deep hits take; () where there are none in lists.

    Of each kind, for every query: scores (hits,) of its best hits among a sample, best first, and their needs (hits,)
    against the last of them.
    """
    found = np.full(len(RECALLS), -np.inf)
    for hits in hits_of_kinds:
        depth = 10
        while some := [
            needs[:depth] - np.float32(scores[-1] - scores[depth - 1]) for scores, needs in hits if len(scores) >= depth
        ]:
            ordered = np.sort(np.concatenate(some))
            found = np.maximum(found, [_quantile(ordered, recall) for recall in RECALLS])
            depth *= 2
    return tuple(found.tolist()) if np.isfinite(found).all() else ()


def deltas_to_measure(needs_of_kinds: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Needs (hits,) of all hits of each kind of queries -> ascending deltas (deltas,), of which the last finds all."""
    kinds = [np.sort(needs) for needs in needs_of_kinds if len(needs)]
    deltas = [max([_quantile(needs, recall) for needs in kinds], default=-np.inf) for recall in (*RECALLS, 1.0)]
    found = np.unique(np.array(deltas, np.float32))
    found = found[np.isfinite(found)]  # hits in no list are found whatever the delta
    if not len(found):
        return np.zeros(1, np.float32)
    raised = found + np.maximum(np.abs(found), 1) * np.float32(MARGIN)
    return raised.astype(np.float32)


def _quantile(ordered: NDArray[np.float32], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    return float(ordered[max(0, int(np.ceil(share * len(ordered))) - 1)])


def calibration_of(
    deltas: NDArray[np.float32],
    recalls: Sequence[Mapping[str, float]],
    shares: Sequence[float],
    deep: Sequence[float] = (),
) -> Calibration:
    """Deltas (deltas,) ascending, what each kind of queries found with each, and the share of rows that was read.

    deep: what `deep_deltas` found.
    """
    measured: list[Measured] = []
    for delta, of_kinds, share in zip(deltas.tolist(), recalls, shares, strict=True):
        recall = min(of_kinds.values(), default=1.0)
        if measured:  # more lists never find less; a row that was written meanwhile may
            recall, share = max(recall, measured[-1].recall), max(share, measured[-1].share)
        measured.append(Measured(delta, recall, share))
    shares_read = np.interp(deep, [one.delta for one in measured], [one.share for one in measured]).tolist()
    return Calibration(tuple(measured), tuple(map(Measured, deep, RECALLS, shares_read)))


def cost(lists: int, rows: float) -> float:
    """What it costs to score the centroids of so many lists and read so many rows of them, in rows of a scan of all."""
    return LIST_ROWS * lists + LISTED_ROW_ROWS * rows


def filtered_recall(recall: float) -> float:
    """The recall whose delta a search with a filter takes: what a filter keeps may be unlike what was measured."""
    return 1 - (1 - recall) * FILTERED_MISSES


def sure_recall(found: Sequence[int], wanted: Sequence[int]) -> float:
    """Exact hits that each of some queries found, and how many it wanted -> the share that was found, less one standard
    error of it."""
    if not sum(wanted):
        return 1.0
    recall, of = sum(found) / sum(wanted), np.array(wanted)
    apart = np.array(found) - recall * of
    error = float(np.sqrt((apart**2).sum()) / of.sum())
    return max(0.0, recall - error)


def recall_as_queries(recall: float, points: int) -> float:
    """What queries are taken to find where points as queries, of so many, find this share of their hits."""
    return max(0.0, 1 - (1 - recall) / (LIKENESS if points >= FEW else LIKENESS_OF_FEW))


def recall_of(found: Sequence[Sequence[Any]], exact: Sequence[Sequence[Any]]) -> float:
    """Share of the exact hits of some queries that were found."""
    wanted = sum(map(len, exact))
    shared = sum(len(set(one) & set(other)) for one, other in zip(found, exact, strict=True))
    return shared / wanted if wanted else 1.0
