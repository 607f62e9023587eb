"""Comparison: what a search found, beside what it would have found without its shortcuts, all of the same points.

A *shortcut* passes over points that a finer look might have made hits. What is compared are scores: a hit that scores
like the last one of the best answer is no loss, whichever of the two is shown.
"""

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bebr.engine.collections.collection import Collection
from bebr.engine.search.group import first_grouping, second_grouping
from bebr.engine.search.prepare import prepare_all
from bebr.engine.search.query import RoutedQuery
from bebr.engine.statuses import Shortcut, Tally
from bebr.shards import Found, Grouping, ScanQueries, Snapshot, Value


@dataclass(frozen=True, slots=True)
class Comparison:
    """One search, compared."""

    whole: Tally
    """With the answer without any shortcut."""
    of: Mapping[Shortcut, Tally]
    """For each shortcut that it takes: what it finds of what is found without that one."""


Steps = Generator[None, None, Comparison]
"""Each step takes a few milliseconds at most, but the first one, which answers the search; the last one returns."""


def shortcuts_of(one: RoutedQuery) -> list[Shortcut]:
    """The shortcuts that a search takes."""
    taken = {Shortcut.LISTS: one.probing is not None, Shortcut.SHORTLIST: one.rescoring is not None}
    return [shortcut for shortcut, is_taken in taken.items() if is_taken]


def compare(collection: Collection, one: RoutedQuery, snapshot: Snapshot) -> Steps:
    """For a thread. Raises what a search raises."""
    queries = prepare_all(collection, [one], one.candidates, one.rescoring is not None)
    if one.query.request.group_by is None:
        return (yield from _compare_hits(one, snapshot, queries))
    whole = yield from _compare_groups(one, snapshot, queries)
    return Comparison(whole, dict.fromkeys(shortcuts_of(one), whole))


def _compare_hits(one: RoutedQuery, snapshot: Snapshot, queries: Sequence[ScanQueries]) -> Steps:
    first, last = one.query.offset, one.query.wanted
    found = snapshot.search(queries, None, one.rescoring).scores[first:last]
    yield
    reads_lists = one.probing is not None
    exact = yield from snapshot.best_scores(queries, last, one.rescoring, reads_lists)
    best, shortlisted = exact.best[first:], exact.shortlisted[first:] if reads_lists else found
    of = {Shortcut.LISTS: tally_of_hits(found, shortlisted), Shortcut.SHORTLIST: tally_of_hits(shortlisted, best)}
    return Comparison(tally_of_hits(found, best), {shortcut: of[shortcut] for shortcut in shortcuts_of(one)})


def _compare_groups(
    one: RoutedQuery, snapshot: Snapshot, queries: Sequence[ScanQueries]
) -> Generator[None, None, Tally]:
    found = snapshot.search(queries, first_grouping(one), None)
    yield
    if (second := second_grouping(one, found)) is not None:
        found = snapshot.search(queries, second, None)
        yield
    request, by_group = one.query.request, scores_by_group(found)
    grouping = Grouping(str(request.group_by), request.limit, size=request.group_size, threshold=_threshold(one))
    best = yield from snapshot.best_groups(queries, grouping, list(by_group))
    return tally_of_groups(by_group, best)


def _threshold(one: RoutedQuery) -> float:
    return -np.inf if one.rescoring is None else one.rescoring.threshold


def scores_by_group(found: Found) -> dict[Value, list[float]]:
    """The scores of a grouped scan's hits, by the value of their group."""
    scores: dict[Value, list[float]] = {}
    for score, (_, value) in zip(found.scores, found.groups, strict=True):
        scores.setdefault(value, []).append(score)
    return scores


def tally_of_hits(found: Sequence[float], best: Sequence[float]) -> Tally:
    """Scores of a page of hits, and those of the same page of the best hits."""
    return Tally((Counter(found) & Counter(best)).total(), len(best))


def tally_of_groups(found: Mapping[Value, Sequence[float]], best: Mapping[Value, Sequence[float]]) -> Tally:
    """The same for the hits of each of the best groups."""
    of_groups = [tally_of_hits(found.get(value, ()), scores) for value, scores in best.items()]
    return Tally(sum(one.found for one in of_groups), sum(one.wanted for one in of_groups))
