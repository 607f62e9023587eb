"""A search from request to hits: check, embed, prepare, scan, fetch metadata.

Searches that arrive while a scan runs are scanned together next (see Coalescer). A scan of a small collection takes
less time than handing it to a thread, so it runs where it is.
"""

import asyncio
import base64
import json
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.config import Limits
from bebr.core.codes import split_records
from bebr.core.filters import Filter
from bebr.core.scoring import DotQueries, HammingQueries, Scorer, prepare_adc, prepare_hamming, prepare_sdc
from bebr.core.types import Hit, StoredPoint
from bebr.engine.coalescer import Coalescer
from bebr.engine.collection import Collection
from bebr.engine.points import check_text, check_vectors, read_code
from bebr.engine.requests import SearchRequest, SearchResult
from bebr.errors import InvalidOption, PointNotFound
from bebr.index import Found, ScanQueries

INLINE_SCAN_BYTES = 2**21
"""Scans of up to so many bytes (about 0.2 ms) run on the event loop."""
MAX_SCANS_TOGETHER = 256


@dataclass(slots=True)
class Plan:
    """A checked request on its way. wanted: hits to look for, those skipped by `offset` included."""

    request: SearchRequest
    scorer: Scorer
    condition: Filter | None
    offset: int
    wanted: int
    embedding: NDArray[np.float32] | None = None
    record: NDArray[np.uint8] | None = None
    found: Found | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)


class Searcher:
    """Searches of one collection."""

    def __init__(
        self,
        collection: Collection,
        limits: Limits,
        texts: Coalescer[str, NDArray[np.float32]] | None,
        scans: Executor,
        batching: bool,
    ) -> None:
        self._collection = collection
        self._limits = limits
        self._texts = texts
        self._pool = scans
        self._scans: Coalescer[ScanQueries, list[Found]] = Coalescer(
            self._scan_together,
            what="searches",
            max_batch=MAX_SCANS_TOGETHER if batching else 1,
            max_queue=limits.max_queue,
        )

    async def search(self, requests: Sequence[SearchRequest]) -> list[SearchResult]:
        """One result per request. Raises InvalidRequest for the first one that is wrong; nothing is searched then."""
        started = time.perf_counter()
        plans = [self._plan(request) for request in requests]
        await self._embed(plans)
        embedded = time.perf_counter()
        await self._find(plans)
        for plan in plans:
            if plan.request.group_by is not None:
                await self._group(plan)
        scanned = time.perf_counter()
        points = await self._fetch(plans)
        fetched = time.perf_counter()
        stages = {"embed": embedded - started, "scan": scanned - embedded, "fetch": fetched - scanned}
        return [self._result(plan, points, stages) for plan in plans]

    def _plan(self, request: SearchRequest) -> Plan:
        given = [key for key in ("text", "vector", "code", "id") if getattr(request, key) is not None]
        if len(given) != 1:
            raise InvalidOption(
                f"a search has exactly one of text, vector, vector_b64, code_b64, id; got {given or 'none'}", key="text"
            )
        scorer = request.scorer or (Scorer.ADC if given[0] in ("text", "vector") else Scorer.SDC)
        if scorer is Scorer.ADC and given[0] in ("code", "id"):
            raise InvalidOption(
                "scorer 'adc' needs a float query (text or vector); use 'sdc' or 'hamming'", key="scorer"
            )
        offset = self._offset(request)
        maximum = self._limits.max_limit
        if request.limit < 1 or offset < 0 or offset + request.limit > maximum:
            raise InvalidOption(
                f"limit must be at least 1 and offset + limit at most {maximum}, got limit {request.limit} and offset "
                f"{offset}; use the scroll route to read everything",
                key="limit",
            )
        if request.score_threshold is not None and not np.isfinite(request.score_threshold):
            raise InvalidOption("score_threshold must be a finite number", key="score_threshold")
        self._check_version(request.version)
        self._check_grouping(request)
        condition = self._collection.parse_filter(request.filter)
        plan = Plan(request, scorer, condition, offset, offset + request.limit)
        self._read_query(plan)
        return plan

    def _read_query(self, plan: Plan) -> None:
        request, active = plan.request, self._collection.active
        if request.text is not None:
            encoder = self._collection.encoder
            check_text(request.text, encoder.bundle.has_embedding_model, self._limits.max_text_chars)
        elif request.vector is not None:
            dims = self._collection.encoder.bundle.embedding_dims
            plan.embedding = check_vectors(request.vector[None], dims)
        elif request.code is not None:
            plan.record = read_code(request.code, active.spec, active.steps)[None]

    def _check_version(self, version: str | None) -> None:
        if version is not None and version != self._collection.active.id:
            raise InvalidOption(
                f"the code version of '{self._collection.name}' is '{self._collection.active.id}', got '{version}'",
                key="version",
            )

    def _check_grouping(self, request: SearchRequest) -> None:
        if request.group_by is None:
            if request.group_size != 1:
                raise InvalidOption("group_size applies only together with group_by", key="group_size")
            return
        if request.group_by not in self._collection.document.filterable:
            raise InvalidOption(f"group_by needs a filterable field, '{request.group_by}' is none", key="group_by")
        if not 1 <= request.group_size <= 100:
            raise InvalidOption(f"group_size must be 1 to 100, got {request.group_size}", key="group_size")
        if request.cursor is not None or request.offset:
            raise InvalidOption("group_by cannot be combined with offset or cursor", key="group_by")

    def _offset(self, request: SearchRequest) -> int:
        if request.cursor is None:
            return request.offset
        if request.offset:
            raise InvalidOption("give either offset or cursor, not both", key="cursor")
        try:
            return int(base64.urlsafe_b64decode(request.cursor.encode()).decode().removeprefix("search:"))
        except ValueError:
            raise InvalidOption("cursor is not one that a search answered", key="cursor") from None

    async def _embed(self, plans: list[Plan]) -> None:
        """Fill in embeddings of texts and records of ids."""
        texts = [plan for plan in plans if plan.request.text is not None]
        if texts and self._texts is not None:
            submitted = [self._texts.submit(plan.request.text or "") for plan in texts]
            for plan, embedding in zip(texts, await asyncio.gather(*submitted), strict=True):
                plan.embedding = embedding[None]
        wanted = [plan.request.id for plan in plans if plan.request.id is not None]
        if wanted:
            points = await self._collection.fetch(wanted, metadata=False, records=True)
            for plan in plans:
                if plan.request.id is not None:
                    if plan.request.id not in points:
                        raise PointNotFound(f"no point with id '{plan.request.id}' to search by", id=plan.request.id)
                    plan.record = np.frombuffer(points[plan.request.id].record, np.uint8)[None]

    async def _find(self, plans: list[Plan]) -> None:
        """Scan with all plans; those of one scorer share a scan."""
        for scorer in Scorer:
            group = [plan for plan in plans if plan.scorer is scorer]
            if group:
                found = await self._scan(self._prepare(group, scorer))
                for plan, hits in zip(group, found, strict=True):
                    plan.found = hits

    def _prepare(self, plans: list[Plan], scorer: Scorer) -> ScanQueries:
        active = self._collection.active
        if scorer is Scorer.ADC:
            embeddings = _stack([plan.embedding for plan in plans])
            projected = self._collection.encoder.project(embeddings)
            prepared: DotQueries | HammingQueries = prepare_adc(projected, active.spec, active.steps)
        else:
            codes, gains = split_records(_stack([self._record(plan) for plan in plans]))
            if scorer is Scorer.SDC:
                prepared = prepare_sdc(codes, gains, active.spec, active.steps)
            else:
                prepared = prepare_hamming(codes)
        return ScanQueries(
            version=active.number,
            prepared=prepared,
            limit=max(plan.wanted for plan in plans),
            filters=tuple(plan.condition for plan in plans),
            floors=np.array([self._floor(plan) for plan in plans], np.float32),
        )

    def _record(self, plan: Plan) -> NDArray[np.uint8]:
        if plan.record is None:
            assert plan.embedding is not None
            plan.record = self._collection.encoder.encode(plan.embedding)
        return plan.record

    def _floor(self, plan: Plan) -> float:
        threshold = plan.request.score_threshold
        if threshold is None:
            return -np.inf
        if plan.scorer is Scorer.HAMMING:
            return -float(np.floor((1 - threshold) * self._collection.active.spec.dims / 2 + 1e-9))
        return threshold

    async def _scan(self, queries: ScanQueries) -> list[Found]:
        if self._collection.index.scan_size_bytes() * len(queries) <= INLINE_SCAN_BYTES:
            return self._collection.index.scan(queries, parallel=False)
        return await self._scans.submit(queries)

    async def _scan_together(self, batch: list[ScanQueries]) -> list[list[Found]]:
        loop = asyncio.get_running_loop()
        groups: dict[tuple[type, int], list[int]] = {}
        for i, queries in enumerate(batch):
            # a query for many hits would make every other one in its scan gather as many
            groups.setdefault((type(queries.prepared), queries.limit.bit_length() // 4), []).append(i)
        results: list[list[Found]] = [[] for _ in batch]
        for members in groups.values():
            joined = _join([batch[i] for i in members])
            found = iter(await loop.run_in_executor(self._pool, self._collection.index.scan, joined))
            for i in members:
                results[i] = [next(found) for _ in range(len(batch[i]))]
        return results

    async def _group(self, plan: Plan) -> None:
        """Keep the best `group_size` hits of each of the best `limit` groups; scan deeper while groups are missing."""
        key, size = str(plan.request.group_by), plan.request.group_size
        while True:
            assert plan.found is not None
            points = await self._collection.fetch(plan.found.ids)
            groups: dict[Any, list[int]] = {}
            for position, point_id in enumerate(plan.found.ids):
                if point_id in points:
                    values = json.loads(points[point_id].metadata).get(key)
                    for value in dict.fromkeys(values if isinstance(values, list) else [values]):
                        if value is not None and len(members := groups.setdefault(value, [])) < size:
                            members.append(position)
            best = list(groups.values())[: plan.request.limit]
            full = len(best) == plan.request.limit and all(len(members) == size for members in best)
            if full or len(plan.found.ids) < plan.wanted or plan.wanted >= self._limits.max_limit:
                break
            plan.wanted = min(4 * plan.wanted, self._limits.max_limit)
            (plan.found,) = await self._scan(self._prepare([plan], plan.scorer))
        chosen = sorted({position for members in best for position in members})
        plan.found = _pick(plan.found, chosen)
        plan.wanted = len(chosen)

    async def _fetch(self, plans: list[Plan]) -> dict[str, StoredPoint]:
        ids: list[str] = []
        for plan in plans:
            assert plan.found is not None
            plan.found = _pick(plan.found, range(plan.offset, min(plan.wanted, len(plan.found.ids))))
            if plan.request.with_metadata is not False or plan.request.with_code:
                ids += plan.found.ids
        if not ids:
            return {}
        metadata = any(plan.request.with_metadata is not False for plan in plans)
        records = any(plan.request.with_code for plan in plans)
        return await self._collection.fetch(list(dict.fromkeys(ids)), metadata=metadata, records=records)

    def _result(self, plan: Plan, points: dict[str, StoredPoint], stages: dict[str, float]) -> SearchResult:
        request, found, active = plan.request, plan.found, self._collection.active
        assert found is not None
        fetched = request.with_metadata is not False or request.with_code
        hits = []
        for position, (point_id, score) in enumerate(zip(found.ids, found.scores, strict=True)):
            point = points.get(point_id)
            if fetched and point is None:
                continue  # deleted since the scan
            hits.append(
                Hit(
                    id=point_id,
                    score=score,
                    version=active.id,
                    metadata=_project(point.metadata, request.with_metadata) if point else None,
                    distance=found.distances[position] if found.distances is not None else None,
                    code=point.record if point and request.with_code else None,
                )
            )
        more = request.group_by is None and len(found.ids) == request.limit and plan.wanted < self._limits.max_limit
        cursor = base64.urlsafe_b64encode(f"search:{plan.wanted}".encode()).decode() if more else None
        searched = {
            self._collection.document.versions[n].id: count for n, count in self._collection.index.points().items()
        }
        explain = self._explain(plan, stages) if request.explain else None
        return SearchResult(hits, active.id, searched, sum(stages.values()) * 1000, cursor, explain)

    def _explain(self, plan: Plan, stages: dict[str, float]) -> dict[str, Any]:
        return {
            "scorer": str(plan.scorer),
            "code": str(self._collection.active.spec),
            "stages_ms": {name: round(seconds * 1000, 3) for name, seconds in stages.items()},
            "shards": self._collection.document.shards,
            "parts": sum(len(shard.view.parts) for shard in self._collection.index.shards),
            "scanned_bytes": self._collection.index.scan_size_bytes(),
        }


def _stack(rows: Sequence[NDArray[Any] | None]) -> NDArray[Any]:
    present = [row for row in rows if row is not None]
    return present[0] if len(present) == 1 else np.concatenate(present)


def _join(batch: list[ScanQueries]) -> ScanQueries:
    if len(batch) == 1:
        return batch[0]
    prepared: DotQueries | HammingQueries
    if isinstance(batch[0].prepared, DotQueries):
        dots = [queries.prepared for queries in batch if isinstance(queries.prepared, DotQueries)]
        prepared = DotQueries(np.concatenate([q.values for q in dots]), np.concatenate([q.scales for q in dots]))
    else:
        codes = [queries.prepared.codes for queries in batch if isinstance(queries.prepared, HammingQueries)]
        prepared = HammingQueries(np.concatenate(codes))
    return replace(
        batch[0],
        prepared=prepared,
        limit=max(queries.limit for queries in batch),
        filters=tuple(condition for queries in batch for condition in queries.filters),
        floors=np.concatenate([queries.floors for queries in batch]),
    )


def _pick(found: Found, positions: Sequence[int]) -> Found:
    if len(positions) == len(found.ids) and (not positions or positions[0] == 0):
        return found
    distances = [found.distances[i] for i in positions] if found.distances is not None else None
    return Found([found.scores[i] for i in positions], [found.ids[i] for i in positions], distances)


def _project(metadata: str, wanted: bool | list[str]) -> str | None:
    if isinstance(wanted, bool):
        return metadata if wanted else None
    full = json.loads(metadata)
    return json.dumps({key: full[key] for key in wanted if key in full}, ensure_ascii=False)
