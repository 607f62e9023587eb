"""Checks of searches: how many are chosen, and that they wait for all others."""

import asyncio
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from tests.engine.fitting import DIMS, ROWS, make, nearest, reached, write
from tests.engine.running import running

from bebr.config import Limits
from bebr.engine import Engine, FitSettings
from bebr.engine.admission import Admission
from bebr.engine.search.coverage import MAX_WAITING, CoverageChecks

FIT = FitSettings(bytes=4, sample=130, dims=DIMS, rescore_bytes=24)


async def test_one_of_so_many_searches_is_chosen_at_random() -> None:
    checks = CoverageChecks(Admission(Limits()).searches, one_in=10, max_points=100)
    chosen = [number for number in range(20_000) if checks.is_next(1)]
    gaps = {after - before for before, after in pairwise(chosen)}
    assert abs(len(chosen) - 2_000) < 200 and len(gaps) == 19
    never = CoverageChecks(Admission(Limits()).searches, one_in=0, max_points=100)
    assert not any(never.is_next(1_000) for _ in range(100))
    always = CoverageChecks(Admission(Limits()).searches, one_in=1, max_points=100)
    assert all(always.is_next(1) for _ in range(100))


async def fitted(engine: Engine) -> None:
    await make(engine, FIT)
    await write(engine, range(300))
    await reached(engine, "done")


async def test_a_check_waits_until_no_search_is_under_way(tmp_path: Path) -> None:
    async with running(tmp_path, coverage_one_in=1) as engine:
        await fitted(engine)
        lane, coverage = engine.admission.search_requests, engine.registry.get("docs").coverage
        lane.enter("another", 1)
        for row in ROWS[: MAX_WAITING + 5]:
            await nearest(engine, row)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                while coverage.status() is None or not coverage.status().searches:  # type: ignore[union-attr]
                    await asyncio.sleep(0.01)
        status = coverage.status()
        assert status is not None and status.searches == 0 and status.skipped in (4, 5)  # the others wait
        lane.leave("another", 1, True)
        async with asyncio.timeout(30):
            while (status := coverage.status()) is None or status.searches < MAX_WAITING:
                await asyncio.sleep(0.01)
        assert status.share is not None and 0 < status.share <= 1


async def test_a_collection_that_is_deleted_meanwhile_is_not_checked(tmp_path: Path) -> None:
    async with running(tmp_path, coverage_one_in=1) as engine:
        await fitted(engine)
        lane = engine.admission.search_requests
        lane.enter("another", 1)
        await nearest(engine, ROWS[0])
        collection = engine.registry.get("docs")
        await engine.delete_collection("docs")
        lane.leave("another", 1, True)
        async with asyncio.timeout(30):
            while (status := collection.coverage.status()) is None:
                await asyncio.sleep(0.01)
        assert (status.searches, status.skipped) == (0, 1)
