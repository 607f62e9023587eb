"""A fit to the collection's own finer codes: every point gets its new code without its text or vector."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.encoding.quantization.embeddings import text_like
from tests.engine.fitting import DIMS, ROWS, fit_of, reached, recall, write
from tests.engine.running import running
from tests.waiting import PATIENCE_SECONDS, PAUSE_SECONDS, until

from bebr.core.types import FieldType, WriteMode
from bebr.encoding import BundleRegistry
from bebr.encoding.quantization.training import fit_own
from bebr.engine import CollectionSettings, Engine, FitSettings
from bebr.engine.collections.schema import FitSource
from bebr.errors import Conflict, Incompatible, InvalidOption

FINE = "fine@1"
POINTS = 600


def put_bundle(folder: Path, name: str = FINE, rescore_bytes: int = 24) -> None:
    """A bundle of a binarizer for vectors of the user's own."""
    files, metrics = fit_own(text_like(700, seed=4, dims=DIMS), 8, rescore_bytes)
    BundleRegistry([folder / "bundles"]).put_binarizer(name, DIMS, files, metrics)


async def create(engine: Engine, bundle: str = FINE) -> None:
    fields = {"n": FieldType.INTEGER}
    await engine.create_collection("docs", CollectionSettings(bundle=bundle, filterable=fields))


async def test_all_points_get_a_smaller_code_and_a_larger_one_again(tmp_path: Path) -> None:
    put_bundle(tmp_path)
    async with running(tmp_path, head_rows=256) as engine:
        await create(engine)
        await write(engine, range(POINTS))
        before = (await engine.describe_collection("docs")).points
        assert before == {FINE: POINTS}
        fit = await engine.fits.request("docs", size_bytes=4, sample=400, source=FitSource.CODES)
        assert fit.state == "fitting" and (await engine.describe_collection("docs")).active_version == FINE
        small = await reached(engine, "done")
        described = await engine.describe_collection("docs")
        assert described.points == {small.version: POINTS} and described.code_bytes == 4
        assert (small.bytes, small.points, small.searched) == (4, POINTS, POINTS - 80)
        found = await recall(engine, POINTS)
        files, metrics = fit_own(ROWS[:400], 4)
        assert found > 0.1 and abs(float(small.recall_at_10 or 0) - metrics["recall_at_10"]) < 0.1, files.spec
        assert await engine.count("docs", {"must": [{"key": "n", "range": {"gte": 590}}]}) == 10
    async with running(tmp_path, head_rows=256) as engine:
        assert await recall(engine, POINTS) == found and (await fit_of(engine)).state == "done"
        await write(engine, range(POINTS, POINTS + 10))
        assert (await engine.describe_collection("docs")).points == {small.version: POINTS + 10}
        active = engine.registry.get("docs").active
        assert active.spec.code_size_bytes == 4 and active.spec.rescore_code_size_bytes == 24
        await engine.fits.request("docs", size_bytes=8, rescore_bytes=0, source=FitSource.CODES)
        large = await reached(engine, "done")
        assert (await engine.describe_collection("docs")).points == {large.version: POINTS + 10}
        assert engine.registry.get("docs").active.spec.rescore is None
        assert 0.3 < await recall(engine, POINTS) < found  # without finer codes
        with pytest.raises(Conflict, match="no point of 'docs' has a rescore code"):
            await engine.fits.request("docs", source=FitSource.CODES)


async def test_writes_and_deletes_during_the_conversion_stay_as_they_are(tmp_path: Path) -> None:
    put_bundle(tmp_path)
    async with running(tmp_path, head_rows=256) as engine:
        await create(engine)
        await write(engine, range(POINTS))
        await engine.fits.request("docs", size_bytes=4, sample=400, source=FitSource.CODES)
        turn, states = 0, set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (state := (await fit_of(engine)).state) != "done":
                states.add(str(state))
                await engine.write_vectors(
                    "docs", [f"p{turn:03}"], ROWS[700 + turn : 701 + turn], None, WriteMode.UPSERT
                )
                await engine.delete_points("docs", [f"p{300 + turn}"])
                turn = min(turn + 1, 150)
                await asyncio.sleep(PAUSE_SECONDS)
        assert "fitting" in states
        described = await engine.describe_collection("docs")
        assert set(described.points) == {described.active_version}
        assert sum(described.points.values()) == POINTS - turn
        points, missing = await engine.get_points("docs", ["p000", "p300", "p599"])
        assert [p.id for p in points] == ["p000", "p599"] and missing == ["p300"] and points[0].metadata == "{}"


async def test_a_stop_anywhere_and_the_next_start_goes_on(tmp_path: Path) -> None:
    put_bundle(tmp_path)
    async with running(tmp_path, head_rows=256) as engine:
        await create(engine)
        await write(engine, range(POINTS))
        await engine.fits.request("docs", size_bytes=4, sample=400, source=FitSource.CODES)
    async with running(tmp_path, head_rows=256) as engine:
        assert (await fit_of(engine)).state == "fitting"

        async def moved_on() -> bool:
            return (await fit_of(engine)).state != "fitting"

        await until(moved_on, "the fit")
        fit = await fit_of(engine)
        assert fit.state == "done" or 0 < fit.collected <= POINTS
    async with running(tmp_path, head_rows=256) as engine:
        done = await reached(engine, "done")
        assert (await engine.describe_collection("docs")).points == {done.version: POINTS} and done.collected == 0


async def test_codes_that_stand_for_too_little_are_refused_and_nothing_changes(tmp_path: Path) -> None:
    put_bundle(tmp_path, "plain@1", rescore_bytes=0)
    put_bundle(tmp_path)
    async with running(tmp_path, head_rows=256) as engine:
        await create(engine, "plain@1")
        await write(engine, range(50))
        with pytest.raises(Conflict, match="no point of 'docs' has a rescore code"):
            await engine.fits.request("docs", source=FitSource.CODES)
        with pytest.raises(InvalidOption, match="'now' does not apply"):
            await engine.fits.request("docs", source=FitSource.CODES, now=True)
        await engine.create_collection("raw", CollectionSettings(code="32x2"))
        with pytest.raises(Conflict, match="codes of your own"):
            await engine.fits.request("raw", source=FitSource.CODES)
        await engine.create_collection("fitting", CollectionSettings(fit=FitSettings(bytes=8, dims=DIMS)))
        with pytest.raises(Conflict, match="no point of 'fitting' has a rescore code"):
            await engine.fits.request("fitting", source=FitSource.CODES)
        await engine.create_collection("fine", CollectionSettings(bundle=FINE))
        with pytest.raises(Conflict, match="no point of 'fine' has a rescore code"):
            await engine.fits.request("fine", source=FitSource.CODES)
        for name in ("docs", "raw", "fitting", "fine"):
            assert len(engine.registry.get(name).document.versions) == 1


async def test_codes_that_stand_for_no_embedding_are_refused(tmp_path: Path) -> None:
    """The projection of queries is not linear."""
    files, metrics = fit_own(text_like(300, seed=4, dims=DIMS), 8)
    graph = onnx.load_model_from_string(files.graph)
    for node in graph.graph.node:
        for names in (node.input, node.output):
            names[:] = ["linear" if name == "projected" else name for name in names]
    graph.graph.node.append(onnx.helper.make_node("Abs", ["linear"], ["projected"]))
    bent = replace(files, graph=graph.SerializeToString())
    BundleRegistry([tmp_path / "bundles"]).put_binarizer("bent@1", DIMS, bent, metrics)
    async with running(tmp_path, head_rows=256) as engine:
        await create(engine, "bent@1")
        await write(engine, range(50))
        with pytest.raises(Incompatible, match="represent no embedding"):
            await engine.fits.request("docs", source=FitSource.CODES)


async def test_too_few_points_fail_the_fit_and_block_nothing(tmp_path: Path) -> None:
    put_bundle(tmp_path)
    put_bundle(tmp_path, "other@1")
    async with running(tmp_path, head_rows=256) as engine:
        await create(engine)
        await write(engine, range(30))
        await engine.fits.request("docs", size_bytes=4, source=FitSource.CODES)
        failed = await reached(engine, "failed")
        assert "30 rows are too few" in str(failed.detail)
        assert (await engine.describe_collection("docs")).points == {FINE: 30}
        await engine.versions.attach("docs", "other@1")  # the active version is not in question
        await write(engine, range(POINTS))
        await engine.fits.request("docs", source=FitSource.CODES)
        assert (await reached(engine, "done")).bytes == 4


async def test_buffered_points_are_converted_too(tmp_path: Path) -> None:
    put_bundle(tmp_path)
    async with running(tmp_path, head_rows=256) as engine:
        await create(engine)
        await write(engine, range(400))
        await engine.fits.request("docs", size_bytes=8)
        await write(engine, range(300, 500))
        assert (await engine.describe_collection("docs")).points == {FINE: 300, "buffered": 200}
        await engine.fits.request("docs", size_bytes=4, source=FitSource.CODES)
        done = await reached(engine, "done")
        assert (await engine.describe_collection("docs")).points == {done.version: 500}


def test_a_code_that_stands_for_nothing_is_no_nan(tmp_path: Path) -> None:
    from bebr.encoding.quantization.int8 import Int8Binarizer
    from bebr.engine.versions.fit_from_codes import decode_unit

    put_bundle(tmp_path)
    from bebr.encoding.encoder import Encoder

    encoder = Encoder(BundleRegistry([tmp_path / "bundles"]).get(FINE))
    nothing = np.zeros((2, encoder.spec.record_size_bytes), np.uint8)
    unit = decode_unit(encoder, nothing)
    assert np.allclose(np.linalg.norm(unit, axis=1), 1) and np.isfinite(Int8Binarizer(DIMS).encode(unit)).all()
