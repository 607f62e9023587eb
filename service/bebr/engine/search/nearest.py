"""The shortest way of plain searches (`plain.py`): from vectors to hits in one call of the kernel, on the event loop.

It is for searches that nobody waits before, that take a moment, and whose hits keep the scores of the scan. It says
None of all others, and of whatever may be wrong: these go the long way, which tests hold to the same answers.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from bebr.config import Limits
from bebr.core.list_calibration import Measured
from bebr.core.lists import ListRule
from bebr.core.scoring import Scorer
from bebr.core.types import Hit
from bebr.encoding.encoder import Encoder
from bebr.engine.admission import Admission
from bebr.engine.answers import HIT_BYTES, PAGE_IDS, size_of_all
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.list_rules import MeasuredLists
from bebr.engine.collections.version import VersionKind
from bebr.engine.cursors import write_search_cursor
from bebr.engine.requests import SearchRequest
from bebr.engine.results import SearchResult
from bebr.engine.search.hits import Points, fetch_few
from bebr.engine.search.plain import EmbeddedText, is_plain, query_unit
from bebr.engine.search.prepare import mean_product
from bebr.engine.search.probing import MEASURED_LIMIT
from bebr.engine.search.rescore import RESCORED_PER_UNIT, candidates_for, candidates_of
from bebr.shards import EmbeddingQueries, Found, NotInMemory, Searched

_SCORERS = (None, Scorer.ADC)


@dataclass(frozen=True, slots=True)
class _Reading:
    """How plain searches read lists."""

    measured: Mapping[int, MeasuredLists]
    """What it was made of."""
    recall: float
    """Share of the exact hits that they find."""
    of_version: Mapping[int, Measured]
    """What those do that find this share, where they cost less than to compare all codes."""
    share: float
    """About which share of all codes is read then."""


class NearestSearches:
    """Plain searches of one collection."""

    def __init__(self, collection: Collection, limits: Limits, admission: Admission) -> None:
        self._collection = collection
        self._limits = limits
        self._lane, self._turn = admission.searches, admission.turn
        self._last: _Reading | None = None

    @property
    def is_rescored(self) -> bool:
        """Whether codes have rescore codes."""
        return self._collection.active.spec.rescore is not None

    @property
    def share(self) -> float:
        """About which share of all codes a search reads."""
        return 1.0 if (reading := self._reading()) is None else reading.share

    async def search(
        self, requests: Sequence[SearchRequest], units: float, embedded: EmbeddedText | None = None
    ) -> list[SearchResult] | None:
        """One result per request. units: of the lane. embedded: the text of the only request."""
        started, collection, key = time.perf_counter(), self._collection, self._collection.document.uid
        if not self._turn.is_free or (queries := self._queries(requests, embedded)) is None:
            return None
        began, done = started - (0.0 if embedded is None else embedded.seconds), False
        units += sum(queries.candidates) / RESCORED_PER_UNIT
        self._lane.enter(key, units)
        try:
            try:
                searched = collection.shards.nearest(queries)
                self._turn.use(time.perf_counter() - started)
            except NotInMemory:  # the event loop waits for no disk
                searched = await collection.shards.nearest_on_thread(queries)
            if searched is None:
                return None
            if searched.queries is not None:
                collection.list_rules.note_queries(queries.version, searched.queries)
            points = await self._fetch(requests, searched)
            done = True
        finally:
            self._lane.leave(key, units, done)
        return self._results(requests, queries, searched, points, time.perf_counter() - began)

    def _queries(
        self, requests: Sequence[SearchRequest], embedded: EmbeddedText | None = None
    ) -> EmbeddingQueries | None:
        version = self._collection.active
        codec = None if version.kind is VersionKind.RAW else self._collection.encoders.codec(version)
        if not isinstance(codec, Encoder) or (projection := codec.projection) is None:
            return None
        has_finer = version.spec.rescore is not None
        is_rescored = has_finer and requests[0].rescore is None
        units, most, hits = [], 0, 0
        for request in requests:
            if not is_plain(request) or request.with_code or request.explain:
                return None
            if request.scorer not in _SCORERS or type(request.with_metadata) is not bool:
                return None
            if request.rescore or (has_finer and is_rescored is not (request.rescore is None)):
                return None
            if not 1 <= (limit := request.limit) <= PAGE_IDS:
                return None
            if (unit := query_unit(request, embedded, version, projection.size)) is None:
                return None
            units.append(unit)
            most, hits = max(most, limit), hits + limit
        if hits * HIT_BYTES > self._limits.max_answer_bytes:
            return None
        added = None
        if (mean := codec.exact_mean) is not None:
            added = np.array([mean_product(unit, mean) for unit in units])
        embeddings = units[0] if len(units) == 1 else np.concatenate(units)
        keeps, reading = version.number in self._collection.list_rules.keeps, self._reading()
        if is_rescored:
            if keeps or reading is not None:
                return None
            of_version, finer = candidates_of(version), codec.rescore_queries(embeddings)
            counts = [candidates_for(request, of_version, self._limits) for request in requests]
            return EmbeddingQueries(
                version.number, embeddings, projection, added, most, rescore=finer, candidates=counts
            )
        rule = None if reading is None else self._rule(reading, version.number, [one.limit for one in requests])
        if reading is None or rule is None:
            return EmbeddingQueries(version.number, embeddings, projection, added, most, keeps=keeps)
        limit = max(MEASURED_LIMIT, most)
        return EmbeddingQueries(version.number, embeddings, projection, added, limit, rule, reading.share, keeps)

    def _reading(self) -> _Reading | None:
        """As `probing.probing_of`; None: all codes are compared."""
        measured, recall = self._collection.list_rules.measured, self._collection.document.recall
        if not measured or recall is None:  # most collections
            return None
        last = self._last
        if last is None or last.measured is not measured or last.recall != recall:
            found = {number: one.calibration.at(recall) for number, one in measured.items()}
            of_version = {number: at for number, at in found.items() if measured[number].pays(at)}
            shares = [one.share for one in of_version.values()]
            last = self._last = _Reading(measured, recall, of_version, max(shares, default=1.0))
        return last if last.of_version else None

    def _rule(self, reading: _Reading, version: int, wanted: Sequence[int]) -> ListRule | None:
        """As `probing.rule_of`."""
        at, points = reading.of_version.get(version), self._collection.shards.points()
        if at is None or self._collection.list_rules.of(version, points.get(version, 0)) is None:
            return None
        deltas = np.full(len(wanted), at.delta, np.float32)
        return ListRule(deltas, np.array([max(one, MEASURED_LIMIT) for one in wanted], np.int32))

    async def _fetch(self, requests: Sequence[SearchRequest], searched: Searched) -> Points:
        """Points of the hits of requests that show metadata."""
        shown = [
            found.ids[: request.limit]
            for request, found in zip(requests, searched.found, strict=True)
            if request.with_metadata
        ]
        if len(self._collection.document.versions) > 1:
            hits = zip(requests, searched.found, strict=True)
            self._collection.hot_points.count([i for request, found in hits for i in found.ids[: request.limit]])
        ids = shown[0] if len(shown) == 1 else list(dict.fromkeys(chain.from_iterable(shown)))
        return await fetch_few(self._collection, ids, len(requests), metadata=True) if ids else {}

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
            size = size_of_all([hit[3] for hit in hits])
            left -= size
            is_more = len(found.ids) >= request.limit < self._limits.max_limit
            cursor = write_search_cursor(request.limit) if is_more else None
            results.append(SearchResult(hits, name, covered, seconds * 1000, cursor, None, size))
        return None if left < 0 else results


def _hits(request: SearchRequest, found: Found, points: Points, version: str) -> list[Hit]:
    """Points that were deleted since the scan are left out."""
    scored = zip(found.ids[: request.limit], found.scores, strict=False)
    if not request.with_metadata:
        return Hit.of_rows([(i, score, version, None, None, None) for i, score in scored])
    return Hit.of_rows([(i, score, version, points[i].metadata, None, None) for i, score in scored if i in points])
