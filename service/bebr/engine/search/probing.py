"""Probing: which searches read lists of codes instead of all codes, and how much of an exact answer they find.

Lists are those of `bebr.core.lists`. A search that reads them wants a *recall*: the share of the hits of an exact
search that it finds, on average over searches. Its own comes first, then the collection's.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bebr.config import Limits
from bebr.core.list_calibration import Calibration, Measured, filtered_recall
from bebr.core.lists import ListRule
from bebr.core.scoring import Scorer
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.registry import check_recall
from bebr.engine.collections.schema import CollectionDocument
from bebr.engine.collections.version import Version
from bebr.engine.requests import SearchRequest
from bebr.engine.results import ListsExplanation
from bebr.engine.search.query import Answer, Probing, Query, ReadLists, RoutedQuery
from bebr.errors import InvalidOption
from bebr.shards import ListsRead, ScanQueries, Searched

MEASURED_LIMIT = 10
"""Hits for which it is measured what a rule finds."""
RESCORED_STOP = 2
"""Times as many hits are wanted of the lists, where candidates are scored again."""


def probing_of(collection: Collection, query: Query, rescored: bool) -> Probing | None:
    """How a search reads lists; None: it compares all codes, also where lists cost more. rescored: candidates are
    scored again.

    Rules are measured for MEASURED_LIMIT hits; to find fewer, as many lists are read, and to find more, what deep hits
    need. Hits by finer scores are among the best of the scan, but not in that order, so for these more lists are read.
    """
    if not (measured := collection.list_rules.measured):  # most collections
        return None
    recall = recall_of(query.request, query.scorer, collection.document)
    if recall is None:
        return None
    found = [(one, one.calibration.at(recall)) for one in measured.values()]
    costs = [one.cost(at) for one, at in found if one.pays(at)]
    if not costs:
        return None
    stop_at = max(query.request.limit, MEASURED_LIMIT) * (RESCORED_STOP if rescored else 1)
    return Probing(recall, stop_at, max(costs))


def measured_for(calibration: Calibration, recall: float, stop_at: int, is_filtered: bool) -> Measured:
    """What searches that find this share of their hits do; they stop at this hit, and may have a filter."""
    if is_filtered:
        return calibration.deep_at(filtered_recall(recall))
    return calibration.deep_at(recall) if stop_at > MEASURED_LIMIT else calibration.at(recall)


def rule_of(collection: Collection, routed: Sequence[RoutedQuery], version: int) -> ListRule | None:
    """How queries read the lists of a code version; None: they compare all of its codes."""
    measured = collection.list_rules.of(version, collection.shards.points().get(version, 0))
    if measured is None:
        return None
    deltas, stops = [], []
    for one in routed:
        if one.probing is None:
            return None
        stop_at, is_filtered = one.probing.stop_at, one.query.condition is not None
        at = measured_for(measured.calibration, one.probing.recall, stop_at, is_filtered)
        if not measured.pays(at):
            return None
        deltas.append(at.delta * float(one.of_version[version].factor))
        stops.append(stop_at)
    return ListRule(np.array(deltas, np.float32), np.array(stops, np.int32))


def with_lists(
    answers: Sequence[Answer], routed: Sequence[RoutedQuery], prepared: Sequence[ScanQueries], searched: Searched
) -> list[Answer]:
    """The same answers; those that are explained say which lists were read. prepared: what was searched for."""
    rules = {one.version: one.lists for one in prepared if one.lists is not None}
    return [
        replace(answer, lists={number: _read(one, rules[number], read, n) for number, read in searched.lists.items()})
        if one.query.request.explain and one.probing is not None
        else answer
        for n, (answer, one) in enumerate(zip(answers, routed, strict=True))
    ]


def _read(one: RoutedQuery, rule: ListRule, read: ListsRead, query: int) -> ReadLists:
    assert one.probing is not None, "it reads lists"
    delta, is_whole = round(float(rule.deltas[query]), 6), bool(read.is_whole[query])
    return ReadLists(read.held, one.probing.recall, delta, int(read.lists[query]), int(read.rows[query]), is_whole)


def explained(versions: Sequence[Version], answer: Answer) -> dict[str, ListsExplanation]:
    """Which lists a search read, by id of the code version."""
    return {
        versions[number].id: ListsExplanation(
            read.held.generations,
            read.recall,
            read.delta,
            read.held.lists,
            read.lists,
            read.held.rows,
            read.rows,
        )
        for number, read in answer.lists.items()
        if not read.is_whole
    }


def check_probing(request: SearchRequest, scorer: Scorer) -> None:
    """Raise InvalidOption where a recall is wanted that cannot be, or of a search that is exact."""
    if request.recall is None:
        return
    check_recall(request.recall)
    why = None
    if request.exact:
        why = "'exact' finds all"
    elif scorer is Scorer.HAMMING:
        why = "scorer 'hamming' compares all codes"
    elif request.group_by is not None:
        why = "a search with 'group_by' compares all codes"
    if why is not None:
        raise InvalidOption(f"'recall' does not apply: {why}; leave 'recall' out", key="recall")


def recall_of(request: SearchRequest, scorer: Scorer, document: CollectionDocument) -> float | None:
    """The share of the exact hits that a search has to find; None: it is exact."""
    if request.exact or scorer is Scorer.HAMMING or request.group_by is not None:
        return None
    return document.recall if request.recall is None else request.recall


def why_exact(query: Query, collection: Collection, answer: Answer, limits: Limits) -> str | None:
    """Why a search compared all codes; None: it did not."""
    request, scorer = query.request, query.scorer
    if answer.lists:
        is_whole = all(read.is_whole for read in answer.lists.values())
        return "so few points match the filter that all of them are compared" if is_whole else None
    if request.exact:
        return "the search says so"
    if scorer is Scorer.HAMMING:
        return "scorer hamming compares all codes"
    if request.group_by is not None:
        return "group_by compares all codes"
    if recall_of(request, scorer, collection.document) is None:
        return "the recall of the collection is null"
    if max(answer.covered.values(), default=0) < limits.lists_from_points:
        return f"no code version has {limits.lists_from_points:,} points"
    if any(collection.list_rules.of(number, points) for number, points in answer.covered.items()):
        return "lists would cost more: a search for this recall has to read too many of the codes"
    return "the points are not in lists yet"
