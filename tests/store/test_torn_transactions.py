"""A torn end of Redis's append-only file: Redis executes what is left of the last transaction two starts later.

The file is cut everywhere in the last commit. Then the service starts, goes on, and Redis is restarted: what it did of
the torn commit is there whole or not at all, each id has one place in the feed, and a view that follows is equal to the
store.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.store.points import UID, commit, put
from tests.store.torn_redis import PREFIX, Command, State, TornRedis, View, after, opened, read_whole

from bebr.store import DeleteWrite, Receipt, Write
from bebr.store.redis import mending
from bebr.store.redis.store import RedisStore

BEFORE = [put("a", "b", "c"), put("gone"), DeleteWrite(["gone"])]
TORN = [
    put("a", "new", seed=1, receipt=Receipt("k1", b"1")),
    DeleteWrite(["b"], Receipt("k2", b"2")),
    put("gone", seed=1),
    put("new", "more", seed=2),
]
AFTER: dict[str, list[Write]] = {
    "others": [put("x", "y", seed=3, receipt=Receipt("k3", b"3")), DeleteWrite(["c"])],
    "the same": TORN[:2],
    "fewer": [DeleteWrite(["a"])],
    "many": [put(*(f"m{number}" for number in range(9)), seed=3)],
}
LAST = [put("a", "z", seed=4), DeleteWrite(["x"])]


IDS = {id for writes in (BEFORE, TORN, LAST, *AFTER.values()) for write in writes for id in write.ids}


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's: the path of Redis's socket has at most 107 bytes."""
    with TemporaryDirectory(prefix="bebr-torn-") as path:
        yield Path(path)


async def write_before(store: RedisStore) -> None:
    await commit(store, 0, BEFORE)


async def write_torn(store: RedisStore) -> None:
    await commit(store, 0, TORN)


def in_the_feed(commands: Sequence[Command]) -> int:
    """Where the points are written, and the first of their places in the feed."""
    return [command for command in commands if command.name == "XADD"][1].middle


async def go_on(redis: TornRedis, then: Sequence[Write], view: View) -> State:
    """Two starts after the cut, with commits before and after the second one; what the store has."""
    without = after({}, BEFORE)
    async with opened(redis.server) as store:
        await view.catch_up(store)
        assert view.points == without == await read_whole(store, IDS), "Redis keeps no part of it at first"
        await commit(store, 0, then)
        await view.catch_up(store)
        await redis.restart(store)
        possible = [after(without, then), after(after(without, TORN), then)]
        await view.catch_up(store)
        found = await read_whole(store, IDS)
        assert found in possible and view.points == found
        await commit(store, 0, LAST)
        await view.catch_up(store)
        assert await read_whole(store, IDS) == after(found, LAST) == view.points
    return found


@pytest.mark.parametrize("name", AFTER)
async def test_a_commit_that_was_cut_anywhere(folder: Path, name: str) -> None:
    redis = TornRedis(folder)
    commands = await redis.prepare(write_before, write_torn)
    assert [c.name for c in commands].count("MULTI") == 1, "the store commits in one transaction"
    places = [command.middle for command in commands[:: 1 if name == "others" else 2]]
    if name == "others":
        places += [command.start for command in commands]  # what is cut there is left out by Redis itself
    came_late = 0
    for place in places:
        redis.cut(place)
        view = View()
        found = await go_on(redis, AFTER[name], view)
        came_late += view.rebuilds
        if name == "others":
            assert (view.rebuilds > 0) == (found != after(after({}, BEFORE), AFTER[name]))
        async with opened(redis.server) as store:  # nothing is left to be mended
            await view.catch_up(store)
            assert view.rebuilds <= 1 and view.points == await read_whole(store, IDS)
            outcomes = await commit(store, 0, TORN)  # whoever was not answered tries again
            assert outcomes[0].replayed <= ("new" in found)
        redis.server.kill()
    assert came_late, "no cut had the effect that this is about"


async def test_of_a_large_commit_a_part_may_come_and_is_reported(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """More points than one call takes."""
    redis, large = TornRedis(folder), put(*(f"p{number}" for number in range(5000)))
    commands = await redis.prepare(write_before, lambda store: commit(store, 0, [large]))
    redis.cut([command for command in commands if command.name == "HSET"][2].middle)  # after the epoch and some points
    view = View()
    async with opened(redis.server) as store:
        await view.catch_up(store)
        await commit(store, 0, AFTER["others"])
        await view.catch_up(store)
        await redis.restart(store)
        await view.catch_up(store)
        found = await read_whole(store, IDS | set(large.ids))
        expected = after(after({}, BEFORE), AFTER["others"])
        assert expected.items() <= found.items() and view.points == found and view.rebuilds == 1
        assert 0 < len(found) - len(expected) < 5000
    assert [
        r.levelname for r in caplog.records if r.getMessage() == "the feed of a shard is made anew from its points"
    ] == ["ERROR"]
    redis.server.kill()


async def test_a_purge_that_was_cut_hides_no_delete(folder: Path) -> None:
    redis = TornRedis(folder)
    early = View()

    async def before(store: RedisStore) -> None:
        await commit(store, 0, BEFORE)
        await early.catch_up(store)
        await commit(store, 0, [DeleteWrite(["a", "b"])])

    commands = await redis.prepare(before, lambda store: store.purge_tombstones(UID, 0, 100))
    for command in commands:
        redis.cut(command.middle)
        async with opened(redis.server) as store:
            await commit(store, 0, AFTER["others"])
            await redis.restart(store)
            view = View()
            view.points, view.mark = dict(early.points), early.mark
            await view.catch_up(store)
            expected = after(after({}, [*BEFORE, DeleteWrite(["a", "b"])]), AFTER["others"])
            assert await read_whole(store, IDS) == expected == view.points
        redis.server.kill()


async def test_a_change_of_documents_that_was_cut_comes_as_a_whole(folder: Path) -> None:
    redis = TornRedis(folder)
    old, new = {"kept": {"n": 1}, "gone": {"n": 1}}, {"kept": {"n": 2}, "new": {"n": 2}}
    commands = await redis.prepare(
        lambda store: store.replace_documents("k", old, []), lambda store: store.replace_documents("k", new, ["gone"])
    )
    came = []
    for command in commands:
        redis.cut(command.middle)
        async with opened(redis.server) as store:
            assert await store.list_documents("k") == old
            await store.put_document("other", "name", {})
            await redis.restart(store)
            came.append(await store.list_documents("k"))
            assert await store.get_document("k", "gone") == came[-1].get("gone")
        redis.server.kill()
    assert [documents for documents in came if documents not in (old, new)] == [] and new in came


async def test_what_single_calls_wrote_behind_a_torn_transaction_stays(folder: Path) -> None:
    """Redis cuts them off together with it, unless a whole transaction came between."""
    redis, uid = TornRedis(folder), "b" * 16
    commands = await redis.prepare(write_before, write_torn)
    redis.cut(commands[3].middle)
    for _ in range(2):
        store = RedisStore(redis.server.url, timeout_seconds=60, prefix=PREFIX, folder=folder / "data")
        await store.open()
        token, identity = store._watch.token, await store.identity()
        await store.create(uid, 1)
        await store.put_document("kind", "name", {"x": 1})
        await store.close()
        redis.server.kill()
        redis.server.start()
        store = RedisStore(redis.server.url, timeout_seconds=60, prefix=PREFIX, folder=folder / "data")
        await store.open()
        assert await store.get_document("kind", "name") == {"x": 1} and (await store.counters(uid, 0)).last_seq == 0
        assert store._watch.token > token and await store.identity() == identity
        await store.close()
    redis.server.kill()


async def become_ill(redis: TornRedis, view: View) -> State:
    """Have Redis do a part of a commit that it had cut off; the state that the store must have once it is mended."""
    async with opened(redis.server) as store:
        await view.catch_up(store)
        await commit(store, 0, AFTER["others"])
        await view.catch_up(store)
    redis.server.kill()
    redis.server.start()
    return after(after(after({}, BEFORE), TORN), AFTER["others"])


async def test_mending_goes_on_after_a_kill_anywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    redis = TornRedis(folder)
    commands = await redis.prepare(write_before, write_torn)
    for done in range(len(mending.STEPS) + 1):
        redis.cut(in_the_feed(commands))
        view = View()
        expected = await become_ill(redis, view)
        async with opened(redis.server) as store:
            with monkeypatch.context() as patched:
                patched.setattr(mending, "STEPS", mending.STEPS[:done])
                await store._points.mender.mend(UID, 0)
        redis.server.kill()
        redis.server.start()
        async with opened(redis.server) as store:
            await view.catch_up(store)
            assert await read_whole(store, IDS) == expected == view.points and view.rebuilds == 1
        redis.server.kill()


async def test_mending_that_was_cut_anywhere_itself(folder: Path) -> None:
    """The mending of a shard is torn, and done in part after it was done again."""
    (folder / "ill").mkdir()
    ill, redis = TornRedis(folder / "ill"), TornRedis(folder)
    commands = await ill.prepare(write_before, write_torn)
    ill.cut(in_the_feed(commands))
    expected = await become_ill(ill, View())
    ill.server.kill()
    redis.take_files(ill)
    commands = await redis.prepare_more(lambda store: store.history(UID, 0))
    for command in commands[::3]:
        redis.cut(command.middle)
        view = View()
        async with opened(redis.server) as store:
            await view.catch_up(store)
            assert await read_whole(store, IDS) == expected == view.points
            await commit(store, 0, LAST)
            await redis.restart(store)
            await view.catch_up(store)
            assert await read_whole(store, IDS) == after(expected, LAST) == view.points
        redis.server.kill()
