"""A Redis that did a part of a transaction it had cut off: the service mends the shard, says so, and rebuilds it."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import redis as redis_client
from tests.engine.running import running
from tests.servers import Server, ServerKind

from bebr.core.types import WriteMode
from bebr.engine import Engine
from engine.test_engine import codes, make, points, search
from engine.test_redis_lost_its_end import is_ready, wait_until_ready


def do_a_part(server: Server) -> None:
    """As its next start would do what is left of a commit: of p000 and a new point."""
    with redis_client.Redis.from_url(server.url) as client:
        (info,) = client.keys("{*:0}:info")
        shard = info.decode().removesuffix(":info")
        last_seq = int(client.hget(info, "last_seq"))
        old = client.hget(f"{shard}:points", "p000")
        client.hincrby(info, "begun", 1)
        client.hset(f"{shard}:points", "p000", (last_seq + 1).to_bytes(6) + old[6:])
        client.xadd(f"{shard}:feed", {"i": "p000"}, f"{last_seq + 1}-0")
        client.xadd(f"{shard}:feed", {"i": "new"}, f"{last_seq + 2}-0")


async def check(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    await wait_until_ready(engine)
    hits = (await search(engine, codes(1)[0], limit=1000)).hits
    assert len(hits) == len({hit.id for hit in hits}) == await engine.count("docs", None) == 40
    status = await engine.describe_collection("docs")
    assert (status.losses, status.rebuilds, status.damaged_points) == (1, 1, 0)
    for said in ("the feed of a shard is made anew from its points", "the store lost acknowledged writes"):
        assert said in caplog.text


async def test_a_shard_is_mended_at_the_start_and_after_a_restart_of_redis(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with TemporaryDirectory(prefix="bebr-torn-") as folder:
        server = Server(ServerKind.REDIS, Path(folder), appendfsync="no")
        server.start()
        try:
            async with running(tmp_path, redis_url=server.url) as engine:
                await make(engine, shards=1)
                await engine.write_points("docs", points(40), WriteMode.UPSERT)
                do_a_part(server)
                server.kill()
                server.start()
                assert not await is_ready(engine), "the first to ask is told"
                await check(engine, caplog)
                await engine.write_points("docs", points(50)[40:], WriteMode.UPSERT)
                assert await engine.count("docs", None) == 50
                await engine.delete_points("docs", [f"p{n:03d}" for n in range(40, 50)])
            caplog.clear()
            do_a_part(server)
            async with running(tmp_path, redis_url=server.url) as engine:
                await check(engine, caplog)
        finally:
            server.stop()
