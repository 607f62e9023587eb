"""One process at a time uses a data folder, and one a Redis prefix; the second is told who has it."""

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.engine.running import running
from tests.servers import Server, ServerKind, running_server
from tests.store.points import UID, commit, put
from tests.waiting import until

from bebr.core.types import WriteMode
from bebr.errors import StoreUnavailable
from bebr.store import DeleteWrite
from bebr.store.redis.lease import Holder
from bebr.store.redis.store import RedisStore
from engine.test_engine import make, points


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server(ServerKind.REDIS) as server:
        yield server


def lease_of(server: Server, prefix: str) -> dict[str, Any]:
    answer = server.command("GET", f"{prefix}:lease")
    found: dict[str, Any] = json.loads(answer.partition(b"\r\n")[2])
    return found


def give_lease(server: Server, prefix: str, **changes: Any) -> None:
    """To a holder that differs from the one that has it in these fields."""
    server.command("SET", f"{prefix}:lease", json.dumps(lease_of(server, prefix) | changes), "PX", "1500")


def scripts_run(server: Server) -> int:
    """By their names, since the server was started."""
    found = re.search(rb"cmdstat_evalsha:calls=(\d+)", server.command("INFO", "commandstats"))
    return int(found[1]) if found else 0


async def test_a_data_folder_is_locked_whatever_the_store_is(tmp_path: Path, server: Server) -> None:
    """Or the second one would delete the upload that the first is spooling."""
    redis = {"redis_url": server.url, "redis_prefix": f"t{uuid4().hex}"}
    async with running(tmp_path, **redis):
        for other in (redis, {"redis_url": server.url, "redis_prefix": "other"}, {}):
            with pytest.raises(StoreUnavailable, match=r"in use by process \d+; stop it, or choose another folder"):
                async with running(tmp_path, **other):
                    pass
    async with running(tmp_path, **redis):
        pass


async def test_a_second_service_on_a_redis_prefix_is_refused(tmp_path: Path, server: Server) -> None:
    redis = {"redis_url": server.url, "redis_prefix": f"t{uuid4().hex}"}
    async with running(tmp_path / "one", **redis) as engine:
        await make(engine)
        with pytest.raises(
            StoreUnavailable, match=rf"in use by another bebr \(.*:\d+, data folder {tmp_path}/one/store\)"
        ):
            async with running(tmp_path / "two", **redis):
                pass
        assert (await engine.write_points("docs", points(3), WriteMode.UPSERT)).applied == 3
        async with running(tmp_path / "three", redis_url=server.url, redis_prefix=f"t{uuid4().hex}"):
            pass
    async with running(tmp_path / "two", **redis) as engine:  # an orderly stop gives it back
        assert await engine.count("docs", None) == 3


async def test_a_holder_that_died_is_not_waited_for(tmp_path: Path, server: Server) -> None:
    dead = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await dead.wait()
    one, two = tmp_path / "one", tmp_path / "two"
    await (first := RedisStore(server.url, timeout_seconds=60, prefix=f"t{uuid4().hex}", folder=two)).open()
    mine = Holder.here(two).folder
    await first.close()
    for died in ({"pid": dead.pid}, {"space": "another machine", "folder": mine}):
        prefix = f"t{uuid4().hex}"
        store, other = (
            RedisStore(server.url, timeout_seconds=60, prefix=prefix, folder=folder) for folder in (one, two)
        )
        await store.open()
        give_lease(server, prefix, **died)
        server.command("PERSIST", f"{prefix}:lease")  # it would be waited for, for ever
        await other.open()
        assert lease_of(server, prefix)["pid"] == Holder.here(two).pid
        assert lease_of(server, prefix)["path"] == str(two)
        await other.close()
        await store.close()


async def test_a_holder_elsewhere_that_died_is_waited_for_until_its_lease_has_expired(
    tmp_path: Path, server: Server
) -> None:
    prefix = f"t{uuid4().hex}"
    store = RedisStore(server.url, timeout_seconds=60, prefix=prefix, folder=tmp_path / "one")
    await store.open()
    give_lease(server, prefix, space="another machine", folder="another")
    server.command("PERSIST", f"{prefix}:lease")  # it expires when this test says so
    await store.close()
    other = RedisStore(server.url, timeout_seconds=60, prefix=prefix, folder=tmp_path / "two")
    opening = asyncio.create_task(other.open())
    before = scripts_run(server)
    # It goes on looking at the lease.
    await until(lambda: scripts_run(server) >= before + 4 or opening.done(), "the lease is looked at")
    assert not opening.done() and lease_of(server, prefix)["folder"] == "another"
    server.command("DEL", f"{prefix}:lease")
    await opening
    assert lease_of(server, prefix)["path"] == str(tmp_path / "two")
    await other.close()


async def test_who_lost_the_lease_cannot_write(tmp_path: Path, server: Server) -> None:
    """It was away for so long that another took over: its token is too low, from the first reading on."""
    prefix = f"t{uuid4().hex}"
    stores = []
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        stores.append(RedisStore(server.url, timeout_seconds=60, prefix=prefix, folder=tmp_path / name))
    old, new = stores
    await old.open()
    await old.create(UID, 1)
    await commit(old, 0, [put("a")])
    server.command("DEL", f"{prefix}:lease")  # expired
    await new.open()
    await new.history(UID, 0)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="has taken over this Redis prefix"):
            await commit(old, 0, [put("b")])
    for change in (old.put_document("k", "n", {}), old.create("b" * 16, 1), old.drop(UID), old.ping()):
        with pytest.raises(StoreUnavailable, match="has taken over"):
            await change
    assert await new.fetch(UID, 0, ["b"]) == [None]
    await commit(new, 0, [put("c")])
    await old.close()
    assert lease_of(server, prefix)["path"] == str(tmp_path / "new"), "only the holder gives it back"
    await new.close()


CHANGES: dict[str, Callable[[RedisStore], Awaitable[object]]] = {
    "put_document": lambda store: store.put_document("k", "n", {"by": "old"}),
    "delete_document": lambda store: store.delete_document("k", "n"),
    "replace_documents": lambda store: store.replace_documents("k", {"m": {}}, ["n"]),
    "create": lambda store: store.create("b" * 16, 1),
    "drop": lambda store: store.drop(UID),
    "purge_tombstones": lambda store: store.purge_tombstones(UID, 0, 100),
    "commit": lambda store: commit(store, 0, [put("b")]),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_redis_itself_refuses_who_lost_the_lease_and_does_not_know(
    tmp_path: Path, server: Server, change: str
) -> None:
    """Each change is the first that it tries: its own clock says that it has the lease."""
    prefix = f"t{uuid4().hex}"
    old, new = (
        RedisStore(server.url, timeout_seconds=60, prefix=prefix, folder=tmp_path / name) for name in ("old", "new")
    )
    await old.open()
    await old.create(UID, 1)
    await commit(old, 0, [put("a"), DeleteWrite(["a"])])
    await old.put_document("k", "n", {"by": "first"})
    server.command("DEL", f"{prefix}:lease")  # expired
    await new.open()
    assert await new.list_documents("k") == {"n": {"by": "first"}}
    await new.history(UID, 0)
    with pytest.raises(StoreUnavailable, match="has taken over this Redis prefix"):
        await CHANGES[change](old)
    assert await new.list_documents("k") == {"n": {"by": "first"}}
    assert [entry.id for entry in (await new.feed(UID, 0, 0, 10)).entries] == ["a"]
    await new.create("b" * 16, 2)
    await old.close()
    await new.close()


async def test_a_lease_that_expired_is_renewed_if_nobody_had_it(tmp_path: Path, server: Server) -> None:
    """As after a stall, or a Redis that was away."""
    prefix = f"t{uuid4().hex}"
    store = RedisStore(server.url, timeout_seconds=60, prefix=prefix, folder=tmp_path)
    await store.open()
    await store.create(UID, 1)
    server.command("DEL", f"{prefix}:lease")
    assert store._lease is not None
    await store._lease.renew()
    await commit(store, 0, [put("a")])
    assert lease_of(server, prefix)["path"] == str(tmp_path)
    await store.close()
    assert server.command("EXISTS", f"{prefix}:lease") == b":0\r\n"


async def test_a_store_that_went_back_to_an_earlier_holder_is_taken_again_once_that_one_is_gone(
    tmp_path: Path, server: Server
) -> None:
    """A failover to a copy of before this process took over."""
    prefix = f"t{uuid4().hex}"
    store = RedisStore(server.url, timeout_seconds=60, prefix=prefix, folder=tmp_path)
    await store.open()
    lease = store._lease
    assert lease is not None
    server.command("HINCRBY", f"{prefix}:collections", "token", "-1")
    give_lease(server, prefix, pid=0, folder="1:1:", path="/elsewhere", host="elsewhere", space="another")
    with pytest.raises(StoreUnavailable, match=r"went back to a time when elsewhere:0.*had this Redis prefix; waiting"):
        await lease.renew()
    server.command("DEL", f"{prefix}:lease")  # expired
    await lease.renew()
    assert lease_of(server, prefix)["path"] == str(tmp_path)
    server.command("HINCRBY", f"{prefix}:collections", "token", "-1")
    give_lease(server, prefix, pid=0)  # the same folder: it cannot be alive
    await lease.renew()
    assert lease_of(server, prefix)["pid"] > 0
    await store.close()
