"""A commit that failed because Redis hung, and that Redis executes later: seen without another write, or refused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tests.engine.running import running
from tests.servers import Server, ServerKind
from tests.waiting import until

from bebr.core.types import WriteMode
from bebr.engine import Engine
from bebr.errors import StoreUnavailable
from engine.test_engine import codes, make, points, search


class Road:
    """Between the service and its server: writes of some points are held back on their way, as in the buffer of a
    server that hangs, while all else goes on."""

    def __init__(self, folder: Path) -> None:
        self.server = Server(ServerKind.REDIS, folder, options=("--appendonly", "no"))
        self.redis = {"redis_url": f"unix://{folder}/road", "allow_volatile_store": True}
        self.holds = False
        """Whether the points p020 to p029 are held back."""
        self._folder = folder
        self._held: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]] = []
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self.server.start()
        self._entry = await asyncio.start_unix_server(self._travel, self._folder / "road")

    async def stop(self) -> None:
        self._entry.close()
        for end in self._open:
            end.close()
        self.server.stop()

    async def let_go(self) -> bytes:
        """The server gets it now -> what it answers to nobody."""
        self.holds = False
        answers = b""
        assert self._held
        for reader, writer, data in self._held:
            writer.write(data)
            answers += await reader.read(2**16)
        return answers

    async def _travel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._folder / "socket")
        self._open |= {writer, server_writer}
        back = asyncio.create_task(_carry(server_reader, writer))
        while data := await reader.read(2**20):
            if self.holds and b"p02" in data:
                back.cancel()
                await asyncio.gather(back, return_exceptions=True)
                self._held.append((server_reader, server_writer, data))
                return
            server_writer.write(data)
        server_writer.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
    writer.close()


@pytest.fixture
async def road() -> AsyncIterator[Road]:
    with TemporaryDirectory(prefix="bebr-late-") as folder:
        road = Road(Path(folder))
        await road.start()
        yield road
        await road.stop()


async def fill(engine: Engine) -> None:
    await make(engine, shards=2)
    await engine.write_points("docs", points(20), WriteMode.UPSERT)


async def fail_to_write(engine: Engine, road: Road, key: str | None = None) -> None:
    """10 more points: the service is told that the store is away, and catches up before they are there."""
    road.holds = True
    client: Any = engine._store._client  # type: ignore[attr-defined]
    patience, client._timeout_seconds = client._timeout_seconds, 2.0  # of this write alone
    with pytest.raises(StoreUnavailable):
        await engine.write_points("docs", points(30)[20:], WriteMode.UPSERT, key)
    client._timeout_seconds = patience
    await until(lambda: road._held, "the write is on its way")
    writer = engine.registry.collections["docs"].shards._writer  # type: ignore[attr-defined]
    await until(lambda: not writer._recoveries, "the writer recovers")
    assert await engine.count("docs", None) == 20


async def wait_for_count(engine: Engine, count: int) -> None:
    async def is_there() -> bool:
        return await engine.count("docs", None) == count

    await until(is_there, f"{count} points")


async def test_it_is_seen_without_another_write(tmp_path: Path, road: Road) -> None:
    async with running(tmp_path, **road.redis) as engine:
        await fill(engine)
        await fail_to_write(engine, road)
        await road.let_go()
        await wait_for_count(engine, 30)
        assert len((await search(engine, codes(1)[0], limit=1000)).hits) == 30
        status = await engine.describe_collection("docs")
        assert (status.losses, status.rebuilds) == (0, 0)


async def test_a_retry_returns_when_it_is_seen(tmp_path: Path, road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nobody has looked yet: the store only says that it has been applied before."""
    monkeypatch.setattr("bebr.store.redis.watch.LOOK_EVERY_SECONDS", 1000)
    async with running(tmp_path, **road.redis) as engine:
        await fill(engine)
        await fail_to_write(engine, road, "key")
        await road.let_go()
        assert (await engine.write_points("docs", points(30)[20:], WriteMode.UPSERT, "key")).applied == 10
        assert await engine.count("docs", None) == 30
        engine._store._watch._stopping.set()  # type: ignore[attr-defined]


async def test_what_was_seen_late_and_is_lost_then_is_a_loss(tmp_path: Path, road: Road) -> None:
    async with running(tmp_path, **road.redis) as engine:
        await fill(engine)
        road.server.command("SAVE")
        await fail_to_write(engine, road)
        await road.let_go()
        await wait_for_count(engine, 30)
        road.server.kill()
        road.server.start()
        await wait_for_loss(engine)
        await wait_for_count(engine, 20)
        assert len((await search(engine, codes(1)[0], limit=1000)).hits) == 20
        assert (await engine.describe_collection("docs")).losses > 0


async def wait_for_loss(engine: Engine) -> None:
    async def is_told() -> bool:
        return bool((await engine.describe_collection("docs")).losses)

    await until(is_told, "the loss is told of")


async def test_that_of_a_process_that_has_been_replaced_is_refused(tmp_path: Path, road: Road) -> None:
    """Its successor has read the shards: from then on they take nothing of the one before."""
    async with running(tmp_path / "one", **road.redis) as engine:
        await fill(engine)
        await fail_to_write(engine, road)
        road.server.command("DEL", "bebr:lease")  # expired
        async with running(tmp_path / "two", **road.redis) as successor:
            assert b"BEBRFENCED" in await road.let_go()
            assert await successor.count("docs", None) == 20
            await successor.write_points("docs", points(40)[30:], WriteMode.UPSERT)
            assert await successor.count("docs", None) == 30
