"""A follower answers as the primary does, whatever becomes of the collections. The oracle is the primary itself."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.engine.following import Pair, agree, following, pair, store_of
from tests.engine.running import running_jobs, settings
from tests.engine.test_engine import SPEC, codes, make, points
from tests.servers import Server, ServerKind, running_server
from tests.waiting import until

from bebr.bootstrap import build_engine
from bebr.core.types import FieldType, Role, WriteMode
from bebr.engine import AliasChange, CollectionSettings, Engine, SearchRequest
from bebr.errors import CollectionNotFound, DamagedCollection, NotPrimary, NotReady


@pytest.fixture(scope="module")
def redis_server() -> Iterator[Server]:
    with running_server(ServerKind.REDIS) as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest) -> dict[str, Any]:
    return store_of(request)


async def found(engine: Engine, name: str = "docs", **options: Any) -> list[tuple[str, float, Any]]:
    requests = [SearchRequest(code=code.tobytes(), limit=20, **options) for code in codes(5, seed=9)]
    answers = await engine.search(name, requests)
    return [(hit.id, hit.score, hit.metadata) for answer in answers for hit in answer.hits]


def where(key: str, **condition: Any) -> dict[str, Any]:
    return {"must": [{"key": key} | condition]}


async def both_find(two: Pair, name: str = "docs", **options: Any) -> None:
    await agree(two)
    wanted = await found(two.primary, name, **options)
    assert wanted and await found(two.follower, name, **options) == wanted


async def test_collections_and_aliases_come_and_go(tmp_path: Path, store: dict[str, Any]) -> None:
    async with pair(tmp_path, **store) as two:
        primary, follower = two.primary, two.follower
        await agree(two)
        await make(primary, "docs", shards=2)
        await agree(two)
        await primary.write_points("docs", points(60), WriteMode.UPSERT)
        await both_find(two)
        await primary.change_aliases([AliasChange("live", "docs")])
        await both_find(two, "live")
        await make(primary, "other")
        await primary.write_points("other", points(30, seed=2), WriteMode.UPSERT)
        await primary.change_aliases([AliasChange("live", "other"), AliasChange("more", "docs")])
        await both_find(two, "live")
        await primary.delete_collection("docs")
        await agree(two)
        for name in ("docs", "more"):
            with pytest.raises(CollectionNotFound):
                await follower.search(name, [SearchRequest(code=codes(1)[0].tobytes())])
        await make(primary, "docs")
        await primary.write_points("docs", points(9, seed=3), WriteMode.UPSERT)
        await both_find(two)


async def test_what_happened_between_two_looks_is_taken_over_at_once(tmp_path: Path, store: dict[str, Any]) -> None:
    """A name changed hands, and another came and went."""
    async with pair(tmp_path, **store) as two:
        await make(two.primary, "docs")
        await two.primary.write_points("docs", points(20), WriteMode.UPSERT)
        await agree(two)
        await two.primary.delete_collection("docs")
        await make(two.primary, "passing")
        await two.primary.delete_collection("passing")
        await make(two.primary, "docs", recall=None)
        await two.primary.change_aliases([AliasChange("live", "docs")])
        await two.primary.write_points("docs", points(20, seed=5), WriteMode.UPSERT)
        await both_find(two, "live")


async def test_a_follower_that_starts_finds_what_is_there(tmp_path: Path, store: dict[str, Any]) -> None:
    async with running_jobs(tmp_path, shares=True, **store) as (primary, _):
        await make(primary)
        await primary.write_points("docs", points(50), WriteMode.UPSERT)
        await primary.change_aliases([AliasChange("live", "docs")])
        async with following(tmp_path, **store) as follower:
            assert await found(follower, "live") == await found(primary, "live")


async def test_the_recall_is_that_of_the_primary(tmp_path: Path, store: dict[str, Any]) -> None:
    async with pair(tmp_path, **store) as two:
        await make(two.primary)
        await agree(two)
        for recall in (None, 0.8):
            await two.primary.set_recall("docs", recall)
            await agree(two)


async def test_fields_are_those_of_the_primary(tmp_path: Path, store: dict[str, Any]) -> None:
    """Their columns too: of points in files, and of those that only the feed has brought."""
    async with pair(tmp_path, **store) as two:
        primary = two.primary
        await make(primary)
        written = [{**one, "metadata": {"n": n, "x": n % 3, "y": str(n % 2)}} for n, one in enumerate(points(70))]
        await primary.write_points("docs", written[:60], WriteMode.UPSERT)
        changes: list[tuple[dict[str, FieldType | None], Any]] = [
            ({"x": FieldType.INTEGER}, where("x", match={"value": 1})),
            ({"y": FieldType.KEYWORD, "lang": None}, where("y", match={"value": "0"})),
            ({"x": FieldType.FLOAT, "y": None}, where("x", range={"gt": 0.5})),
        ]
        for at, (fields, condition) in enumerate(changes, 60):
            await both_find(two)
            await primary.change_fields("docs", fields)
            await primary.write_points("docs", [written[at]], WriteMode.UPSERT)
            await two.follower.keep_up()
            await until(lambda: not primary.registry.get("docs").document.fields_change, "the end of the job")
            await both_find(two, filter=condition)
            assert await two.follower.count("docs", condition) == await primary.count("docs", condition)


async def test_fields_that_come_by_themselves_are_known_at_once(tmp_path: Path, store: dict[str, Any]) -> None:
    async with pair(tmp_path, **store) as two:
        await two.primary.create_collection("docs", CollectionSettings(code=str(SPEC), auto_filterable=True))
        for round in range(6):
            some = [{**one, "metadata": {f"k{round}": 1}} for one in points(round + 3)]
            await two.primary.write_points("docs", some, WriteMode.UPSERT)
            collection = two.follower.registry.collections.get("docs")
            if collection is not None and round % 2:
                with suppress(NotReady):  # as when the points come before the field is known
                    await collection.shards.reach()
            assert await two.follower.count("docs", where(f"k{round}", match={"value": 1})) == round + 3
        await both_find(two)


async def test_a_deletion_disturbs_no_search_that_is_under_way(tmp_path: Path, store: dict[str, Any]) -> None:
    async with pair(tmp_path, **store) as two:
        await make(two.primary, shards=2)
        await make(two.primary, "stays")
        for name in ("docs", "stays"):
            await two.primary.write_points(name, points(200), WriteMode.UPSERT)
        await agree(two)
        wanted = await found(two.primary)
        searches = [asyncio.create_task(found(two.follower)) for _ in range(20)]
        await asyncio.gather(two.primary.delete_collection("docs"), two.follower.keep_up())
        await agree(two)
        for answer in await asyncio.gather(*searches, return_exceptions=True):
            assert answer == wanted or isinstance(answer, CollectionNotFound)
        await both_find(two, "stays")


async def test_a_damaged_document_stops_no_other(tmp_path: Path, store: dict[str, Any]) -> None:
    async with pair(tmp_path, **store) as two:
        await make(two.primary, "sound")
        await two.primary.write_points("sound", points(30), WriteMode.UPSERT)
        await agree(two)
        kept = two.primary._store
        await kept.put_document("collection", "broken", {"uid": "f" * 24, "shards": "many"})
        await kept.put_document("alias", "nowhere", {"to": "sound"})
        await two.primary.set_recall("sound", 0.9)
        await two.follower.keep_up()
        assert await found(two.follower, "sound") == await found(two.primary, "sound")
        assert two.follower.registry.get("sound").document.recall == 0.9
        with pytest.raises(DamagedCollection, match="its document in the store is not what bebr wrote"):
            await two.follower.search("broken", [SearchRequest(code=codes(1)[0].tobytes())])
        await kept.put_document("collection", "sound", {"uid": "f" * 24, "shards": "many"})
        await two.follower.keep_up()
        assert await found(two.follower, "sound") == await found(two.primary, "sound")
        await kept.delete_document("collection", "broken")
        await two.follower.keep_up()
        assert [one.name for one in two.follower.list_collections()] == ["sound"]


async def test_a_follower_changes_nothing(tmp_path: Path) -> None:
    async with pair(tmp_path) as two:
        await make(two.primary)
        await agree(two)
        follower = two.follower
        changes = [
            follower.create_collection("new", CollectionSettings(code=str(SPEC))),
            follower.delete_collection("docs"),
            follower.set_recall("docs", None),
            follower.change_fields("docs", {"y": FieldType.INTEGER}),
            follower.change_aliases([AliasChange("live", "docs")]),
            follower.write_points("docs", points(1), WriteMode.UPSERT),
            follower.delete_points("docs", ["p000"]),
            follower.set_metadata("docs", ["p000"], None, {"n": 2}),
            follower.versions.attach("docs", "none@1"),
            follower.versions.rollback("docs"),
            follower.versions.retire("docs", str(SPEC)),
            follower.fits.request("docs"),
        ]
        for change in changes:
            with pytest.raises(NotPrimary, match="this process only follows the one that writes"):
                await change
        await agree(two)


async def test_searches_go_on_while_the_primary_is_away(tmp_path: Path, store: dict[str, Any]) -> None:
    async with pair(tmp_path, **store) as two:
        await make(two.primary)
        await two.primary.write_points("docs", points(50), WriteMode.UPSERT)
        await both_find(two)
        wanted = await found(two.primary)
        await two.jobs.stop()
        await two.primary.stop()
        assert await found(two.follower) == wanted
        async with running_jobs(tmp_path, shares=True, **store) as (primary, jobs):
            await primary.change_aliases([AliasChange("live", "docs")])
            await primary.write_points("docs", points(20, seed=4), WriteMode.UPSERT)
            await both_find(Pair(primary, jobs, two.follower), "live")


async def test_a_follower_that_starts_first_waits_for_its_primary(tmp_path: Path, store: dict[str, Any]) -> None:
    follower = build_engine(settings(tmp_path, **store), Role.FOLLOWER)
    try:
        await follower.start()
        with pytest.raises(NotReady):
            await found(follower)
        async with running_jobs(tmp_path, shares=True, **store) as (primary, jobs):
            await make(primary)
            await primary.write_points("docs", points(50), WriteMode.UPSERT)
            await follower.wait_until_ready()
            await both_find(Pair(primary, jobs, follower))
    finally:
        await follower.stop()
