"""Evaluations: judged queries, vectors without texts, and the scale that they give searches."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.two_models import texts
from tests.engine.upgrading import HOW, TEXTS, oracle, search, upgrading, upgrading_jobs

from bebr.core.types import WriteMode
from bebr.encoding import AdapterKind, TextKind
from bebr.encoding.adapters.adapter import Adapter
from bebr.engine import Engine, EvaluationRequest, Gate, UpgradeQuery
from bebr.engine.versions import evaluation_data
from bebr.engine.versions.evaluation import Evaluator
from bebr.errors import (
    BebrError,
    Conflict,
    DimensionMismatch,
    InvalidOption,
)


async def test_judged_queries_decide_by_ndcg(tmp_path: Path, bundles: Path) -> None:
    async with upgrading(tmp_path, bundles) as engine:
        await engine.versions.attach("docs", "new@1")
        queries = [UpgradeQuery(TEXTS[n], relevant={f"p{n:03}": 1.0, f"p{n + 1:03}": 2.0}) for n in range(0, 60, 2)]
        how = EvaluationRequest(queries=queries, sample=1, points=100)
        measured = await engine.evaluator.evaluate("docs", "new@1", how)
        assert measured.judged and measured.measure == "ndcg_at_10" and measured.queries == 30
        assert measured.old_to_old.ndcg_at_10 > 0.3
        wrong: list[tuple[list[UpgradeQuery], type[BebrError], str]] = [
            ([UpgradeQuery(TEXTS[0], relevant={"nobody": 1.0})], Conflict, r"queries\[0\]: none of its relevant"),
            ([queries[0], UpgradeQuery(TEXTS[0])], InvalidOption, "all queries have 'relevant', or none"),
            ([UpgradeQuery(relevant={"p001": 1.0})], InvalidOption, "exactly one of 'text' and 'vectors'"),
            ([UpgradeQuery(vectors={"new@1": np.ones(32, np.float32)})], InvalidOption, "has none of 'old@1'"),
            ([UpgradeQuery(vectors={"new@1": np.ones(3, np.float32)})], DimensionMismatch, "must have 32 numbers"),
            ([], InvalidOption, "1 to 10000 queries"),
        ]
        for given, error, message in wrong:
            with pytest.raises(error, match=message):
                await engine.evaluator.evaluate("docs", "new@1", EvaluationRequest(queries=given, sample=1, points=100))
        with pytest.raises(InvalidOption, match="'points' is 20 to 5000"):
            await engine.evaluator.evaluate("docs", "new@1", EvaluationRequest(sample=1, points=10))


async def test_without_texts_judged_vectors_measure(tmp_path: Path, bundles: Path) -> None:
    async with upgrading_jobs(tmp_path, bundles, text_field=None) as (engine, jobs):
        await engine.versions.attach("docs", "new@1")
        with pytest.raises(Conflict, match="keeps no texts"):
            await engine.evaluator.evaluate("docs", "new@1", HOW)
        versions = engine.registry.get("docs").document.versions
        embedders = {version.id: engine.registry.get("docs").encoders.embedder(version) for version in versions}
        queries = [
            UpgradeQuery(
                vectors={name: e.embed([TEXTS[n]], TextKind.QUERY)[0] for name, e in embedders.items()},
                relevant={f"p{n:03}": 1.0},
            )
            for n in range(20)
        ]
        how = EvaluationRequest(queries=queries, sample=1, points=100, adapter=AdapterKind.LINEAR)
        measured = await engine.evaluator.evaluate("docs", "new@1", how)
        assert measured.adapter == "linear" and measured.new_to_new is None and measured.mixed == {}
        assert set(measured.adapters) == {"compatible", "linear"}  # a search by vector has no others
        with pytest.raises(Conflict, match="keeps no texts to re-encode"):
            await engine.versions.promote("docs", "new@1", Gate(), force=True)
            await jobs.backfill.submit("docs")


async def test_an_evaluation_brings_scores_to_the_scale_of_the_points(tmp_path: Path, bundles: Path) -> None:
    """Kept over restarts and new versions, forgotten with the collection; searches follow the oracle on it."""
    many = texts(300, seed=1)

    def scales(engine: Engine) -> dict[tuple[str, str], dict[AdapterKind, float]]:
        return {pair: dict(adapter.scales) for pair, adapter in engine.registry.get("docs").encoders.adapters.items()}

    async with upgrading(tmp_path, bundles, 0) as engine:
        points = [{"id": f"q{n:03}", "text": text, "metadata": {"n": n}} for n, text in enumerate(many)]
        await engine.write_points("docs", points, WriteMode.UPSERT)
        await engine.versions.attach("docs", "new@1")
        before = scales(engine)
        await engine.evaluator.evaluate("docs", None, EvaluationRequest(sample=40, points=300))
        after = scales(engine)
        assert len(after) == 2 and all(
            after[pair][kind] != before[pair][kind] for pair in before for kind in AdapterKind
        )
        references = {len(b.reference.here) for b in engine.registry.get("docs").encoders.adapters.values()}
        assert references == {225}
        await engine.versions.promote("docs", "new@1", Gate(), force=True, adapter=AdapterKind.LINEAR)
        await engine.write_points("docs", points[::3], WriteMode.UPSERT)
        result = await search(engine, text=many[4], limit=300)
        expected = await oracle(engine, many[4], "new@1", {"old@1": AdapterKind.LINEAR})
        assert [hit.id for hit in result.hits] == [point_id for _, point_id in expected]
        await engine.versions.attach("docs", "newest@1")
        assert scales(engine).items() >= after.items()
    async with upgrading(tmp_path, bundles) as engine:
        assert scales(engine).items() >= after.items()
        store = engine._store
        assert len(await store.list_documents("calibration")) == 1
        await engine.delete_collection("docs")
        assert not await store.list_documents("calibration")


async def test_nothing_that_grows_with_an_evaluation_runs_on_the_event_loop(
    tmp_path: Path, bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts, metadata, vectors and judgments are up to thousands."""
    threads: dict[str, set[int]] = {}

    def watch(module: Any, name: str) -> None:
        inner = getattr(module, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            threads.setdefault(name, set()).add(threading.get_ident())
            return inner(*arguments, **named)

        monkeypatch.setattr(module, name, watched)

    for name in ("_with_texts", "_judgment", "_decoded", "check_text", "check_vector", "unit", "nearest"):
        watch(evaluation_data, name)
    watch(Evaluator, "_check")
    watch(Adapter, "calibrated")
    async with upgrading(tmp_path, bundles, 0) as engine:
        points = [{"id": f"q{n:03}", "text": text} for n, text in enumerate(texts(300, seed=1))]
        await engine.write_points("docs", points, WriteMode.UPSERT)
        await engine.versions.attach("docs", "new@1")
        versions = engine.registry.get("docs").document.versions
        embedders = {version.id: engine.registry.get("docs").encoders.embedder(version) for version in versions}
        vectors = {name: e.embed(["a fox"], TextKind.QUERY)[0] for name, e in embedders.items()}
        judged = {"relevant": {"q001": 1.0}}
        for queries in (None, [UpgradeQuery("a fox", **judged)], [UpgradeQuery(vectors=vectors, **judged)]):
            await engine.evaluator.evaluate("docs", "new@1", EvaluationRequest(queries=queries, sample=20, points=300))
    assert len(threads) == 9 and threading.get_ident() not in set().union(*threads.values()), threads
