"""Measures an upgrade before it happens: what the new model would find, on a sample of the points and their codes.

The pool is a random sample of the points that the active version has codes of, with all that were judged relevant.
Their old codes are those that are stored; their new ones are made for the occasion, from the texts that their metadata
holds. Without texts, new->new and the mixed cells are left out.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bebr.config import Limits
from bebr.core.arrays import unit
from bebr.core.types import StoredPoint
from bebr.encoding import AdapterKind, TextKind
from bebr.encoding.adapters.adapter import Reference, TextAdapter
from bebr.encoding.adapters.evaluation import Pool, Queries, measure, nearest
from bebr.encoding.adapters.quality import UpgradeMatrix
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import Version
from bebr.engine.inputs import check_text, check_vector
from bebr.engine.requests import UpgradeQuery
from bebr.engine.versions.calibration import Sample
from bebr.errors import Conflict, InvalidOption, Overloaded

Floats = NDArray[np.float32]
Result = TypeVar("Result")
MIN_POINTS = 20
FETCH_PAGE = 2_000
SAMPLE, MIN_SAMPLE = 512, 256
"""Points by which scores are brought to one scale; of fewer the tails say too little."""
EMBED_PAGE = 32
"""Texts embedded at a time, so that others get their turn."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How to measure. queries: the user's own; None: `sample` points stand in for queries. points: size of the pool."""

    queries: Sequence[UpgradeQuery] | None
    sample: int
    points: int
    adapter: AdapterKind | None
    seed: int


class Evaluator:
    """Runs evaluations; one embeds at a time, as bulk jobs do."""

    def __init__(self, limits: Limits, encoding: Executor) -> None:
        self._limits = limits
        self._encoding = encoding
        self._one_at_a_time = asyncio.Semaphore(1)

    async def evaluate(
        self, collection: Collection, version: Version, how: Evaluation
    ) -> tuple[dict[str, Any], Sample | None]:
        """The matrix of a version against the active one, and a sample to bring scores to one scale by, where the pool
        gives one; the matrix goes by it. Raises InvalidOption, Conflict, Incompatible.
        """
        active = collection.active
        if version.model_fingerprint == active.model_fingerprint:
            raise InvalidOption(
                f"'{version.id}' has the embedding model of the active version, so its queries are the same",
                key="version",
            )
        adapter = collection.encoders.adapters.get((str(version.model_fingerprint), str(active.model_fingerprint)))
        self._check(how, {active.id, version.id})
        if self._one_at_a_time.locked():
            raise Overloaded("an upgrade is being measured already; try again later", waiting="evaluations")
        async with self._one_at_a_time:
            points, texts = await self._pool(collection, active, how)
            rows = {point.id: row for row, point in enumerate(points)}
            records = np.frombuffer(b"".join(p.record for p in points), np.uint8).reshape(len(points), -1)
            old = await self._work(collection.codec(active).decode, records)
            floats, new = None, None
            if texts is not None and collection.encoders.embeds(version):
                floats = await self._embed(collection, version, texts, TextKind.PASSAGE)
                codec = collection.codec(version)
                new = await self._work(lambda: codec.decode(codec.encode(floats)))
            sample = None
            if adapter is not None and texts is not None and floats is not None and new is not None:
                sample = await self._sample(collection, active, texts, floats, Reference(new, old), how.seed)
            if adapter is not None and sample is not None:
                dual = sample.queries_there if len(sample.queries_there) else None
                adapter = adapter.calibrated(sample.reference, sample.queries_here, dual)
            queries, judgements = await self._queries(collection, active, version, how, texts, floats, rows)
            judged = how.queries is not None and how.queries[0].relevant is not None
            # searches by vector cannot use a kind that needs a text
            by_vector = how.queries is not None and how.queries[0].text is None
            kinds = [kind for kind in AdapterKind if not kind.needs_text] if by_vector else None
            matrix: UpgradeMatrix = await self._work(
                lambda: measure(
                    adapter or TextAdapter(),
                    Pool(old, new),
                    queries,
                    judgements,
                    judged=judged,
                    kinds=kinds,
                    kind=how.adapter,
                    seed=how.seed,
                )
            )
            return asdict(await self._work(matrix.summary)), sample

    def _check(self, how: Evaluation, versions: set[str]) -> None:
        if not MIN_POINTS <= how.points <= self._limits.max_evaluation_points:
            raise InvalidOption(
                f"'points' is {MIN_POINTS} to {self._limits.max_evaluation_points}, got {how.points}", key="points"
            )
        if not 1 <= how.sample <= self._limits.max_limit:
            raise InvalidOption(f"'sample' is 1 to {self._limits.max_limit}, got {how.sample}", key="sample")
        if how.queries is None:
            return
        if not 1 <= len(how.queries) <= self._limits.max_limit:
            raise InvalidOption(f"1 to {self._limits.max_limit} queries, got {len(how.queries)}", key="queries")
        judged = {query.relevant is not None for query in how.queries}
        if len(judged) > 1:
            raise InvalidOption("either all queries have 'relevant', or none has", key="queries")
        relevant = {point_id for query in how.queries for point_id in query.relevant or ()}
        if len(relevant) > how.points:
            raise InvalidOption(
                f"the queries name {len(relevant)} relevant points, more than the {how.points} to measure on; raise "
                "'points', or give fewer queries",
                key="points",
            )
        for number, query in enumerate(how.queries):
            if unknown := sorted(set(query.vectors) - versions):
                raise InvalidOption(
                    f"queries[{number}].vectors has '{unknown[0]:.120}'; the versions that are compared are "
                    f"{', '.join(sorted(versions))}",
                    key=f"queries[{number}].vectors",
                )
            if (query.text is None) == (not query.vectors):
                raise InvalidOption(
                    f"queries[{number}] has exactly one of 'text' and 'vectors'", key=f"queries[{number}]"
                )

    async def _pool(
        self, collection: Collection, active: Version, how: Evaluation
    ) -> tuple[list[StoredPoint], list[str] | None]:
        """Points with codes of the active version, and their texts where each has one; those without are left out."""
        wanted = {point_id for query in how.queries or () for point_id in query.relevant or ()}
        ids: list[str] = []
        for shard in range(collection.document.shards):
            ids += await collection.shards.version_ids(shard, active.number, None)

        def draw() -> list[str]:
            ids.sort()
            places = np.random.default_rng(how.seed).permutation(len(ids))[: how.points]
            return [ids[place] for place in places.tolist()]

        chosen = list(dict.fromkeys([*sorted(wanted), *await self._work(draw)]))[: how.points]
        points: list[StoredPoint] = []
        for start in range(0, len(chosen), FETCH_PAGE):
            found = await collection.fetch(chosen[start : start + FETCH_PAGE], records=True)
            points += [point for point in found.values() if point.version == active.number]
        text_field = collection.document.text_field
        texts = [json.loads(point.metadata).get(text_field) for point in points] if text_field else []
        have = [isinstance(text, str) and bool(text.strip()) for text in texts]
        if sum(have) >= MIN_POINTS:
            points = [point for point, ok in zip(points, have, strict=True) if ok]
            return points, [text[: self._limits.max_text_chars] for text, ok in zip(texts, have, strict=True) if ok]
        if len(points) < MIN_POINTS:
            raise Conflict(
                f"'{collection.name}' has {len(points)} points with codes of '{active.id}', and at least {MIN_POINTS} "
                "are needed to measure an upgrade",
                points=len(points),
            )
        return points, None

    async def _queries(
        self,
        collection: Collection,
        active: Version,
        version: Version,
        how: Evaluation,
        texts: list[str] | None,
        floats: Floats | None,
        rows: Mapping[str, int],
    ) -> tuple[Queries, list[dict[int, float]]]:
        if how.queries is None:
            if texts is None or floats is None:
                raise Conflict(
                    f"'{collection.name}' keeps no texts (it was made without 'text_field'), so an upgrade can only be "
                    "measured with judged queries: give 'queries' with 'relevant'",
                    key="queries",
                )
            itself = np.random.default_rng(how.seed + 1).permutation(len(texts))[: how.sample].astype(np.int64)
            asked = [texts[row] for row in itself]
            new = await self._embed(collection, version, asked, TextKind.QUERY)
        else:
            asked = [query.text or "" for query in how.queries]
            itself = np.full(len(asked), -1, np.int64)
            new = await self._embed_queries(collection, version, how.queries)
        old = None
        if how.queries is None or how.queries[0].text is not None:
            if collection.encoders.embeds(active):
                old = await self._embed(collection, active, asked, TextKind.QUERY)
        else:
            old = await self._embed_queries(collection, active, how.queries)
        if (
            old is None
            and (str(version.model_fingerprint), str(active.model_fingerprint)) not in collection.encoders.adapters
        ):
            raise Conflict(
                f"the embedding model of '{active.id}' is not on hand, and no adapter leads there without it"
            )
        queries = Queries(old, new, itself)
        if how.queries is not None and how.queries[0].relevant is not None:
            return queries, [_judgement(query, rows, number) for number, query in enumerate(how.queries)]
        if floats is None:
            raise Conflict(
                "queries without 'relevant' need the texts of the points, and the collection keeps none", key="queries"
            )
        return queries, await self._work(lambda: nearest(new, floats, itself))

    async def _sample(
        self, collection: Collection, active: Version, texts: list[str], floats: Floats, pool: Reference, seed: int
    ) -> Sample | None:
        """Points of the pool, three quarters of them as the reference, the others in place of queries."""
        if len(texts) < MIN_SAMPLE:
            return None
        chosen = np.random.default_rng(seed + 2).permutation(len(texts))[:SAMPLE]
        kept, asked = np.split(chosen, [3 * len(chosen) // 4])
        there = np.empty((0, pool.there.shape[1]), np.float32)
        if collection.encoders.embeds(active):
            there = await self._embed(collection, active, [texts[row] for row in asked], TextKind.QUERY)
        return Sample(Reference(pool.here[kept], pool.there[kept]), floats[asked], there)

    async def _embed_queries(self, collection: Collection, version: Version, queries: Sequence[UpgradeQuery]) -> Floats:
        """(queries, dims) float32 by the version's model: of their texts, or the vectors that they bring."""
        if queries[0].text is not None:
            for number, query in enumerate(queries):
                takes = collection.encoders.takes_text(version)
                check_text(query.text, takes, self._limits.max_text_chars, f"queries[{number}].text")
            return await self._embed(collection, version, [str(query.text) for query in queries], TextKind.QUERY)
        missing = next((n for n, query in enumerate(queries) if version.id not in query.vectors), None)
        if missing is not None:
            raise InvalidOption(
                f"queries[{missing}].vectors has none of '{version.id}'; a query that is no text needs one of the "
                "active version and one of the new",
                key=f"queries[{missing}].vectors",
            )
        dims = collection.encoders.dims(version)
        return unit(np.vstack([check_vector(query.vectors[version.id], dims) for query in queries]))

    async def _embed(self, collection: Collection, version: Version, texts: Sequence[str], kind: TextKind) -> Floats:
        embedder = collection.encoders.embedder(version)
        pages = [
            await self._work(embedder.embed, texts[start : start + EMBED_PAGE], kind)
            for start in range(0, len(texts), EMBED_PAGE)
        ]
        return np.vstack(pages)

    async def _work(self, work: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._encoding, work, *arguments)


def _judgement(query: UpgradeQuery, rows: Mapping[str, int], number: int) -> dict[int, float]:
    """Row of the pool -> grade; relevant points that do not exist, or have other codes, count for nothing."""
    found = {rows[point_id]: grade for point_id, grade in (query.relevant or {}).items() if point_id in rows}
    if not any(grade > 0 for grade in found.values()):
        raise InvalidOption(
            f"queries[{number}]: none of its relevant points is in the collection with a code of the active version "
            "and, where texts are kept, a text",
            key=f"queries[{number}].relevant",
        )
    return found
