"""The shortest way of searches: from vectors to hits in one call of the kernel, on the event loop.

It is for searches that nobody waits before, by vectors or a text of the active version, that take a moment; they may
have filters, thresholds and offsets. It says None of all others, and of whatever may be wrong: these go the long way,
which tests hold to the same answers.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from math import inf, isfinite
from operator import attrgetter, gt
from typing import Literal

import numpy as np

from bebr.config import Limits
from bebr.core.arrays import Floats
from bebr.core.filters import Filter
from bebr.core.list_calibration import Measured
from bebr.core.lists import ListRule
from bebr.core.scoring import Scorer
from bebr.encoding.encoder import Encoder
from bebr.engine.admission import Admission
from bebr.engine.answers import HIT_BYTES, PAGE_IDS, AnswerSize
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.list_rules import MeasuredLists
from bebr.engine.collections.version import VersionKind
from bebr.engine.cursors import write_search_cursor
from bebr.engine.requests import SearchRequest
from bebr.engine.results import SearchResult
from bebr.engine.search.hits import Points, fetch_few, hits_of, is_much_to_project
from bebr.engine.search.plain import EmbeddedText, query_unit
from bebr.engine.search.prepare import FLOAT32_MAX, mean_product, scan_floors
from bebr.engine.search.probing import MEASURED_LIMIT, RESCORED_STOP, measured_for
from bebr.engine.search.rescore import RESCORED_PER_UNIT, candidates_for, candidates_of
from bebr.errors import AnswerTooLarge, BebrError
from bebr.shards import EmbeddingQueries, Found, NotInMemory, Searched

_DOES = {"text", "vector", "limit", "offset", "scorer", "filter", "score_threshold", "with_metadata", "rescore"}
_OTHERS = [field for field in fields(SearchRequest) if field.name not in _DOES]
_others_of = attrgetter(*(field.name for field in _OTHERS))
_SCORERS = (None, Scorer.ADC)
_DEFAULTS = tuple(field.default for field in _OTHERS)
Filters = tuple[Filter | None, ...]
DEEPER = MEASURED_LIMIT + 1
"""Hits of those that find more than was measured."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """How plain searches read lists."""

    measured: Mapping[int, MeasuredLists]
    """What it was made of."""
    recall: float
    """Share of the exact hits that they find."""
    of_version: Mapping[int, Measured]
    """What those do that find this share, where they cost less than to compare all codes."""
    others: Mapping[tuple[int, bool], Measured]
    """By version, and whether they have a filter: the same of those that have one, or that find more hits."""
    share: float
    """What they cost then, of what it costs to compare all codes, about."""


class NearestSearches:
    """Plain searches of one collection."""

    def __init__(self, collection: Collection, limits: Limits, admission: Admission) -> None:
        self._collection = collection
        self._limits = limits
        self._lane, self._turn = admission.searches, admission.turn
        self._last: _Reading | None = None
        self._waiting = False
        """Whether a search waits on a thread: others go the long way meanwhile, which lets them share a scan."""

    @property
    def is_rescored(self) -> bool:
        """Whether codes have rescore codes."""
        return self._collection.active.spec.rescore is not None

    @property
    def share(self) -> float:
        """What a search costs, of what it costs to compare all codes, about."""
        return 1.0 if (reading := self._reading()) is None else reading.share

    async def search(
        self, requests: Sequence[SearchRequest], units: float, embedded: EmbeddedText | None = None
    ) -> list[SearchResult] | None:
        """One result per request. units: of the lane. embedded: the text of the only request."""
        started, collection, key = time.perf_counter(), self._collection, self._collection.document.uid
        if not self._turn.is_free or self._waiting or (queries := self._queries(requests, embedded)) is None:
            return None
        began, done = started - (0.0 if embedded is None else embedded.seconds), False
        if queries.candidates is not None:
            units += float(queries.candidates.sum()) / RESCORED_PER_UNIT
        self._lane.enter(key, units)
        try:
            try:
                searched = collection.shards.nearest(queries)
                self._turn.use(time.perf_counter() - started)
            except NotInMemory:  # the event loop waits for no disk
                searched = await self._on_thread(queries)
            if searched is None:
                return None
            if searched.queries is not None:
                collection.list_rules.note_queries(queries.version, searched.queries)
            pages = [_page(request, found) for request, found in zip(requests, searched.found, strict=True)]
            points = await self._fetch(requests, pages)
            done = True
        finally:
            self._lane.leave(key, units, done)
        if is_much_to_project(requests, points):
            return await asyncio.to_thread(self._results, requests, queries, searched, pages, points, began)
        return self._results(requests, queries, searched, pages, points, began)

    async def _on_thread(self, queries: EmbeddingQueries) -> Searched | None:
        self._waiting = True
        try:
            return await self._collection.shards.nearest_on_thread(queries)
        finally:
            self._waiting = False

    def _queries(
        self, requests: Sequence[SearchRequest], embedded: EmbeddedText | None = None
    ) -> EmbeddingQueries | None:
        version = self._collection.active
        codec = None if version.kind is VersionKind.RAW else self._collection.encoders.codec(version)
        if not isinstance(codec, Encoder) or (projection := codec.projection) is None:
            return None
        if (asked := self._asked(requests, embedded, projection.size)) is None:
            return None
        units, wanted = asked
        filters = self._filters(requests)
        if filters is False:
            return None
        is_rescored = self.is_rescored and requests[0].rescore is None
        added, scanned = None, max(wanted)
        if (mean := codec.exact_mean) is not None:
            added = np.array([mean_product(unit, mean) for unit in units])
        embeddings = units[0] if len(units) == 1 else np.concatenate(units)
        finer, candidates = None, None
        if is_rescored:
            of_version = candidates_of(version)
            counts = [candidates_for(request, of_version, self._limits) for request in requests]
            if any(map(gt, wanted, counts)):  # hits of several runs of candidates
                return None
            finer, candidates, scanned = codec.rescore_queries(embeddings), np.array(counts), max(counts)
        floors, thresholds = None, _thresholds(requests, is_rescored)
        rule, reading = None, self._reading()
        if reading is not None:
            if any(request.offset for request in requests):  # pages of lists are found otherwise
                return None
            rule = self._rule(reading, version.number, requests, filters, is_rescored)
            if rule is None and filters is not None and len(requests) > 1:
                return None
        if rule is not None:
            scanned = max(scanned, int(rule.stop_at.max()))
            if thresholds is not None and not is_rescored:
                floors = scan_floors(np.array(thresholds), np.zeros(len(units)) if added is None else added)
        return EmbeddingQueries(
            version.number,
            embeddings,
            projection,
            added,
            max(wanted),
            scanned,
            filters,
            floors,
            thresholds,
            finer,
            candidates,
            rule,
            1.0 if reading is None else reading.share,
            version.number in self._collection.list_rules.keeps,
        )

    def _asked(
        self, requests: Sequence[SearchRequest], embedded: EmbeddedText | None, dims: int
    ) -> tuple[list[Floats], list[int]] | None:
        """Of each request, (1, dims) of length one, and hits to find, those to skip included. None: some want what this
        way does not do, or are wrong."""
        version, most = self._collection.active, min(PAGE_IDS, self._limits.max_limit)
        has_finer, units, wanted, hits = self.is_rescored, [], [], 0
        is_rescored = has_finer and requests[0].rescore is None
        for request in requests:
            if _others_of(request) != _DEFAULTS or request.scorer not in _SCORERS or request.rescore:
                return None
            if has_finer and is_rescored is not (request.rescore is None):
                return None
            if (request.vector is None) == (request.text is None) or not isfinite(request.score_threshold or 0.0):
                return None
            if not 1 <= request.limit <= (last := request.offset + request.limit) <= most:
                return None
            if (unit := query_unit(request, embedded, version, dims)) is None:
                return None
            units.append(unit)
            wanted.append(last)
            hits += last
        return None if hits * HIT_BYTES > self._limits.max_answer_bytes else (units, wanted)

    def _filters(self, requests: Sequence[SearchRequest]) -> Filters | Literal[False] | None:
        """Of each request; None: none has one. False: one is wrong."""
        asked = [request.filter for request in requests]
        if asked == [None] * len(asked):  # most searches
            return None
        found, left = list[Filter | None](), self._limits.max_filter_size
        for one in asked:
            try:
                condition = self._collection.parse_filter(one, left)
            except BebrError:
                return False
            left -= 0 if condition is None else condition.size
            found.append(condition)
        return tuple(found)

    def _reading(self) -> _Reading | None:
        """As `probing.probing_of`; None: all codes are compared."""
        measured, recall = self._collection.list_rules.measured, self._collection.document.recall
        if not measured or recall is None:  # most collections
            return None
        last = self._last
        if last is None or last.measured is not measured or last.recall != recall:
            found = {number: one.calibration.at(recall) for number, one in measured.items()}
            of_version = {number: at for number, at in found.items() if measured[number].pays(at)}
            costs = [measured[number].cost(at) for number, at in of_version.items()]
            others = {
                (number, is_filtered): measured_for(measured[number].calibration, recall, DEEPER, is_filtered)
                for number in of_version
                for is_filtered in (False, True)
            }
            last = self._last = _Reading(measured, recall, of_version, others, max(costs, default=1.0))
        return last if last.of_version else None

    def _rule(
        self,
        reading: _Reading,
        version: int,
        requests: Sequence[SearchRequest],
        filters: Filters | None,
        is_rescored: bool,
    ) -> ListRule | None:
        """As `probing.rule_of`."""
        at, points = reading.of_version.get(version), self._collection.shards.points()
        if at is None or (measured := self._collection.list_rules.of(version, points.get(version, 0))) is None:
            return None
        deltas, times = np.full(len(requests), at.delta, np.float32), RESCORED_STOP if is_rescored else 1
        stop_at = [max(request.limit, MEASURED_LIMIT) * times for request in requests]
        for n, stop in enumerate(stop_at):
            is_filtered = filters is not None and filters[n] is not None
            if is_filtered or stop > MEASURED_LIMIT:
                other = reading.others[version, is_filtered]
                if not measured.pays(other):
                    return None
                deltas[n] = other.delta
        return ListRule(deltas, np.array(stop_at, np.int32))

    async def _fetch(self, requests: Sequence[SearchRequest], pages: Sequence[Found]) -> Points:
        """Points of the hits of requests that show metadata."""
        shown = [page.ids for request, page in zip(requests, pages, strict=True) if request.with_metadata is not False]
        if len(self._collection.document.versions) > 1:
            self._collection.hot_points.count([point_id for page in pages for point_id in page.ids])
        ids = shown[0] if len(shown) == 1 else list(dict.fromkeys(chain.from_iterable(shown)))
        points: Points = self._collection.at_hand(ids)
        if len(points) < len(ids):
            points = await fetch_few(self._collection, ids, len(requests), metadata=True)
        return points

    def _results(
        self,
        requests: Sequence[SearchRequest],
        queries: EmbeddingQueries,
        searched: Searched,
        pages: Sequence[Found],
        points: Points,
        began: float,
    ) -> list[SearchResult] | None:
        versions, size = self._collection.document.versions, AnswerSize(self._limits.max_answer_bytes)
        name = versions[queries.version].id
        covered = {name: sum(searched.points.values())}
        results, took_ms = [], (time.perf_counter() - began) * 1000
        for request, page in zip(requests, pages, strict=True):
            before, wanted = size.size_bytes, request.offset + request.limit
            try:
                hits = hits_of(request, page, points, versions, size)
            except AnswerTooLarge:
                return None
            is_more = len(page.ids) == request.limit and wanted < self._limits.max_limit
            cursor = write_search_cursor(wanted) if is_more else None
            results.append(SearchResult(hits, name, covered, took_ms, cursor, None, size.size_bytes - before))
        return results


def _thresholds(requests: Sequence[SearchRequest], is_rescored: bool) -> list[float] | None:
    """As `prepare.prepare`: the lowest scores that count; None: all do."""
    asked = [request.score_threshold for request in requests]
    if asked == [None] * len(asked):  # most searches
        return None
    thresholds = [-inf if one is None else float(one) for one in asked]
    if is_rescored:
        return thresholds
    return [one if one == -inf else max(-FLOAT32_MAX, min(one, FLOAT32_MAX)) for one in thresholds]


def _page(request: SearchRequest, found: Found) -> Found:
    """The hits that are shown."""
    if not request.offset and len(found.ids) <= request.limit:  # most searches
        return found
    return found.at(range(min(request.offset, len(found.ids)), min(request.offset + request.limit, len(found.ids))))
