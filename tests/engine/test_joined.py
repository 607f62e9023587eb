"""Several services write to one store, each with a folder of its own: what one changes, the others take over."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.engine import fitting
from tests.engine.running import settings
from tests.engine.test_engine import make, points
from tests.servers import Server, ServerKind, running_server
from tests.waiting import until

from bebr.core.types import FieldType, WriteMode
from bebr.encoding import BundleRegistry
from bebr.engine import AliasChange, CollectionSettings, Engine, EngineOptions, Parts
from bebr.errors import AlreadyExists, CollectionNotFound
from bebr.jobs import JobQueue
from bebr.store.redis.store import RedisStore


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server(ServerKind.VALKEY) as server:
        yield server


@asynccontextmanager
async def services(folder: Path, server: Server, count: int = 2, **changes: Any) -> AsyncIterator[list[Engine]]:
    prefix = f"t{uuid4().hex}"
    engines = []
    for number in range(count):
        chosen = settings(folder / str(number), **changes)
        store, bundles = RedisStore(server.url, timeout_seconds=60, prefix=prefix), BundleRegistry([chosen.bundles_dir])
        options = EngineOptions(1, 1, chosen.head_rows, joins=True)
        engines.append(Engine(Parts(store, bundles, chosen.data_dir, chosen.limits, options)))
    try:
        for engine in engines:
            await engine.start()
            await engine.wait_until_ready()
        yield engines
    finally:
        for engine in engines:
            await engine.stop()


async def looked(engines: list[Engine]) -> None:
    """As they do each second."""
    for engine in engines:
        assert engine._following is not None
        await engine._following.refresh()


async def test_of_two_that_create_a_collection_one_wins(tmp_path: Path, server: Server) -> None:
    async with services(tmp_path, server) as (one, other):
        outcomes = await asyncio.gather(*(make(engine) for engine in (one, other)), return_exceptions=True)
        assert [isinstance(outcome, AlreadyExists) for outcome in outcomes].count(True) == 1
        await looked([one, other])
        (uid,) = {engine.registry.get("docs").document.uid for engine in (one, other)}
        for engine, some in ((one, points(30)[:20]), (other, points(30)[20:])):
            assert (await engine.write_points("docs", some, WriteMode.UPSERT)).applied == len(some)
        for engine in (one, other):
            assert await engine.count("docs", None, strong=True) == 30
        folders = [path.name for path in tmp_path.glob("*/collections/*")]
        assert folders == [uid, uid], "what the other one had made is removed"


async def test_what_one_changes_the_others_take_over(tmp_path: Path, server: Server) -> None:
    async with services(tmp_path, server) as (one, other):
        await make(one)
        await one.change_aliases([AliasChange("live", "docs")])
        await looked([other])
        assert (await other.write_points("live", points(5), WriteMode.UPSERT)).applied == 5
        await other.set_recall("docs", 0.8)
        await looked([one])
        assert one.registry.get("docs").document.recall == 0.8
        await other.delete_collection("docs")
        await looked([one])
        with pytest.raises(CollectionNotFound):
            one.registry.get("live")
        assert not list(tmp_path.glob("*/collections/*"))
        await make(one)
        await looked([other])
        assert await other.count("docs", None, strong=True) == 0


async def test_changes_of_documents_by_two_are_all_kept(tmp_path: Path, server: Server) -> None:
    """Neither knows of the changes of the other when it makes its own."""
    async with services(tmp_path, server) as (one, other):
        await make(one)
        await looked([other])
        for round in range(4):
            await asyncio.gather(
                one.change_fields("docs", {f"one{round}": FieldType.INTEGER}),
                other.change_fields("docs", {f"other{round}": FieldType.KEYWORD}),
                one.change_aliases([AliasChange(f"a{round}", "docs")]),
                other.change_aliases([AliasChange(f"b{round}", "docs")]),
            )
        await looked([one, other])
        for engine in (one, other):
            document = engine.registry.get("docs").document
            assert {f"{who}{round}" for who in ("one", "other") for round in range(4)} <= document.filterable.keys()
            assert sorted(engine.list_aliases()) == [f"{who}{round}" for who in "ab" for round in range(4)]


async def test_what_another_service_changes_back_at_once_is_noticed(tmp_path: Path, server: Server) -> None:
    """The documents then say what they said when this service looked last, and not what it has made of them."""
    async with services(tmp_path, server) as (one, other):
        await make(one)
        await one.change_aliases([AliasChange("live", "docs")])
        await make(one, "next")
        await one.set_recall("docs", 0.9)
        await looked([one, other])
        await one.change_aliases([AliasChange("live", "next"), AliasChange("new", "next")])
        await one.set_recall("docs", 0.8)
        await make(one, "short")
        await other.change_aliases([AliasChange("live", "docs"), AliasChange("new", None)])
        await other.registry.refresh()  # type: ignore[misc]
        await other.set_recall("docs", 0.9)
        await other.delete_collection("short")
        await looked([one])
        assert one.list_aliases() == other.list_aliases() == {"live": "docs"}
        assert one.registry.get("docs").document == other.registry.get("docs").document
        assert one.registry.get("docs").document.recall == 0.9
        with pytest.raises(CollectionNotFound):
            one.registry.get("short")
        await one.set_recall("docs", 0.7)  # it knows what the store has
        await looked([other])
        assert other.registry.get("docs").document.recall == 0.7


async def test_a_model_that_loads_holds_up_no_other_who_changes_names(
    tmp_path: Path, server: Server, bundles: Path
) -> None:
    async with services(tmp_path, server, bundles_dir=bundles) as (one, other):
        with one._maker._loader._encoders._lock:  # as whoever loads a model that takes long has it
            creating = asyncio.create_task(one.create_collection("slow", CollectionSettings(bundle="old@1")))
            await asyncio.sleep(0)
            await make(other)
            await other.change_aliases([AliasChange("live", "docs")])
            assert not creating.done()
        await creating
        await looked([one, other])
        for engine in (one, other):
            assert [status.name for status in engine.list_collections()] == ["docs", "slow"]
            assert engine.list_aliases() == {"live": "docs"}


async def test_who_changes_names_keeps_the_lease_for_as_long_as_that_takes(tmp_path: Path, server: Server) -> None:
    """It is renewed before it ends, so that nobody else changes names meanwhile."""
    async with services(tmp_path, server) as (one, other):
        prefix = one.store._keys.prefix  # type: ignore[attr-defined]
        lease = f"{{{prefix}:leases}}:lease:names"
        async with one.registry.naming():
            assert server.command("PEXPIRE", lease, "14000") == b":1\r\n"
            await until(lambda: int(server.command("PTTL", lease)[1:]) > 14_000, "it is renewed")
            changing = asyncio.create_task(make(other))
            await asyncio.sleep(0)
            assert not changing.done()
        await changing
        assert int(server.command("PTTL", lease)[1:]) == -2, "it is given back"


@asynccontextmanager
async def working(engines: list[Engine], folder: Path) -> AsyncIterator[None]:
    """With the jobs of all of them."""
    queues = []
    for number, engine in enumerate(engines):
        jobs = JobQueue(engine, folder / f"jobs-{number}", engine.limits)
        engine.events.on_change, engine.events.on_close = jobs.changed, jobs.closing
        await jobs.start()
        queues.append(jobs)
    try:
        yield
    finally:
        for jobs in queues:
            await jobs.stop()


async def test_a_fit_is_computed_once(tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """By one of those that wait for whoever had it before."""
    caplog.set_level(logging.INFO)
    async with services(tmp_path, server) as engines, working(engines, tmp_path):
        one = engines[0]
        collection = await fitting.make(one)
        task = f"fit-{collection.document.uid}"
        token = await one.store.take_lease(task, "a service that does not answer", 600)
        assert token is not None
        await fitting.write(one, range(900))
        await looked(engines)
        for engine in engines:
            await engine.registry.get("docs").shards.reach_store()
            engine.events.changed(engine.registry.get("docs"))
        await until(lambda: caplog.messages.count("job running") == 2, "both wait")
        assert "fitting" not in caplog.messages
        await one.store.release_lease(task, token)

        async def is_done() -> bool:
            await looked(engines)
            said = [engine.registry.get("docs").document.to_document() for engine in engines]
            return said[0] == said[1] and all([(await fitting.fit_of(engine)).state == "done" for engine in engines])

        await until(is_done, "the fit is done, and known to both")
        assert caplog.messages.count("fitting") == 1
        assert len(one.registry.get("docs").document.versions) == 2
