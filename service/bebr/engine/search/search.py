"""A search from request to hits: check, embed, scan, fetch metadata.

Searches that arrive while others run are run together next: one projection, one scan, one fetch for all of them (see
Coalescer). A scan of a small collection takes less time than handing it to a thread, so it runs where it is.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.coalescer import Coalescer
from bebr.config import Limits
from bebr.core.scoring import Scorer
from bebr.core.types import Hit, StoredPoint
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import Version
from bebr.engine.requests import SearchRequest, SearchResult
from bebr.engine.search.prepare import added_scores, check, prepare
from bebr.engine.search.request import Plan, Planner, write_cursor
from bebr.engine.search.route import needed_texts
from bebr.errors import BebrError, Incompatible, PointNotFound
from bebr.shards import Found, ScanQueries, merge

MAX_REQUESTS_TOGETHER = 64
ADDED_ROUNDING = 1e-6
"""How far a floor of float32 may lie from the exact one: scores are of the size of one."""
MAX_CANDIDATES = 2**20
"""Hits that all queries of one scan may want: it bounds the memory of a scan, at some 12 bytes each for every part."""
Points = dict[str, StoredPoint]
Texts = Coalescer[str, NDArray[np.float32]]
"""Embeds query texts by one model."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Queries for the codes of one version, and what is to be added to the scores of each; None: nothing."""

    queries: ScanQueries
    floors: list[float]
    added: NDArray[np.float64] | None

    def raise_scores(self, found: list[Found]) -> list[Found]:
        if self.added is None:
            return found
        raised = zip(found, self.added.tolist(), self.floors, strict=True)
        return [hits.raised(by, floor) for hits, by, floor in raised]


class Searcher:
    """Searches of one collection."""

    def __init__(
        self,
        collection: Collection,
        limits: Limits,
        texts: Callable[[Version], Texts],
        scans: Executor,
        batching: bool,
    ) -> None:
        self._collection = collection
        self._limits = limits
        self._planner = Planner(collection, limits)
        self._texts = texts
        self._pool = scans
        together = MAX_REQUESTS_TOGETHER if batching else 1
        self._queue: Coalescer[list[Plan], Points | Incompatible] = Coalescer(
            self._run_together, what="searches", max_batch=together, max_queue=limits.max_queue
        )

    async def search(self, requests: Sequence[SearchRequest]) -> list[SearchResult]:
        """One result per request. Raises InvalidRequest for the first one that is wrong; nothing is searched then."""
        try:
            return await self._search(requests)
        except Incompatible:
            if len(self._collection.document.versions) == 1:
                raise
            return await self._search(requests)  # the versions may have changed while this went on

    async def _search(self, requests: Sequence[SearchRequest]) -> list[SearchResult]:
        started = time.perf_counter()
        plans = self._plan(requests)
        await self._read_codes(plans)
        await self._embed_texts(plans)
        check(self._collection, plans)
        embedded = time.perf_counter()
        if self._collection.shards.is_small(len(plans)):
            points = await self._run(plans, inline=True)
        else:
            outcome = await self._queue.submit(plans)
            if isinstance(outcome, Incompatible):
                raise outcome
            points = outcome
        ended = time.perf_counter()
        stages_ms = {"embed": (embedded - started) * 1000, "search": (ended - embedded) * 1000}
        return [self._result(plan, points, stages_ms) for plan in plans]

    def _plan(self, requests: Sequence[SearchRequest]) -> list[Plan]:
        plans: list[Plan] = []
        try:
            for request in requests:
                plans.append(self._planner.plan(request))
        except BebrError as error:
            _tell_which(error, len(plans), len(requests))
            raise
        return plans

    async def _embed_texts(self, plans: Iterable[Plan]) -> None:
        """By the model of each query's version, and by those others whose codes are searched with the text's help."""
        collection = self._collection
        versions = collection.document.versions
        searched = [versions[number] for number in collection.shards.points()] if len(versions) > 1 else []

        async def embed(plan: Plan) -> None:
            text, own = plan.request.text or "", plan.version
            others = needed_texts(collection.encoders, collection.document, own, searched) if searched else {}
            embeddings = await asyncio.gather(*(self._texts(v).submit(text) for v in (own, *others.values())))
            plan.embedding = embeddings[0][None]
            plan.duals = {model: row[None] for model, row in zip(others, embeddings[1:], strict=True)}

        await asyncio.gather(*(embed(plan) for plan in plans if plan.request.text is not None))

    async def _read_codes(self, plans: Sequence[Plan]) -> None:
        """The codes of the points that are searched by."""
        by_id = {plan.request.id: plan for plan in plans if plan.request.id is not None}
        if not by_id:
            return
        points = await self._collection.fetch(list(by_id), metadata=False, records=True)
        for number, plan in enumerate(plans):
            if (point_id := plan.request.id) is not None:
                if point_id not in points:
                    error = PointNotFound(f"no point with id '{point_id}' to search by", key="id", id=point_id)
                    _tell_which(error, number, len(plans))
                    raise error
                point = points[point_id]
                plan.version = self._collection.document.versions[point.version]
                plan.records[point.version] = np.frombuffer(point.record, np.uint8)[None]

    async def _run_together(self, batch: list[list[Plan]]) -> list[Points | Incompatible]:
        try:
            points = await self._run([plan for plans in batch for plan in plans], inline=False)
        except Incompatible as error:  # of one of them, since points of another version came after it was checked
            return [error] if len(batch) == 1 else [(await self._run_together([plans]))[0] for plans in batch]
        return [points] * len(batch)

    async def _run(self, plans: list[Plan], inline: bool) -> Points:
        """Find the hits of all plans and fetch their points."""
        groups: dict[tuple[Scorer, int], list[Plan]] = {}
        for plan in plans:
            # a query for many hits would make every other one in its scan gather as many
            groups.setdefault((plan.scorer, plan.wanted.bit_length() // 4), []).append(plan)
        for group in groups.values():
            together = max(1, MAX_CANDIDATES // max(plan.wanted for plan in group))
            for start in range(0, len(group), together):
                await self._find(group[start : start + together], inline)
        for plan in plans:
            if plan.request.group_by is not None:
                await self._group(plan, inline)
        return await self._fetch(plans)

    async def _find(self, plans: list[Plan], inline: bool) -> None:
        """Plans of one scorer get their hits, of all code versions that have points, in the same views."""
        numbers, limit = [0], max(plan.wanted for plan in plans)
        if len(self._collection.document.versions) > 1:
            numbers = sorted(self._collection.shards.points()) or [self._collection.active.number]
        while True:
            if inline:
                prepared = self._prepare_all(plans, numbers, limit)
            else:
                loop = asyncio.get_running_loop()
                prepared = await loop.run_in_executor(self._pool, self._prepare_all, plans, numbers, limit)
            searched = await self._collection.shards.search([one.queries for one in prepared])
            if not searched.points.keys() - numbers:
                break
            numbers = sorted(searched.points)  # points of another version came meanwhile
        raised = [one.raise_scores(hits) for one, hits in zip(prepared, searched.found, strict=True)]
        for place, plan in enumerate(plans):
            plan.found, plan.searched = merge([hits[place] for hits in raised], limit), searched.points

    def _prepare_all(self, plans: list[Plan], numbers: list[int], limit: int) -> list[_Prepared]:
        versions = self._collection.document.versions
        return [self._prepare(plans, versions[number], limit) for number in numbers]

    def _prepare(self, plans: list[Plan], version: Version, limit: int) -> _Prepared:
        floors, added = [plan.floor(version.spec) for plan in plans], added_scores(self._collection, plans, version)
        scan_floors = np.array(floors, np.float32)
        if added is not None:
            # a little too low, since float32 rounds; `raised` is exact
            scan_floors = (np.array(floors) - added - ADDED_ROUNDING).astype(np.float32)
        queries = ScanQueries(
            version=version.number,
            prepared=prepare(self._collection, plans, version),
            limit=limit,
            filters=tuple(plan.condition for plan in plans),
            floors=scan_floors,
        )
        return _Prepared(queries, floors, added)

    async def _group(self, plan: Plan, inline: bool) -> None:
        """Keep the best `group_size` hits of each of the best `limit` groups; scan deeper while groups are missing."""
        request, key = plan.request, str(plan.request.group_by)
        while True:
            points = await self._collection.fetch(plan.hits.ids)
            groups: dict[Any, list[int]] = {}
            for position, point_id in enumerate(plan.hits.ids):
                for value in _values(points.get(point_id), key):
                    if len(members := groups.setdefault(value, [])) < request.group_size:
                        members.append(position)
            best = list(groups.values())[: request.limit]
            full = len(best) == request.limit and all(len(members) == request.group_size for members in best)
            if full or len(plan.hits.ids) < plan.wanted or plan.wanted >= self._limits.max_limit:
                break
            plan.wanted = min(4 * plan.wanted, self._limits.max_limit)
            await self._find([plan], inline)
        chosen = sorted({position for members in best for position in members})
        plan.found, plan.wanted = _pick(plan.hits, chosen), len(chosen)

    async def _fetch(self, plans: list[Plan]) -> Points:
        ids: list[str] = []
        for plan in plans:
            plan.found = _pick(plan.hits, range(plan.offset, min(plan.wanted, len(plan.hits.ids))))
            if plan.request.with_metadata is not False or plan.request.with_code:
                ids += plan.found.ids
        if len(self._collection.document.coded) > 1:
            self._collection.asked.count([point_id for plan in plans for point_id in plan.hits.ids])
        if not ids:
            return {}
        metadata = any(plan.request.with_metadata is not False for plan in plans)
        records = any(plan.request.with_code for plan in plans)
        return await self._collection.fetch(list(dict.fromkeys(ids)), metadata=metadata, records=records)

    def _result(self, plan: Plan, points: Points, stages_ms: dict[str, float]) -> SearchResult:
        request, found, versions = plan.request, plan.hits, self._collection.document.versions
        fetched = request.with_metadata is not False or request.with_code
        hits = []
        for position, (point_id, score) in enumerate(zip(found.ids, found.scores, strict=True)):
            point = points.get(point_id)
            if fetched and point is None:
                continue  # deleted since the scan
            metadata = _project(point.metadata, request.with_metadata) if point else None
            distance = found.distances[position] if found.distances is not None else None
            number, code = found.versions[position], None
            if point is not None and request.with_code:  # it may have got another code since the scan
                number, code = point.version, point.record
            hits.append(Hit(point_id, score, versions[number].id, metadata, distance, code))
        more = request.group_by is None and len(found.ids) == request.limit and plan.wanted < self._limits.max_limit
        cursor = write_cursor(plan.wanted) if more else None
        explain = self._explain(plan, stages_ms) if request.explain else None
        searched = self._collection.points_by_id(plan.searched)
        return SearchResult(hits, plan.version.id, searched, sum(stages_ms.values()), cursor, explain)

    def _explain(self, plan: Plan, stages_ms: dict[str, float]) -> dict[str, Any]:
        shards = self._collection.shards.stats()
        return {
            "scorer": str(plan.scorer),
            "code": str(plan.version.spec),
            "route": self._route(plan),
            "stages_ms": {name: round(value, 3) for name, value in stages_ms.items()},
            "shards": self._collection.document.shards,
            "parts": sum(shard.parts for shard in shards),
            "scanned_bytes": sum(shard.scan_size_bytes for shard in shards),
        }

    def _route(self, plan: Plan) -> dict[str, str]:
        """How codes of other models were reached, by id of their versions."""
        versions = [self._collection.document.versions[number] for number in self._collection.shards.points()]
        models = {version.id: version.model_fingerprint or "" for version in versions}
        return {name: plan.reached[model].kind for name, model in models.items() if model in plan.reached}


def _tell_which(error: BebrError, number: int, count: int) -> None:
    """Put the number of the search that is wrong into the error, where there are several."""
    if count > 1:
        error.fields["search"] = number


def _values(point: StoredPoint | None, key: str) -> list[Any]:
    """The distinct values of a metadata field."""
    value = json.loads(point.metadata).get(key) if point is not None else None
    values = value if isinstance(value, list) else [value]
    return [item for item in dict.fromkeys(values) if item is not None]


def _pick(found: Found, positions: Sequence[int]) -> Found:
    if len(positions) == len(found.ids) and (not positions or positions[0] == 0):
        return found
    distances = [found.distances[i] for i in positions] if found.distances is not None else None
    versions = [found.versions[i] for i in positions]
    return Found([found.scores[i] for i in positions], [found.ids[i] for i in positions], versions, distances)


def _project(metadata: str, wanted: bool | list[str]) -> str | None:
    if isinstance(wanted, bool):
        return metadata if wanted else None
    full = json.loads(metadata)
    return json.dumps({key: full[key] for key in wanted if key in full}, ensure_ascii=False)
