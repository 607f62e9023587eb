"""Answers as SearchResults: the hits, what was searched, the cursor, and how it was computed."""

from collections.abc import Mapping, Sequence

from bebr.config import Limits
from bebr.engine.answers import AnswerSize
from bebr.engine.collections.collection import Collection
from bebr.engine.cursors import write_search_cursor
from bebr.engine.results import Explanation, RescoreExplanation, SearchResult
from bebr.engine.search.hits import Points, hits_of
from bebr.engine.search.probing import explained, why_exact
from bebr.engine.search.query import Answer, RoutedQuery


def results_of(
    collection: Collection,
    limits: Limits,
    routed: Sequence[RoutedQuery],
    answers: Sequence[Answer],
    points: Points,
    stages_ms: Mapping[str, float],
) -> list[SearchResult]:
    """Raises AnswerTooLarge."""
    size = AnswerSize(limits.max_answer_bytes)
    return [
        _result(collection, limits, one, answer, points, stages_ms, size)
        for one, answer in zip(routed, answers, strict=True)
    ]


def _result(
    collection: Collection,
    limits: Limits,
    one: RoutedQuery,
    answer: Answer,
    points: Points,
    stages_ms: Mapping[str, float],
    size: AnswerSize,
) -> SearchResult:
    query, request, found = answer.query, answer.query.request, answer.found
    versions = collection.document.versions
    covered: dict[str, int] = {}
    for number, count in answer.covered.items():  # buffered versions share an id
        covered[versions[number].id] = covered.get(versions[number].id, 0) + count
    before = size.size_bytes
    is_more = request.group_by is None and len(found.ids) == request.limit and query.wanted < limits.max_limit
    return SearchResult(
        hits=hits_of(request, found, points, versions, size),
        query_version=query.version.id,
        searched=covered,
        took_ms=sum(stages_ms.values()),
        cursor=write_search_cursor(query.wanted) if is_more else None,
        explain=_explain(collection, limits, one, stages_ms, answer) if request.explain else None,
        size_bytes=size.size_bytes - before,
    )


def _explain(
    collection: Collection, limits: Limits, one: RoutedQuery, stages_ms: Mapping[str, float], answer: Answer
) -> Explanation:
    stats, rescored = collection.shards.stats(), answer.rescored
    return Explanation(
        scorer=str(one.query.scorer),
        code=str(one.query.version.spec),
        route=dict(one.route),
        stages_ms={name: round(value, 3) for name, value in stages_ms.items()},
        shards=len(stats),
        parts=sum(shard.parts for shard in stats),
        scanned_bytes=sum(shard.scan_size_bytes for shard in stats),
        lists=explained(collection.document.versions, answer),
        exact=why_exact(one.query, collection, answer, limits),
        rescore=None
        if rescored is None
        else RescoreExplanation(rescored.candidates, rescored.rows, round(rescored.seconds * 1000, 3)),
    )
