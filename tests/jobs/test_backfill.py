"""Backfill jobs: they move every point that holds a text, pause, resume, end with a rollback, and survive restarts."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.engine.upgrading import (
    FAST,
    TEXTS,
    counts,
    ended,
    moved,
    search,
    upgrading_jobs,
    write,
)
from tests.waiting import until

from bebr.core.types import WriteMode
from bebr.encoding import TextKind
from bebr.engine import CollectionSettings, Gate
from bebr.errors import (
    Conflict,
    InvalidOption,
    JobNotFound,
    VersionNotFound,
)


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
            await engine.delete_collection("docs")
            with pytest.raises(JobNotFound):
                jobs.get(job)


async def test_points_that_were_asked_for_most_come_first(tmp_path: Path, bundles: Path) -> None:
    async with upgrading_jobs(tmp_path, bundles) as (engine, jobs):
        await engine.versions.attach("docs", "new@1")
        await engine.versions.promote("docs", "new@1", Gate(), force=True)
        asked = [hit.id for hit in (await search(engine, text=TEXTS[33], limit=10)).hits]
        job = await jobs.backfill.submit("docs", None, 16.0)

        async def are_moved() -> bool:
            return (await counts(engine)).get("new@1", 0) >= len(asked)

        await until(are_moved, "the first points of the backfill")
        await jobs.cancel(job)
        points, _ = await engine.get_points("docs", asked)
        assert {point.version for point in points} == {"new@1"}
