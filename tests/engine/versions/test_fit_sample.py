"""What a fit is made of and measured among: a random sample of what the collection becomes, not what came first."""

import asyncio
from pathlib import Path

import numpy as np
from tests.encoding.quantization.embeddings import text_like
from tests.engine.fitting import DIMS, ROWS, fit_of, make, reached, write
from tests.engine.running import running
from tests.server.bundles import TINY, write_tiny_bundle
from tests.waiting import PATIENCE_SECONDS

from bebr.core.sampling import sample_keys, smallest
from bebr.core.types import WriteMode
from bebr.encoding import BundleRegistry
from bebr.encoding.encoder import Encoder
from bebr.encoding.quantization.int8 import Int8Binarizer
from bebr.encoding.quantization.measuring import measure
from bebr.encoding.quantization.training import fit_own
from bebr.engine import Engine, FitSettings
from bebr.engine.collections.version import Version
from bebr.engine.versions.fit_choice import Candidate, Collected, choose
from bebr.engine.versions.fit_steps import Fitted

LONG = 3600.0
WORDS = ["quick", "brown", "fox", "date", "binary", "codes", "search", "lazy", "dog", "time", "string", "parse"]
SMALL = FitSettings(bytes=8, sample=130, dims=DIMS)


async def test_the_sample_is_drawn_from_several_times_as_many(tmp_path: Path) -> None:
    """The first points are all of one kind. Nothing begins before there are five times as many as the sample."""
    turned = np.ascontiguousarray(ROWS[:, ::-1])
    rows = np.concatenate([ROWS[:200], turned[200:650]])
    async with running(tmp_path, fit_rest_seconds=LONG, head_rows=8192) as engine:
        await make(engine, SMALL)
        await write(engine, range(600), rows)
        fit = await fit_of(engine)
        assert (fit.state, fit.collected) == ("collecting", 600)
        assert fit.detail == "draws its sample at 650 points, or once the collection has not grown for 3600 s"
        await write(engine, range(600, 650), rows)
        fit = await reached(engine, "done")
        assert (fit.queries, fit.searched, fit.points) == (26, 650 - 26, 650)
        collection = engine.registry.get("docs")
        ids = [f"p{n:03}" for n in range(650)]
        drawn = rows[smallest(sample_keys(ids), 130)]
        buffered = Int8Binarizer(DIMS)
        expected, _ = _candidate(tmp_path / "expected", "own@1", buffered.decode(buffered.encode(drawn)), 1)
        assert collection.active.spec == expected.encoder.spec
        assert (collection.codec(collection.active).encode(ROWS) == expected.encoder.encode(ROWS)).all()


async def test_a_collection_that_stops_growing_gets_its_fit_and_so_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, fit_rest_seconds=LONG) as engine:
        await make(engine, SMALL)
        await write(engine, range(150))
        assert (await fit_of(engine)).state == "collecting"
    async with running(tmp_path, fit_rest_seconds=0.05) as engine:
        fit = await reached(engine, "done")
        assert (fit.collected, fit.queries, fit.searched, fit.points) == (0, 26, 104, 150)


async def test_overwriting_is_no_growth(tmp_path: Path) -> None:
    async with running(tmp_path, fit_rest_seconds=0.2, head_rows=8192) as engine:
        await make(engine, SMALL)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await fit_of(engine)).state == "collecting":
                await write(engine, range(150))
                await asyncio.sleep(0.01)
        fit = await reached(engine, "done")
        assert (fit.collected, fit.queries, fit.searched, fit.points) == (0, 26, 104, 150)


async def test_points_that_trickle_in_do_not_hold_up_a_fit(tmp_path: Path) -> None:
    """One more point in each rest, of which there are many: less than a hundredth in twelve of them."""
    rows = text_like(1_400, dims=DIMS)
    large = FitSettings(bytes=8, sample=1_250, dims=DIMS)
    async with running(tmp_path, fit_rest_seconds=0.05, head_rows=8192) as engine:
        await make(engine, large)
        await write(engine, range(1_250), rows)
        count = 1_250
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await fit_of(engine)).state == "collecting":
                await write(engine, range(count, count + 1), rows)
                count = min(count + 1, 1_399)
                await asyncio.sleep(0.04)
        assert (await fit_of(engine)).state in ("fitting", "converting", "done")


async def test_what_is_buffered_stays_within_its_bytes(tmp_path: Path) -> None:
    async with running(tmp_path, fit_rest_seconds=LONG, max_fit_buffer_bytes=200 * (DIMS + 2)) as engine:
        await make(engine, SMALL)
        await write(engine, range(199))
        assert (await fit_of(engine)).state == "collecting"
        await write(engine, range(199, 200))
        assert (await reached(engine, "done")).points == 200


def _candidate(folder: Path, name: str, rows: np.ndarray, number: int) -> tuple[Candidate, dict[str, object]]:
    files, metrics = fit_own(rows, 8)
    bundle = BundleRegistry([folder]).put_binarizer(name, DIMS, files, metrics)
    version = Version.fitted(number, bundle, Version.buffered(0, DIMS, None, None), metrics)
    return Candidate(Encoder(bundle), version), metrics


def test_the_better_of_two_is_kept(tmp_path: Path) -> None:
    """Among all that was collected the better one; where there is no more than the sample, only one that is clearly
    better than what was fitted."""
    codec = Int8Binarizer(DIMS)
    turned = np.ascontiguousarray(text_like(600, seed=9, dims=DIMS)[:, ::-1])
    own, metrics = _candidate(tmp_path, "own@1", turned[:150], 1)
    good, _ = _candidate(tmp_path, "good@1", ROWS[:600], 2)
    rows = codec.encode(ROWS)
    many = Collected(rows[:200], rows[200:], codec)
    chosen, measured = choose(own, {"good@1": good}, many, metrics)
    assert chosen is good and (measured.version, measured.queries, measured.searched) == (2, 40, 860)
    direct = measure(good.encoder, codec.decode(rows[200:240]), [codec.decode(np.vstack([rows[:200], rows[240:]]))])
    assert measured.recall_at_10 == round(direct.recall, 4)
    assert choose(good, {"own@1": own}, many, metrics)[0] is good
    few = Collected(rows[:200], rows[:0], codec)
    report = {"recall_at_10": 0.5, "queries": 40, "searched": 160}
    for other, expected in ((0.52, own), (0.58, good)):  # two standard errors are .05
        chosen, measured = choose(own, {"good@1": good}, few, report | {"others": {"good@1": other}})
        assert chosen is expected and measured.recall_at_10 == (other if chosen is good else 0.5)


async def test_the_bundles_own_binarizer_takes_over_where_it_finds_more(tmp_path: Path) -> None:
    """No version is added for what was fitted; searches, writes and the next start use the bundle's."""
    write_tiny_bundle(tmp_path / "bundles", tmp_path / "scratch")
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 5)) for _ in range(200)]
    points = [{"id": f"t{n:03}", "text": text} for n, text in enumerate(texts)]
    async with running(tmp_path, fit_rest_seconds=LONG, head_rows=8192) as engine:
        collection = await make(engine, FitSettings(bytes=16, sample=150), bundle=TINY)
        await engine.write_points("docs", points, WriteMode.UPSERT)
        plan = collection.document.fit
        assert plan is not None
        training = await engine.fit_steps.read(collection, plan)
        assert set(training.others) == {TINY} and len(training.rows.sample) == 150 and len(training.rows.others) == 50
        poor, metrics = fit_own(text_like(200, dims=DIMS), 16)
        await engine.fit_steps.switch(collection, Fitted(poor, metrics, training))
        await write_more(engine, ["quick fox"])
        fit = await reached(engine, "done")
        described = await engine.describe_collection("docs")
        assert (fit.version, fit.code, described.active_version) == (TINY, "32x4", TINY)
        assert described.points == {TINY: 201} and fit.searched == 170 and fit.recall_at_10 is not None
        assert not list((tmp_path / "bundles").glob("own-*"))
        assert await engine._store.list_documents("binarizer") == {}
    async with running(tmp_path) as engine:
        again = await fit_of(engine)
        assert (again.state, again.version, again.recall_at_10) == ("done", TINY, fit.recall_at_10)
        await engine.fits.request("docs", sample=130, size_bytes=8)
        await engine.write_points("docs", points, WriteMode.UPSERT)
        second = await reached(engine, "done")
        assert second.version is not None and second.version.startswith("own-docs-")


async def write_more(engine: Engine, texts: list[str]) -> None:
    await engine.write_points("docs", [{"id": text, "text": text} for text in texts], WriteMode.UPSERT)
