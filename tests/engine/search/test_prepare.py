"""What a scan takes equals the reference scorers on every kind of query, alone and beside others."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.encoding.quantization.embeddings import text_like
from tests.engine.fitting import DIMS, reached
from tests.engine.running import running

from bebr.core.codes import CodeSpec, split_records
from bebr.core.scoring import DotQueries, HammingQueries, Scorer, dot_scores, hamming_distances
from bebr.core.types import WriteMode
from bebr.engine import CollectionSettings, Engine, FitSettings, SearchRequest
from bebr.engine.search.prepare import prepare
from bebr.engine.search.query import RoutedQuery

ROWS = text_like(300, dims=DIMS)


async def collection_of(engine: Engine) -> None:
    await engine.create_collection("docs", CollectionSettings(fit=FitSettings(8, 150, DIMS)))
    ids = [f"p{n:03}" for n in range(200)]
    await engine.write_vectors("docs", ids, ROWS[:200], None, WriteMode.UPSERT)
    await reached(engine, "done")


async def routed(engine: Engine, requests: list[SearchRequest]) -> list[RoutedQuery]:
    return await engine.searchers.of(engine.registry.get("docs"))._route(requests)


@pytest.mark.parametrize("scorer", list(Scorer))
async def test_queries_prepared_together_score_as_each_alone(tmp_path: Path, scorer: Scorer) -> None:
    async with running(tmp_path) as engine:
        await collection_of(engine)
        collection = engine.registry.get("docs")
        version, codec = collection.active, collection.codec(collection.active)
        requests = [SearchRequest(vector=row, scorer=scorer) for row in ROWS[200:220]]
        if scorer is not Scorer.ADC:
            requests += [SearchRequest(id=f"p{n:03}", scorer=scorer) for n in range(20)]
        queries = await routed(engine, requests)
        records = codec.encode(np.ascontiguousarray(ROWS[:50] / np.linalg.norm(ROWS[:50], axis=1, keepdims=True)))
        together = prepare(queries, version, codec, 10)
        for n, query in enumerate(queries):
            alone = prepare([query], version, codec, 10)
            for one, row in ((together, n), (alone, 0)):
                scores = scored(one.prepared, records, version.spec)[row]
                added = 0.0 if one.added is None else one.added[row]
                np.testing.assert_allclose(scores + added, expected(engine, query, records), atol=6e-3)


def scored(queries: DotQueries | HammingQueries, records: np.ndarray, spec: CodeSpec) -> np.ndarray:
    codes, gains = split_records(records, spec)
    if isinstance(queries, DotQueries):
        return dot_scores(queries, codes, gains, spec)  # type: ignore[arg-type]
    return -hamming_distances(queries, codes, spec).astype(np.float32)  # type: ignore[arg-type]


def expected(engine: Engine, routed: RoutedQuery, records: np.ndarray) -> np.ndarray:
    """In floats: the inner product of what is requested and what the codes represent."""
    collection, query = engine.registry.get("docs"), routed.query
    version, codec = collection.active, collection.codec(collection.active)
    if query.scorer is Scorer.HAMMING:
        own = query.record if query.record is not None else codec.encode(query.embedding)
        signs = HammingQueries(split_records(own, version.spec)[0])
        return -hamming_distances(signs, split_records(records, version.spec)[0], version.spec)[0].astype(np.float32)
    asked = query.embedding
    if query.scorer is Scorer.SDC:
        asked = codec.decode(query.record if query.record is not None else codec.encode(query.embedding))
    assert asked is not None
    return (asked @ codec.decode(records).T)[0]


async def test_thresholds_become_floors_of_the_scan(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await collection_of(engine)
        collection = engine.registry.get("docs")
        version, codec = collection.active, collection.codec(collection.active)
        (query,) = await routed(engine, [SearchRequest(vector=ROWS[200], score_threshold=0.3)])
        prepared = prepare([query], version, codec, 5)
        added = 0.0 if prepared.added is None else float(prepared.added[0])
        assert prepared.thresholds is not None and prepared.thresholds.tolist() == [0.3]
        assert prepared.floors[0] <= 0.3 - added < prepared.floors[0] + 1e-5
        hamming = replace(query, query=replace(query.query, scorer=Scorer.HAMMING))
        floor = float(prepare([hamming], version, codec, 5).floors[0])
        dims = version.spec.dims
        assert 1 - 2 * -floor / dims >= 0.3 > 1 - 2 * (-floor + 1) / dims
