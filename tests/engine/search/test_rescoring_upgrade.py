"""Rescore codes come with a new model: old codes are searched beside them, and a backfill gives them to all points."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.engine.running import running_jobs
from tests.engine.two_models import SHORT, adapters, import_checkpoint, text_bundle, texts, write_checkpoint
from tests.engine.upgrading import FAST, FIELDS, counts, ended, moved, write

from bebr.core.codes import CodeSpec, rescore_records
from bebr.core.scoring import prepare_rescore, rescore_scores
from bebr.encoding import Bundle, TextKind, write_bundle
from bebr.encoding.encoder import Encoder
from bebr.encoding.quantization.recurrent_fit import fit_recurrent
from bebr.encoding.quantization.recurrent_graph import files_of
from bebr.encoding.quantization.residual import fit_residual
from bebr.engine import CollectionSettings, Engine, SearchRequest
from bebr.engine.search.query import RoutedQuery

RESCORE_BYTES = 16
QUERY = texts(3, seed=8)[2]


@pytest.fixture(scope="module")
def rescored_bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """old@1 without rescore codes, and new@1 with them, and with adapters to old@1."""
    folder = tmp_path_factory.mktemp("bundles")
    rescored(folder, text_bundle(folder, "old@1", seed=0), text_bundle(folder, "new@1", seed=1))
    return folder


def rescored(folder: Path, old: Bundle, new: Bundle) -> None:
    rows = Encoder(new).embed(texts(300), TextKind.PASSAGE)
    fitted = fit_recurrent(rows, CodeSpec.parse("16x2"), effort=SHORT)
    fitted = replace(fitted, residual=fit_residual(rows, fitted.left_over(rows), RESCORE_BYTES))
    model = import_checkpoint(write_checkpoint(folder / ".new-1", seed=1))
    made = {"embedding_dims": new.embedding_dims, "binarizer": files_of(fitted), "embedding": model.files}
    new = write_bundle(folder, "new", "1", replace=True, **made)
    write_bundle(folder, "new", "1", replace=True, compatible_with=[adapters(new, old)], **made)


async def routed(engine: Engine, request: SearchRequest) -> RoutedQuery:
    (one,) = await engine.searchers.of(engine.registry.get("docs"))._route([request])
    return one


async def check(engine: Engine, query_version: str) -> None:
    """Every hit of new@1 scores by its rescore code what the adapted query makes of it, on top of its scan score."""
    collection = engine.registry.get("docs")
    options = {"text": QUERY, "version": query_version, "limit": 200}
    coarse, finer = await engine.search(
        "docs", [SearchRequest(**options, rescore=False), SearchRequest(**options, explain=True)]
    )
    before = {hit.id: hit.score for hit in coarse.hits}
    codec = collection.codec(collection.active)
    assert isinstance(codec, Encoder) and len(finer.hits) == 120
    asked = (await routed(engine, SearchRequest(**options))).of_version[collection.active.number]
    assert asked.unit is not None
    query = prepare_rescore(codec.project_rescore(asked.unit) * asked.factor, codec.spec)
    points = await collection.fetch([hit.id for hit in finer.hits], records=True)
    expected = []
    for hit in finer.hits:
        added = 0.0
        if hit.version == "new@1":
            record = rescore_records(np.frombuffer(points[hit.id].record, np.uint8)[None], codec.spec)
            added = float(rescore_scores(query, record, codec.spec)[0, 0])
        expected.append((-(before[hit.id] + added), hit.id))
    assert [(-hit.score, hit.id) for hit in finer.hits] == expected == sorted(expected)
    assert finer.explain is not None and finer.explain.rescore is not None
    assert finer.explain.rescore.rows_read == sum(hit.version == "new@1" for hit in finer.hits) > 0


async def test_old_codes_are_searched_beside_new_ones_until_a_backfill_has_moved_them(
    tmp_path: Path, rescored_bundles: Path
) -> None:
    async with running_jobs(tmp_path, bundles_dir=rescored_bundles, search_threads=1) as (engine, jobs):
        settings = CollectionSettings(bundle="old@1", filterable=FIELDS, shards=2, text_field="text")
        await engine.create_collection("docs", settings)
        await write(engine, range(120))
        await moved(engine)
        assert await counts(engine) == {"old@1": 80, "new@1": 40}
        await check(engine, "new@1")
        await check(engine, "old@1")
        (by_id,) = await engine.search("docs", [SearchRequest(id="p001", limit=5, explain=True)])
        assert by_id.hits[0].id == "p001" and by_id.query_version == "old@1"
        await ended(jobs, await jobs.backfill.submit("docs", "new@1", FAST))
        assert await counts(engine) == {"new@1": 120}
        await check(engine, "new@1")
        page, _ = await engine.get_points("docs", ["p001", "p002"], with_code=True)
        sizes = {len(point.code or b"") for point in page}
        assert sizes == {engine.registry.get("docs").active.spec.record_size_bytes}
    async with running_jobs(tmp_path, bundles_dir=rescored_bundles, search_threads=1) as (engine, _):
        await check(engine, "new@1")
