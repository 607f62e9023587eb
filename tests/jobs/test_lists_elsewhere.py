"""Lists of points that a backfill moved, or that were restored from a backup."""

from pathlib import Path

import pytest
from tests.engine.running import running_jobs
from tests.engine.upgrading import FAST, TEXTS, bundles, ended, moved, search, upgrading_jobs
from tests.jobs.test_list_upkeep import FEW, at_once, found_by, make, settled, write
from tests.store.backup.test_drill import back_up, restored
from tests.waiting import until

from bebr.engine import Engine
from bebr.engine.collections.collection import Collection
from bebr.engine.statuses import ListsState

__all__ = ["at_once", "bundles"]


async def in_lists(collection: Collection, version: str, points: int) -> None:
    """Return once so many points of a version are in lists, and no other version has any."""

    def are_sorted() -> bool:
        lists = collection.status(None).lists
        one = lists.get(version)
        return lists.keys() == {version} and one is not None and one.state is ListsState.READY and one.current >= points

    await until(are_sorted, f"lists of {version}")


async def same(engine: Engine) -> None:
    """Searches find by lists, which they read all for so high a recall, or exactly, what exact ones do."""
    for text in TEXTS[:10]:
        exact, found = await search(engine, text=text, exact=True), await search(engine, text=text, recall=0.999)
        assert [(hit.id, hit.score) for hit in found.hits] == [(hit.id, hit.score) for hit in exact.hits]


async def test_lists_follow_a_backfill(tmp_path: Path, bundles: Path) -> None:
    few = {"lists_from_points": 60, "head_rows": 8}
    async with upgrading_jobs(tmp_path, bundles, **few) as (engine, jobs):
        collection = engine.registry.get("docs")
        await in_lists(collection, "old@1", 60)
        await moved(engine)
        await same(engine)
        job = await jobs.backfill.submit("docs", "new@1", FAST)
        assert (await ended(jobs, job)).state == "succeeded"
        await in_lists(collection, "new@1", 60)

        def old_are_forgotten() -> bool:
            return {one.version for one in collection.centroids.generations} == {collection.active.number}

        await until(old_are_forgotten, "lists of points that are no more are forgotten")
        await same(engine)
    async with upgrading_jobs(tmp_path, bundles, **few) as (engine, _):
        await in_lists(engine.registry.get("docs"), "new@1", 60)
        await same(engine)


@pytest.mark.parametrize("made_before", [False, True], ids=["made there", "made before, too"])
async def test_restored_points_get_lists(tmp_path: Path, made_before: bool) -> None:
    """Centroids are no part of a backup."""
    file, here, there = tmp_path / "docs.backup", tmp_path / "here", tmp_path / "there"
    few = FEW if made_before else FEW | {"lists_from_points": 10**6}
    async with running_jobs(here, **few) as (engine, _):
        collection = await make(engine, shards=2)
        await write(engine, range(700))
        if made_before:
            await settled(collection, 1)
        exact = await found_by(engine, range(5))
        await back_up(here, file)
    await restored(there, file)
    for _ in range(2):
        async with running_jobs(there, **FEW) as (engine, _):
            collection = engine.registry.get("docs")
            await settled(collection, 1)
            (lists,) = (await engine.describe_collection("docs")).lists.values()
            assert lists.state is ListsState.READY and lists.current > 500
            assert await found_by(engine, range(5)) == exact
