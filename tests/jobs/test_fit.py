"""Fit jobs on a real store: buffered, fitted, switched, converted; cut short anywhere, they go on."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.fitting import FIT, ROWS, SAMPLE, collecting, fit_of, make, nearest, reached, recall, write
from tests.engine.running import running, running_jobs
from tests.waiting import PATIENCE_SECONDS, until

from bebr.core.operations import PutWrite
from bebr.core.types import Puts, WriteMode
from bebr.engine import CollectionSettings
from bebr.errors import Overloaded, StoreUnavailable
from bebr.jobs import runner
from bebr.shards import ShardWrite


async def test_the_whole_life_of_a_fit(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await make(engine)
        await write(engine, range(200))
        fit = await fit_of(engine)
        assert (fit.state, fit.collected, fit.code, fit.recall_at_10) == ("collecting", 200, None, None)
        assert await recall(engine, 200) > 0.97
    async with running(tmp_path) as engine:
        assert (await fit_of(engine)).collected == 200 and await recall(engine, 200) > 0.97
        await write(engine, range(200, 320))
        fit = await reached(engine, "done")
        described = await engine.describe_collection("docs")
        assert described.points == {fit.version: 320} and described.code_bytes == 8
        assert described.active_version == fit.version and fit.version.startswith("own-docs-")
        assert fit.collected == 0 and fit.queries == 60 and 0.3 < fit.recall_at_10 <= 1
        assert 0.3 < await recall(engine, 320) < 1
        await write(engine, range(320, 400))
        assert await engine.count("docs", {"must": [{"key": "n", "range": {"gte": 310}}]}) == 90
    shutil.rmtree(tmp_path / "bundles")
    async with running(tmp_path) as engine:
        assert (await fit_of(engine)).state == "done"
        assert sum((await engine.describe_collection("docs")).points.values()) == 400
        await write(engine, range(400, 450))
        assert await nearest(engine, ROWS[420], 1) == ["p420"]
        assert len(list((tmp_path / "bundles").iterdir())) == 1
        await engine.delete_collection("docs")
        assert not list((tmp_path / "bundles").iterdir())
        assert await engine._store.list_documents("binarizer") == {}


async def test_writes_and_searches_go_on_during_a_fit(tmp_path: Path) -> None:
    """Overwrites and deletes in every state: what they left is what is there when all is done."""
    rng = np.random.default_rng(3)
    async with running(tmp_path) as engine:
        await make(engine)
        expected: dict[str, int | None] = {}
        states = set()

        async def change() -> None:
            numbers = rng.integers(0, 600, 25).tolist()
            ids = [f"p{n:03}" for n in dict.fromkeys(numbers)]
            if rng.random() < 0.25:
                await engine.delete_points("docs", ids)
                expected.update(dict.fromkeys(ids))
                return
            which = rng.integers(0, len(ROWS), len(ids)).tolist()
            try:
                await engine.write_vectors("docs", ids, ROWS[which], [{"n": w} for w in which], WriteMode.UPSERT)
            except Overloaded:  # heads are tiny here, and sealing has to wait for the fit's processor
                await asyncio.sleep(0.05)
                return
            expected.update(zip(ids, which, strict=True))

        async with asyncio.timeout(PATIENCE_SECONDS):
            while (state := (await fit_of(engine)).state) != "done":
                states.add(state)
                await change()
                hits = await nearest(engine, ROWS[int(rng.integers(900))], 20)
                assert len(hits) == len(set(hits)) == min(20, sum(n is not None for n in expected.values()))
        assert "collecting" in states  # a busy machine may look away while it fits
        living = {i: n for i, n in expected.items() if n is not None}
        points, missing = await engine.get_points("docs", sorted(expected))
        assert {p.id: json.loads(p.metadata or "")["n"] for p in points} == living
        assert set(missing) == set(expected) - set(living)
        await reached(engine, "done")
        assert sum((await engine.describe_collection("docs")).points.values()) == len(living)
        for point_id, n in list(living.items())[:40]:
            assert point_id in await nearest(engine, ROWS[n], 15)


async def test_a_fit_that_fails_says_why_and_can_be_asked_for_again(tmp_path: Path) -> None:
    same = np.repeat(ROWS[:1], 900, axis=0)
    async with running(tmp_path) as engine:
        await make(engine)
        await write(engine, range(SAMPLE), same)
        fit = await reached(engine, "failed")
        assert "same" in fit.detail and fit.collected == SAMPLE
        await write(engine, range(SAMPLE, SAMPLE + 20))
        assert (await fit_of(engine)).state == "failed"
    async with running(tmp_path) as engine:
        assert (await fit_of(engine)).state == "failed"
        assert (await nearest(engine, ROWS[310], 1)) == ["p310"]
        await write(engine, range(SAMPLE))
        await engine.fits.request("docs")
        assert (await reached(engine, "done")).detail is None
        assert await recall(engine, 320) > 0.3


async def test_a_stop_during_a_fit_is_quick_and_the_next_start_goes_on(tmp_path: Path) -> None:
    async with collecting(tmp_path) as engine:
        await write(engine, range(200, 310))

        async def has_begun() -> bool:
            return (await fit_of(engine)).state != "collecting"

        await until(has_begun, "the fit")
    async with running(tmp_path) as engine:
        await reached(engine, "done")
        assert sum((await engine.describe_collection("docs")).points.values()) == 310


async def test_a_collection_is_deleted_during_its_fit(tmp_path: Path) -> None:
    async with running_jobs(tmp_path) as (engine, jobs):
        await make(engine)
        await write(engine, range(200))
        writes = [write(engine, range(start, start + 20)) for start in range(200, 500, 20)]
        await asyncio.gather(*writes, engine.delete_collection("docs"), return_exceptions=True)
        assert await engine._store.list_documents("collection") == {} and not jobs.fit._runners
        await asyncio.sleep(0.3)
        assert await engine._store.list_documents("collection") == {}
        assert await engine._store.list_documents("binarizer") == {}
        await make(engine)
        await write(engine, range(100))
        assert (await fit_of(engine)).collected == 100


async def test_a_write_that_began_before_the_switch_is_converted_too(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        collection = await make(engine)
        buffered = collection.active
        await write(engine, range(SAMPLE))
        fit = await reached(engine, "done")
        late = Puts(["late"], buffered.number, collection.codec(buffered).encode(ROWS[700:701]), ['{"n": 700}'])
        await collection.shards.write(collection.shard_of("late"), ShardWrite(PutWrite(late), {"n": [700]}))
        assert (await fit_of(engine)).state == "converting"
        assert "late" in await nearest(engine, ROWS[700], 1)
        await write(engine, range(SAMPLE, SAMPLE + 1))
        await reached(engine, "done")
        assert (await engine.describe_collection("docs")).points == {fit.version: SAMPLE + 2}


@pytest.mark.parametrize("saved", [False, True])
async def test_a_crash_around_the_switch_costs_the_fit_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: bool
) -> None:
    """The store goes away before the document of the switch is saved, or right after it, and then the process ends."""
    async with running(tmp_path) as engine:
        await make(engine)
        save, tried = engine.registry.save, asyncio.Event()

        async def away(*arguments: Any) -> None:
            if saved:
                await save(*arguments)
            tried.set()
            raise StoreUnavailable("the answer was lost")

        monkeypatch.setattr(engine.registry, "save", away)
        await write(engine, range(SAMPLE))
        await tried.wait()
        assert (await fit_of(engine)).state == "fitting"
        assert await recall(engine, SAMPLE) > 0.97
        await write(engine, range(SAMPLE, SAMPLE + 10))
    async with running(tmp_path) as engine:
        fit = await reached(engine, "done")
        assert fit.version.endswith("@1")
        assert (await engine.describe_collection("docs")).points == {fit.version: SAMPLE + 10}
        assert list(await engine._store.list_documents("binarizer")) == [fit.version]
        assert [path.name for path in (tmp_path / "bundles").iterdir()] == [fit.version]


async def test_a_store_that_is_away_for_a_moment_does_not_cost_the_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "RETRY_SECONDS", 0.01)
    async with running(tmp_path) as engine:
        await make(engine)
        save, failures = engine.registry.save, iter([True, False, True])

        async def flaky(*arguments: Any) -> None:
            if (lost := next(failures, None)) is None or lost:
                await save(*arguments)
            if lost is not None:
                raise StoreUnavailable("the answer was lost")

        monkeypatch.setattr(engine.registry, "save", flaky)
        await write(engine, range(SAMPLE))
        await reached(engine, "done")
        assert len(engine.registry.get("docs").document.versions) == 2


async def test_two_fits_are_computed_one_after_the_other(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        names, ids = ("one", "two"), [f"p{n}" for n in range(SAMPLE)]
        for name in names:
            await engine.create_collection(name, CollectionSettings(fit=FIT))
        await asyncio.gather(
            *(engine.write_vectors(name, ids, ROWS[:SAMPLE], None, WriteMode.UPSERT) for name in names)
        )
        waiting = set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while {c.fit.state for c in engine.list_collections()} != {"done"}:
                waiting |= {c.fit.detail for c in engine.list_collections()}
                await asyncio.sleep(0.001)
        assert "waiting for another fit" in waiting
