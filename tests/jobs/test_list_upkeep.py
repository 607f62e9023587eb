"""Lists are made once a collection is large, again when it has grown or changed, and go with it; answers stay exact."""

import asyncio
import base64
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.running import running, running_jobs, settings
from tests.servers import ServerKind, running_server
from tests.waiting import until

from bebr.bootstrap import build_engine
from bebr.core.codes import CodeSpec, pack_levels
from bebr.core.types import WriteMode
from bebr.engine import CollectionSettings, Engine, SearchRequest
from bebr.engine.collections import centroids as stored
from bebr.engine.collections.collection import Collection
from bebr.engine.statuses import ListsState, ListsStatus
from bebr.index.segment import SegmentView
from bebr.jobs import list_upkeep

SPEC = CodeSpec.parse("16x4+16x1")
FEW = {"lists_from_points": 400, "head_rows": 64}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_upkeep, "PAUSE_SECONDS", 0.01)


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    with ExitStack() as stack:
        yield (
            {"redis_url": stack.enter_context(running_server(ServerKind.REDIS)).url} if request.param == "redis" else {}
        )


def codes_of(numbers: range, kind: int = 0) -> np.ndarray:
    """Of ten clusters; those of another kind have other centers."""
    rng = np.random.default_rng([kind, numbers.start])
    centers = np.random.default_rng(kind).integers(0, 256, (10, SPEC.dims))
    levels = np.where(
        rng.random((len(numbers), SPEC.dims)) < 0.1,
        rng.integers(0, 256, (len(numbers), SPEC.dims)),
        centers[np.array(numbers) % 10],
    )
    return pack_levels((levels & SPEC.max_levels).astype(np.uint8), SPEC)


def points_of(ids: list[str], codes: np.ndarray) -> list[dict[str, Any]]:
    coded = [base64.b64encode(code.tobytes()).decode() for code in codes]
    return [{"id": point_id, "code_b64": code} for point_id, code in zip(ids, coded, strict=True)]


async def make(engine: Engine, **changes: Any) -> Collection:
    await engine.create_collection("docs", CollectionSettings(code=str(SPEC), **changes))
    return engine.registry.get("docs")


async def write(engine: Engine, numbers: range, kind: int = 0) -> None:
    for start in range(numbers.start, numbers.stop, 200):
        some = range(start, min(start + 200, numbers.stop))
        codes, ids = codes_of(some, kind), [f"p{n}" for n in some]
        report = await engine.write_points("docs", points_of(ids, codes), WriteMode.UPSERT)
        assert report.rejected == 0
        await until(lambda: not busy(engine.registry.get("docs")), "segments are sealed")


async def settled(collection: Collection, generation: int | None = None) -> None:
    """All segments large enough are sorted by this generation, or by any one, and no other is kept."""

    def is_settled() -> bool:
        stats = collection.shards.list_stats(0)
        kept = [one.generation for one in collection.centroids.generations if one.complete]
        is_wanted = kept == [generation] if generation else len(kept) == 1
        return is_wanted and stats.generations == (*kept,) and stats.older == 0 and not busy(collection)

    await until(is_settled, f"lists of generation {generation or 'any'}")


def busy(collection: Collection) -> bool:
    shards: Any = collection.shards
    return shards.upkeep.is_busy


async def documents(engine: Engine) -> list[str]:
    found = [await engine._store.list_documents(kind) for kind in (stored.KIND, stored.PAGE)]
    return [name for names in found for name in names]


async def found_by(engine: Engine, numbers: range, kind: int = 0) -> list[tuple[str, float]]:
    codes = codes_of(numbers, kind)
    results = await engine.search("docs", [SearchRequest(code=code.tobytes(), limit=15, exact=True) for code in codes])
    return [(hit.id, hit.score) for result in results for hit in result.hits]


async def test_lists_are_made_of_a_large_version_and_stay_over_a_restart(tmp_path: Path, store: dict[str, Any]) -> None:
    async with running_jobs(tmp_path, **FEW, **store) as (engine, jobs):
        collection = await make(engine, shards=2)
        await write(engine, range(300))
        before = await found_by(engine, range(5))
        assert await documents(engine) == []
        await jobs.stop()
        await write(engine, range(300, 700))
        exact = await found_by(engine, range(5))
        assert exact != before
        await jobs.start()
        await settled(collection, 1)
        assert await found_by(engine, range(5)) == exact
        (generation,) = collection.centroids.generations
        assert (generation.rows, generation.lists, len(await documents(engine))) == (700, 8, 1 + generation.pages)
        sealed = [part for view in collection.shards._views() for part in view.parts if isinstance(part, SegmentView)]  # type: ignore[attr-defined]
        assert sealed and all(part.segment.lists is not None for part in sealed)
    async with running(tmp_path, **FEW, **store) as engine:
        collection = engine.registry.get("docs")
        await settled(collection, 1)
        assert collection.centroids.generations == [generation] and await found_by(engine, range(5)) == exact
        await engine.delete_collection("docs")
        assert await documents(engine) == [] and not list(tmp_path.rglob("*.centroids"))


@pytest.mark.parametrize(("more", "kind"), [(range(500, 2000), 0), (range(500, 1100), 1)], ids=["growth", "drift"])
async def test_lists_are_made_again_when_a_version_has_grown_or_changed(tmp_path: Path, more: range, kind: int) -> None:
    async with running_jobs(tmp_path, **FEW) as (engine, jobs):
        collection = await make(engine)
        await write(engine, range(500))
        await settled(collection, 1)
        await jobs.stop()
        await write(engine, more, kind)
        await jobs.start()
        await settled(collection, 2)
        (generation,) = collection.centroids.generations
        assert len(await documents(engine)) == 1 + generation.pages and len(list(tmp_path.rglob("*.centroids"))) == 1
        found = await found_by(engine, range(4))
    async with running(tmp_path, lists_from_points=10**6, head_rows=64) as engine:
        assert await found_by(engine, range(4)) == found


async def test_a_version_that_grows_no_more_gets_the_lists_of_its_size(tmp_path: Path) -> None:
    now = [0.0]
    async with running_jobs(tmp_path, **FEW) as (engine, jobs):
        engine.lists.clock = lambda: now[0]
        collection = await make(engine)
        await jobs.stop()
        await write(engine, range(500))
        await jobs.start()
        await settled(collection, 1)
        await jobs.stop()

        def is_due(at: float) -> bool:
            now[0] = at
            return engine.lists.due(collection) is not None

        await write(engine, range(500, 740))
        assert not is_due(0) and not is_due(1000), "there are less than one and a half times the points"
        await write(engine, range(740, 800))
        assert [is_due(1000), is_due(1020)] == [False, False]
        await write(engine, range(800, 850))  # a bulk load goes on
        assert [is_due(1029), is_due(1031), is_due(1058)] == [False, False, False]
        await write(engine, range(850, 855))  # few points are no bulk load
        assert [is_due(1058), is_due(1059)] == [False, True]
        found = await found_by(engine, range(4))
        await jobs.start()
        await settled(collection, 2)
        (generation,) = collection.centroids.generations
        assert (generation.rows, generation.lists) == (855, 8)
        assert await found_by(engine, range(4)) == found
        assert [is_due(2000), is_due(3000)] == [False, False]


async def test_lists_are_made_of_points_whose_writes_nobody_tells_of(tmp_path: Path) -> None:
    """As when they come from a fit, a backfill, or another process."""
    async with running_jobs(tmp_path, **FEW) as (engine, _):
        engine.events.on_change = lambda collection: None
        collection = await make(engine)
        await write(engine, range(300))
        await asyncio.sleep(0.05)
        assert await documents(engine) == []
        await write(engine, range(300, 500))
        await settled(collection, 1)
        await write(engine, range(500, 2000))
        await settled(collection, 2)


async def test_a_collection_says_how_far_its_lists_are(tmp_path: Path) -> None:
    async with running_jobs(tmp_path, **FEW) as (engine, jobs):

        async def status() -> ListsStatus:
            return (await engine.describe_collection("docs")).lists[collection.active.id]

        collection = await make(engine)
        shards: Any = collection.shards
        await write(engine, range(300))
        assert (await engine.describe_collection("docs")).lists == {}
        await jobs.stop()
        await write(engine, range(300, 500))
        first = await status()
        assert (first.state, first.progress, first.generation) == (ListsState.NONE, 0.0, None)
        assert (first.seconds, first.points) == (None, 0)
        assert (first.current, first.older, first.without) == (0, 0, 500)
        shards.upkeep.sorts = False
        making = asyncio.create_task(engine.lists.make(collection, collection.active, lambda: True))
        await asyncio.sleep(0)
        assert (await status()).state is ListsState.MAKING
        assert await making
        made = await status()
        assert (made.state, made.progress) == (ListsState.SORTING, 0.0)
        assert (made.generation, made.current, made.without) == (1, 0, 500)
        assert made.seconds is not None and made.seconds >= 0
        shards.upkeep.sorts = True
        shards.upkeep.sort()
        await settled(collection, 1)
        ready = await status()
        assert (ready.state, ready.progress, ready.older, ready.generations) == (ListsState.READY, 1.0, 0, (1,))
        assert ready.current == ready.points and ready.current + ready.without == 500
        shards.upkeep.sorts = False
        assert await engine.lists.make(collection, collection.active, lambda: True)
        again = await status()
        assert (again.state, again.progress) == (ListsState.SORTING, 0.0)
        assert (again.generation, again.current) == (2, 0)
        assert again.older == again.points == ready.points
        shards.upkeep.sorts = True


async def test_what_fails_is_tried_again_without_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_upkeep, "RETRY_SECONDS", 0.05)
    async with running_jobs(tmp_path, **FEW) as (engine, jobs):
        await jobs.stop()
        collection = await make(engine)
        await write(engine, range(500))
        folder = collection.centroids._folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.touch()  # no file can be written there
        await jobs.start()
        await until(lambda: bool(jobs._lists._failed), "it fails")
        folder.unlink()
        await settled(collection)  # of whichever attempt came after that


async def test_points_like_those_before_need_no_other_lists(tmp_path: Path) -> None:
    async with running_jobs(tmp_path, **FEW) as (engine, jobs):
        collection = await make(engine)
        await write(engine, range(500))
        await settled(collection, 1)
        await write(engine, range(500, 1400))
        await until(lambda: not jobs._lists._running and not busy(collection), "upkeep has looked")
        await settled(collection, 1)


@pytest.mark.parametrize("lost", ["file", "flipped file", "page", "generations", "begun", "damaged document"])
async def test_centroids_that_are_lost_cost_time_only(tmp_path: Path, lost: str) -> None:
    async with running(tmp_path, **FEW) as engine:
        collection = await make(engine)
        await write(engine, range(600))
        await settled(collection, 1)
        exact, uid = await found_by(engine, range(5)), collection.document.uid
    (file,) = tmp_path.rglob("*.centroids")
    engine = build_engine(settings(tmp_path, **FEW))
    await engine._store.open()
    match lost:
        case "file":
            file.unlink()
        case "flipped file":
            file.write_bytes(file.read_bytes()[:-70] + b"\1" + file.read_bytes()[-69:])
        case "page":
            file.unlink()
            await engine._store.delete_document(stored.PAGE, f"{uid}-0-1-0")
        case "generations":
            await engine._store.delete_document(stored.KIND, uid)
        case "begun":
            document = await engine._store.get_document(stored.KIND, uid)
            assert document is not None
            begun = document["generations"][0] | {"generation": 2, "complete": False}
            await engine._store.put_document(stored.KIND, uid, {"generations": [*document["generations"], begun]})
            await engine._store.put_document(stored.PAGE, f"{uid}-0-2-0", {"data": ""})
        case "damaged document":
            await engine._store.put_document(stored.KIND, uid, {"generations": [{"version": 0}]})
    await engine._store.close()
    async with running(tmp_path, **FEW) as engine:
        assert await found_by(engine, range(5)) == exact
        collection = engine.registry.get("docs")
        await settled(collection, 1 if lost in ("file", "flipped file", "begun") else 2)
        assert await found_by(engine, range(5)) == exact
        (generation,) = collection.centroids.generations
        kept = [name for name in await documents(engine) if name == uid or f"-{generation.generation}-" in name]
        assert len(kept) == 1 + generation.pages


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.05, 0.1])
async def test_a_collection_that_is_deleted_while_its_lists_are_made_leaves_nothing(
    tmp_path: Path, seconds: float
) -> None:
    async with running_jobs(tmp_path, **FEW) as (engine, jobs):
        await jobs.stop()
        await make(engine)
        await write(engine, range(600))
        await jobs.start()
        await asyncio.sleep(seconds)
        await engine.delete_collection("docs")
        assert await documents(engine) == [] and not list(tmp_path.rglob("*.centroids"))
