"""What every MetadataStore promises of a follower: it sees what the primary commits, and changes nothing itself."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.store.points import UID, MakeStore, commit, metadata, put, puts

from bebr.core.types import Role
from bebr.errors import CollectionNotFound, StoreUnavailable
from bebr.store import Commit, DeleteWrite, MetadataStore, PutWrite, ShardCounters
from bebr.store.redis.store import RedisStore
from bebr.store.sqlite.store import SqliteStore

OTHER = "f" * 16


@pytest.fixture
async def follower(store: MetadataStore, make_store: MakeStore) -> AsyncIterator[MetadataStore]:
    """Opened beside the primary `store`."""
    await store.create(UID, 2)
    follower = make_store(role=Role.FOLLOWER)
    await follower.open()
    yield follower
    await follower.close()


async def test_a_follower_reads_what_was_committed_last(store: MetadataStore, follower: MetadataStore) -> None:
    for seed in range(5):
        await commit(store, 0, [put("a", "b", seed=seed)])
        await commit(store, 1, [put(f"c{seed}", seed=seed)])
        assert await follower.fetch(UID, 0, ["a", "x"]) == await store.fetch(UID, 0, ["a", "x"])
        wanted = {0: ["a", "b"], 1: [f"c{seed}", "x"]}
        found = await follower.fetch_all(UID, wanted, records=True)
        assert found == await store.fetch_all(UID, wanted, records=True)
        assert found["a"].metadata == metadata("a", seed)
        assert await follower.counters(UID, 0) == ShardCounters(2, 2 * (seed + 1))
    many = [f"m{number}" for number in range(100)]
    await commit(store, 0, [PutWrite(puts(many))])
    assert await follower.fetch(UID, 0, many) == await store.fetch(UID, 0, many)
    await commit(store, 0, [DeleteWrite(["a"])])
    assert await follower.fetch(UID, 0, ["a"]) == [None]
    assert await follower.identity() == await store.identity()


async def test_what_a_follower_has_at_hand_is_what_was_committed_last(
    store: MetadataStore, follower: MetadataStore
) -> None:
    await follower.fetch_all(UID, {0: ["a"]})
    for seed in range(3):
        await commit(store, 0, [put("a", "b", seed=seed)])
        assert follower.at_hand(UID, ["a"]) == {}, "it was written since it was read"
        found = await follower.fetch_all(UID, {0: ["a"]})
        assert follower.at_hand(UID, ["a"]) == (found if isinstance(follower, SqliteStore) else {})
        assert found["a"].metadata == metadata("a", seed)
    await store.purge_tombstones(UID, 0, 100)
    await commit(store, 0, [DeleteWrite(["a"])])
    assert follower.at_hand(UID, ["a"]) == {}


async def test_a_follower_sees_documents_and_collections_come_and_go(
    store: MetadataStore, follower: MetadataStore
) -> None:
    await store.put_document("kind", "one", {"a": 1})
    assert await follower.get_document("kind", "one") == {"a": 1}
    await store.replace_documents("kind", {"two": {"b": 2}}, ["one"])
    assert await follower.list_documents("kind") == {"two": {"b": 2}}
    with pytest.raises(CollectionNotFound):
        await follower.counters(OTHER, 0)
    await store.create(OTHER, 1)
    await commit(store, 0, [put("a")], uid=OTHER)
    assert await follower.fetch_all(OTHER, {0: ["a"]}) == await store.fetch_all(OTHER, {0: ["a"]})
    await store.drop(OTHER)
    for call in (follower.counters(OTHER, 0), follower.fetch(OTHER, 0, ["a"]), follower.feed(OTHER, 0, 0, 9)):
        with pytest.raises(CollectionNotFound):
            await call
    await store.create(OTHER, 2)
    await commit(store, 1, [put("b")], uid=OTHER)
    assert await follower.fetch_all(OTHER, {0: ["a"], 1: ["b"]}) == await store.fetch_all(OTHER, {1: ["b"]})


CHANGES: dict[str, Callable[[MetadataStore], Awaitable[object]]] = {
    "put_document": lambda store: store.put_document("k", "n", {}),
    "delete_document": lambda store: store.delete_document("k", "n"),
    "replace_documents": lambda store: store.replace_documents("k", {"m": {}}, ["n"]),
    "create": lambda store: store.create(OTHER, 1),
    "drop": lambda store: store.drop(UID),
    "commit": lambda store: commit(store, 0, [put("a")]),
    "purge_tombstones": lambda store: store.purge_tombstones(UID, 0, 10),
    "renew_identity": lambda store: store.renew_identity(),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_follower_changes_nothing(store: MetadataStore, follower: MetadataStore, change: str) -> None:
    await store.put_document("k", "n", {"kept": True})
    await commit(store, 0, [put("a"), put("b"), DeleteWrite(["b"])])
    identity, counters = await store.identity(), await store.counters(UID, 0)
    with pytest.raises(StoreUnavailable, match="only follows"):
        await CHANGES[change](follower)
    assert (await store.identity(), await store.counters(UID, 0)) == (identity, counters)
    assert await store.list_documents("k") == {"n": {"kept": True}}
    assert [entry.id for entry in (await store.feed(UID, 0, 0, 9)).entries] == ["a", "b"]


async def test_a_commit_of_a_follower_fails_as_an_outcome(follower: MetadataStore) -> None:
    outcomes = await follower.commit(UID, [Commit(0, [put("a")]), Commit(1, [put("b")])])
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable, StoreUnavailable]


async def test_a_follower_outlives_the_primary_and_sees_the_next_one(make_store: MakeStore) -> None:
    """It keeps reading while nobody writes; whether it or the primary closes first is the same."""
    primary = make_store()
    await primary.open()
    await primary.create(UID, 1)
    await commit(primary, 0, [put("a")])
    follower = make_store(role=Role.FOLLOWER)
    await follower.open()
    assert await follower.fetch_all(UID, {0: ["a"]})
    await primary.close()
    assert (await follower.fetch_all(UID, {0: ["a"]})).keys() == {"a"}
    history = await follower.history(UID, 0)
    await primary.open()
    await commit(primary, 0, [put("b")])
    assert (await follower.fetch_all(UID, {0: ["a", "b"]})).keys() == {"a", "b"}
    assert (await follower.history(UID, 0)).lost(history.mark(1)) is None
    await primary.close()
    await follower.close()
    await primary.open()
    assert await primary.counters(UID, 0) == ShardCounters(2, 2)
    await primary.close()


async def test_there_is_nothing_to_follow_before_a_primary_was_there(make_store: MakeStore) -> None:
    follower = make_store(role=Role.FOLLOWER)
    with pytest.raises(StoreUnavailable, match="start the process that writes"):
        await follower.open()
    primary = make_store()
    await primary.open()
    await follower.open()
    assert await follower.list_documents("kind") == {}
    await follower.close()
    await primary.close()


async def test_a_follower_of_sqlite_makes_no_file_and_takes_no_lock(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with pytest.raises(StoreUnavailable):
        await SqliteStore(folder, role=Role.FOLLOWER).open()
    assert not folder.exists()
    primary = SqliteStore(folder)
    await primary.open()
    await primary.create(UID, 1)
    await commit(primary, 0, [put("a")])
    followers = [SqliteStore(folder, role=Role.FOLLOWER) for _ in range(3)]
    before = {path.relative_to(folder) for path in folder.rglob("*")}
    for follower in followers:
        await follower.open()
        assert (await follower.fetch_all(UID, {0: ["a"]})).keys() == {"a"}
    assert {path.relative_to(folder) for path in folder.rglob("*")} == before
    await primary.close()
    await primary.open()  # its lock is free, whoever follows
    for follower in followers:
        await follower.close()
    await primary.close()


async def test_a_follower_of_sqlite_goes_over_to_the_copy_of_a_damaged_catalog(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    primary, follower = SqliteStore(folder), SqliteStore(folder, role=Role.FOLLOWER)
    await primary.open()
    await primary.create(UID, 1)
    await primary.put_document("k", "n", {"a": 1})
    await follower.open()
    await primary.close()
    (folder / "catalog.db").write_bytes(b"no database" * 1000)
    await primary.open()
    await primary.put_document("k", "n", {"a": 2})
    assert await follower.get_document("k", "n") == {"a": 2}
    assert await follower.counters(UID, 0) == ShardCounters(0, 0)
    await follower.close()
    await primary.close()


async def test_a_follower_of_redis_takes_a_dropped_collection_for_dropped(
    store: MetadataStore, follower: MetadataStore
) -> None:
    """It is no loss, although the follower knows of operations that are gone."""
    if not isinstance(follower, RedisStore):
        return
    heard: list[tuple[str, int]] = []
    follower.listen(lambda uid, shard: heard.append((uid, shard)), lambda seqs: None)
    await commit(store, 0, [put("a")])
    await follower.history(UID, 0)
    await store.drop(UID)
    with pytest.raises(CollectionNotFound):
        await follower.history(UID, 0)
    assert heard == []
