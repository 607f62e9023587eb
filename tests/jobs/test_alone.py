"""Leases of jobs: who has lost one finds out before it does what another may have done."""

from pathlib import Path
from uuid import uuid4

from tests.engine.running import running
from tests.servers import ServerKind, running_server

from bebr.engine.alone import Alone


async def rest(seconds: float) -> None:
    raise AssertionError("nobody else has it")


async def test_a_lease_that_another_had_meanwhile_is_held_no_more(tmp_path: Path) -> None:
    """Also where it ended and nobody else has it now."""
    with running_server(ServerKind.VALKEY) as server:
        prefix = f"t{uuid4().hex}"
        async with running(tmp_path, redis_url=server.url, redis_prefix=prefix, shared_store=True) as engine:
            alone = Alone(engine.registry, engine.store)
            async with alone.doing("task", rest, lambda: None):
                assert await alone.holds("task")
                key = f"{{{prefix}:leases}}:lease:task"
                assert server.command("DEL", key) == b":1\r\n"
                assert not await alone.holds("task")
                token = await engine.store.take_lease("task", "another", 600)
                assert token is not None and not await alone.holds("task")
            assert [one.holder for one in await engine.store.leases() if one.name == "task"] == ["another"]
            await engine.store.release_lease("task", token)
            async with alone.doing("task", rest, lambda: None):
                assert await alone.holds("task")


async def test_who_has_the_store_to_itself_needs_no_lease(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        alone = Alone(engine.registry, engine.store)
        async with alone.doing("task", rest, lambda: None):
            assert await alone.holds("task")
            assert await engine.store.leases() == []
