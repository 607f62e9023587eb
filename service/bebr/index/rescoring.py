"""Rescoring: the candidates of a scan are scored again by their rescore codes, most of which lie on disk.

It comes last, when the candidates of all shards and code versions are merged, so that their number counts once. In the
order of the scan (score, then id) they are taken a number at a time, and each such run is ordered by the finer scores.
So the hits of a query have one order, whatever page of them is wanted; for first pages one run is all there is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebr.index.candidates import Candidates, Found
from bebr.index.scan import ScanQueries
from bebr.index.scan_view import ScanView
from bebr.kernel import rescore

NotInMemory = rescore.NotInMemory
NO_HITS = Found([], [], [])


@dataclass(frozen=True, slots=True)
class Rescoring:
    """How the candidates of one query are scored again."""

    candidates: int
    """How many are scored and ordered together."""
    skipped: int
    """Hits that are not shown."""
    wanted: int
    """Hits wanted, those that are skipped included."""
    threshold: float = -np.inf
    """The lowest finer score that counts."""

    @property
    def first(self) -> int:
        """Candidates before this one are skipped, whatever their finer scores."""
        return 0 if self.threshold > -np.inf else self.skipped // self.candidates * self.candidates

    @property
    def limit(self) -> int:
        """How many candidates the scan must find."""
        return -(-self.wanted // self.candidates) * self.candidates


@dataclass(frozen=True, slots=True)
class Rescored:
    """What scoring candidates again took."""

    rows: list[int]
    """Rescore codes that were read for each query."""
    seconds: float
    """For all queries together."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Candidates of one query that are scored and ordered together."""

    query: int
    candidates: Candidates


def rescore_hits(
    view: ScanView,
    found: Sequence[Candidates],
    queries: Sequence[ScanQueries],
    rescorings: Sequence[Rescoring],
    waits: bool = True,
) -> tuple[list[Found], list[int]]:
    """The hits of each query, and how many rescore codes were read for it.

    found: candidates of all versions, best first, with all that tie with the last one. queries: of one version each.
    Raises DamagedSegment; without `waits` NotInMemory where a disk would be waited for.
    """
    if len(found) == 1 and rescorings[0].first == 0 and len(found[0]) <= rescorings[0].candidates:  # most searches
        (scores,), rows = finer_scores(view, found, [0], queries, waits)
        return [_best(view, found[0], scores, rescorings[0].wanted, rescorings[0].threshold)], rows
    runs = [run for query in range(len(found)) for run in _runs(view, found[query], query, rescorings[query])]
    all_scores, rows = finer_scores(view, [run.candidates for run in runs], [run.query for run in runs], queries, waits)
    hits: list[list[Found]] = [[] for _ in found]
    for query, (candidates, how) in enumerate(zip(found, rescorings, strict=True)):
        if how.first:
            skipped = candidates.at(slice(0, how.first))
            hits[query].append(view.best(skipped, skipped.scores, how.first))
    for run, scores in zip(runs, all_scores, strict=True):
        how = rescorings[run.query]
        left = how.wanted - sum([len(one.ids) for one in hits[run.query]])
        if left > 0:
            hits[run.query].append(_best(view, run.candidates, scores, left, how.threshold))
    return [joined(some) if some else NO_HITS for some in hits], rows


def finer_scores(
    view: ScanView,
    groups: Sequence[Candidates],
    query_of: Sequence[int],
    queries: Sequence[ScanQueries],
    waits: bool = True,
) -> tuple[list[NDArray[np.float64]], list[int]]:
    """For groups of candidates, each of the query in query_of (ascending): their finer scores; and for each query how
    many rescore codes were read.

    Candidates of a version without rescore codes keep the scores that they have.
    """
    counts = np.zeros(len(queries[0]), np.int64)
    if not groups:
        return [], counts.tolist()
    sizes = [len(group) for group in groups]
    if len(queries[0]) == 1 and len(groups) == 1:  # most searches
        together, query_of_rows = groups[0], None
    else:
        together, query_of_rows = _concatenated(groups), np.repeat(np.array(query_of, np.int32), sizes)
    scores = together.scores.copy()
    for of_version in queries:
        parts = view.rescore.get(of_version.version)
        if of_version.rescore is not None and parts is not None:
            parts.add_scores(of_version.rescore, together, query_of_rows, scores, counts, waits)
    if len(groups) == 1:
        return [scores], counts.tolist()
    return np.split(scores, np.cumsum(sizes)[:-1]), counts.tolist()


def _best(view: ScanView, candidates: Candidates, scores: NDArray[np.float64], limit: int, threshold: float) -> Found:
    best = view.best(candidates, scores, limit)
    return best if threshold == -np.inf else best.raised(0.0, threshold)


def joined(found: Sequence[Found]) -> Found:
    """Hits of one query, one after the other."""
    if len(found) == 1:
        return found[0]
    return Found(
        [score for one in found for score in one.scores],
        [point_id for one in found for point_id in one.ids],
        [version for one in found for version in one.versions],
    )


def _runs(view: ScanView, found: Candidates, query: int, how: Rescoring) -> Iterator[_Run]:
    for start in range(how.first, min(how.limit, len(found)), how.candidates):
        found = _cut(view, found, start)
        found = _cut(view, found, start + how.candidates)
        yield _Run(query, found.at(slice(start, start + how.candidates)))


def _cut(view: ScanView, found: Candidates, at: int) -> Candidates:
    """The same candidates; where those before and after this place tie, in the order of their ids."""
    scores = found.scores
    if not 0 < at < len(found) or scores[at - 1] != scores[at]:
        return found
    start, stop = (int(np.searchsorted(-scores, -scores[at], side)) for side in ("left", "right"))
    ids = view.ids(found.places[start:stop], found.rows[start:stop])
    order = np.arange(len(found))
    order[start:stop] = start + np.array(sorted(range(len(ids)), key=ids.__getitem__))
    return found.at(order)


def _concatenated(groups: Sequence[Candidates]) -> Candidates:
    return Candidates(
        np.concatenate([group.scores for group in groups]),
        np.concatenate([group.places for group in groups]),
        np.concatenate([group.rows for group in groups]),
    )
