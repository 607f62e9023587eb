"""Several services share one Redis prefix where all of them say so; one that has it to itself shares it with nobody."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.engine.running import running
from tests.engine.test_engine import make, points
from tests.servers import Server, ServerKind, running_server
from tests.store.points import UID, commit, put
from tests.waiting import until

from bebr.config import Settings
from bebr.core.types import WriteMode
from bebr.engine import Engine
from bebr.engine.collections.damaged import damaged
from bebr.errors import InvalidOption, StoreUnavailable
from bebr.store import DeleteWrite
from bebr.store.redis.store import RedisStore


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server(ServerKind.VALKEY) as server:
        yield server


def test_several_services_share_no_sqlite(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"set redis_url.*`bebr serve --workers`"):
        Settings(data_dir=tmp_path, shared_store=True)


async def test_who_shares_a_prefix_is_known_to_all(tmp_path: Path, server: Server) -> None:
    shared = {"redis_url": server.url, "redis_prefix": f"t{uuid4().hex}", "shared_store": True}
    async with running(tmp_path / "one", **shared, member_name="one") as one:
        assert [(member.name, member.is_this) for member in one.list_members()] == [("one", True)]
        async with running(tmp_path / "two", **shared, member_name="two") as two:
            assert [(member.name, member.is_this) for member in two.list_members()] == [("one", False), ("two", True)]
            await until(lambda: len(one.list_members()) == 2, "the first hears of the second")
            await make(one)
            await two.registry.refresh()  # type: ignore[misc]
            assert (await two.write_points("docs", points(3), WriteMode.UPSERT)).applied == 3
            assert await one.count("docs", None, strong=True) == 3
        await until(lambda: len(one.list_members()) == 1, "the second has left")


async def test_a_service_has_a_prefix_to_itself_or_shares_it(tmp_path: Path, server: Server) -> None:
    """Whichever of the two comes second is told who is there; once that one has stopped, it goes on."""
    alone = {"redis_url": server.url, "redis_prefix": f"t{uuid4().hex}"}
    shared = {**alone, "shared_store": True, "member_name": "sharing"}
    async with running(tmp_path / "one", **alone) as engine:
        await make(engine)
        with pytest.raises(StoreUnavailable, match=rf"to itself \(.*:\d+, data folder {tmp_path}/one/store\)"):
            async with running(tmp_path / "two", **shared):
                pass
    async with running(tmp_path / "two", **shared) as engine:
        assert (await engine.write_points("docs", points(2), WriteMode.UPSERT)).applied == 2
        with pytest.raises(StoreUnavailable, match="shared by sharing; start this service with shared_store too"):
            async with running(tmp_path / "one", **alone):
                pass
    async with running(tmp_path / "one", **alone) as engine:
        assert await engine.count("docs", None) == 2


async def write_by_turns(one: Engine, two: Engine) -> None:
    """Each writes a half, as soon as it can; both have all of it then."""
    for engine, some in ((one, points(20)[:10]), (two, points(20)[10:])):

        async def written(engine: Engine = engine, some: list[dict[str, Any]] = some) -> bool:
            try:
                return (await engine.write_points("docs", some, WriteMode.UPSERT)).applied == 10
            except StoreUnavailable:
                return False

        await until(written, "it writes again")
    for engine in (one, two):
        assert await engine.count("docs", None, strong=True) == 20
    await until(lambda: len(one.list_members()) == len(two.list_members()) == 2, "both are members again")


async def test_members_go_on_after_their_server_was_restarted(tmp_path: Path) -> None:
    with running_server(ServerKind.VALKEY) as server:
        shared = {"redis_url": server.url, "redis_prefix": f"t{uuid4().hex}", "shared_store": True}
        async with running(tmp_path / "one", **shared) as one, running(tmp_path / "two", **shared) as two:
            await make(one)
            await two.registry.refresh()  # type: ignore[misc]
            server.kill()
            server.start()
            await write_by_turns(one, two)


async def test_members_go_on_after_their_entries_were_lost(tmp_path: Path, server: Server) -> None:
    """As by a failover: one begins anew with another fencing token, and the others take it over."""
    prefix = f"t{uuid4().hex}"
    shared = {"redis_url": server.url, "redis_prefix": prefix, "shared_store": True}
    async with running(tmp_path / "one", **shared) as one, running(tmp_path / "two", **shared) as two:
        await make(one)
        await two.registry.refresh()  # type: ignore[misc]
        server.command("HINCRBY", f"{prefix}:collections", "token", "5")
        server.command("DEL", f"{prefix}:lease", f"{{{prefix}:lease}}:members")
        await until(lambda: len(one.list_members()) < 2 or len(two.list_members()) < 2, "one begins anew")
        await write_by_turns(one, two)


async def test_a_token_that_no_member_has_is_overtaken(tmp_path: Path, server: Server) -> None:
    """It was given to one of two that began at once, or to one that died while it joined."""
    prefix = f"t{uuid4().hex}"
    shared = {"redis_url": server.url, "redis_prefix": prefix, "shared_store": True}
    async with running(tmp_path / "one", **shared) as one, running(tmp_path / "two", **shared) as two:
        server.command("HINCRBY", f"{prefix}:collections", "token", "1")

        async def made(engine: Engine, name: str) -> bool:
            try:
                await make(engine, name=name)
            except StoreUnavailable:
                return False
            return True

        await until(lambda: made(one, "a"), "the first makes collections")
        await until(lambda: made(two, "b"), "the second does, too")
        assert server.command("GET", f"{prefix}:lease").decode().split()[1:] == ["shared", "3"]


async def test_of_two_changes_of_a_collection_the_latest_is_taken(tmp_path: Path, server: Server) -> None:
    """Also where only the first one was there when this service looked."""
    shared = {"redis_url": server.url, "redis_prefix": f"t{uuid4().hex}", "shared_store": True}
    async with running(tmp_path / "one", **shared) as one, running(tmp_path / "two", **shared) as two:
        await make(one)
        await two.registry.refresh()  # type: ignore[misc]
        following = one._following
        assert following is not None
        async with one.registry.lock:
            await two.set_recall("docs", 0.9)
            await following._look()
            await two.set_recall("docs", 0.8)
        await following.settled("docs")
        assert one.registry.get("docs").document.recall == 0.8


async def test_a_collection_that_another_change_has_opened_is_not_removed_by_a_late_try(
    tmp_path: Path, server: Server
) -> None:
    shared = {"redis_url": server.url, "redis_prefix": f"t{uuid4().hex}", "shared_store": True}
    async with running(tmp_path / "one", **shared) as one, running(tmp_path / "two", **shared) as two:
        await make(one)
        await one.write_points("docs", points(3), WriteMode.UPSERT)
        await two.registry.refresh()  # type: ignore[misc]
        following = two._following
        assert following is not None
        document = two.registry.get("docs").document
        await following._loader._retry(damaged("docs", document, StoreUnavailable("it was away")))
        assert (await one.write_points("docs", points(5), WriteMode.UPSERT)).applied == 5
        for engine in (one, two):
            assert await engine.count("docs", None, strong=True) == 5


async def test_deletes_are_forgotten_once_all_members_have_them_and_they_are_old(
    tmp_path: Path, server: Server
) -> None:
    prefix = f"t{uuid4().hex}"
    options: dict[str, Any] = {"prefix": prefix, "shared": True, "timeout_seconds": 60}
    for seconds, is_purged in ((3600.0, False), (0.001, True)):
        one, two = (
            RedisStore(server.url, folder=tmp_path / name, tombstone_seconds=seconds, **options)
            for name in ("one", "two")
        )
        await one.open()
        await two.open()
        try:
            await one.create(UID, 1)
            await commit(one, 0, [put("a", "b", "c"), DeleteWrite(["a", "b"])])
            await until(lambda one=one: len(one.members()) == 2, "the first hears of the second")  # type: ignore[misc]
            seq = (await one.counters(UID, 0)).last_seq
            for _ in range(3):
                assert await one.purge_tombstones(UID, 0, seq) == 0, "the other may lack them"
                await asyncio.sleep(0.002)
            assert await two.purge_tombstones(UID, 0, seq - 1) == (1 if is_purged else 0)
            assert await one.purge_tombstones(UID, 0, seq) == 0
            await two.close()
            await until(lambda one=one: len(one.members()) == 1, "the second has left")  # type: ignore[misc]
            assert await one.purge_tombstones(UID, 0, seq) == (1 if is_purged else 0)
        finally:
            await one.close()
            await two.close()
