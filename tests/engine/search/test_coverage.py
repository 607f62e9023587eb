"""Checks of searches: how many are chosen, and that they wait for all others."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.encoding.quantization.embeddings import text_like
from tests.engine.fitting import DIMS, ROWS, make, nearest, reached, write
from tests.engine.running import running
from tests.waiting import until

from bebr.config import Limits
from bebr.engine import Engine, FitSettings, SearchRequest
from bebr.engine.admission import Admission
from bebr.engine.search import coverage as coverage_module
from bebr.engine.search.comparison import compare, tally_of_groups, tally_of_hits
from bebr.engine.search.coverage import MAX_WAITING, CoverageChecks
from bebr.engine.search.query import Probing
from bebr.engine.statuses import Shortcut, Tally
from bebr.index import slices

FIT = FitSettings(bytes=4, sample=130, dims=DIMS, rescore_bytes=24)


def checks(one_in: int) -> CoverageChecks:
    return CoverageChecks(Admission(Limits()).searches, ThreadPoolExecutor(1), one_in=one_in, cpu_percent=1)


async def test_one_of_so_many_searches_is_chosen_at_random() -> None:
    some = checks(10)
    chosen = [number for number in range(20_000) if some.due(1)]
    gaps = {after - before for before, after in pairwise(chosen)}
    assert abs(len(chosen) - 2_000) < 200 and len(gaps) == 19
    batches = checks(10)
    assert abs(sum(batches.due(50) for _ in range(400)) - 2_000) < 200
    assert not any(checks(0).due(1_000) for _ in range(100))
    assert all(checks(1).due(count) == count for count in (1, 7))


def test_hits_that_tie_with_the_last_one_are_no_loss() -> None:
    best = [0.9, 0.8, 0.8]
    assert tally_of_hits([0.9, 0.8, 0.8], best) == Tally(3, 3)
    assert tally_of_hits([0.9, 0.8, 0.7], best) == Tally(2, 3)
    assert tally_of_hits([0.8, 0.8, 0.8], best) == Tally(2, 3)
    assert tally_of_hits([], best) == Tally(0, 3) and tally_of_hits([], []) == Tally(0, 0)
    assert tally_of_hits([0.95, 0.9, 0.8], best) == Tally(2, 3)  # what an earlier page should have had
    assert tally_of_hits([0.7, 0.6, 0.9], [0.7, 0.9, 0.65]) == Tally(2, 3)  # pages of several runs of candidates


def test_hits_of_groups_are_compared_with_those_of_the_same_group() -> None:
    best = {"a": [0.9, 0.7], "b": [0.8]}
    assert tally_of_groups({"a": [0.9, 0.7], "b": [0.8]}, best) == Tally(3, 3)
    assert tally_of_groups({"a": [0.9, 0.6], "c": [0.8, 0.8]}, best) == Tally(1, 3)
    assert tally_of_groups({}, {}) == Tally(0, 0)


async def fitted(engine: Engine) -> None:
    await make(engine, FIT)
    await write(engine, range(300))
    await reached(engine, "done")


async def test_a_check_waits_until_no_search_is_under_way(tmp_path: Path) -> None:
    async with running(tmp_path, coverage_one_in=1, coverage_cpu_percent=100) as engine:
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
        await until(lambda: (status := coverage.status()) and status.searches >= MAX_WAITING, "the checks")
        status = coverage.status()
        assert status is not None and status.share is not None and 0 < status.share <= 1


async def test_a_collection_that_is_deleted_meanwhile_is_not_checked(tmp_path: Path) -> None:
    async with running(tmp_path, coverage_one_in=1, coverage_cpu_percent=100) as engine:
        await fitted(engine)
        lane = engine.admission.search_requests
        lane.enter("another", 1)
        await nearest(engine, ROWS[0])
        collection = engine.registry.get("docs")
        await engine.delete_collection("docs")
        lane.leave("another", 1, True)
        status = await until(collection.coverage.status, "the checks")
        assert (status.searches, status.skipped) == (0, 1)


async def test_what_does_not_fit_in_the_budget_is_skipped(tmp_path: Path) -> None:
    async with running(tmp_path, coverage_one_in=1, coverage_cpu_percent=100) as engine:
        await fitted(engine)
        collection = engine.registry.get("docs")
        collection.coverage.note_cost(1e9, 1)
        await nearest(engine, ROWS[0])
        async with asyncio.timeout(120):
            while (status := collection.coverage.status()) is None:
                await asyncio.sleep(0.01)
        assert (status.searches, status.skipped) == (0, 1)


async def test_a_check_that_is_under_way_stops_no_search_and_no_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "SLICE_ROWS", 16)
    monkeypatch.setattr(coverage_module, "RESTS", 1e12)  # it does not come to its second slice
    async with asyncio.timeout(120), running(tmp_path, coverage_one_in=1, coverage_cpu_percent=100) as engine:
        await fitted(engine)
        found = await nearest(engine, ROWS[0])
        while not any(thread.name.startswith("check") for thread in threading.enumerate()):
            await asyncio.sleep(0.01)
        assert await nearest(engine, ROWS[0]) == found
        collection = engine.registry.get("docs")
    assert collection.coverage.status() is None


def result_of(steps: Any) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


async def test_lists_and_the_shortlist_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a search of all codes lists lose nothing, whatever page, filter or threshold: all is lost by the shortlist."""
    monkeypatch.setattr(slices, "SLICE_ROWS", 32)
    async with running(tmp_path, coverage_one_in=0) as engine:
        await fitted(engine)
        collection = engine.registry.get("docs")
        some = {"must": [{"key": "n", "range": {"gte": 40}}]}
        changes: list[dict[str, Any]] = [{}, {"offset": 17}, {"filter": some}, {"score_threshold": 0.5}]
        lost = 0
        for change in changes:
            for row in text_like(6, seed=5, dims=DIMS):
                request = SearchRequest(vector=row, limit=10, candidates=12, **change)
                (one,) = await engine.searchers.of(collection)._route([request])
                one = replace(one, probing=Probing(0.98, 10))
                comparison = result_of(compare(collection, one, collection.shards.snapshot()))
                of = comparison.of
                assert of[Shortcut.LISTS].found == of[Shortcut.LISTS].wanted
                assert of[Shortcut.SHORTLIST].found == comparison.whole.found
                lost += comparison.whole.wanted - comparison.whole.found
        assert lost
