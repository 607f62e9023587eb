"""Shards of Redis whose feed, counters and tombstones do not agree with their points, as older releases may have left
them: made whole from the points before anything is made of them."""

from collections.abc import Awaitable, Callable
from struct import pack
from uuid import uuid4

import pytest
import redis as redis_client
from tests.servers import Server
from tests.store.points import UID, commit, put
from tests.store.torn_redis import View, read_whole

from bebr.errors import StoreUnavailable
from bebr.store import DeleteWrite
from bebr.store.redis.reader import RedisReader
from bebr.store.redis.store import RedisStore

IDS = {"a", "b", "c", "gone", "late", "other"}
Client = redis_client.Redis
Find = Callable[[RedisStore, View], Awaitable[object]]
"""What notices that the shard is to be mended."""


def value_of(client: Client, key: str, seq: int, id: str) -> bytes:
    """As a point of that id and seq is stored."""
    return pack(">HI", 0, seq) + client.hget(f"{key}:points", id)[6:]


def feed_ahead(client: Client, key: str) -> None:
    """Additions to the feed were executed, and nothing else of their commit."""
    client.xadd(f"{key}:feed", {"i": "a"}, "6-0")
    client.xadd(f"{key}:feed", {"i": "late"}, "7-0")


def equal_sums(client: Client, key: str) -> None:
    """The same, and then a commit of two points, of which only the second found a place in the feed."""
    client.xadd(f"{key}:feed", {"i": "late"}, "6-0")
    for seq, id in ((6, "a"), (7, "b")):
        old = int.from_bytes(client.hget(f"{key}:points", id)[:6])
        client.hset(f"{key}:points", id, value_of(client, key, seq, id))
        client.xdel(f"{key}:feed", f"{old}-0")
    client.xadd(f"{key}:feed", {"i": "b"}, "7-0")
    client.hset(f"{key}:info", "last_seq", 7)


def no_entry(client: Client, key: str) -> None:
    client.xdel(f"{key}:feed", "1-0")


def no_feed(client: Client, key: str) -> None:
    client.delete(f"{key}:feed")


def wrong_count(client: Client, key: str) -> None:
    client.hset(f"{key}:info", "points", 2)


def no_tombstone(client: Client, key: str) -> None:
    client.zrem(f"{key}:tombstones", "gone")


def tombstone_of_a_point(client: Client, key: str) -> None:
    client.zadd(f"{key}:tombstones", {"a": 6, "other": 7})


def begun(client: Client, key: str) -> None:
    """Nothing of a commit was executed but that it began."""
    client.hincrby(f"{key}:info", "begun", 1)


ILLS = [feed_ahead, equal_sums, no_entry, no_feed, wrong_count, no_tombstone, tombstone_of_a_point, begun]


async def by_history(store: RedisStore, view: View) -> None:
    await view.catch_up(store)


async def by_commit(store: RedisStore, view: View) -> None:
    await commit(store, 0, [put("c")])
    await view.catch_up(store)


async def by_feed(store: RedisStore, view: View) -> None:
    await store.feed(UID, 0, 0, 100)
    await view.catch_up(store)


@pytest.mark.parametrize("find", [by_history, by_commit, by_feed])
@pytest.mark.parametrize("ill", ILLS)
async def test_whatever_does_not_agree_with_the_points(
    redis_server: Server, ill: Callable[[Client, str], None], find: Find, caplog: pytest.LogCaptureFixture
) -> None:
    prefix = f"ill-{uuid4().hex}"
    store = RedisStore(redis_server.url, timeout_seconds=60, prefix=prefix)
    await store.open()
    await store.create(UID, 1)
    await commit(store, 0, [put("a", "b", "c"), put("gone"), DeleteWrite(["gone"])])
    view = View()
    await view.catch_up(store)
    heard: list[tuple[str, int]] = []
    store.listen(lambda uid, shard: heard.append((uid, shard)), lambda seqs: None)
    with redis_client.Redis.from_url(redis_server.url) as client:
        ill(client, f"{{{prefix}:{UID}:0}}")
    expected = dict(view.points)
    await find(store, view)
    if heard:
        await view.catch_up(store)
    assert view.points == expected == await read_whole(store, IDS)
    is_corrected = ill is not begun
    assert view.rebuilds == is_corrected and ((UID, 0) in heard) == is_corrected
    assert ("the feed of a shard is made anew from its points" in caplog.text) == is_corrected
    await commit(store, 0, [put("late"), DeleteWrite(["a"])])
    await view.catch_up(store)
    assert set(view.points) == {"b", "c", "late"} and view.points == await read_whole(store, IDS)
    assert await store.purge_tombstones(UID, 0, view.mark.seq) == 2 and view.rebuilds == is_corrected
    await store.history(UID, 0)
    assert caplog.text.count("is compared with its points") == 1, "once mended it stays whole"
    await store.close()


async def test_a_backup_waits_for_the_service_to_mend(redis_server: Server) -> None:
    prefix = f"ill-{uuid4().hex}"
    store = RedisStore(redis_server.url, timeout_seconds=60, prefix=prefix)
    await store.open()
    await store.create(UID, 1)
    await commit(store, 0, [put("a", "b", "c")])
    with redis_client.Redis.from_url(redis_server.url) as client:
        no_entry(client, f"{{{prefix}:{UID}:0}}")
    reader = RedisReader(RedisStore(redis_server.url, timeout_seconds=60, prefix=prefix))
    await reader.open()
    with pytest.raises(StoreUnavailable, match="start the service on this store, which makes it whole"):
        async with reader.frozen(UID, 1):
            pass
    await store.history(UID, 0)
    async with reader.frozen(UID, 1) as shards:
        assert {entry.id for entry in await shards.feed(0, 0, 10)} == {"a", "b", "c"}
    await reader.close()
    await store.close()
