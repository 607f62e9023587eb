"""What is Redis's alone: a server that dies, hangs, forgets its scripts, is full or misused, and a cluster."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from tests.servers import Server, ServerKind, running_server
from tests.store.points import UID, answers, commit, put, puts, whole_feed
from tests.waiting import until

from bebr.core.history import History
from bebr.core.types import Role, WriteMode
from bebr.errors import DamagedStore, InsufficientStorage, InvalidOption, StoreUnavailable
from bebr.store import Commit, Committed, DeleteWrite, PutWrite, Receipt, ShardCounters
from bebr.store.redis.store import RedisStore


@pytest.fixture(params=list(ServerKind))
def server(request: pytest.FixtureRequest) -> Server:
    running: Server = request.getfixturevalue(f"{request.param}_server")
    return running


@asynccontextmanager
async def opened(server: Server, **options: object) -> AsyncIterator[RedisStore]:
    store = RedisStore(server.url, **{"prefix": f"test-{uuid4().hex}", "timeout_seconds": 60, **options})  # type: ignore[arg-type]
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def test_a_dead_server_is_unavailable_and_found_again(server: Server) -> None:
    async with opened(server, timeout_seconds=60) as store:
        await store.create(UID, 1)
        await commit(store, 0, [put("a")])
        server.kill()
        try:
            for _ in range(2):
                started = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    await commit(store, 0, [put("b")])
                with pytest.raises(StoreUnavailable):
                    await store.fetch(UID, 0, ["a"])
                with pytest.raises(StoreUnavailable):
                    await store.ping()
                assert time.monotonic() - started < 60, "nothing was waited for"
        finally:
            server.start()
        await store.ping()
        assert await commit(store, 0, [put("b")]) == [Committed([True], 2, 2)]
        assert [entry.id for entry in await whole_feed(store)] == ["a", "b"]


async def test_a_server_that_hangs_is_unavailable_within_the_timeout(server: Server) -> None:
    async with opened(server, timeout_seconds=60) as store:
        await store.create(UID, 1)
        server.freeze()
        store._client._timeout_seconds = 0.3
        try:
            outcomes = await asyncio.gather(
                commit(store, 0, [put("a")]), store.fetch(UID, 0, ["a"]), store.ping(), return_exceptions=True
            )
            assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
        finally:
            server.thaw()
        store._client._timeout_seconds = 60

        async def is_back() -> bool:
            try:
                await store.ping()
                return bool(await commit(store, 0, [put("a")]))
            except StoreUnavailable:
                return False

        await until(is_back, "the server is back")
        assert (await store.counters(UID, 0)).points == 1


async def test_a_server_that_is_not_there() -> None:
    store = RedisStore("redis://127.0.0.1:1/0", timeout_seconds=1)
    with pytest.raises(StoreUnavailable):
        await store.open()
    with pytest.raises(StoreUnavailable, match="redis://"):
        await RedisStore("http://localhost").open()
    with pytest.raises(StoreUnavailable, match="not open"):
        await store.ping()


async def test_a_server_that_forgot_its_scripts(server: Server) -> None:
    async with opened(server) as store:
        await store.create(UID, 1)
        await commit(store, 0, [put("a")])
        server.command("SCRIPT", "FLUSH")
        assert await commit(store, 0, [put("b")]) == [Committed([True], 2, 2)]
        server.command("SCRIPT", "FLUSH")
        assert len(await whole_feed(store)) == 2


async def test_a_full_server_is_insufficient_storage_and_nothing_is_applied(server: Server) -> None:
    async with opened(server) as store:
        await store.create(UID, 1)
        await commit(store, 0, [put("a")])
        server.command("CONFIG", "SET", "maxmemory", "1mb")
        try:
            with pytest.raises(InsufficientStorage):
                await commit(store, 0, [put("b", "c"), DeleteWrite(["a"])])
            assert await store.fetch(UID, 0, ["b"]) == [None]
            assert await store.counters(UID, 0) == ShardCounters(1, 1)
        finally:
            server.command("CONFIG", "SET", "maxmemory", "0")
        assert await commit(store, 0, [put("b")]) == [Committed([True], 2, 2)]


async def test_a_full_server_takes_deletes_and_what_shrinks(server: Server) -> None:
    async with opened(server) as store:
        await store.create(UID, 1)
        await store.put_document("kind", "name", {"a": 1})
        await commit(store, 0, [put("a", "b", "c")])
        server.command("CONFIG", "SET", "maxmemory", "1mb")
        try:
            assert await commit(store, 0, [DeleteWrite(["a"])]) == [Committed([True], 4, 4)]
            smaller = PutWrite(puts(["b"]), WriteMode.UPDATE_ONLY, shrinks=True)
            commits = [Commit(0, [write]) for write in (DeleteWrite(["c"]), put("d"), smaller)]
            mixed = await store.commit(UID, commits)
            assert [type(outcome) for outcome in mixed] == [list, InsufficientStorage, list]
            await store.replace_documents("kind", {"name": {"a": 2}}, [])
            assert await store.get_document("kind", "name") == {"a": 2}
            await store.drop(UID)
        finally:
            server.command("CONFIG", "SET", "maxmemory", "0")


async def test_a_service_starts_and_keeps_its_lease_on_a_full_server(server: Server, tmp_path: Path) -> None:
    """Or nobody could delete anything."""
    prefix = f"test-{uuid4().hex}"
    async with opened(server, prefix=prefix, folder=tmp_path) as store:
        await store.create(UID, 1)
        await commit(store, 0, [put("a", "b")])
    server.command("CONFIG", "SET", "maxmemory", "1mb")
    try:
        async with opened(server, prefix=prefix, folder=tmp_path) as store:
            assert store._lease is not None
            assert await store.list_documents("kind") == {} and (await store.history(UID, 0)).last_seq == 2
            server.command("HINCRBY", f"{{{prefix}:{UID}:0}}:info", "begun", "1")
            assert (await store.history(UID, 0)).last_seq == 2, "it is mended"
            await commit(store, 0, [DeleteWrite(["a"])])
            assert await store.purge_tombstones(UID, 0, 3) == 1
            server.command("DEL", f"{prefix}:lease")
            await store._lease.renew()
            await store.drop(UID)
            with pytest.raises(InsufficientStorage):
                await store.create("b" * 16, 1)
    finally:
        server.command("CONFIG", "SET", "maxmemory", "0")


@pytest.mark.parametrize(
    ("policy", "evicted"),
    [
        ("allkeys-lru", "points"),
        ("allkeys-random", "points"),
        ("volatile-lru", "leases and receipts"),
        ("volatile-lfu", "leases and receipts"),
        ("volatile-random", "leases and receipts"),
        ("volatile-ttl", "leases and receipts"),
    ],
)
async def test_a_server_that_would_evict_something_is_refused_unless_allowed(
    server: Server, caplog: pytest.LogCaptureFixture, policy: str, evicted: str
) -> None:
    """Keys with a lifetime are promises too: who may write, and what a request with a key has done."""
    server.command("CONFIG", "SET", "maxmemory-policy", policy)
    try:
        with pytest.raises(StoreUnavailable, match=f"evict {evicted}.*noeviction.*allow_volatile_store"):
            await RedisStore(server.url).open()
        async with opened(server, allow_volatile=True):
            assert f"evict {evicted}" in caplog.text
    finally:
        server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_a_server_without_append_only_file_is_refused_unless_allowed(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.command("CONFIG", "SET", "appendonly", "no")
    try:
        with pytest.raises(StoreUnavailable, match=r"appendonly to yes.*allow_volatile_store"):
            await RedisStore(server.url).open()
        async with opened(server, allow_volatile=True):
            assert "append-only" in caplog.text
    finally:
        server.command("CONFIG", "SET", "appendonly", "yes")
        rewritten = b"aof_rewrite_in_progress:0"
        await until(lambda: rewritten in server.command("INFO", "persistence"), "the append-only file is rewritten")


async def test_a_newer_schema_is_refused(server: Server) -> None:
    server.command("SET", "future:schema", "5")
    with pytest.raises(DamagedStore, match="newer bebr"):
        await RedisStore(server.url, prefix="future").open()


async def test_foreign_keys_are_damage_and_nothing_is_applied(server: Server) -> None:
    async with opened(server, prefix="squat") as store:
        await store.create(UID, 1)
        for part in ("points", "feed", "tombstones"):
            key = f"{{squat:{UID}:0}}:{part}"
            server.command("SET", key, "foreign")
            with pytest.raises(DamagedStore):
                await commit(store, 0, [put("a")])
            server.command("DEL", key)
            assert await store.counters(UID, 0) == ShardCounters(0, 0)
        await commit(store, 0, [put("a")])
        server.command("HSET", f"{{squat:{UID}:0}}:points", "a", "foreign")
        with pytest.raises(DamagedStore, match="'a'"):
            await store.fetch(UID, 0, ["a"])
        assert [(entry.id, entry.is_damaged) for entry in (await store.feed(UID, 0, 0, 10)).entries] == [("a", True)]


async def test_prefixes_keep_stores_apart(server: Server) -> None:
    async with opened(server) as one, opened(server) as other:
        for store in (one, other):
            await store.create(UID, 1)
        await commit(one, 0, [put("a")])
        await one.put_document("k", "n", {})
        assert await other.counters(UID, 0) == ShardCounters(0, 0)
        assert await other.list_documents("k") == {}
    with pytest.raises(InvalidOption):
        RedisStore(server.url, prefix="{tag}")


async def test_two_stores_share_what_they_write(server: Server) -> None:
    async with opened(server, prefix="shared") as one, opened(server, prefix="shared") as other:
        await one.create(UID, 1)
        write = put("a", mode=WriteMode.INSERT_ONLY, receipt=Receipt("k", b"1"))
        outcomes = await asyncio.gather(*(commit(store, 0, [write]) for store in (one, other) * 5))
        assert sorted(committed.replayed for (committed,) in outcomes) == [False] + [True] * 9
        assert await other.counters(UID, 0) == ShardCounters(1, 1)
        await other.drop(UID)


async def test_more_calls_than_connections(server: Server) -> None:
    async with opened(server, max_connections=2) as store:
        await store.create(UID, 1)
        await asyncio.gather(*(commit(store, 0, [put(f"p{number}")]) for number in range(100)))
        assert await store.counters(UID, 0) == ShardCounters(100, 100)


@pytest.mark.parametrize("kind", list(ServerKind))
async def test_a_cluster(kind: ServerKind) -> None:
    """All keys of a shard are in one slot, and the client follows the cluster's map."""
    with running_server(kind, cluster=True) as server:
        async with opened(server, timeout_seconds=60) as store:
            await store.create(UID, 8)
            await asyncio.gather(
                *(commit(store, shard, [put("a", "b", receipt=Receipt("k", b""))]) for shard in range(8))
            )
            await asyncio.gather(*(commit(store, shard, [DeleteWrite(["a"])]) for shard in range(8)))
            for shard in range(8):
                assert [entry.id for entry in await whole_feed(store, shard)] == ["b", "a"]
                assert await store.purge_tombstones(UID, shard, 3) == 1
                assert await store.counters(UID, shard) == ShardCounters(1, 3, 3)
            await store.replace_documents("k", {"a": {}, "b": {"x": 1}}, ["c"])
            assert await store.list_documents("k") == {"a": {}, "b": {"x": 1}}
            server.kill()
            with pytest.raises(StoreUnavailable):
                await commit(store, 0, [put("c")])
            for shard in range(8):  # also once the client has found out that its map leads to no node
                with pytest.raises(StoreUnavailable):
                    await store.fetch(UID, shard, ["b"])
            server.start()
            await until(partial(answers, store), "the store answers again")
            assert await commit(store, 0, [put("c")]) == [Committed([True], 4, 4)]
            await store.drop(UID)


async def test_a_server_that_hangs_makes_nobody_wait_but_the_first(
    redis_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Those under way end with the first timeout, those after it fail at once; a probe notices that it is back."""
    async with opened(redis_server, timeout_seconds=60) as store:
        await store.create(UID, 1)
        await commit(store, 0, [put("a")])
        redis_server.freeze()
        try:
            store._client._timeout_seconds = 0.5
            first = asyncio.create_task(store.fetch(UID, 0, ["a"]))
            await until(lambda: store._client._breaker.waiting, "the first call")
            store._client._timeout_seconds = 3600.0  # by themselves the others would not end
            calls = [store.fetch(UID, 0, ["a"]), store.counters(UID, 0), commit(store, 0, [put("b")])]
            tasks = [asyncio.ensure_future(call) for call in calls]
            with pytest.raises(StoreUnavailable):
                await first
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
            for _ in range(50):
                with pytest.raises(StoreUnavailable, match="still"):
                    await store.fetch(UID, 0, ["a"])
                with pytest.raises(StoreUnavailable, match="still"):
                    await commit(store, 0, [put("c")])
        finally:
            redis_server.thaw()

        async def is_back() -> bool:
            try:
                return await store.fetch(UID, 0, ["a"]) != [None]
            except StoreUnavailable:
                return False

        await until(is_back, "the server is back")
        said = [record.getMessage() for record in caplog.records if record.name.endswith("breaker")]
        assert said == ["store is away", "store is back"]


async def test_what_a_server_says_before_it_hangs_up_is_told(server: Server) -> None:
    """A full server; one in protected mode, which says DENIED, is no different."""
    reader, writer = await asyncio.open_unix_connection(server.url.removeprefix("unix://"))
    try:
        for clients, outcome in ((1, "ERR max number of clients reached"), (10_000, None)):
            writer.write(b"CONFIG SET maxclients %d\r\n" % clients)
            assert await reader.readline() == b"+OK\r\n"
            if outcome:
                with pytest.raises(StoreUnavailable, match=f"Redis refuses: {outcome}"):
                    await RedisStore(server.url).open()
    finally:
        writer.close()
    async with opened(server):
        pass


async def test_a_wrong_password_is_told(server: Server) -> None:
    with pytest.raises(StoreUnavailable, match=r"Redis refuses: .*(?i:auth|password)"):
        await RedisStore(server.url.replace("unix://", "unix://:wrong@")).open()


@pytest.mark.parametrize("is_cluster", [False, True])
async def test_a_follower_is_told_of_each_commit(is_cluster: bool) -> None:
    """And of none twice; also after the server was restarted."""
    with running_server(ServerKind.VALKEY, cluster=is_cluster) as server:
        async with opened(server, prefix="p") as store, opened(server, prefix="p", role=Role.FOLLOWER) as follower:
            heard: list[tuple[str, int, int]] = []
            follower.listen(
                lambda uid, shard: None,
                lambda seqs: heard.extend((uid, s, seq) for uid, of in seqs.items() for s, seq in of.items()),
            )
            await store.create(UID, 2)
            await commit(store, 1, [put("a", "b")])
            await commit(store, 0, [put("a")])
            await commit(store, 0, [PutWrite(puts(["a"]), WriteMode.INSERT_ONLY)])
            await commit(store, 1, [DeleteWrite(["a"])])
            expected = [(UID, 1, 2), (UID, 0, 1), (UID, 1, 3)]
            await until(lambda: heard == expected, "each commit is told")
            server.command("PUBLISH", "p:news", "no commit of ours")
            server.kill()
            server.start()
            await until(lambda: b":1" in server.command("PUBLISH", "p:news", "x"), "it listens again")
            await until(partial(answers, store), "the server answers again")

            async def told() -> bool:  # a message may be lost with its connection
                await commit(store, 0, [put("c")])
                return any(uid == UID and shard == 0 and seq > 1 for uid, shard, seq in heard)

            await until(told, "commits are told")


async def test_a_commit_while_a_shard_is_looked_at_is_no_loss(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was acknowledged after the history was read is no part of it."""
    async with opened(server) as store:
        await store.create(UID, 1)
        await commit(store, 0, [put("a")])
        read = store._watch.history

        async def read_slowly(uid: str, shard: int, *, check: bool = True) -> History | None:
            found = await read(uid, shard, check=check)
            await commit(store, 0, [put("b")])
            return found

        monkeypatch.setattr(store._watch, "history", read_slowly)
        assert await store._watch._losses([(UID, 0)]) == []
        assert "went back" not in caplog.text
