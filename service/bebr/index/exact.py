"""Exact answers: what the best hits score when all points are scored by all of their codes. The oracle of shortcuts.

All points are read, a slice at a time: whoever drives the steps may let others go first between any two. Only scores
are kept, for those are what answers are compared by: hits that score the same are equally good.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats64
from bebr.index.candidates import Candidates, reaching
from bebr.index.columns import items_of, pack_mask
from bebr.index.grouped import Grouping
from bebr.index.labels import Labels, Value
from bebr.index.rescoring import Rescoring, finer_scores
from bebr.index.scan import ScanQueries, finished, top_rows
from bebr.index.scan_view import ScanView
from bebr.index.slices import PartSlice, slices_of

Result = TypeVar("Result")
Steps = Generator[None, None, Result]
"""Each step reads one slice; the last one returns."""
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Exact:
    """The scores of hits, best first."""

    best: list[float]
    """Where all points are scored by all of their codes."""
    shortlisted: list[float]
    """Where the candidates of a scan of all points are; the same where these are not wanted, or nothing is rescored."""


def best_scores(
    view: ScanView, queries: Sequence[ScanQueries], limit: int, rescoring: Rescoring | None, with_shortlist: bool
) -> Steps[Exact]:
    """What the `limit` best hits score. queries: of each version, with one query.

    Raises DamagedSegment, and so does each step.
    """
    wanted = limit if rescoring is None else rescoring.limit
    best, shortlist = np.empty(0), np.empty((2, 0))
    for of_version, place, mask in _parts(view, queries):
        for some in slices_of(view.parts[place], mask):
            found, finer = _scored(view, queries, of_version, place, some)
            best = _largest(np.concatenate([best, finer]), limit)
            if with_shortlist:
                together = np.concatenate([shortlist, [found.scores, finer]], axis=1)
                shortlist = together[:, _order(together[0])[:wanted]]
            yield
    if rescoring is None:
        return Exact(best.tolist(), best.tolist())
    reached = _reaching(best, rescoring.threshold)
    if not with_shortlist:
        return Exact(reached, reached)
    runs = [
        _reaching(_largest(shortlist[1, start : start + rescoring.candidates], wanted), rescoring.threshold)
        for start in range(0, wanted, rescoring.candidates)
    ]
    return Exact(reached, [score for run in runs for score in run][:limit])


def best_groups(
    view: ScanView, queries: Sequence[ScanQueries], grouping: Grouping, preferred: Sequence[Value]
) -> Steps[dict[Value, list[float]]]:
    """The best groups, and the scores of the best hits of each, best first; `grouping.size` of them at most.

    preferred: values that come first among groups that are equally good. Raises as `best_scores`.
    """
    best: dict[Value, float] = {}
    first = set(preferred)
    for of_version, place, mask in _parts(view, queries):
        labels = view.parts[place].labels(grouping.key)
        of_part = np.full(len(labels.values), -np.inf)
        for some in slices_of(view.parts[place], mask):
            numbers, scores = _labelled(labels, *_scored(view, queries, of_version, place, some))
            np.maximum.at(of_part, numbers, scores)
            yield
        for label in _best_labels(of_part, labels, grouping.limit, preferred):
            value, score = labels.value(label), float(of_part[label])
            best[value] = max(score, best.get(value, -np.inf))
        order = sorted(best, key=lambda value: (-best[value], value not in first))
        best = {value: best[value] for place, value in enumerate(order) if place < grouping.limit or value in first}
    kept = reaching(list(best.values()), grouping.threshold)
    groups = list(best)[: min(kept, grouping.limit)]
    of_each = yield from _scores_of_groups(view, queries, replace(grouping, values=tuple(groups)))
    return dict(zip(groups, of_each, strict=True))


def _scores_of_groups(view: ScanView, queries: Sequence[ScanQueries], grouping: Grouping) -> Steps[list[list[float]]]:
    """The scores of the best hits of each value, best first."""
    values = grouping.values or ()
    numbers, scores = np.empty(0, np.int64), np.empty(0)
    for of_version, place, mask in _parts(view, queries):
        part = view.parts[place]
        labels = part.labels(grouping.key).only(values)
        mask = mask & pack_mask(_has_label(labels, part.rows))
        for some in slices_of(part, mask):
            more, finer = _labelled(labels, *_scored(view, queries, of_version, place, some))
            numbers, scores = np.concatenate([numbers, more]), np.concatenate([scores, finer])
            if len(scores) > 2 * len(values) * grouping.size:
                numbers, scores = _best_of_each(numbers, scores, grouping.size)
            yield
    numbers, scores = _best_of_each(numbers, scores, grouping.size)
    of_value = np.split(scores, np.searchsorted(numbers, np.arange(1, len(values))))
    found: list[list[float]] = [some.tolist() for some in of_value][: len(values)]
    return [some[: reaching(some, grouping.threshold)] for some in found]


def _parts(view: ScanView, queries: Sequence[ScanQueries]) -> Iterator[tuple[ScanQueries, int, NDArray[np.uint16]]]:
    """The parts of each version, by their places, with masks of the rows that the query may find."""
    for of_version in queries:
        selection = view.of_version.get(of_version.version)
        (condition,) = of_version.filters
        for place in () if selection is None else selection.places:
            part = view.parts[place]
            yield of_version, place, part.live if condition is None else part.mask(condition)


def _scored(
    view: ScanView, queries: Sequence[ScanQueries], of_version: ScanQueries, place: int, some: PartSlice
) -> tuple[Candidates, Floats64]:
    """The rows of a slice, by row, and the score of each in the answer."""
    scores, rows = top_rows(some, replace(of_version, filters=(None,)))
    scores = scores[rows >= 0]
    rows = rows[rows >= 0] + some.first
    found = Candidates(scores.astype(np.float64), np.full(len(rows), place, np.int32), rows)
    found = finished(found, 0, of_version, some.spec.dims)
    found = found.at(np.argsort(found.rows))
    (finer,), _ = finer_scores(view, [found], [0], queries)
    return found, finer


def _largest(scores: Floats64, limit: int) -> Floats64:
    """The largest, best first."""
    return scores[_order(scores)[:limit]]


def _order(scores: Floats64) -> Numbers:
    return np.argsort(-scores, kind="stable")


def _reaching(scores: Floats64, threshold: float) -> list[float]:
    """Those that count of scores that are given best first."""
    found: list[float] = scores.tolist()
    return found[: reaching(found, threshold)]


def _labelled(labels: Labels, found: Candidates, finer: Floats64) -> tuple[Numbers, Floats64]:
    """The labels of rows, and the score of each; a row with several labels has an entry for each of them."""
    if labels.starts is None:
        numbers = labels.codes[found.rows].astype(np.int64)
        return numbers[numbers >= 0], finer[numbers >= 0]
    numbers = labels.codes[items_of(labels.starts, found.rows)].astype(np.int64)
    places = np.repeat(np.arange(len(found)), np.diff(labels.starts)[found.rows])
    pairs = np.unique(np.stack([numbers, places])[:, numbers >= 0], axis=1)  # a row may have a value twice
    return pairs[0], finer[pairs[1]]


def _has_label(labels: Labels, rows: int) -> NDArray[np.bool_]:
    has = labels.codes >= 0
    if labels.starts is None:
        return has[:rows]
    before = np.concatenate([[0], np.cumsum(has)])
    return np.diff(before[labels.starts]) > 0


def _best_labels(scores: Floats64, labels: Labels, limit: int, preferred: Sequence[Value]) -> list[int]:
    """Labels with the best scores, and those that are preferred, as far as they have any."""
    found = np.flatnonzero(scores > -np.inf)
    if len(found) > limit:
        found = found[np.argpartition(scores[found], -limit)[-limit:]]
    wanted = {label for value in preferred if (label := labels.find(value)) >= 0 and scores[label] > -np.inf}
    return sorted(wanted.union(found.tolist()))


def _best_of_each(numbers: Numbers, scores: Floats64, size: int) -> tuple[Numbers, Floats64]:
    """The `size` best scores of each number, by number, best first."""
    order = np.lexsort((-scores, numbers))
    numbers, scores = numbers[order], scores[order]
    rank = np.arange(len(numbers)) - np.searchsorted(numbers, numbers)
    return numbers[rank < size], scores[rank < size]
