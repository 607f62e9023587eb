"""What an evaluation is measured on: points with stored codes, new codes that are not stored, and queries.

The points are a random sample of those that have codes of the active version, with all that were judged relevant. Their
new codes are made from the texts that their metadata holds. Without texts there are none, and what needs them is left
out.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bebr.config import Limits
from bebr.core.arrays import unit
from bebr.core.types import StoredPoint
from bebr.encoding import TextKind
from bebr.encoding.adapters.adapter import Reference
from bebr.encoding.adapters.evaluation import Queries, nearest
from bebr.engine.admission import Lane
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.encoders import Codec
from bebr.engine.collections.version import Version
from bebr.engine.inputs import check_text, check_vector
from bebr.engine.requests import EvaluationRequest, UpgradeQuery
from bebr.engine.texts import TextQueues
from bebr.engine.versions.calibration import Sample
from bebr.errors import Conflict, InvalidOption

Floats = NDArray[np.float32]
Judgments = list[dict[int, float]]
"""For each query: row of a point -> its grade."""
Result = TypeVar("Result")
MIN_POINTS = 20
FETCH_PAGE = 2_000
SAMPLE, MIN_SAMPLE = 512, 256
"""Points by which scores are brought to one scale; the tails of fewer say too little."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two versions that are compared, and the threads that embed and compute for it."""

    collection: Collection
    active: Version
    version: Version
    limits: Limits
    threads: Executor
    texts: TextQueues
    lane: Lane

    async def compute(self, work: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self.threads, work, *arguments)

    async def embed(self, version: Version, texts: Sequence[str], kind: TextKind) -> Floats:
        """(texts, dims) float32 by the version's model."""
        embedder = self.collection.encoders.embedder(version)
        return (await self.texts.embed(self.lane, embedder, texts, kind, self.collection.document.uid))[0]


@dataclass(frozen=True, slots=True)
class EvaluationPoints:
    """The points that are searched."""

    rows: Mapping[str, int]
    """Row of each by id."""
    old: Floats
    """(points, old dims) float32: what their stored codes represent."""
    texts: list[str] | None
    """Text of each; None where the collection keeps none."""
    embeddings: Floats | None
    """(points, new dims) float32 by the new model; None where there are no texts or it cannot embed."""
    new: Floats | None
    """(points, new dims) float32: what new codes would represent; None as above."""


async def read_points(comparison: Comparison, request: EvaluationRequest) -> EvaluationPoints:
    """Raises Conflict where there are too few points."""
    collection, active, version = comparison.collection, comparison.active, comparison.version
    points, texts = await _choose_points(comparison, request)
    old = await comparison.compute(_decoded, collection.codec(active), points)
    embeddings, new = None, None
    if texts is not None and collection.encoders.embeds(version):
        embeddings = await comparison.embed(version, texts, TextKind.PASSAGE)
        codec = collection.codec(version)
        new = await comparison.compute(lambda: codec.decode(codec.encode(embeddings)))
    return EvaluationPoints(
        rows={point.id: row for row, point in enumerate(points)}, old=old, texts=texts, embeddings=embeddings, new=new
    )


async def _choose_points(
    comparison: Comparison, request: EvaluationRequest
) -> tuple[list[StoredPoint], list[str] | None]:
    """Points with codes of the active version, and their texts. Where most have one, those without are left out."""
    points = await _fetch(comparison, request)
    return await comparison.compute(_with_texts, comparison, points)


def _with_texts(comparison: Comparison, points: list[StoredPoint]) -> tuple[list[StoredPoint], list[str] | None]:
    collection, active, text_field = comparison.collection, comparison.active, comparison.collection.document.text_field
    texts = [json.loads(point.metadata).get(text_field) for point in points] if text_field else []
    has_text = [isinstance(text, str) and bool(text.strip()) for text in texts]
    if sum(has_text) >= MIN_POINTS:
        most = comparison.limits.max_text_chars
        points = [point for point, ok in zip(points, has_text, strict=True) if ok]
        return points, [text[:most] for text, ok in zip(texts, has_text, strict=True) if ok]
    if len(points) < MIN_POINTS:
        raise Conflict(
            f"'{collection.name}' has {len(points)} points with codes of '{active.id}', and at least {MIN_POINTS} are "
            "needed to evaluate a version",
            points=len(points),
        )
    return points, None


def _decoded(codec: Codec, points: Sequence[StoredPoint]) -> Floats:
    """(points, dims) float32: what the stored codes represent."""
    return codec.decode(np.frombuffer(b"".join(point.record for point in points), np.uint8).reshape(len(points), -1))


async def _fetch(comparison: Comparison, request: EvaluationRequest) -> list[StoredPoint]:
    """The points that were judged relevant, and others at random, with codes of the active version."""
    collection, active = comparison.collection, comparison.active
    relevant = {point_id for query in request.queries or () for point_id in query.relevant or ()}
    ids: list[str] = []
    for shard in range(collection.document.shards):
        ids += await collection.shards.version_ids(shard, active.number, None)

    def draw() -> list[str]:
        ids.sort()
        places = np.random.default_rng(request.seed).permutation(len(ids))[: request.points]
        return [ids[place] for place in places.tolist()]

    chosen = list(dict.fromkeys([*sorted(relevant), *await comparison.compute(draw)]))[: request.points]
    points: list[StoredPoint] = []
    for start in range(0, len(chosen), FETCH_PAGE):
        found, _ = await collection.fetch_sound(chosen[start : start + FETCH_PAGE], records=True)
        points += [point for point in found.values() if point.version == active.number]
    return points


async def draw_sample(comparison: Comparison, points: EvaluationPoints, seed: int) -> Sample | None:
    """Some of the points, three quarters of them as the reference, the others in place of queries.

    None: there are too few, or what is needed of them is missing.
    """
    texts, embeddings, new = points.texts, points.embeddings, points.new
    if texts is None or embeddings is None or new is None or len(texts) < MIN_SAMPLE:
        return None
    chosen = np.random.default_rng(seed + 2).permutation(len(texts))[:SAMPLE]
    kept, queries = np.split(chosen, [3 * len(chosen) // 4])
    there = np.empty((0, points.old.shape[1]), np.float32)
    if comparison.collection.encoders.embeds(comparison.active):
        there = await comparison.embed(comparison.active, [texts[row] for row in queries], TextKind.QUERY)
    return Sample(Reference(new[kept], points.old[kept]), embeddings[queries], there)


async def read_queries(
    comparison: Comparison, request: EvaluationRequest, points: EvaluationPoints
) -> tuple[Queries, Judgments]:
    """Queries by both models, and which points answer them: as judged, or the nearest by the new model's embeddings."""
    if request.queries is None:
        queries = await _points_as_queries(comparison, request, points)
    else:
        queries = await _users_queries(comparison, request.queries)
    if queries.old is None and comparison.collection.encoders.adapter(comparison.version, comparison.active) is None:
        raise Conflict(
            f"the embedding model of '{comparison.active.id}' is not available, and no adapter leads to its codes "
            "without it"
        )
    if request.queries is not None and request.queries[0].relevant is not None:
        return queries, await comparison.compute(_judgments, request.queries, points.rows)
    embeddings = points.embeddings
    if embeddings is None:
        raise Conflict(
            "queries without 'relevant' need the texts of the points, and the collection keeps none", key="queries"
        )
    return queries, await comparison.compute(lambda: nearest(queries.new, embeddings, queries.source_row))


async def _points_as_queries(comparison: Comparison, request: EvaluationRequest, points: EvaluationPoints) -> Queries:
    """Points drawn at random, none of which may find itself."""
    if points.texts is None or points.embeddings is None:
        raise Conflict(
            f"'{comparison.collection.name}' keeps no texts (it was made without 'text_field'), so a version can only "
            "be evaluated with judged queries: give 'queries' with 'relevant'",
            key="queries",
        )
    count = len(points.texts)
    rows = np.random.default_rng(request.seed + 1).permutation(count)[: request.sample].astype(np.int64)
    texts = [points.texts[row] for row in rows]
    new = await comparison.embed(comparison.version, texts, TextKind.QUERY)
    old = None
    if comparison.collection.encoders.embeds(comparison.active):
        old = await comparison.embed(comparison.active, texts, TextKind.QUERY)
    return Queries(old, new, rows)


async def _users_queries(comparison: Comparison, queries: Sequence[UpgradeQuery]) -> Queries:
    new = await _embed_queries(comparison, comparison.version, queries)
    old = None
    if queries[0].text is None or comparison.collection.encoders.embeds(comparison.active):
        old = await _embed_queries(comparison, comparison.active, queries)
    return Queries(old, new, np.full(len(queries), -1, np.int64))


async def _embed_queries(comparison: Comparison, version: Version, queries: Sequence[UpgradeQuery]) -> Floats:
    """(queries, dims) float32 by the version's model: of their texts, or the vectors that they bring."""
    encoders = comparison.collection.encoders
    if queries[0].text is not None:
        takes_text, most = encoders.takes_text(version), comparison.limits.max_text_chars

        def checked() -> list[str]:
            return [check_text(query.text, takes_text, most, f"queries[{n}].text") for n, query in enumerate(queries)]

        return await comparison.embed(version, await comparison.compute(checked), TextKind.QUERY)
    missing = next((n for n, query in enumerate(queries) if version.id not in query.vectors), None)
    if missing is not None:
        raise InvalidOption(
            f"queries[{missing}].vectors has none of '{version.id}'; a query that is no text needs one of the active "
            "version and one of the new",
            key=f"queries[{missing}].vectors",
        )
    dims = encoders.dims(version)

    def stacked() -> Floats:
        return unit(np.vstack([check_vector(query.vectors[version.id], dims) for query in queries]))

    return await comparison.compute(stacked)


def _judgments(queries: Sequence[UpgradeQuery], rows: Mapping[str, int]) -> Judgments:
    return [_judgment(query, rows, number) for number, query in enumerate(queries)]


def _judgment(query: UpgradeQuery, rows: Mapping[str, int], number: int) -> dict[int, float]:
    """Row of a point -> grade. Relevant points that do not exist, or have other codes, are left out."""
    found = {rows[point_id]: grade for point_id, grade in (query.relevant or {}).items() if point_id in rows}
    if not any(grade > 0 for grade in found.values()):
        raise Conflict(
            f"queries[{number}]: none of its relevant points is in the collection with a code of the active version "
            "and, where texts are kept, a text",
            key=f"queries[{number}].relevant",
        )
    return found
