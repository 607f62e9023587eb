"""When lists are measured again: not often, and what fails ever more seldom."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.encoding.quantization.embeddings import text_like
from tests.engine.fitting import DIMS, write
from tests.engine.listing import POINTS, QUERIES, SETTINGS, in_lists, listed, search
from tests.engine.running import running
from tests.waiting import until

from bebr.core.list_calibration import RECALLS, Calibration
from bebr.engine.collections.list_rules import RECENT
from bebr.engine.search import list_measuring
from bebr.errors import StoreUnavailable


@pytest.fixture(autouse=True)
def never_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_measuring, "POLL_SECONDS", 3600.0)


async def test_other_lists_are_measured_at_once_and_other_searches_at_most_so_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, **SETTINGS) as engine:
        collection = await listed(engine)
        rules, number, measuring = collection.list_rules, collection.active.number, engine.list_measuring
        assert rules.measured[number].generations == (1,)
        assert await engine.lists.make(collection, collection.active, lambda: True)
        await in_lists(engine, 2)
        await measuring.measure_due(collection)
        measured = rules.measured[number]
        assert (measured.generations, measured.queries) == ((2,), {"points": 400})
        for row in np.tile(QUERIES, (4, 1))[:RECENT]:
            await search(engine, row)
        await measuring.measure_due(collection)
        assert rules.measured[number] == measured
        monkeypatch.setattr(list_measuring, "AGAIN_SECONDS", 0.0)
        await measuring.measure_due(collection)
        assert rules.measured[number].queries == {"points": 400, "searches": len(QUERIES)}  # each of them once


async def test_lists_are_measured_again_as_soon_as_there_are_half_as_many_more_points(tmp_path: Path) -> None:
    async with running(tmp_path, **SETTINGS) as engine:
        collection = await listed(engine)
        rules, number = collection.list_rules, collection.active.number
        for more, is_measured in ((POINTS // 2 - 100, False), (POINTS // 2, True)):
            await write(engine, range(POINTS, POINTS + more), text_like(2 * POINTS, dims=DIMS))
            await until(lambda: not collection.shards.upkeep.is_busy, "segments are sealed")  # type: ignore[attr-defined]
            await engine.list_measuring.measure_due(collection)
            assert rules.measured[number].points == (POINTS + more if is_measured else POINTS)


async def test_what_an_older_release_measured_without_deep_needs_is_measured_again(tmp_path: Path) -> None:
    async with running(tmp_path, **SETTINGS) as engine:
        collection = await listed(engine)
        rules, version = collection.list_rules, collection.active
        known = rules.measured[version.number]
        assert [one.recall for one in known.calibration.deep] == list(RECALLS)
        await rules.save(version, replace(known, calibration=Calibration(known.calibration.measured), at="before"))
    async with running(tmp_path, **SETTINGS) as engine:
        collection, number = engine.registry.get("docs"), version.number
        rules = collection.list_rules
        assert (rules.measured[number].at, rules.measured[number].calibration.deep) == ("before", ())
        await engine.list_measuring.measure_due(collection)
        assert [one.recall for one in rules.measured[number].calibration.deep] == list(RECALLS)


async def test_what_was_measured_while_codes_were_sorted_is_measured_again_once_they_are(tmp_path: Path) -> None:
    async with running(tmp_path, **SETTINGS) as engine:
        collection = await listed(engine)
        rules, number, upkeep = collection.list_rules, collection.active.number, collection.shards.upkeep  # type: ignore[attr-defined]
        rules.measured, upkeep.sorts = {}, False
        measuring = list_measuring.ListMeasuring(engine.registry, engine.admission.search_requests)
        assert await engine.lists.make(collection, collection.active, lambda: True)
        for _ in range(2):  # nothing is sorted meanwhile, so nothing is measured twice
            await measuring.measure_due(collection)
            measured = rules.measured[number]
            assert (measured.generations, measured.sorting) == ((1,), True)
            rules.measured = {number: replace(measured, at="before")} if measured.at != "before" else rules.measured
        upkeep.sorts = True
        upkeep.sort()
        await in_lists(engine, 2)
        await measuring.measure_due(collection)
        measured = rules.measured[number]
        assert (measured.generations, measured.sorting) == ((2,), False)
        rules.measured = {number: replace(measured, at="before")}
        await measuring.measure_due(collection)
        assert rules.measured[number].at == "before"
    async with running(tmp_path, **SETTINGS) as engine:
        assert engine.registry.get("docs").list_rules.measured[number] == measured


async def test_what_cannot_be_measured_is_tried_ever_more_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0

    async def fails(*_: Any) -> Any:
        nonlocal tried
        tried += 1
        raise StoreUnavailable("no shard answers")

    async with running(tmp_path, **SETTINGS) as engine:
        collection = await listed(engine)
        number = collection.active.number
        for is_known in (True, False):  # other lists, and lists that were never measured
            measuring = engine.list_measuring = list_measuring.ListMeasuring(
                engine.registry, engine.admission.search_requests
            )
            if is_known:
                assert await engine.lists.make(collection, collection.active, lambda: True)
                await in_lists(engine, 2)
            else:
                collection.list_rules.measured = {}
            needs, tried = collection.shards.needs, 0
            with monkeypatch.context() as patched:
                patched.setattr(collection.shards, "needs", fails)
                patched.setattr(list_measuring, "RETRY_SECONDS", 0.0)
                for _ in range(4):
                    await measuring.measure_due(collection)
                assert tried == 4
                patched.setattr(list_measuring, "RETRY_SECONDS", 60.0)
                await measuring.measure_due(collection)
                assert tried == 4 and measuring._tried[collection.document.uid, number].failures == 4
                patched.setattr(list_measuring, "AGAIN_SECONDS", 0.0)  # it waits no longer than that
                await measuring.measure_due(collection)
                assert tried == 5
            assert collection.shards.needs == needs
            monkeypatch.setattr(list_measuring, "RETRY_SECONDS", 0.0)
            await measuring.measure_due(collection)
            assert collection.list_rules.measured[number].generations == (2,)
            assert measuring._tried[collection.document.uid, number].failures == 0
