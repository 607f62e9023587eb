"""Requests for fits: what is refused, what the status says, what points are until the fit."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.fitting import ROWS, SAMPLE, collecting, fit_of, make, nearest, reached, recall, write
from tests.engine.running import running
from tests.server.bundles import TINY, write_tiny_bundle

from bebr.core.types import FieldType, WriteMode
from bebr.engine import CollectionSettings, FitSettings, SearchRequest
from bebr.errors import BundleNotFound, Conflict, InvalidOption


async def test_a_refit_is_a_new_version_searched_with_the_old_one(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await make(engine)
        await write(engine, range(SAMPLE))
        first = await reached(engine, "done")
        with pytest.raises(Conflict, match="at least 124, and 0 are buffered"):
            await engine.fits.request("docs", now=True)
        answer = await engine.fits.request("docs", size_bytes=16, sample=400)
        assert answer.state == "collecting" and answer.code == first.code
        await write(engine, range(200, 500))
        assert (await fit_of(engine)).collected == 300
        assert await recall(engine, 500) > 0.5
        with pytest.raises(InvalidOption, match="does not apply with 'now'"):
            await engine.fits.request("docs", sample=300, now=True)
        await engine.fits.request("docs", now=True)
        second = await reached(engine, "done")
        assert second.version == first.version.replace("@1", "@2") and second.bytes == 16
        described = await engine.describe_collection("docs")
        assert described.points == {first.version: 200, second.version: 300}
        assert described.versions == ["buffered", first.version, second.version]
        assert await recall(engine, 500) > 0.5
    async with running(tmp_path) as engine:
        assert await recall(engine, 500) > 0.5
        (result,) = await engine.search("docs", [SearchRequest(vector=ROWS[0], limit=500)])
        assert result.searched == {first.version: 200, second.version: 300}
        assert {hit.version for hit in result.hits} == set(result.searched)
        assert (await engine.fits.request("docs", sample=300)).bytes == 16
        await write(engine, range(500))
        third = await reached(engine, "done")
        assert (await engine.describe_collection("docs")).points == {third.version: 500}


async def test_a_collection_of_a_bundle_fits_what_the_model_embeds(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "bundles", tmp_path / "scratch")
    words = ["quick", "brown", "fox", "date", "binary", "codes", "search", "lazy", "dog", "time", "string", "parse"]
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, 4)) for _ in range(200)]
    points = [{"id": f"t{n:03}", "text": text, "metadata": {"n": n}} for n, text in enumerate(texts)]
    async with running(tmp_path) as engine:
        await make(engine, FitSettings(bytes=16, sample=150), bundle=TINY)
        assert (await engine.describe_collection("docs")).bundle == TINY
        await engine.write_points("docs", points, WriteMode.UPSERT)
        await reached(engine, "done")
        assert (await engine.describe_collection("docs")).bundle == TINY
        (result,) = await engine.search("docs", [SearchRequest(text=texts[3], limit=5)])
        assert json_n(result) & {n for n, text in enumerate(texts) if text == texts[3]}
        own = next((tmp_path / "bundles").glob("own-*"))
        assert {path.name for path in own.iterdir()} == {"manifest.json", "binarizer.onnx"}
    shutil.rmtree(tmp_path / "bundles" / TINY)
    async with running(tmp_path) as engine:
        assert TINY in (await engine.describe_collection("docs")).encoder_error


def json_n(result: Any) -> set[int]:

    return {json.loads(hit.metadata)["n"] for hit in result.hits}


async def test_a_collection_that_was_made_without_a_fit_gets_one(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "bundles", tmp_path / "scratch")
    async with running(tmp_path) as engine:
        await engine.create_collection("docs", CollectionSettings(bundle=TINY, filterable={"n": FieldType.INTEGER}))
        assert (await engine.describe_collection("docs")).fit is None
        await write(engine, range(50))
        answer = await engine.fits.request("docs", sample=200)
        assert answer.bytes == 16
        await write(engine, range(40, 260))
        fit = await reached(engine, "done")
        described = await engine.describe_collection("docs")
        assert described.points == {TINY: 40, fit.version: 220}
        assert await recall(engine, 260) > 0.5
        await engine.create_collection("codes", CollectionSettings(code="16x2"))
        with pytest.raises(Conflict, match="codes of your own"):
            await engine.fits.request("codes", size_bytes=4)


async def test_versions_have_a_limit(tmp_path: Path) -> None:
    async with running(tmp_path, max_versions=2) as engine:
        await make(engine)
        await write(engine, range(SAMPLE))
        await reached(engine, "done")
        with pytest.raises(Conflict, match="limit is 2"):
            await engine.fits.request("docs")


async def test_points_are_no_codes_until_the_fit(tmp_path: Path) -> None:
    async with collecting(tmp_path) as engine:
        (point,), _ = await engine.get_points("docs", ["p000"], with_code=True)
        assert point.version == "buffered" and point.code is not None
        report = await engine.write_points(
            "docs", [{"id": "x", "code_b64": base64.b64encode(point.code).decode()}], WriteMode.UPSERT
        )
        assert report.items[0].error == "InvalidOption" and "until its fit" in report.items[0].detail


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"fit": FitSettings(8, 300)}, "fit.dims"),
        ({"fit": FitSettings(8, 300, 32), "bundle": "any@1"}, "fit.dims"),
        ({"fit": FitSettings(8, 300, 32), "code": "16x2"}, "code"),
        ({"fit": FitSettings(8, 300, 5000)}, "fit.dims"),
        ({"fit": FitSettings(17, 300, 32)}, "fit.bytes"),
        ({"fit": FitSettings(0, 300, 32)}, "fit.bytes"),
        ({"fit": FitSettings(8, 123, 32)}, "fit.sample"),
        ({"fit": FitSettings(8, 100_001, 32)}, "fit.sample"),
        ({}, "bundle"),
    ],
)
async def test_wrong_settings_name_their_key(tmp_path: Path, settings: dict[str, Any], key: str) -> None:
    async with running(tmp_path) as engine:
        with pytest.raises(InvalidOption) as raised:
            await engine.create_collection("docs", CollectionSettings(**settings))
        assert raised.value.fields["key"] == key


async def test_a_damaged_own_bundle_is_written_again(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await make(engine)
        await write(engine, range(SAMPLE))
        fit = await reached(engine, "done")
    graph = tmp_path / "bundles" / fit.version / "binarizer.onnx"
    sound = graph.read_bytes()
    graph.write_bytes(sound[:-1] + b"x")
    async with running(tmp_path) as engine:
        assert graph.read_bytes() == sound
        assert await nearest(engine, ROWS[3], 1) == ["p003"]
        await engine._store.delete_document("binarizer", fit.version)
    shutil.rmtree(tmp_path / "bundles")
    async with running(tmp_path) as engine:
        described = await engine.describe_collection("docs")
        assert fit.version in described.encoder_error and sum(described.points.values()) == SAMPLE
        with pytest.raises(BundleNotFound):
            await nearest(engine, ROWS[3], 1)
