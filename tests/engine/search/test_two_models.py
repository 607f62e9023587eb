"""One query searches codes of several embedding models: as a slow loop finds them, by every route, on one scale."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.upgrading import (
    HOW,
    NEAR,
    TEXTS,
    counts,
    moved,
    oracle,
    search,
    upgrading,
    write,
)

from bebr.core.scoring import Scorer
from bebr.encoding import AdapterKind, TextKind
from bebr.engine import Gate, SearchRequest
from bebr.errors import (
    Conflict,
    Incompatible,
)


@pytest.mark.parametrize("kind", [None, *AdapterKind])
async def test_both_versions_are_found_as_a_slow_loop_finds_them(
    kind: AdapterKind | None, tmp_path: Path, bundles: Path
) -> None:
    async with upgrading(tmp_path, bundles) as engine:
        await engine.versions.attach("docs", "new@1")
        await engine.versions.promote("docs", "new@1", Gate(), force=True, adapter=kind)
        await write(engine, range(0, 120, 3))
        for text in (TEXTS[3], TEXTS[4], "parse the date of a lazy dog"):
            result = await search(engine, text=text)
            expected = await oracle(engine, text, "new@1", {"old@1": kind or AdapterKind.WEIGHTED})
            assert [hit.id for hit in result.hits] == [point_id for _, point_id in expected]
            np.testing.assert_allclose([hit.score for hit in result.hits], [s for s, _ in expected], atol=2e-5)
            assert result.searched == {"old@1": 80, "new@1": 40} and result.query_version == "new@1"
            assert result.explain.route == {"old@1": str(kind or AdapterKind.WEIGHTED)}
            versions = {hit.id: hit.version for hit in result.hits}
            assert versions["p000"] == "new@1" and versions["p001"] == "old@1"


async def test_a_query_of_the_old_model_reaches_new_codes(tmp_path: Path, bundles: Path) -> None:
    async with upgrading(tmp_path, bundles) as engine:
        await moved(engine)
        event = await engine.versions.rollback("docs")
        assert (event.from_version, event.to_version) == ("new@1", "old@1")
        result = await search(engine, text=TEXTS[7])
        expected = await oracle(engine, TEXTS[7], "old@1", {"new@1": AdapterKind.WEIGHTED})
        assert [hit.id for hit in result.hits] == [point_id for _, point_id in expected]
        assert result.query_version == "old@1"
        with pytest.raises(Conflict, match="no promotion to undo"):
            await engine.versions.rollback("docs")


async def test_vectors_and_codes_cross_without_a_text(tmp_path: Path, bundles: Path) -> None:
    async with upgrading(tmp_path, bundles) as engine:
        await moved(engine)
        collection = engine.registry.get("docs")
        new = collection.encoders.embedder(collection.active).embed([TEXTS[6]], TextKind.QUERY)[0]
        found = await search(engine, vector=new)
        assert found.explain.route == {"old@1": "linear"} and len(found.hits) == 120
        old = collection.encoders.embedder(collection.document.versions[0]).embed([TEXTS[6]], TextKind.QUERY)[0]
        found = await search(engine, vector=old, version="old@1")
        assert found.explain.route == {"new@1": "linear"} and found.query_version == "old@1"
        for point_id in ("p006", "p007"):  # a new code and an old one
            like = await search(engine, id=point_id, scorer=Scorer.SDC)
            assert len(like.hits) == 120 and list(like.explain.route.values()) == ["linear"]
            assert like.hits[0].id == point_id
        sdc = await search(engine, text=TEXTS[6], scorer=Scorer.SDC)
        assert len(sdc.hits) == 120 and sdc.hits[0].id == "p006"


async def test_thresholds_and_pages_hold_on_the_one_scale(tmp_path: Path, bundles: Path) -> None:
    async with upgrading(tmp_path, bundles) as engine:
        await moved(engine)
        whole = (await search(engine, text=TEXTS[10])).hits
        floor = whole[30].score
        assert [h.id for h in (await search(engine, text=TEXTS[10], score_threshold=floor)).hits] == [
            h.id for h in whole if h.score >= floor
        ]
        pages = [(await search(engine, text=TEXTS[10], limit=20, offset=20 * n)).hits for n in range(6)]
        assert [hit.id for page in pages for hit in page] == [hit.id for hit in whole]
        odd = (await search(engine, text=TEXTS[10], filter={"must": [{"key": "n", "range": {"lt": 50}}]})).hits
        assert [hit.id for hit in odd] == [hit.id for hit in whole if int(hit.id[1:]) < 50]


async def test_hamming_has_no_scale_in_common(tmp_path: Path, bundles: Path) -> None:
    async with upgrading(tmp_path, bundles) as engine:
        await moved(engine)
        with pytest.raises(Incompatible, match=r"distances of signs of two models have no scale in common"):
            await search(engine, text=TEXTS[0], scorer=Scorer.HAMMING)


async def test_a_chain_of_three_versions_is_searched_at_once(tmp_path: Path, bundles: Path) -> None:
    """newest@1 knows new@1, and that knows old@1: a text goes by both adapters, one after the other."""
    async with upgrading(tmp_path, bundles) as engine:
        await moved(engine)
        await engine.versions.attach("docs", "newest@1")
        await engine.versions.promote("docs", "newest@1", Gate(), force=True)
        await write(engine, range(0, 120, 2))
        result = await search(engine, text=TEXTS[5])
        assert result.searched == {"old@1": 40, "new@1": 20, "newest@1": 60} and len(result.hits) == 120
        assert result.explain.route == {"old@1": "weighted, then weighted", "new@1": "weighted"}
        assert "p005" in [hit.id for hit in result.hits[:NEAR]]
        collection = engine.registry.get("docs")
        vector = collection.encoders.embedder(collection.active).embed([TEXTS[5]], TextKind.QUERY)[0]
        assert (await search(engine, vector=vector)).explain.route["old@1"] == "linear, then linear"
        await write(engine, range(120))
        await engine.delete_points("docs", ["p001"])
        assert await counts(engine) == {"newest@1": 119}


async def test_without_an_adapter_the_text_leads_there(tmp_path: Path, bundles: Path) -> None:
    async with upgrading(tmp_path, bundles) as engine:
        await engine.versions.attach("docs", "other@1")
        measured = await engine.evaluator.evaluate("docs", "other@1", HOW)
        assert measured.adapter == "dual" and measured.gain.mean == 0.0
        await engine.versions.promote("docs", "other@1", Gate())
        await write(engine, range(0, 60))
        result = await search(engine, text=TEXTS[80])
        assert result.explain.route == {"old@1": "dual"} and len(result.hits) == 120
        vector = np.ones(32, np.float32)
        with pytest.raises(Incompatible, match=r"holds points of 'old@1', which this query of 'other@1' cannot search"):
            await search(engine, vector=vector)


async def test_searches_of_a_batch_find_what_each_finds_alone(tmp_path: Path, bundles: Path) -> None:
    async with upgrading(tmp_path, bundles) as engine:
        await moved(engine)
        vectors = np.random.default_rng(5).standard_normal((2, 32)).astype(np.float32)
        asked: list[dict[str, Any]] = [
            {"text": TEXTS[7]},
            {"vector": vectors[0]},
            {"vector": vectors[1], "scorer": Scorer.SDC},
            {"text": TEXTS[8], "scorer": Scorer.SDC},
            {"id": "p001"},  # of old@1
            {"id": "p003"},  # of new@1
            {"text": TEXTS[9], "version": "old@1"},
            {"vector": vectors[1]},
        ]
        requests = [SearchRequest(**{"limit": 200, "explain": True} | one) for one in asked]
        together = await engine.search("docs", requests)
        for request, result in zip(requests, together, strict=True):
            (alone,) = await engine.search("docs", [request])
            assert result.explain.route == alone.explain.route
            scores = {hit.id: hit.score for hit in alone.hits}
            assert {hit.id for hit in result.hits} == set(scores)
            assert [hit.score for hit in result.hits] == pytest.approx(
                [scores[hit.id] for hit in result.hits], abs=1e-5
            )


async def test_searches_and_writes_never_fail_while_versions_change(tmp_path: Path, bundles: Path) -> None:
    async with upgrading(tmp_path, bundles) as engine:
        await engine.versions.attach("docs", "new@1")
        stop = asyncio.Event()
        answers, written = 0, 0

        async def ask(seed: int) -> None:
            nonlocal answers
            rng = np.random.default_rng(seed)
            while not stop.is_set():
                n = int(rng.integers(120))
                result = await search(engine, text=TEXTS[n])
                ids = [hit.id for hit in result.hits]
                assert len(ids) == len(set(ids)) == 120 and result.query_version in ("old@1", "new@1")
                scores = [hit.score for hit in result.hits]
                assert scores == sorted(scores, reverse=True)
                answers += 1

        async def put() -> None:
            nonlocal written
            while not stop.is_set():
                await write(engine, [written % 120])
                written += 1

        tasks = [asyncio.create_task(ask(seed)) for seed in range(2)] + [asyncio.create_task(put())]
        changes = 0
        while changes < 15 or answers <= 20 or written <= 10:
            changes += 1
            await engine.versions.promote("docs", "new@1", Gate(), force=True)
            await asyncio.sleep(0.02)
            await engine.versions.rollback("docs")
            await asyncio.sleep(0.02)
        stop.set()
        await asyncio.gather(*tasks)
        assert sum((await counts(engine)).values()) == 120
        result = await search(engine, text=TEXTS[1])
        expected = await oracle(engine, TEXTS[1], "old@1", {"new@1": AdapterKind.WEIGHTED})
        assert [hit.id for hit in result.hits] == [point_id for _, point_id in expected]
