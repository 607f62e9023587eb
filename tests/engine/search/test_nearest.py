"""The shortest way of a plain search gives the answers of the long way, and takes only searches that it may."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.fitting import DIMS
from tests.engine.running import running
from tests.engine.search.test_pipeline import ROWS, fitted, write
from tests.engine.search.test_plain import OTHERS

from bebr.core.scoring import Scorer
from bebr.core.types import WriteMode
from bebr.encoding.encoder import Encoder
from bebr.engine import CollectionSettings, Engine, SearchRequest
from bebr.engine.results import SearchResult
from bebr.engine.search.search import Searcher

TAKEN: list[dict[str, Any]] = [
    {},
    {"limit": 1},
    {"limit": 256, "with_metadata": False},
    {"rescore": False, "scorer": Scorer.ADC},
]
LEFT: list[dict[str, Any]] = [
    *OTHERS,
    {"limit": 257},
    {"with_metadata": ["a"]},
    {"with_code": True},
    {"explain": True},
    {"exact": True},
    {"recall": 0.9},
]


async def both(searcher: Searcher, requests: list[SearchRequest]) -> list[SearchResult]:
    """What both ways answer."""
    await asyncio.sleep(0)  # each turn of the event loop has time for a few
    short = await searcher._nearest.search(requests, 1.0)
    assert short is not None
    shown = [replace(one, took_ms=0.0) for one in short]
    assert shown == [replace(one, took_ms=0.0) for one in await searcher._search(requests)]
    return shown


async def add_some(engine: Engine) -> None:
    """Sealed and growing segments, dead rows, and points that tie."""
    await write(engine, 200, 300)
    await engine.delete_points("docs", [f"p{n:03}" for n in range(50, 90)])
    points = [{"id": f"twin{n}", "vector": ROWS[7].tolist(), "metadata": {"n": n}} for n in range(12)]
    report = await engine.write_points("docs", points, WriteMode.UPSERT)
    assert report.rejected == 0


@pytest.mark.parametrize("is_centered", [False, True])
async def test_both_ways_answer_the_same(tmp_path: Path, is_centered: bool) -> None:
    async with running(tmp_path) as engine:
        await fitted(engine)
        await add_some(engine)
        collection = engine.registry.get("docs")
        searcher = engine.searchers.of(collection)
        if is_centered:
            codec = collection.codec(collection.active)
            assert isinstance(codec, Encoder)
            codec._opened.exact_mean = np.random.default_rng(1).standard_normal(DIMS)
        for options in TAKEN:
            for row in (*ROWS[:8], ROWS[350] * 1000):
                await both(searcher, [SearchRequest(vector=row, **options)])
        (twins,) = await both(searcher, [SearchRequest(vector=ROWS[7], limit=5)])
        assert [hit.id for hit in twins.hits][:1] == ["p007"] and twins.cursor is not None
        for seed in range(5):
            order = np.random.default_rng(seed).permutation(len(TAKEN) * 3)
            await both(searcher, [SearchRequest(vector=ROWS[n], **TAKEN[n % len(TAKEN)]) for n in order])


async def test_all_others_take_the_long_way(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await fitted(engine)
        searcher, plain = engine.searchers.of(engine.registry.get("docs")), SearchRequest(vector=ROWS[0])
        for options in LEFT:
            request = SearchRequest(**({"vector": ROWS[0]} | options))
            await asyncio.sleep(0)
            assert await searcher._nearest.search([request], 1.0) is None, options
            assert await searcher._nearest.search([plain, request], 1.0) is None, options
        assert not engine.admission.searches.is_busy
        await engine.fits.request("docs", size_bytes=12, sample=300)
        await write(engine, 200, 210)  # points of another version
        assert await searcher._nearest.search([plain], 1.0) is None


@pytest.mark.parametrize("options", [{}, {"rescore": False}])
async def test_rescored_points(tmp_path: Path, options: dict[str, Any]) -> None:
    async with running(tmp_path) as engine:
        await fitted(engine, rescore_bytes=16)
        searcher, request = engine.searchers.of(engine.registry.get("docs")), SearchRequest(vector=ROWS[0], **options)
        if options:
            await both(searcher, [request, request])
        else:
            assert await searcher._nearest.search([request], 1.0) is None


async def test_answers_that_are_too_large_are_refused_on_the_long_way(tmp_path: Path) -> None:
    async with running(tmp_path, max_answer_bytes=2000) as engine:
        await fitted(engine)
        points = [{"id": f"m{n}", "vector": ROWS[3].tolist(), "metadata": {"a": "x" * 900}} for n in range(9)]
        await engine.write_points("docs", points, WriteMode.UPSERT)
        searcher = engine.searchers.of(engine.registry.get("docs"))
        assert await searcher._nearest.search([SearchRequest(vector=ROWS[3], limit=5)], 1.0) is None
        assert not engine.admission.searches.is_busy


async def test_an_empty_collection(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await engine.create_collection("docs", CollectionSettings(bundle="minilm@1"))
        found = await engine.search("docs", [SearchRequest(vector=np.ones(384, np.float32))])
        assert found[0].hits == []


async def test_points_that_are_deleted_between_scan_and_fetch_are_left_out(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await fitted(engine)
        searcher = engine.searchers.of(engine.registry.get("docs"))
        requests = [SearchRequest(vector=ROWS[0], limit=3), SearchRequest(vector=ROWS[0], limit=3, with_metadata=False)]
        queries = searcher._nearest._queries(requests)
        assert queries is not None
        searched = searcher._collection.shards.nearest(queries)
        assert searched is not None
        first, *others = searched.found[0].ids
        await engine.delete_points("docs", [first])
        points = await searcher._nearest._fetch(requests, searched)
        results = searcher._nearest._results(requests, queries, searched, points, 0.0)
        assert results is not None
        assert [hit.id for hit in results[0].hits] == others and [h.id for h in results[1].hits] == [first, *others]
