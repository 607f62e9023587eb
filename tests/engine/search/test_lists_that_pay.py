"""Lists that cost more than a comparison of all codes are not read, nor made again for it."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.running import running
from tests.waiting import until

from bebr.core.codes import CodeSpec, pack_levels
from bebr.core.types import WriteMode
from bebr.engine import CollectionSettings, Engine, SearchRequest
from bebr.engine.results import Explanation
from bebr.engine.search import list_measuring

SPEC = CodeSpec.parse("16x4+16x1")
POINTS = 2_000
CLUSTERS = 40
SETTINGS = {"lists_from_points": POINTS, "head_rows": 64, "coverage_one_in": 0}


@pytest.fixture(autouse=True)
def never_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are measured when a test says so."""
    monkeypatch.setattr(list_measuring, "POLL_SECONDS", 3600.0)


def codes_of(rows: int, clustered: bool, seed: int = 0) -> np.ndarray:
    """Without any structure, or of clusters, whose centers are always the same."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 256, (rows, SPEC.dims))
    if clustered:
        centers = np.random.default_rng(9).integers(0, 256, (CLUSTERS, SPEC.dims))
        levels = np.where(rng.random(levels.shape) < 0.1, levels, centers[np.arange(rows) % CLUSTERS])
    return pack_levels((levels & SPEC.max_levels).astype(np.uint8), SPEC)


async def write(engine: Engine, codes: np.ndarray, first: int = 0) -> None:
    shards: Any = engine.registry.get("docs").shards
    for start in range(0, len(codes), 200):
        await until(lambda: not shards.upkeep.is_busy, "segments are sealed")
        points: list[dict[str, Any]] = [
            {"id": f"p{first + start + n}", "code_b64": base64.b64encode(code.tobytes()).decode()}
            for n, code in enumerate(codes[start : start + 200])
        ]
        report = await engine.write_points("docs", points, WriteMode.UPSERT)
        assert report.rejected == 0


async def in_lists(engine: Engine) -> None:
    """Return once all points are that will be for now."""
    collection = engine.registry.get("docs")
    shards: Any = collection.shards

    async def are_sorted() -> bool:
        engine.events.changed(collection)
        held = collection.shards.lists().get(0)
        return held is not None and held.rows > 0.8 * POINTS and not shards.upkeep.is_busy

    await until(are_sorted, "points in lists")


async def explained(engine: Engine, codes: np.ndarray, **options: Any) -> list[Explanation]:
    requests = [SearchRequest(code=code.tobytes(), explain=True, **options) for code in codes]
    found = [(await engine.search("docs", [request]))[0].explain for request in requests]
    return [one for one in found if one is not None]


@pytest.mark.parametrize("clustered", [False, True], ids=["random", "clustered"])
async def test_searches_read_lists_only_where_that_costs_less(tmp_path: Path, clustered: bool) -> None:
    async with running(tmp_path, **SETTINGS) as engine:
        await engine.create_collection("docs", CollectionSettings(code=str(SPEC)))
        collection = engine.registry.get("docs")
        await write(engine, codes_of(POINTS, clustered))
        await in_lists(engine)
        queries = codes_of(20, clustered, seed=1)
        assert all("not in lists yet" in str(one.exact) for one in await explained(engine, queries))
        await engine.list_measuring.measure_due(collection)
        measured = collection.list_rules.measured[0]
        assert measured.lists == collection.shards.lists()[0].lists  # of one generation
        at = measured.calibration.at(0.98)
        assert at.share <= 1 and measured.pays(at) is clustered
        for options in ({}, {"recall": 0.97}, {"limit": 3}):
            for one in await explained(engine, queries, **options):
                if clustered:
                    assert one.exact is None and len(one.lists) == 1
                else:
                    assert one.lists == {} and "lists would cost more" in str(one.exact)
        # lists that are of no use are made again much later
        await write(engine, codes_of(4 * POINTS, clustered, seed=2), POINTS)

        def are_made_again() -> bool:
            newest = collection.centroids.newest(0)
            return engine.lists.due(collection) is not None or (newest is not None and newest.generation > 1)

        if not clustered:
            assert not are_made_again()
            await engine.set_recall("docs", None)  # searches say by themselves what they want
        await until(are_made_again, "lists that are made again")


async def test_what_was_measured_is_there_after_a_restart_and_without_its_number_of_lists(tmp_path: Path) -> None:
    async with running(tmp_path, **SETTINGS) as engine:
        await engine.create_collection("docs", CollectionSettings(code=str(SPEC)))
        collection = engine.registry.get("docs")
        await write(engine, codes_of(POINTS, False))
        await in_lists(engine)
        await engine.list_measuring.measure(collection, collection.active)
        before = collection.list_rules.measured[0]
        (name,) = await engine._store.list_documents("list-calibration")
    async with running(tmp_path, **SETTINGS) as engine:
        assert engine.registry.get("docs").list_rules.measured[0] == before
        queries = codes_of(3, False, seed=1)
        assert all("lists would cost more" in str(one.exact) for one in await explained(engine, queries))
        document = await engine._store.get_document("list-calibration", name)
        assert document is not None and document.pop("lists") == before.lists
        await engine._store.put_document("list-calibration", name, document)
    async with running(tmp_path, **SETTINGS) as engine:
        assert engine.registry.get("docs").list_rules.measured[0].lists == 0  # and pays as well as it knows
        assert all("lists would cost more" in str(one.exact) for one in await explained(engine, queries))
