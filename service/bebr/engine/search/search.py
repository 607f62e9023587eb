"""A search, from request to hits. Read it from `Searcher.search` down; each step takes values and returns new ones.

    parse      SearchRequest -> Query                         parse.py
    read       codes of points that are searched by           embed.py
    embed      texts -> embeddings                            embed.py
    route      what each query asks of each version           route.py
    prepare    what a scan takes, all queries projected together    prepare.py
    scan       hits of all versions and shards, merged        here, over bebr.shards
    rescore    candidates scored again by rescore codes       rescore.py says how, bebr.shards does it
    group      the best hits of the best groups               group.py
    fetch      metadata and codes of the hits                 hits.py
    write      answers -> SearchResults                       results.py

A search that comes alone begins at once. Those that come in one turn of the event loop, or while others run, are
prepared and scanned together next. A scan that takes a moment runs on the event loop, for a thread would cost more than
it saves; a longer one runs on a thread.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from bebr.coalescer import Coalescer
from bebr.config import Limits
from bebr.core.scoring import Scorer
from bebr.engine.admission import Admission
from bebr.engine.answers import HIT_BYTES, too_large
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import Version
from bebr.engine.requests import SearchRequest
from bebr.engine.results import SearchResult
from bebr.engine.search.coverage import CoverageChecks
from bebr.engine.search.embed import Embed, embed_texts, read_codes
from bebr.engine.search.group import group
from bebr.engine.search.hits import Points, fetch, is_large
from bebr.engine.search.nearest import NearestSearches
from bebr.engine.search.pages import is_paged, paged
from bebr.engine.search.parse import parse_all
from bebr.engine.search.plain import EmbeddedText, plain_query, plain_text
from bebr.engine.search.prepare import prepare_all
from bebr.engine.search.probing import probing_of, with_lists
from bebr.engine.search.query import Answer, Query, RoutedQuery
from bebr.engine.search.rescore import RESCORED_PER_UNIT, rescored_rows, rescoring_of
from bebr.engine.search.results import results_of
from bebr.engine.search.route import route_all
from bebr.errors import AnswerTooLarge, BebrError, Incompatible
from bebr.shards import Grouping

MAX_REQUESTS_TOGETHER = 64
MAX_CANDIDATES = 2**20
"""Hits that all queries of one scan may want: it bounds the memory of a scan, at some 12 bytes each for every part."""
MAX_RESCORED = 2**17
"""Candidates of all queries of one scan that are scored again: their rescore codes are in memory together."""
BYTES_PER_UNIT = 2**20
"""Bytes of codes whose scan costs about what everything else of a search does."""
Together = tuple[list[Answer], Points]
"""Answers, and what was fetched of the hits of all searches that ran together."""


class Searcher:
    """Searches of one collection. `search` is the way of every search; each of its steps returns new values."""

    def __init__(
        self,
        collection: Collection,
        limits: Limits,
        admission: Admission,
        embed: Embed,
        checks: CoverageChecks,
        batching: bool,
    ) -> None:
        self._collection = collection
        self._key = collection.document.uid
        self._limits = limits
        self._lane = admission.searches
        self._requests = admission.search_requests
        self._embed_texts = embed
        self._checks = checks
        self._turn = admission.turn
        self._nearest = NearestSearches(collection, limits, admission)
        self._queue: Coalescer[list[RoutedQuery], Together | BebrError] = Coalescer(
            self._run_together,
            what="searches",
            max_batch=MAX_REQUESTS_TOGETHER if batching else 1,
            max_queue=limits.max_queue,
        )

    async def search(self, requests: Sequence[SearchRequest]) -> list[SearchResult]:
        """One result per request. Raises InvalidRequest for the first one that is wrong; nothing is searched then."""
        self._lane.check(self._key)
        embedded = None if requests[0].text is None else await self._embed_plain(requests)
        if not self._queue.busy:
            units = self._scan_units(len(requests), self._nearest.share)
            results = await self._nearest.search(requests, units, embedded)
            if results is not None:
                if self._collection.list_rules.measured or self._nearest.is_rescored:  # else it takes no shortcut
                    await self._check_some(requests, embedded)
                return results
        try:
            return await self._search(requests, embedded)
        except Incompatible:
            if len(self._collection.document.versions) == 1:
                raise
            return await self._search(requests)  # the versions may have changed while this went on

    async def _embed_plain(self, requests: Sequence[SearchRequest]) -> EmbeddedText | None:
        """The text of a plain search that comes alone; None: the long way embeds."""
        if len(requests) > 1:
            return None
        self._check_size(requests)
        text = plain_text(self._collection, self._limits, requests[0])
        if text is None:
            return None
        version, started = self._collection.active, time.perf_counter()
        unit = await self._embed_texts(version, [text])
        return EmbeddedText(unit, version.model_fingerprint, time.perf_counter() - started)

    async def _search(
        self, requests: Sequence[SearchRequest], embedded: EmbeddedText | None = None
    ) -> list[SearchResult]:
        started = time.perf_counter() - (0.0 if embedded is None else embedded.seconds)
        self._check_size(requests)
        routed = await self._route(requests, embedded)
        embedding_ended = time.perf_counter()
        answers, points = await self._search_routed(routed)
        if due := self._checks.due(len(routed)):
            self._checks.add(self._collection, routed, due)
        ended = time.perf_counter()
        stages_ms = {"embed": (embedding_ended - started) * 1000, "search": (ended - embedding_ended) * 1000}
        write = partial(results_of, self._collection, self._limits, routed, answers, points, stages_ms)
        return await asyncio.to_thread(write) if is_large(answers, points) else write()

    async def _check_some(self, requests: Sequence[SearchRequest], embedded: EmbeddedText | None) -> None:
        """Of searches that were answered the shortest way."""
        if due := self._checks.due(len(requests)):
            with suppress(BebrError):  # versions and fields may have changed since
                self._checks.add(self._collection, await self._route(requests, embedded), due)

    async def _search_routed(self, routed: list[RoutedQuery]) -> Together:
        """At once where it is alone, else together with others; counted in the lane."""
        done = False
        share = 1.0 if routed[0].probing is None else routed[0].probing.share
        units = self._scan_units(len(routed), share) + sum([one.rescored for one in routed]) / RESCORED_PER_UNIT
        self._lane.enter(self._key, units)
        try:
            drop = self._lane.drop() if self._queue.busy else None
            alone = self._requests.requests <= len(routed) and self._turn.is_free
            together = await self._queue.submit(routed, drop=drop, alone=alone)
            if isinstance(together, BebrError):
                raise together
            done = True
            return together
        finally:
            self._lane.leave(self._key, units, done)

    def _scan_units(self, queries: int, share: float = 1.0) -> float:
        return queries * (1 + share * self._collection.shards.scan_size_bytes() / BYTES_PER_UNIT)

    def _check_size(self, requests: Sequence[SearchRequest]) -> None:
        """Raise AnswerTooLarge before anything is scanned for hits that fit no answer, whatever they show."""
        most, wanted = self._limits.max_answer_bytes, sum([request.limit for request in requests])
        if wanted * HIT_BYTES > most:
            points = sum(self._collection.shards.points().values())
            if sum(min(request.limit, points) for request in requests) * HIT_BYTES > most:
                raise too_large(most)

    # -- before the scan: each request by itself -----------------------------------------------------------------------

    async def _route(
        self, requests: Sequence[SearchRequest], embedded: EmbeddedText | None = None
    ) -> list[RoutedQuery]:
        if len(requests) == 1:
            plain = plain_query(self._collection, self._limits, requests[0], embedded)
            if plain is not None:
                return [plain]
        queries = parse_all(self._collection, self._limits, requests)
        queries = await read_codes(self._collection, queries)
        if any(query.request.text is not None for query in queries):
            queries = await embed_texts(self._collection, queries, self._versions(), self._embed_texts)
        return self._routed(queries, self._versions())

    def _routed(self, queries: Sequence[Query], versions: Sequence[Version]) -> list[RoutedQuery]:
        routed = route_all(self._collection, queries, versions)
        if not self._collection.list_rules.measured and not any(version.spec.rescore for version in versions):
            return routed
        found = []
        for one in routed:
            rescoring = rescoring_of(one.query, versions, self._limits)
            probing = probing_of(self._collection, one.query, rescoring is not None)
            found.append(replace(one, rescoring=rescoring, probing=probing))
        return found

    def _versions(self) -> list[Version]:
        """The versions that have points; of an empty collection the active one."""
        versions = self._collection.document.versions
        if len(versions) == 1:
            return [versions[0]]
        numbers = sorted(self._collection.shards.points())
        return [versions[number] for number in numbers] or [self._collection.active]

    # -- the scan: together with all others that wait ------------------------------------------------------------------

    async def _run_together(self, batch: list[list[RoutedQuery]]) -> list[Together | BebrError]:
        try:
            answers, points = await self._run([one for several in batch for one in several])
        except (Incompatible, AnswerTooLarge) as error:  # of one of them, or of all of them together
            return [error] if len(batch) == 1 else [(await self._run_together([several]))[0] for several in batch]
        left = iter(answers)
        return [([next(left) for _ in several], points) for several in batch]

    async def _run(self, routed: list[RoutedQuery]) -> Together:
        """Scan, group, fetch. Queries of one scorer that want about as many hits are scanned together."""
        if len(routed) == 1 and routed[0].query.request.group_by is None and not is_paged(routed[0]):  # most searches
            page = [_page(answer) for answer in await self._scan(routed)]
            return page, await fetch(self._collection, page, self._limits)
        together: dict[tuple[Scorer, bool, bool, int], list[int]] = {}
        answers: dict[int, Answer] = {}
        for place, one in enumerate(routed):
            if one.query.request.group_by is not None:
                answers[place] = await group(one, partial(self._scan_groups, one.rescoring is not None))
                continue
            if is_paged(one):
                answers[place] = await paged(one, self._limits.max_limit, self._scan)
                continue
            # a query for many hits would make every other one in its scan gather as many
            is_exact = one.probing is None
            key = one.query.scorer, one.query.request.rescore is False, is_exact, one.candidates.bit_length() // 4
            together.setdefault(key, []).append(place)
        for places in together.values():
            size = max(1, MAX_CANDIDATES // max(routed[place].candidates for place in places))
            size = min(size, max(1, MAX_RESCORED // max(1, *(routed[place].rescored for place in places))))
            for start in range(0, len(places), size):
                some = places[start : start + size]
                scanned = await self._scan([routed[place] for place in some])
                answers |= zip(some, scanned, strict=True)
        page = [_page(answers[place]) for place in range(len(routed))]
        return page, await fetch(self._collection, page, self._limits)

    async def _scan_groups(self, rescored: bool, one: RoutedQuery, grouping: Grouping) -> Answer:
        (answer,) = await self._scan([one], grouping, rescored)
        return answer

    async def _scan(
        self,
        routed: list[RoutedQuery],
        grouping: Grouping | None = None,
        rescored: bool = False,
    ) -> list[Answer]:
        """Queries of one scorer -> the best hits of each, of all versions that have points; or those of its groups."""
        numbers = {number for one in routed for number in one.of_version}
        if routed[0].query.scorer is not Scorer.ADC and any(one.query.record is None for one in routed):
            await self._collection.encoders.open_all()
        while True:
            if any(one.of_version.keys() != numbers for one in routed):  # points of another version came meanwhile
                versions = [self._collection.document.versions[number] for number in sorted(numbers)]
                routed = self._routed([one.query for one in routed], versions)
            limit = max(one.candidates for one in routed)
            rescorings = None
            if grouping is None:  # all are scored again or none is: they search the same versions
                rescorings = [one.rescoring for one in routed if one.rescoring is not None] or None
                rescored = rescorings is not None
            started = time.perf_counter()
            prepared = prepare_all(self._collection, routed, limit, rescored)
            on_loop = self._turn.is_free
            searched = await self._collection.shards.search(prepared, grouping, rescorings, on_loop=on_loop)
            self._turn.use(time.perf_counter() - started)
            if searched.points.keys() <= numbers:
                break
            numbers |= searched.points.keys()
        if grouping is None and self._collection.list_rules.keeps:
            self._collection.list_rules.note(prepared)
        found = zip(routed, searched.found, rescored_rows(routed, searched), strict=True)
        answers = [Answer(one.query, hits, searched.points, rows) for one, hits, rows in found]
        return with_lists(answers, routed, prepared, searched) if searched.lists else answers


def _page(answer: Answer) -> Answer:
    """Without the hits that `offset` skips, and those that only others of the same scan wanted."""
    last = min(answer.query.wanted, len(answer.found.ids))
    found = answer.found.at(range(answer.query.offset, last))
    return answer if found is answer.found else replace(answer, found=found)
