"""A Redis that loses acknowledged writes while the service runs: noticed before anybody reads what is left."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.engine.running import running
from tests.servers import Server, ServerKind
from tests.waiting import until

from bebr.core.types import WriteMode
from bebr.engine import Engine
from bebr.errors import BebrError, DamagedStore, NotReady, StoreUnavailable
from engine.test_engine import codes, make, points, search


@pytest.fixture
def server() -> Iterator[Server]:
    """Without an append-only file: it has what was saved last."""
    with TemporaryDirectory(prefix="bebr-lost-") as folder:
        server = Server(ServerKind.REDIS, Path(folder), options=("--appendonly", "no"))
        server.start()
        yield server
        server.stop()


async def is_ready(engine: Engine) -> bool:
    """As /readyz finds it."""
    try:
        await engine.ping_store()
    except BebrError:
        return False
    return engine.readiness().ready


async def wait_until_ready(engine: Engine) -> None:
    await until(lambda: is_ready(engine), "ready")


async def fill(engine: Engine, server: Server) -> None:
    """300 points, of which the server has saved 200."""
    await make(engine, shards=2)
    await engine.write_points("docs", points(200), WriteMode.UPSERT)
    server.command("SAVE")
    await engine.write_points("docs", points(300)[200:], WriteMode.UPSERT)


async def test_a_restart_without_its_end(tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    async with running(tmp_path, redis_url=server.url, allow_volatile_store=True) as engine:
        await fill(engine, server)
        server.kill()
        server.start()
        assert not await is_ready(engine), "the first to ask is told"
        await wait_until_ready(engine)
        assert "the store went back" in caplog.text
        hits = (await search(engine, codes(1)[0], limit=1000)).hits
        assert len(hits) == await engine.count("docs", None) == 200
        status = await engine.describe_collection("docs")
        assert status.losses >= 1 and status.rebuilds >= 1
        await engine.write_points("docs", points(300)[250:], WriteMode.UPSERT)
        assert await engine.count("docs", None) == 250
    async with running(tmp_path, redis_url=server.url, allow_volatile_store=True) as engine:
        assert await engine.count("docs", None) == 250
        assert (await engine.describe_collection("docs")).losses == 0


async def test_nothing_is_answered_from_the_view_of_before_unsaid(tmp_path: Path, server: Server) -> None:
    """A search that comes first finds out: it is told, or who asks for readiness afterwards, until all is rebuilt."""
    async with running(tmp_path, redis_url=server.url, allow_volatile_store=True) as engine:
        await fill(engine, server)
        server.kill()
        server.start()
        told = False
        for _ in range(3):
            try:
                await search(engine, codes(1)[0], limit=1000)
                break
            except StoreUnavailable:
                told = True
        assert told or not engine.readiness().ready
        await wait_until_ready(engine)
        assert await engine.count("docs", None) == 200


async def test_a_restart_that_lost_nothing_needs_no_rebuild(tmp_path: Path, server: Server) -> None:
    async with running(tmp_path, redis_url=server.url, allow_volatile_store=True) as engine:
        await fill(engine, server)
        server.command("SAVE")
        server.kill()
        server.start()
        await wait_until_ready(engine)
        assert await engine.count("docs", None) == 300
        status = await engine.describe_collection("docs")
        assert (status.losses, status.rebuilds) == (0, 0)


async def test_a_server_that_is_emptied(tmp_path: Path, server: Server) -> None:
    async with running(tmp_path, redis_url=server.url, allow_volatile_store=True) as engine:
        await fill(engine, server)
        server.command("FLUSHALL")
        assert not await is_ready(engine)
        for _ in range(2):
            with pytest.raises((StoreUnavailable, NotReady)):
                await search(engine, codes(1)[0], limit=10)
            with pytest.raises((StoreUnavailable, NotReady)):
                await engine.write_points("docs", points(3), WriteMode.UPSERT)
    with pytest.raises(DamagedStore, match="does not know collections"):
        async with running(tmp_path, redis_url=server.url, allow_volatile_store=True):
            pass
    shutil.rmtree(tmp_path / "collections")
    async with running(tmp_path, redis_url=server.url, allow_volatile_store=True) as engine:
        assert engine.list_collections() == []
