"""Several embedding models in one collection: reach, gate, promotion, rollback, backfill, retirement, restarts."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.running import running_jobs
from tests.engine.two_models import adapters, text_bundle, texts

from bebr.core.codes import CodeSpec, split_records
from bebr.core.scoring import Scorer, dot_scores, prepare_adc
from bebr.core.types import FieldType, WriteMode
from bebr.encoding import AdapterKind, Bundle, TextKind, write_bundle
from bebr.encoding.quantization.recurrent_fit import Effort, fit_recurrent
from bebr.encoding.quantization.recurrent_graph import files_of
from bebr.engine import CollectionSettings, Engine, EvaluationRequest, Gate, SearchRequest, UpgradeQuery
from bebr.engine.collections.upgrades import Promotion, Rollback
from bebr.engine.collections.version import Version, VersionKind
from bebr.errors import (
    AlreadyExists,
    BebrError,
    BundleNotFound,
    Conflict,
    DimensionMismatch,
    Incompatible,
    InvalidOption,
    JobNotFound,
    VersionNotFound,
)
from bebr.jobs import BackfillJob, JobQueue
from bebr.shards import Replace

TEXTS = texts(140)
FIELDS = {"n": FieldType.INTEGER}
HOW = EvaluationRequest(sample=40, points=100)
FAST = 1_000_000.0
PATIENCE_SECONDS = 20.0
NEAR = 30
"""Of 120 points a text's own is among so many, also over two maps between models of random weights."""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """old@1; new@1 with adapters to it; newest@1 with adapters to new@1 only; other@1 with none."""
    folder = tmp_path_factory.mktemp("bundles")
    old = text_bundle(folder, "old@1", seed=0)
    new = text_bundle(folder, "new@1", seed=1, code="16x4+16x2", old=old)
    text_bundle(folder, "newest@1", seed=2, old=new)
    text_bundle(folder, "other@1", seed=3)
    return folder


@asynccontextmanager
async def upgrading(
    folder: Path, bundles: Path, count: int = 120, text_field: str | None = "text"
) -> AsyncIterator[Engine]:
    """A collection `docs` of old@1 with so many points; it is there already when the folder was used before."""
    async with upgrading_jobs(folder, bundles, count, text_field) as (engine, _):
        yield engine


@asynccontextmanager
async def upgrading_jobs(
    folder: Path, bundles: Path, count: int = 120, text_field: str | None = "text"
) -> AsyncIterator[tuple[Engine, JobQueue]]:
    """`upgrading`, and the jobs."""
    async with running_jobs(folder, bundles_dir=bundles, search_threads=1, encoder_threads=1) as (engine, jobs):
        if not engine.list_collections():
            settings = CollectionSettings(bundle="old@1", filterable=FIELDS, shards=3, text_field=text_field)
            await engine.create_collection("docs", settings)
            await write(engine, range(count))
        yield engine, jobs


async def write(engine: Engine, numbers: Any, **options: Any) -> None:
    points = [{"id": f"p{n:03}", "text": TEXTS[n], "metadata": {"n": n}} for n in numbers]
    report = await engine.write_points("docs", points, WriteMode.UPSERT, **options)
    assert report.rejected == 0


async def search(engine: Engine, **request: Any) -> Any:
    return (await engine.search("docs", [SearchRequest(**{"limit": 200, "explain": True} | request)]))[0]


async def counts(engine: Engine) -> dict[str, int]:
    found: dict[str, int] = (await engine.describe_collection("docs")).points
    return found


async def ended(jobs: JobQueue, job: str) -> BackfillJob:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (state := jobs.get(job)).state == "running":
            await asyncio.sleep(0.01)
    assert isinstance(state, BackfillJob)
    return state


async def moved(engine: Engine) -> None:
    """Attach new@1, promote it whatever it measures, and write a third of the points anew."""
    await engine.versions.attach("docs", "new@1")
    await engine.versions.promote("docs", "new@1", Gate(), force=True)
    await write(engine, range(0, 120, 3))


async def oracle(engine: Engine, text: str, asking: str, kinds: dict[str, AdapterKind]) -> list[tuple[float, str]]:
    """Every point scored by itself, its version reached as `kinds` says: (score, id), best first."""
    collection = engine.registry.get("docs")
    versions = {version.id: version for version in collection.document.versions}
    query = versions[asking]

    def embed(version: Version) -> np.ndarray:
        return collection.encoders.embedder(version).embed([text], TextKind.QUERY)

    def reached(version: Version) -> tuple[np.ndarray, float, float]:
        if version.model_fingerprint == query.model_fingerprint:
            return embed(query), 1.0, 0.0
        adapter = collection.encoders.adapters[str(query.model_fingerprint), str(version.model_fingerprint)]
        kind, own = kinds[version.id], embed(query)
        crossed = adapter.map(kind, own, embed(version))
        here, there = adapter.reference.here @ own[0], adapter.reference.there @ crossed[0]
        top = max(1, round(0.03 * len(here)))
        tail_here, tail_there = (float(np.sort(scores)[-top:].mean(dtype=np.float64)) for scores in (here, there))
        return crossed, adapter.scales[kind], tail_here - adapter.scales[kind] * tail_there

    scored = []
    page = await engine.scroll("docs", None, 1000, None)
    found = await collection.fetch([point.id for point in page.points], records=True)
    for point in found.values():
        version = collection.document.versions[point.version]
        crossed, scale, offset = reached(version)
        codec, record = collection.codec(version), np.frombuffer(point.record, np.uint8)[None]
        prepared = prepare_adc(codec.project(crossed) * np.float32(scale), version.spec, version.steps)
        codes, gains = split_records(record)
        mean = float((crossed.astype(np.float64) * scale @ codec.mean.astype(np.float64))[0])
        scored.append((float(dot_scores(prepared, codes, gains, version.spec)[0, 0]) + offset + mean, point.id))
    return sorted(scored, key=lambda entry: (-entry[0], entry[1]))


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


async def test_the_middle_of_a_chain_stays_while_queries_go_over_it(tmp_path: Path, bundles: Path) -> None:
    async with upgrading(tmp_path, bundles) as engine:
        for version in ("new@1", "newest@1"):
            await engine.versions.attach("docs", version)
            await engine.versions.promote("docs", version, Gate(), force=True)
        with pytest.raises(Conflict, match="reach the codes of 'old@1' over 'new@1'"):
            await engine.versions.retire("docs", "new@1")
        await write(engine, range(120))
        await engine.versions.retire("docs", "new@1")


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


async def test_an_adapter_that_cannot_be_used_is_told(tmp_path: Path, bundles: Path) -> None:
    old, other = (Bundle.load(bundles / name) for name in ("old@1", "other@1"))
    wrong = replace(adapters(other, old), embedding_dims=old.embedding_dims + 1)
    write_bundle(
        tmp_path / "bundles",
        "wrong",
        "1",
        embedding_dims=other.embedding_dims,
        binarizer=other.read_binarizer(),
        embedding=other.read_embedding(),
        compatible_with=[wrong],
    )
    shutil.copytree(bundles / "old@1", tmp_path / "bundles" / "old@1")
    async with upgrading(tmp_path, tmp_path / "bundles") as engine:
        await engine.versions.attach("docs", "wrong@1")
        told = (await engine.describe_collection("docs")).encoder_error
        assert told.startswith("how bundle 'wrong@1' reaches 'old@1' cannot be used: reference-0.npz holds")
        await engine.versions.promote("docs", "wrong@1", Gate(), force=True)
        assert (await search(engine, text=TEXTS[80])).explain.route == {"old@1": "dual"}


async def test_what_nothing_leads_to_cannot_be_attached(tmp_path: Path, bundles: Path) -> None:
    async with upgrading(tmp_path, bundles, 0) as engine:
        rows = np.random.default_rng(0).standard_normal((300, 32)).astype(np.float32)
        fitted = files_of(fit_recurrent(rows, CodeSpec.parse("32x2"), effort=Effort(1, 1)))
        write_bundle(bundles, "mine", "1", embedding_dims=32, binarizer=fitted, replace=True)
        with pytest.raises(Incompatible, match="queries of 'mine@1' cannot search the codes of 'old@1'"):
            await engine.versions.attach("docs", "mine@1")
        with pytest.raises(BundleNotFound):
            await engine.versions.attach("docs", "none@1")
        with pytest.raises(AlreadyExists):
            await engine.versions.attach("docs", "old@1")


async def test_the_gate_needs_a_measurement_and_heeds_it(tmp_path: Path, bundles: Path) -> None:
    async with upgrading(tmp_path, bundles) as engine:
        await engine.versions.attach("docs", "new@1")
        with pytest.raises(Conflict, match="was not evaluated against 'old@1'"):
            await engine.versions.promote("docs", "new@1", Gate())
        measured = await engine.evaluator.evaluate("docs", None, HOW)
        assert (measured.active, measured.version) == ("old@1", "new@1")
        assert not measured.judged and measured.queries == 40 and measured.points == 100
        assert set(measured.adapters) == {str(kind) for kind in AdapterKind} and set(measured.mixed) == {
            "25",
            "50",
            "75",
        }
        gain = measured.gain.mean
        with pytest.raises(Conflict, match="does not pass the gate") as refused:
            await engine.versions.promote("docs", "new@1", Gate(gain + 0.01))
        assert refused.value.fields["evaluation"]["gain"] == asdict(measured.gain)
        event = await engine.versions.promote("docs", "new@1", Gate(gain + 0.01), force=True)
        assert event.forced and event.adapter == measured.adapter
        await engine.versions.rollback("docs")
        event = await engine.versions.promote("docs", "new@1", Gate(gain))
        assert not event.forced
        described = engine.versions.describe("docs")
        assert [type(event) for event in described.history] == [Promotion, Rollback, Promotion]
        assert described.evaluations["old@1 -> new@1"].gain == measured.gain
        with pytest.raises(Conflict, match="is the active version of 'docs' already"):
            await engine.versions.promote("docs", "new@1", Gate())
        with pytest.raises(VersionNotFound, match="and none 'newest@1'; attach it first"):
            await engine.versions.promote("docs", "newest@1", Gate())


async def test_judged_queries_decide_by_ndcg(tmp_path: Path, bundles: Path) -> None:
    async with upgrading(tmp_path, bundles) as engine:
        await engine.versions.attach("docs", "new@1")
        queries = [UpgradeQuery(TEXTS[n], relevant={f"p{n:03}": 1.0, f"p{n + 1:03}": 2.0}) for n in range(0, 60, 2)]
        how = EvaluationRequest(queries=queries, sample=1, points=100)
        measured = await engine.evaluator.evaluate("docs", "new@1", how)
        assert measured.judged and measured.measure == "ndcg_at_10" and measured.queries == 30
        assert measured.old_to_old.ndcg_at_10 > 0.3
        wrong: list[tuple[list[UpgradeQuery], type[BebrError], str]] = [
            ([UpgradeQuery(TEXTS[0], relevant={"nobody": 1.0})], InvalidOption, r"queries\[0\]: none of its relevant"),
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
        with pytest.raises(Conflict, match="keeps no texts that could be encoded anew"):
            await engine.versions.promote("docs", "new@1", Gate(), force=True)
            await jobs.backfill.submit("docs")


async def test_a_backfill_moves_every_point_that_holds_a_text(tmp_path: Path, bundles: Path) -> None:
    async with upgrading_jobs(tmp_path, bundles) as (engine, jobs):
        await moved(engine)
        await engine.set_metadata("docs", ["p001", "p002"], None, {"text": None})
        job = await jobs.backfill.submit("docs", "new@1", FAST)
        state = await ended(jobs, job)
        assert state.state == "succeeded" and state.rejected == 2 and state.remaining == 0, state
        assert state.total == 80 and state.applied == 78
        assert await counts(engine) == {"old@1": 2, "new@1": 118}
        points, _ = await engine.get_points("docs", ["p001", "p004"], with_code=True)
        assert json.loads(points[1].metadata or "") == {"text": TEXTS[4], "n": 4} and points[1].version == "new@1"
        fresh = engine.registry.get("docs")
        embedded = fresh.encoders.embedder(fresh.active).embed([TEXTS[4]], TextKind.PASSAGE)
        stored = (await fresh.fetch(["p004"], records=True))["p004"].record
        np.testing.assert_array_equal(np.frombuffer(stored, np.uint8), fresh.codec(fresh.active).encode(embedded)[0])
        with pytest.raises(Conflict, match="2 points of 'docs' have codes of 'old@1'; backfill them first"):
            await engine.versions.retire("docs", "old@1")
        await engine.delete_points("docs", ["p001", "p002"])
        described = await engine.versions.retire("docs", "old@1")
        assert [version.retired for version in described.versions] == [True, False]
        with pytest.raises(Conflict, match="no promotion to undo"):
            await engine.versions.rollback("docs")
        with pytest.raises(VersionNotFound):
            await engine.versions.retire("docs", "old@1")
        assert len((await search(engine, text=TEXTS[9])).hits) == 118
        with pytest.raises(InvalidOption, match="no 'old@1'"):
            await search(engine, text=TEXTS[9], version="old@1")
    async with upgrading_jobs(tmp_path, bundles) as (engine, jobs):
        assert len((await search(engine, text=TEXTS[9])).hits) == 118
        described = await engine.versions.attach("docs", "old@1")  # it may come back, as another version
        assert [version.retired for version in described.versions] == [True, False, False]


async def test_what_is_written_meanwhile_is_not_overwritten(tmp_path: Path, bundles: Path) -> None:
    async with upgrading_jobs(tmp_path, bundles) as (engine, jobs):
        await moved(engine)
        job = await jobs.backfill.submit("docs", None, 400.0)
        for n in (1, 50, 100):
            await engine.write_points(
                "docs", [{"id": f"p{n:03}", "text": TEXTS[0], "metadata": {"n": -n}}], WriteMode.UPSERT
            )
        await engine.delete_points("docs", ["p004", "p115"])
        await ended(jobs, job)
        points, missing = await engine.get_points("docs", ["p001", "p050", "p100", "p004", "p115"])
        assert missing == ["p004", "p115"] and [json.loads(p.metadata or "")["n"] for p in points] == [-1, -50, -100]
        collection = engine.registry.get("docs")
        records = await collection.fetch(["p000", "p001", "p050", "p100"], records=True)
        assert len({point.record for point in records.values()}) == 1
        assert await counts(engine) == {"new@1": 118}


async def test_a_code_that_was_made_of_another_record_is_not_taken(tmp_path: Path, bundles: Path) -> None:
    """Between the reading of a point and the write of its new code it may be written or deleted."""
    async with upgrading(tmp_path, bundles) as engine:
        await moved(engine)
        collection = engine.registry.get("docs")
        ids = collection.by_shard([f"p{n:03}" for n in range(120) if n % 3])[0][:3]
        before = await collection.fetch(ids, records=True)
        await write(engine, [int(ids[0][1:])])
        await engine.delete_points("docs", [ids[1]])
        written = (await collection.fetch(ids[:1], records=True))[ids[0]].record
        records = np.zeros((3, collection.active.spec.record_size_bytes), np.uint8)
        change = Replace(ids, collection.active.number, records, [before[point_id].record for point_id in ids])
        assert (await collection.shards.write(0, change)).applied == [False, False, True]
        after = await collection.fetch(ids, records=True)
        assert after[ids[0]].record == written and ids[1] not in after
        assert after[ids[2]].record == bytes(records[2]) and after[ids[2]].metadata == before[ids[2]].metadata


async def test_a_backfill_is_paused_resumed_and_survives_restarts(tmp_path: Path, bundles: Path) -> None:
    async with upgrading_jobs(tmp_path, bundles) as (engine, jobs):
        await moved(engine)
        with pytest.raises(JobNotFound):
            jobs.get("backfill-none")
        job = await jobs.backfill.submit("docs", None, 100.0)
        with pytest.raises(Conflict, match="is running already"):
            await jobs.backfill.submit("docs")
        state = await jobs.pause(job)
        assert state.state == "paused" and state.remaining > 0
        with pytest.raises(Conflict, match="only a running backfill can be paused; that of 'docs' is paused"):
            await jobs.pause(job)
        with pytest.raises(Conflict, match="'new@1' is in use"):
            await engine.versions.retire("docs", "new@1")
    async with upgrading_jobs(tmp_path, bundles) as (engine, jobs):
        left = jobs.get(job)
        assert left.state == "paused" and left.remaining == state.remaining
        assert (await jobs.resume(job)).state == "running"
    async with upgrading_jobs(tmp_path, bundles) as (engine, jobs):  # it was cut short, and goes on by itself
        assert (await ended(jobs, job)).state == "succeeded"
        assert jobs.list()[0].id == job
        assert (await counts(engine))["new@1"] == 120
        with pytest.raises(Conflict, match="only a paused backfill can be resumed; that of 'docs' is succeeded"):
            await jobs.resume(job)


async def test_going_back_cancels_a_backfill_and_loses_nothing(tmp_path: Path, bundles: Path) -> None:
    async with upgrading_jobs(tmp_path, bundles) as (engine, jobs):
        await moved(engine)
        job = await jobs.backfill.submit("docs", None, 100.0)
        await engine.versions.rollback("docs")
        stopped = jobs.get(job)
        assert stopped.state == "cancelled" and stopped.applied == (await counts(engine))["new@1"] - 40
        assert sum((await counts(engine)).values()) == 120
        with pytest.raises(Conflict, match="is not the active version"):
            await jobs.backfill.submit("docs", "new@1")
        job = await jobs.backfill.submit("docs", "old@1", FAST)  # back to where it was
        assert (await ended(jobs, job)).state == "succeeded" and (await counts(engine))["old@1"] == 120


async def test_a_collection_may_be_deleted_while_it_is_backfilled(tmp_path: Path, bundles: Path) -> None:
    async with upgrading_jobs(tmp_path, bundles) as (engine, jobs):
        for rate in (FAST, 50.0):
            if not engine.list_collections():
                await engine.create_collection("docs", CollectionSettings(bundle="old@1", text_field="text"))
                await write(engine, range(120))
            await moved(engine)
            job = await jobs.backfill.submit("docs", None, rate)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await engine.delete_collection("docs")
            with pytest.raises(JobNotFound):
                jobs.get(job)


async def test_points_that_were_asked_for_most_come_first(tmp_path: Path, bundles: Path) -> None:
    async with upgrading_jobs(tmp_path, bundles) as (engine, jobs):
        await engine.versions.attach("docs", "new@1")
        await engine.versions.promote("docs", "new@1", Gate(), force=True)
        asked = [hit.id for hit in (await search(engine, text=TEXTS[33], limit=10)).hits]
        job = await jobs.backfill.submit("docs", None, 16.0)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await counts(engine)).get("new@1", 0) < len(asked):
                await asyncio.sleep(0.005)
        await jobs.cancel(job)
        points, _ = await engine.get_points("docs", asked)
        assert {point.version for point in points} == {"new@1"}


async def test_vectors_of_the_new_model_may_be_streamed(tmp_path: Path, bundles: Path) -> None:
    async with upgrading(tmp_path, bundles, text_field=None) as engine:
        await engine.versions.attach("docs", "new@1")
        await engine.versions.promote("docs", "new@1", Gate(), force=True)
        collection = engine.registry.get("docs")
        rows = collection.encoders.embedder(collection.active).embed(TEXTS[:100], TextKind.PASSAGE)
        ids = [f"p{n:03}" for n in range(99)] + ["nobody"]
        with pytest.raises(Incompatible, match="are declared as 'old@1'"):
            await engine.backfill_vectors("docs", "old@1", ids, rows)
        rows[5] = np.nan
        report = await engine.backfill_vectors("docs", "new@1", ids, rows)
        assert report.applied == 98 and [(item.index, item.error) for item in report.items] == [
            (5, "InvalidVector"),
            (99, "PointNotFound"),
        ]
        assert await counts(engine) == {"old@1": 22, "new@1": 98}
        points, _ = await engine.get_points("docs", ["p007"])
        assert json.loads(points[0].metadata or "") == {"n": 7}


async def test_a_declared_version_is_held_to(tmp_path: Path, bundles: Path) -> None:
    async with upgrading(tmp_path, bundles, 10) as engine:
        await write(engine, range(5), version="old@1")
        with pytest.raises(
            Incompatible, match="written as its active version 'old@1', and these are declared as 'new@1'"
        ):
            await write(engine, range(5), version="new@1")


async def test_steps_survive_a_restart_and_a_lost_bundle_is_named(tmp_path: Path, bundles: Path) -> None:
    async with upgrading(tmp_path, bundles) as engine:
        await moved(engine)
        before = await search(engine, text=TEXTS[11])
    async with upgrading(tmp_path, bundles) as engine:
        after = await search(engine, text=TEXTS[11])
        assert [(h.id, h.score, h.version) for h in after.hits] == [(h.id, h.score, h.version) for h in before.hits]
        assert engine.versions.describe("docs").previous == "old@1"
    hidden = bundles / "old@1"
    hidden.rename(bundles / ".old")
    try:
        async with upgrading(tmp_path, bundles) as engine:
            assert "old@1" in str((await engine.describe_collection("docs")).encoder_error)
            with pytest.raises(BundleNotFound, match="no bundle 'old@1'"):
                await search(engine, text=TEXTS[11])
    finally:
        (bundles / ".old").rename(hidden)


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
        for _ in range(15):
            await engine.versions.promote("docs", "new@1", Gate(), force=True)
            await asyncio.sleep(0.02)
            await engine.versions.rollback("docs")
            await asyncio.sleep(0.02)
        stop.set()
        await asyncio.gather(*tasks)
        assert answers > 20 and written > 10
        assert sum((await counts(engine)).values()) == 120
        result = await search(engine, text=TEXTS[1])
        expected = await oracle(engine, TEXTS[1], "old@1", {"new@1": AdapterKind.WEIGHTED})
        assert [hit.id for hit in result.hits] == [point_id for _, point_id in expected]


async def test_the_document_of_an_upgrade_reads_back(tmp_path: Path, bundles: Path) -> None:
    async with upgrading_jobs(tmp_path, bundles) as (engine, jobs):
        await moved(engine)
        await jobs.backfill.submit("docs", None, FAST)
        document = engine.registry.get("docs").document
        again = type(document).from_document(json.loads(json.dumps(document.to_document())))
        assert again.to_document() == document.to_document() and again.upgrades == document.upgrades


async def test_a_fit_after_an_upgrade_is_of_the_new_model(tmp_path: Path, bundles: Path) -> None:
    """Own binarizers of two models, and points of both, in one collection."""
    async with upgrading(tmp_path, bundles) as engine:
        await fitted(engine, 8)
        await engine.versions.attach("docs", "new@1")
        await engine.versions.promote("docs", "new@1", Gate(), force=True)
        await fitted(engine, 12)
        versions = engine.registry.get("docs").document.versions
        assert [version.model for version in versions if version.kind is VersionKind.BUFFERED] == ["old@1", "new@1"]
        assert [version.model for version in versions if version.kind is VersionKind.FITTED] == ["old@1", "new@1"]
        result = await search(engine, text=TEXTS[7])
        assert len(result.hits) == 140 and len(result.searched) == 1
        await engine.versions.rollback("docs")
        await write(engine, range(20))
        result = await search(engine, text=TEXTS[7])
        assert len(result.hits) == 140 and len(result.searched) == 2


async def fitted(engine: Engine, size_bytes: int) -> None:
    """Fit a binarizer of the collection's own to its points, all written anew."""
    await engine.fits.request("docs", size_bytes=size_bytes, sample=130)
    await write(engine, range(140))
    async with asyncio.timeout(60):
        while (await engine.describe_collection("docs")).fit.state != "done":
            await asyncio.sleep(0.02)


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
