"""A store knows who it is and what it wrote when: an older copy, a copy that went on, another store are recognized."""

import shutil
import sqlite3
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from tests.servers import Server, ServerKind, running_server
from tests.store.points import UID, MakeStore, answers, commit, put
from tests.waiting import until

from bebr.core.history import MAX_EPOCHS, Epoch, History, Mark
from bebr.errors import DamagedStore, StoreUnavailable
from bebr.store import Committed, MetadataStore
from bebr.store.redis.store import RedisStore
from bebr.store.sqlite.store import SqliteStore


async def mark(store: MetadataStore, shard: int = 0) -> Mark:
    """Of the last operation."""
    history = await store.history(UID, shard)
    return history.mark(history.last_seq)


async def lost(store: MetadataStore, mark: Mark, shard: int = 0) -> str:
    """Why the store does not have the operation; empty where it has it."""
    loss = (await store.history(UID, shard)).lost(mark)
    return loss.reason if loss else ""


async def test_the_id_is_made_once_and_renewed_on_purpose(make_store: MakeStore) -> None:
    ids = []
    for renew in (False, True, False):
        store = make_store()
        await store.open()
        ids.append(await store.identity())
        if renew:
            ids.append(await store.renew_identity())
            assert await store.identity() == ids[-1]
        await store.close()
    assert len(ids[0]) >= 16 and ids == [ids[0], ids[0], ids[2], ids[2]] and ids[0] != ids[2]


async def test_a_mark_is_known_for_ever(make_store: MakeStore) -> None:
    marks: list[Mark] = []
    for round in range(3):
        store = make_store()
        await store.open()
        await store.create(UID, 2)
        for n in range(2):
            await commit(store, 0, [put(f"p{round}-{n}")])
            marks.append(await mark(store))
        assert [await lost(store, known) for known in marks] == [""] * len(marks)
        assert await lost(store, await mark(store, 1), 1) == ""
        await store.close()
    assert [known.seq for known in marks] == [1, 2, 3, 4, 5, 6]
    assert len({known.epoch for known in marks}) == (3 if isinstance(store, SqliteStore) else 1)
    assert len({known.store for known in marks}) == 1


async def test_a_mark_of_what_comes_next_is_known_once_it_is_there(store: MetadataStore) -> None:
    await store.create(UID, 1)
    before = await store.history(UID, 0)
    assert before.lost(before.mark(2)) is not None
    await commit(store, 0, [put("a", "b")])
    assert await lost(store, before.mark(2)) == ""


async def test_a_copy_that_went_on_is_told_from_the_original(tmp_path: Path) -> None:
    """Both were written to after they parted, so their seqs say nothing."""
    store = SqliteStore(tmp_path / "one")
    await store.open()
    await store.create(UID, 1)
    await commit(store, 0, [put("a", "b")])
    common = await mark(store)
    await store.close()
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    marks = {}
    for name, more in (("two", ["c"]), ("one", ["d", "e"])):
        store = SqliteStore(tmp_path / name)
        await store.open()
        await commit(store, 0, [put(*more)])
        marks[name] = await mark(store)
        await store.close()
    for name, other in (("one", "two"), ("two", "one")):
        store = SqliteStore(tmp_path / name)
        await store.open()
        assert await lost(store, common) == await lost(store, marks[name]) == ""
        assert f"went back from {marks[other].seq}" in await lost(store, marks[other])
        await store.close()


async def test_another_store_is_told_by_its_id(make_store: MakeStore, store: MetadataStore) -> None:
    await store.create(UID, 1)
    await commit(store, 0, [put("a")])
    known = await mark(store)
    await store.renew_identity()
    assert "another one" in await lost(store, known)


async def test_marks_without_ids_are_of_what_came_before_all_epochs(tmp_path: Path) -> None:
    """A folder that a release without ids wrote: it gets its id, and what it has stays known."""
    store = SqliteStore(tmp_path)
    await store.open()
    await store.create(UID, 1)
    await commit(store, 0, [put("a", "b")])
    await store.close()
    for path, table in ((tmp_path / "catalog.db", "identity"), (tmp_path / "collections" / f"{UID}.db", "epochs")):
        with sqlite3.connect(path) as connection:
            connection.execute(f"drop table {table}")
        connection.close()
    await store.open()
    assert await store.identity()
    assert (await lost(store, Mark("", "", 2)), await lost(store, Mark("", "", 1))) == ("", "")
    assert "went back from 3 to 2" in await lost(store, Mark("", "", 3))
    await commit(store, 0, [put("c")])
    assert await lost(store, Mark("", "", 2)) == ""
    assert await lost(store, Mark("", "", 3)), "a mark without an id cannot be of what was written since"
    await store.close()


@pytest.mark.parametrize("kind", list(ServerKind))
async def test_a_commit_does_not_go_on_from_less_than_was_acknowledged(
    kind: ServerKind, request: pytest.FixtureRequest
) -> None:
    server: Server = request.getfixturevalue(f"{kind}_server")
    prefix = f"test-{uuid4().hex}"
    store = RedisStore(server.url, timeout_seconds=60, prefix=prefix)
    await store.open()
    await store.create(UID, 1)
    await commit(store, 0, [put("a", "b")])
    parts = ("info", "points", "feed")
    for part in parts:
        server.command("COPY", f"{{{prefix}:{UID}:0}}:{part}", f"{{{prefix}:{UID}:0}}:old-{part}")
    kept = await mark(store)
    await commit(store, 0, [put("c", "d", "e")])
    gone = await mark(store)
    for part in parts:  # what a failover to a replica that had not heard of it does
        server.command("COPY", f"{{{prefix}:{UID}:0}}:old-{part}", f"{{{prefix}:{UID}:0}}:{part}", "REPLACE")
    with pytest.raises(StoreUnavailable, match="went back from 5 to 2"):
        await commit(store, 0, [put("f")])
    assert [entry.id for entry in (await store.feed(UID, 0, 0, 9)).entries] == ["a", "b"]
    assert await commit(store, 0, [put("f", "g", "h", "i")]) == [Committed([True] * 4, 3, 6)]
    assert await lost(store, kept) == "" and "went back from 5 to 2" in await lost(store, gone)
    await store.close()


async def test_few_epochs_are_kept(make_store: MakeStore) -> None:
    for number in range(3):
        store = make_store()
        await store.open()
        await store.create(UID, 1)
        for _ in range(2):
            await commit(store, 0, [put(f"p{number}")])
        assert len((await store.history(UID, 0)).epochs) == (number + 1 if isinstance(store, SqliteStore) else 1)
        await store.close()
    many = History("s", [Epoch(n, f"e{n}") for n in range(MAX_EPOCHS)], MAX_EPOCHS, lossless=False)
    assert many.lost(many.mark(7)) is None and many.lost(Mark("s", "older", 3))


@pytest.mark.parametrize("missing", ["catalog.db", "catalog.db-wal", "everything in catalog.db"])
async def test_files_of_collections_without_a_catalog_are_damage(tmp_path: Path, missing: str) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    await store.create(UID, 1)
    await store.put_document("k", "n", {"a": 1})
    await commit(store, 0, [put("a")])
    # As kill -9 leaves them: copied while they are open.
    shutil.copytree(tmp_path, tmp_path / "copy")
    await store.close()
    folder = tmp_path / "copy"
    assert (folder / "collections" / f"{UID}.db-wal").exists()
    if missing.startswith("everything"):
        (folder / "catalog.db").write_bytes(b"")
        (folder / "catalog.db-wal").unlink()
    else:
        (folder / missing).unlink()
    store = SqliteStore(folder)
    if missing == "catalog.db-wal":  # nothing was in it alone
        await store.open()
        assert await store.get_document("k", "n") == {"a": 1} and await store.fetch(UID, 0, ["a"])
        await store.close()
        return
    with pytest.raises(DamagedStore, match=r"catalog.db .*Restore .*`mv .*catalog-copy.db.*; or, to go on without"):
        await store.open()
    (folder / "collections").rename(folder / "aside")
    await store.open()
    await store.close()


async def test_what_a_crash_leaves_of_a_collection_that_was_not_made_is_no_damage(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    await store.create(UID, 1)
    await store.close()
    shutil.copy(tmp_path / "collections" / f"{UID}.db", tmp_path / "collections" / f"{'b' * 16}.db")
    (tmp_path / "collections" / f"{'c' * 16}.db").touch()
    await store.open()
    await store.create("b" * 16, 1)
    await store.create("c" * 16, 1)
    assert [(await store.counters(uid * 16, 0)).last_seq for uid in "bc"] == [0, 0]
    await store.close()


@pytest.mark.parametrize("kind", list(ServerKind))
async def test_writers_of_one_server_share_its_epoch(kind: ServerKind, request: pytest.FixtureRequest) -> None:
    """However often they take turns; so no shard forgets what it was, and a mark of either is known to the other."""
    server: Server = request.getfixturevalue(f"{kind}_server")
    prefix = f"test-{uuid4().hex}"
    stores = [RedisStore(server.url, timeout_seconds=60, prefix=prefix) for _ in range(2)]
    for store in stores:
        await store.open()
    await stores[0].create(UID, 1)
    marks = []
    for turn in range(MAX_EPOCHS + 44):
        (committed,) = await commit(stores[turn % 2], 0, [put(f"p{turn % 7}")])
        assert committed.epoch is not None and (committed.epoch.start_seq == 0) == (turn == 0)
        marks.append(Mark(await stores[0].identity(), committed.epoch.name, committed.last_seq))
    for store in stores:
        history = await store.history(UID, 0)
        assert len(history.epochs) == 1 and [history.lost(known) for known in marks] == [None] * len(marks)
        await store.close()


async def test_an_epoch_begins_where_a_server_takes_over() -> None:
    """A server that was restarted with an older file is told from the one that went on, whoever writes to it."""
    with running_server(ServerKind.VALKEY) as server:
        stores = [RedisStore(server.url, timeout_seconds=60, prefix="p") for _ in range(2)]
        for store in stores:
            await store.open()
        writer, other = stores
        await writer.create(UID, 1)
        await commit(writer, 0, [put("a", "b")])
        kept = (await writer.history(UID, 0)).mark(2)
        server.keep_files()
        await commit(writer, 0, [put("c", "d", "e")])
        gone = (await writer.history(UID, 0)).mark(5)
        server.kill()
        server.put_back_files()
        server.start()
        for store in stores:
            await until(partial(answers, store), "the server answers again")
        for turn in range(4):  # `other` has acknowledged nothing, and goes on from what is there
            await commit(other, 0, [put(f"o{turn}")])
        history = await other.history(UID, 0)
        assert history.last_seq > gone.seq and [epoch.start_seq for epoch in history.epochs] == [0, 2]
        for store in stores:
            history = await store.history(UID, 0)
            loss = history.lost(gone)
            assert history.lost(kept) is None and loss is not None and "went back from 5 to 2" in loss.reason
            await store.close()


def test_an_epoch_that_somebody_else_began_does_not_go_on_from_a_view() -> None:
    history = History("s", [Epoch(0, "a")], 90, lossless=False)
    assert history.after(Epoch(-1, "a"), 90) is history
    assert history.after(Epoch(-1, "b"), 90) is None, "what the view has may be what b does not have"
    assert history.after(Epoch(50, "b"), 90) is None
    gone_on = history.after(Epoch(90, "b"), 90)
    assert gone_on is not None and (gone_on.mark(90).epoch, gone_on.mark(91).epoch) == ("a", "b")
