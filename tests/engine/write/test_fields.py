"""Fields that change while points are written: in the end every filter says what the oracle says, as in a collection
that had the fields from the start."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.core.odd_filters import FIELDS, random_filter, random_metadata
from tests.engine.running import running_jobs
from tests.engine.test_damaged_files import cut, segments
from tests.engine.test_damaged_files import flip as damage_all
from tests.engine.test_damaged_points import flip
from tests.engine.test_engine import codes, make, point, points, search
from tests.servers import ServerKind, running_server
from tests.waiting import until

from bebr.core.filters import matches, parse_filter
from bebr.core.types import FieldType, JobState, WriteMode, column_value, field_value
from bebr.engine import CollectionSettings, Engine
from bebr.errors import Conflict
from bebr.jobs import FieldsJob, JobQueue
from bebr.shards import columns

Held = dict[str, dict[str, Any]]
FIRST = {key: kind for key, kind in FIELDS.items() if key in ("word", "whole", "times")}
LATER: dict[str, FieldType | None] = {key: kind for key, kind in FIELDS.items() if key not in FIRST}
CODES = codes(40)
IDS = 400


@pytest.fixture
async def store(request: pytest.FixtureRequest) -> AsyncIterator[dict[str, Any]]:
    if request.param == "sqlite":
        yield {}
        return
    with running_server(ServerKind.REDIS) as server:
        yield {"redis_url": server.url}


@asynccontextmanager
async def filled(folder: Path, held: Held, rng: np.random.Generator, **changes: Any) -> AsyncIterator[Any]:
    """An engine with points whose values need not fit the fields that come later."""
    async with running_jobs(folder, head_rows=64, **changes) as (engine, jobs):
        await engine.create_collection("docs", CollectionSettings(code="24x2", filterable=FIRST))
        for _ in range(6):
            await change_points(engine, held, rng, misfits=True)
        yield engine, jobs


async def change_points(engine: Engine, held: Held, rng: np.random.Generator, misfits: bool = False) -> None:
    """Upserts, and then changes of metadata and deletes."""
    ids = [f"p{n:03d}" for n in rng.choice(IDS, 80, replace=False).tolist()]
    some = {i: json.loads(json.dumps(random_metadata(rng))) for i in ids}
    for i in ids[::5] if misfits else ():
        some[i]["real"] = some[i]["at"] = "no number"
    body = [point(int(i[1:]), CODES[int(i[1:]) % 40], **metadata) for i, metadata in some.items()]
    report = await engine.write_points("docs", body, WriteMode.UPSERT)
    assert report.applied == len(body), report.items
    held |= some
    patched = sorted(held)[:: int(rng.integers(9, 20))]
    await engine.set_metadata("docs", patched, None, {"flag": True, "words": ["patched"], "in.side": [1.5]})
    for i in patched:
        held[i] |= {"flag": True, "words": ["patched"], "in.side": [1.5]}
    gone = [i for i in sorted(held) if rng.random() < 0.08]
    await engine.delete_points("docs", gone)
    for i in gone:
        del held[i]


async def check(engine: Engine, held: Held, rng: np.random.Generator, fields: dict[str, FieldType]) -> None:
    assert await engine.count("docs", None) == len(held)
    for _ in range(25):
        asked = {}
        while not asked or not keys_in(asked) <= fields.keys():
            asked = random_filter(rng, list(held))
        condition = parse_filter(asked, fields)
        expected = sorted(i for i, metadata in held.items() if matches(condition, i, metadata))
        page = await engine.scroll("docs", asked, 1000, None)
        assert [one.id for one in page.points] == expected, asked
        found = await search(engine, CODES[0], limit=1000, filter=asked)
        assert sorted(hit.id for hit in found.hits) == expected
    for key, kind in fields.items():
        values = {i: column_value(field_value(metadata, key), kind) for i, metadata in held.items()}
        found = await search(engine, CODES[0], limit=1000, group_by=key, group_size=1)
        groups = {v for value in values.values() for v in (value if isinstance(value, list) else [value])} - {None}
        assert {hit.id for hit in found.hits} <= {i for i, value in values.items() if value not in (None, [])}
        assert bool(found.hits) == bool(groups), key


def keys_in(asked: Any) -> set[str]:
    if isinstance(asked, list):
        return {key for one in asked for key in keys_in(one)}
    if not isinstance(asked, dict):
        return set()
    own = {asked["key"]} if isinstance(asked.get("key"), str) else set()
    return own | {key for one in asked.values() for key in keys_in(one)}


async def ended(engine: Engine, jobs: JobQueue) -> FieldsJob:
    async def job() -> FieldsJob | None:
        (found,) = jobs.list()
        return found if isinstance(found, FieldsJob) and found.state.ended else None

    found = await until(job, "the end of the job")
    assert found.state is JobState.SUCCEEDED, found
    assert not engine.registry.get("docs").shards.columns().outdated
    return found


@pytest.mark.parametrize(("store", "seed"), [("sqlite", 0), ("redis", 1)], indirect=["store"])
async def test_fields_that_come_while_points_change_are_right_in_the_end(
    tmp_path: Path, store: dict[str, Any], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sealed and growing segments, merges, a start in the middle, fields that change again meanwhile."""
    monkeypatch.setattr(columns, "PAGE", 8)  # many pauses in which points change
    rng, held = np.random.default_rng(seed), Held()
    async with filled(tmp_path, held, rng, **store) as (engine, jobs):
        odd = {key: [i for i in held if is_misfit(held[i], key, kind)] for key, kind in FIELDS.items()}
        job = await engine.change_fields("docs", LATER)
        assert job == jobs.list()[0].id
        if seed == 0:
            found = await ended(engine, jobs)
            assert {key: one.count for key, one in found.misfits.items()} == {k: len(i) for k, i in odd.items() if i}
            assert all(set(one.ids) <= set(odd[key]) for key, one in found.misfits.items()) and found.misfits
            await check(engine, held, rng, FIELDS)
        for _ in range(3):
            await change_points(engine, held, rng)
    async with running_jobs(tmp_path, head_rows=64, **store) as (engine, jobs):
        for _ in range(3):
            await change_points(engine, held, rng)
        assert await engine.change_fields("docs", {"whole": None, "word": None}) is not None
        await change_points(engine, held, rng)
        await engine.change_fields("docs", {"whole": FieldType.FLOAT})
        for _ in range(2):
            await change_points(engine, held, rng)
        await ended(engine, jobs)
        fields = {key: kind for key, kind in FIELDS.items() if key != "word"} | {"whole": FieldType.FLOAT}
        assert engine.registry.get("docs").document.filterable == fields
        await check(engine, held, rng, fields)
        await change_points(engine, held, rng)
        await check(engine, held, rng, fields)
    async with running_jobs(tmp_path, head_rows=64, **store) as (engine, jobs):
        await check(engine, held, rng, fields)
        assert not any(shard.rebuilds or shard.damaged_files for shard in engine.registry.get("docs").shards.stats())


def is_misfit(metadata: dict[str, Any], key: str, kind: FieldType) -> bool:
    value = field_value(metadata, key)
    return value is not None and column_value(value, kind) is None


async def test_filters_on_a_field_that_is_built_say_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Searches without it go on, and those of the fields that there were."""
    monkeypatch.setattr(columns, "PAGE", 8)
    rng, held = np.random.default_rng(3), Held()
    async with filled(tmp_path, held, rng) as (engine, jobs):
        await jobs.stop()  # so that it stays as it is
        await engine.change_fields("docs", {"flag": FieldType.BOOL, "times": None})
        asked = {"must": [{"key": "flag", "match": {"value": True}}]}
        for attempt in (
            lambda: search(engine, CODES[0], filter=asked),
            lambda: search(engine, CODES[0], group_by="flag"),
            lambda: engine.count("docs", asked),
            lambda: engine.scroll("docs", asked, 10, None),
            lambda: engine.delete_points("docs", filter=asked),
            lambda: engine.set_metadata("docs", None, asked, {"x": 1}),
        ):
            with pytest.raises(
                Conflict, match="'flag' of 'docs' is being built, 0% are done; try again once job fields-"
            ):
                await attempt()
        status = await engine.describe_collection("docs")
        assert status.fields["flag"].state == "building" and status.fields["flag"].progress < 1
        assert status.fields["word"].state == "ready"
        assert len((await search(engine, CODES[0], limit=1000)).hits) == len(held)
        await check(engine, held, rng, {"word": FieldType.KEYWORD, "whole": FieldType.INTEGER})
    async with running_jobs(tmp_path, head_rows=64) as (engine, jobs):
        await ended(engine, jobs)
        await check(engine, held, rng, {"word": FieldType.KEYWORD, "whole": FieldType.INTEGER, "flag": FieldType.BOOL})


async def test_damaged_points_are_without_the_field(tmp_path: Path) -> None:
    async with running_jobs(tmp_path) as (engine, jobs):
        await make(engine)
        await engine.write_points("docs", points(60), WriteMode.UPSERT)
    flip(tmp_path, "metadata", ["p007"])
    async with running_jobs(tmp_path) as (engine, jobs):
        await engine.change_fields("docs", {"lang": None, "n": FieldType.FLOAT})
        assert (await ended(engine, jobs)).rejected == 0
        assert await engine.count("docs", {"must": [{"key": "n", "range": {"lt": 10}}]}) == 9
        assert await engine.count("docs", {"must": [{"is_empty": {"key": "n"}}]}) == 1


@pytest.mark.parametrize("damage", [cut, damage_all])
async def test_damaged_files_are_made_anew_with_the_fields(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    async with running_jobs(tmp_path, scrub_bytes_per_s=0) as (engine, jobs):
        await make(engine)
        await engine.write_points("docs", points(100), WriteMode.UPSERT)
    async with running_jobs(tmp_path, scrub_bytes_per_s=0) as (engine, jobs):
        for path in segments(tmp_path):
            damage(path)
        await engine.change_fields("docs", {"lang": None, "n": FieldType.FLOAT, "more": FieldType.BOOL})
        assert (await ended(engine, jobs)).rejected == 0
        assert await engine.count("docs", {"must": [{"key": "n", "range": {"lt": 9.5}}]}) == 10
        assert await engine.count("docs", {"must": [{"is_empty": {"key": "more"}}]}) == 100
        assert len((await search(engine, CODES[0], limit=1000)).hits) == 100


async def test_fields_of_points_in_lists(tmp_path: Path) -> None:
    """The lists stay as they are: what is searched by them is found by them."""
    options = {"head_rows": 128, "lists_from_points": 1_000, "coverage_one_in": 0}
    data = codes(1_500, 9)
    async with running_jobs(tmp_path, **options) as (engine, jobs):
        await engine.create_collection("docs", CollectionSettings(code="24x2", shards=1))
        body = [point(n, data[n], n=n, flag=n % 3 == 0) for n in range(1_500)]
        for start in range(0, 1_500, 500):
            await engine.write_points("docs", body[start : start + 500], WriteMode.UPSERT)
        shards = engine.registry.get("docs").shards

        async def in_lists() -> bool:
            return 0 in shards.lists() and shards.lists()[0].rows > 1_000

        await until(in_lists, "lists")
        await asyncio.gather(
            engine.change_fields("docs", {"n": FieldType.INTEGER}),
            engine.change_fields("docs", {"flag": FieldType.BOOL}),
            engine.delete_points("docs", ["p001", "p003"]),
        )
        await ended(engine, jobs)
        assert shards.lists()[0].rows > 1_000
        asked = {"must": [{"key": "flag", "match": {"value": True}}, {"key": "n", "range": {"lt": 900}}]}
        expected = {f"p{n:03d}" for n in range(900) if n % 3 == 0 and n != 3}
        found = await search(engine, data[0], limit=1000, filter=asked)
        assert {hit.id for hit in found.hits} == expected and await engine.count("docs", asked) == len(expected)
