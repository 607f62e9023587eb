"""What every MetadataStore promises of collections, documents, and of being closed and opened again."""

import asyncio
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from tests.store.points import UID, MakeStore, commit, put, whole_feed

from bebr.core.types import Role
from bebr.errors import (
    AlreadyExists,
    CollectionNotFound,
    InvalidOption,
    StaleDocument,
    StoreUnavailable,
)
from bebr.store import Committed, DeleteWrite, MetadataStore, Receipt, ShardCounters
from bebr.store.redis.store import RedisStore
from bebr.store.sqlite.store import SqliteStore

# -- collections -------------------------------------------------------------------------------------------------------


async def test_creating_again_changes_nothing(store: MetadataStore) -> None:
    await store.create(UID, 2)
    await commit(store, 1, [put("a")])
    await store.create(UID, 2)
    assert await store.counters(UID, 1) == ShardCounters(1, 1)
    with pytest.raises(AlreadyExists, match="2 shards"):
        await store.create(UID, 3)


async def test_what_was_never_created_is_not_found(store: MetadataStore) -> None:
    await store.create(UID, 1)
    for uid, shard in (("f" * 16, 0), (UID, 1)):
        with pytest.raises(CollectionNotFound):
            await commit(store, shard, [put("a")], uid=uid)
        with pytest.raises(CollectionNotFound):
            await store.fetch(uid, shard, ["a"])
        with pytest.raises(CollectionNotFound):
            await store.feed(uid, shard, 0, 10)
        with pytest.raises(CollectionNotFound):
            await store.counters(uid, shard)
        with pytest.raises(CollectionNotFound):
            await store.purge_tombstones(uid, shard, 10)


async def test_a_dropped_collection_is_gone(store: MetadataStore) -> None:
    other = "f" * 32
    await store.create(UID, 2)
    await store.create(other, 2)
    await commit(store, 0, [put("a"), DeleteWrite(["a"]), put("b")])
    await commit(store, 0, [put("a")], uid=other)
    await store.drop(UID)
    await store.drop(UID)
    with pytest.raises(CollectionNotFound):
        await commit(store, 0, [put("a")])
    assert await store.counters(other, 0) == ShardCounters(1, 1)
    await store.create(UID, 1)
    assert await store.counters(UID, 0) == ShardCounters(0, 0)
    assert await whole_feed(store) == []


@pytest.mark.parametrize("uid", ["short", "UPPERCASE0123456", "../../../etc/passwd", "a" * 33, ""])
async def test_a_uid_that_could_leave_its_place_is_refused(store: MetadataStore, uid: str) -> None:
    with pytest.raises(InvalidOption):
        await store.create(uid, 1)


# -- documents ---------------------------------------------------------------------------------------------------------


async def test_documents(store: MetadataStore) -> None:
    assert await store.get_document("alias", "prod") is None
    assert await store.list_documents("alias") == {}
    await store.put_document("alias", "prod", {"collection": "docs", "größe": [1, 2.5, None, True, {"x": "😀"}]})
    await store.put_document("collection", "prod", {"other": "kind"})
    assert await store.get_document("alias", "prod") == {
        "collection": "docs",
        "größe": [1, 2.5, None, True, {"x": "😀"}],
    }
    await store.put_document("alias", "prod", {})
    assert await store.get_document("alias", "prod") == {}
    assert await store.delete_document("alias", "prod") is True
    assert await store.delete_document("alias", "prod") is False
    assert await store.get_document("collection", "prod") == {"other": "kind"}


async def test_documents_are_listed_by_name(store: MetadataStore) -> None:
    names = ["b", "a", "ä", "B", "日本", "a b"]
    for number, name in enumerate(names):
        await store.put_document("k", name, {"number": number})
    listed = await store.list_documents("k")
    assert list(listed) == sorted(names, key=str.encode)
    assert listed["ä"] == {"number": 2}


async def test_replacing_documents_deletes_then_puts(store: MetadataStore) -> None:
    await store.replace_documents("alias", {"a": {"to": 1}, "b": {"to": 2}}, [])
    await store.replace_documents("alias", {"b": {"to": 3}, "c": {"to": 4}}, ["a", "b", "missing"])
    assert await store.list_documents("alias") == {"b": {"to": 3}, "c": {"to": 4}}
    await store.replace_documents("alias", {}, [])
    await store.replace_documents("alias", {}, ["b", "c"])
    assert await store.list_documents("alias") == {}


async def test_documents_are_replaced_at_once(store: MetadataStore) -> None:
    """No reader ever sees the alias under both names, or under none."""
    await store.put_document("alias", "x0", {})

    async def rename() -> None:
        for number in range(50):
            await store.replace_documents("alias", {f"x{number + 1}": {}}, [f"x{number}"])

    writer = asyncio.create_task(rename())
    while not writer.done():
        assert len(await store.list_documents("alias")) == 1
        await asyncio.sleep(0.001)
    await writer


# -- life --------------------------------------------------------------------------------------------------------------


async def test_everything_is_there_after_reopening(make_store: MakeStore) -> None:
    first = make_store()
    await first.open()
    await first.create(UID, 2)
    write = put("a", "b", receipt=Receipt("k", b"1"))
    await commit(first, 0, [write, DeleteWrite(["a"])])
    await first.put_document("k", "n", {"v": 1})
    feed, counters = await whole_feed(first), await first.counters(UID, 0)
    await first.close()

    second = make_store()
    await second.open()
    assert await whole_feed(second) == feed
    assert await second.counters(UID, 0) == counters
    assert await commit(second, 0, [write]) == [Committed([True, True], 1, 2, replayed=True)]
    assert await second.get_document("k", "n") == {"v": 1}
    await second.close()


async def test_a_closed_store_says_so_and_can_be_opened_again(store: MetadataStore) -> None:
    await store.create(UID, 1)
    await commit(store, 0, [put("a")])
    await store.close()
    await store.close()
    for call in (
        store.ping(),
        commit(store, 0, [put("b")]),
        store.fetch(UID, 0, ["a"]),
        store.get_document("k", "n"),
    ):
        with pytest.raises(StoreUnavailable):
            await call
    await store.open()
    await store.ping()
    assert await store.counters(UID, 0) == ShardCounters(1, 1)


async def test_closing_finishes_the_commits_under_way(make_store: MakeStore) -> None:
    store = make_store()
    await store.open()
    await store.create(UID, 1)
    commits = [asyncio.create_task(commit(store, 0, [put(f"p{number}")])) for number in range(20)]
    await asyncio.sleep(0)
    await store.close()
    outcomes = await asyncio.gather(*commits, return_exceptions=True)
    acknowledged = sum(not isinstance(outcome, BaseException) for outcome in outcomes)
    assert all(isinstance(outcome, list | StoreUnavailable) for outcome in outcomes)
    await store.open()
    assert (await store.counters(UID, 0)).points >= acknowledged
    await store.close()


async def test_fetch_all_joins_the_shards(store: MetadataStore) -> None:
    """Few ids go one way and many another; both say the same."""
    await store.create(UID, 2)
    for shard in (0, 1):
        await commit(store, shard, [put(*[f"s{shard}-{i}" for i in range(60)])])
    await commit(store, 1, [DeleteWrite(["s1-3"])])
    for count in (2, 60):
        wanted = {shard: [f"s{shard}-{i}" for i in range(count)] + ["absent", "s1-3"] for shard in (0, 1)}
        found = await store.fetch_all(UID, wanted, records=True)
        pages = [await store.fetch(UID, shard, ids, records=True) for shard, ids in wanted.items()]
        assert found == {point.id: point for page in pages for point in page if point is not None}
        assert len(found) == 2 * count - (count > 3)
    bare = await store.fetch_all(UID, {0: ["s0-1"]}, metadata=False)
    assert (bare["s0-1"].metadata, bare["s0-1"].record) == ("", b"")
    assert await store.fetch_all(UID, {}) == {}


# -- documents of several processes ------------------------------------------------------------------------------------


async def test_a_document_is_changed_only_where_it_is_what_was_read(store: MetadataStore) -> None:
    await store.replace_documents("k", {"a": {"v": 1, "w": [1]}}, [], expect={"a": None})
    before = await store.list_documents("k")
    for expect in ({"a": None}, {"a": {"v": 2}}, {"b": {"v": 1}}, {"a": {"v": 1, "w": [1]}, "b": {}}):
        with pytest.raises(StaleDocument, match="read it again"):
            await store.replace_documents("k", {"a": {"v": 3}, "c": {}}, ["a"], expect=expect)
        assert await store.list_documents("k") == before
    await store.replace_documents("k", {"b": {}}, ["a"], expect={"a": {"w": [1], "v": 1}, "b": None})
    assert await store.list_documents("k") == {"b": {}}
    await store.replace_documents("other", {"a": {}}, [], expect={"a": None})


async def test_of_many_that_make_or_change_a_document_none_undoes_another(
    store: MetadataStore, make_store: MakeStore
) -> None:
    other = store if isinstance(store, SqliteStore) else make_store()
    if other is not store:
        await other.open()

    async def make(one: MetadataStore, number: int) -> bool:
        try:
            await one.replace_documents("k", {"new": {"by": number}}, [], expect={"new": None})
        except StaleDocument:
            return False
        return True

    made = await asyncio.gather(*(make((store, other)[number % 2], number) for number in range(20)))
    assert made.count(True) == 1 and await store.get_document("k", "new") == {"by": made.index(True)}
    await store.put_document("k", "n", {"count": 0})

    async def add(one: MetadataStore) -> None:
        while True:
            found = await one.get_document("k", "n")
            assert found is not None
            with suppress(StaleDocument):
                await one.replace_documents("k", {"n": {"count": found["count"] + 1}}, [], expect={"n": found})
                return

    await asyncio.gather(*(add((store, other)[number % 2]) for number in range(20)))
    assert await store.get_document("k", "n") == {"count": 20}
    if other is not store:
        await other.close()


async def test_the_revision_grows_with_each_change_of_a_kind(store: MetadataStore, make_store: MakeStore) -> None:
    follower = make_store(role=Role.FOLLOWER)
    await follower.open()
    seen = [await follower.revision("k")]
    await store.put_document("k", "a", {})
    seen.append(await follower.revision("k"))
    await store.put_document("other", "a", {})
    assert await follower.revision("k") == seen[-1]
    await store.replace_documents("k", {"b": {}}, ["a"])
    seen.append(await follower.revision("k"))
    await store.delete_document("k", "b")
    seen.append(await follower.revision("k"))
    with pytest.raises(StaleDocument):
        await store.replace_documents("k", {"b": {}}, [], expect={"b": {}})
    assert await store.revision("k") == seen[-1]
    assert seen == sorted(set(seen)) and await follower.list_documents("k") == {}
    await follower.close()
    await store.close()
    await store.open()
    assert await store.revision("k") == seen[-1]


async def test_a_damaged_document_is_never_what_is_expected(store: MetadataStore, tmp_path: Path) -> None:
    await store.put_document("k", "a", {"v": 1})
    if isinstance(store, SqliteStore):
        with closing(sqlite3.connect(tmp_path / "store" / "catalog.db")) as connection, connection:
            connection.execute("update documents set value = '{\"v\": 2}x'")
    else:
        assert isinstance(store, RedisStore)
        await store._client.write("HSET", store._keys.documents("k"), "a", '{"v": 2}x')
    for expect in ({"a": {"v": 1}}, {"a": {"v": 2}}, {"a": None}):
        with pytest.raises(StaleDocument):
            await store.replace_documents("k", {"a": {}}, [], expect=expect)


async def test_documents_of_a_release_that_counted_no_changes(tmp_path: Path) -> None:
    """They are counted from now on; the copy of the catalog counts along, and can take its place."""
    folder = tmp_path / "store"
    store = SqliteStore(folder)
    await store.open()
    await store.put_document("k", "a", {})
    await store.close()
    for name in ("catalog.db", "catalog-copy.db"):
        with closing(sqlite3.connect(folder / name)) as connection, connection:
            connection.execute("drop table revisions")
    await store.open()
    assert await store.revision("k") == 0
    await store.put_document("k", "b", {})
    assert await store.revision("k") == 1
    await store.close()
    (folder / "catalog.db").write_bytes(b"damaged" * 999)
    await store.open()
    assert (await store.revision("k"), await store.list_documents("k")) == (1, {"a": {}, "b": {}})
    await store.close()
