"""The shortest way of plain searches (`plain.py`): from vectors to hits in one call of the kernel, on the event loop.

It is for searches that nobody waits before, that take a moment, and whose hits keep the scores of the scan. It says
None of all others, and of whatever may be wrong: these go the long way, which tests hold to the same answers.
"""

import time
from collections.abc import Sequence

import numpy as np

from bebr.config import Limits
from bebr.core.scoring import Scorer
from bebr.core.types import Hit
from bebr.encoding.embedding.vectors import unit_of
from bebr.encoding.encoder import Encoder
from bebr.engine.admission import Admission
from bebr.engine.answers import HIT_BYTES, PAGE_IDS, size_of
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import VersionKind
from bebr.engine.cursors import write_search_cursor
from bebr.engine.requests import SearchRequest
from bebr.engine.results import SearchResult
from bebr.engine.search.hits import Points, fetch_few
from bebr.engine.search.plain import is_plain
from bebr.engine.search.prepare import mean_product
from bebr.shards import EmbeddingQueries, Found, Searched


class NearestSearches:
    """Plain searches of one collection."""

    def __init__(self, collection: Collection, limits: Limits, admission: Admission) -> None:
        self._collection = collection
        self._limits = limits
        self._lane, self._turn = admission.searches, admission.turn

    async def search(self, requests: Sequence[SearchRequest], units: float) -> list[SearchResult] | None:
        """One result per request. units: of the lane."""
        started, collection, key = time.perf_counter(), self._collection, self._collection.document.uid
        if not self._turn.is_free or (queries := self._queries(requests)) is None:
            return None
        done = False
        self._lane.enter(key, units)
        try:
            if (searched := collection.shards.nearest(queries)) is None:
                return None
            self._turn.use(time.perf_counter() - started)
            points = await self._fetch(requests, searched)
            done = True
        finally:
            self._lane.leave(key, units, done)
        return self._results(requests, queries, searched, points, time.perf_counter() - started)

    def _queries(self, requests: Sequence[SearchRequest]) -> EmbeddingQueries | None:
        version = self._collection.active
        if version.number in self._collection.list_rules.keeps:  # lists are read, or will be
            return None
        codec = None if version.kind is VersionKind.RAW else self._collection.encoders.codec(version)
        if not isinstance(codec, Encoder) or (projection := codec.projection) is None:
            return None
        units = []
        for request in requests:
            if (
                not is_plain(request)
                or request.scorer not in (None, Scorer.ADC)
                or request.with_code
                or request.explain
            ):
                return None
            if request.rescore or (version.spec.rescore is not None and request.rescore is None):
                return None
            vector = request.vector
            if vector is None or len(vector) != projection.size or (unit := unit_of(vector)) is None:
                return None
            units.append(unit)
        wanted = [request.limit if type(request.with_metadata) is bool else 0 for request in requests]
        if min(wanted) < 1 or max(wanted) > PAGE_IDS or sum(wanted) * HIT_BYTES > self._limits.max_answer_bytes:
            return None
        added = None
        if codec.exact_mean is not None:
            added = np.array([mean_product(unit, codec.exact_mean) for unit in units])
        embeddings = units[0] if len(units) == 1 else np.concatenate(units)
        return EmbeddingQueries(version.number, embeddings, projection, added, max(wanted))

    async def _fetch(self, requests: Sequence[SearchRequest], searched: Searched) -> Points:
        """Points of the hits of requests that show metadata."""
        ids: dict[str, None] = {}
        for request, found in zip(requests, searched.found, strict=True):
            if request.with_metadata:
                ids |= dict.fromkeys(found.ids)
        if len(self._collection.document.versions) > 1:
            self._collection.hot_points.count([point_id for found in searched.found for point_id in found.ids])
        return await fetch_few(self._collection, list(ids), len(requests), metadata=True) if ids else {}

    def _results(
        self,
        requests: Sequence[SearchRequest],
        queries: EmbeddingQueries,
        searched: Searched,
        points: Points,
        seconds: float,
    ) -> list[SearchResult] | None:
        name = self._collection.document.versions[queries.version].id
        covered = {name: sum(searched.points.values())}
        results, left = [], self._limits.max_answer_bytes
        for request, found in zip(requests, searched.found, strict=True):
            hits = _hits(request, found, points, name)
            size = sum([size_of(hit.metadata, None) for hit in hits])
            left -= size
            is_more = len(found.ids) >= request.limit < self._limits.max_limit
            cursor = write_search_cursor(request.limit) if is_more else None
            results.append(SearchResult(hits, name, covered, seconds * 1000, cursor, None, size))
        return None if left < 0 else results


def _hits(request: SearchRequest, found: Found, points: Points, version: str) -> list[Hit]:
    """Points that were deleted since the scan are left out."""
    scored = list(zip(found.ids, found.scores, strict=True))[: request.limit]
    if not request.with_metadata:
        return [Hit(point_id, score, version) for point_id, score in scored]
    return [Hit(i, score, version, points[i].metadata) for i, score in scored if i in points]
