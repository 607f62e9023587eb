"""A backup that is not whole is refused before anything is changed, and one that fails leaves nothing behind."""

import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.store.points import UID, MakeStore, commit, put

from bebr.core.operations import FeedEntry
from bebr.core.types import Puts
from bebr.errors import AlreadyExists, BebrError, Conflict, Damaged, DamagedStore, InsufficientStorage
from bebr.store import RESERVOIR, RESERVOIR_PAGE, DeleteWrite, MetadataStore, PutWrite
from bebr.store.backup import archive
from bebr.store.backup.make import make_backup
from bebr.store.backup.restore import needed_bundles, read_backup, restore_backup
from bebr.store.redis.reader import RedisReader
from bebr.store.redis.store import RedisStore
from bebr.store.sqlite.reader import FrozenFile, SqliteReader
from bebr.store.sqlite.store import SqliteStore

VERSIONS = [{"bundle": "a@1", "fingerprint": "f1"}, {"bundle": "own-docs@1", "model": "b@2", "model_fingerprint": "f2"}]
DOCUMENT = {"uid": UID, "shards": 2, "versions": VERSIONS}


async def filled(folder: Path, points: int = 300) -> Path:
    """A folder with one collection of two shards and all kinds of documents."""
    store = SqliteStore(folder)
    await store.open()
    await store.create(UID, 2)
    await store.put_document("collection", "docs", DOCUMENT)
    await store.put_document("alias", "prod", {"collection": "docs"})
    await store.put_document("alias", "lost", {"collection": "gone"})
    await store.put_document("binarizer", "own-docs@1", {"graph": "AA=="})
    await store.put_document("calibration", "c", {"a": 1})
    await commit(store, 0, [put(*(f"p{n}" for n in range(points))), DeleteWrite(["p7"])])
    text = '{"t":"' + "ü" * 3_000_000 + '"}'
    await commit(store, 1, [PutWrite(Puts(["big"], 3, np.zeros((1, 66), np.uint8), [text]))])
    await store.close()
    return folder


async def backed_up(reader: Any, file: Path, **options: Any) -> Any:
    await reader.open()
    try:
        return await make_backup(reader, file, "test", lambda *_: None, **options)
    finally:
        await reader.close()


async def restore(folder: Path, file: Path) -> None:
    manifest, documents = read_backup(file)
    store = SqliteStore(folder)
    await store.open()
    try:
        await restore_backup(store, file, manifest, documents, lambda *_: None)
    finally:
        await store.close()


async def test_documents_and_points_come_back_under_another_id(tmp_path: Path) -> None:
    folder, file = await filled(tmp_path / "a"), tmp_path / "backup"
    manifest = await backed_up(SqliteReader(folder), file)
    assert [path.name for path in tmp_path.iterdir() if "tmp" in path.name] == []
    assert [(shard.points, shard.seq) for shard in manifest.collections[0].shards] == [(299, 301), (1, 1)]
    _, documents = read_backup(file)
    assert needed_bundles(documents) == {"a@1": "f1", "b@2": "f2"}
    await restore(tmp_path / "b", file)
    stores = [SqliteStore(folder), SqliteStore(tmp_path / "b")]
    for store in stores:
        await store.open()
    old, new = stores
    for kind in ("collection", "binarizer", "calibration"):
        assert await new.list_documents(kind) == await old.list_documents(kind)
    assert await new.list_documents("alias") == {"prod": {"collection": "docs"}}, "an alias of nothing stays away"
    for shard in (0, 1):
        ids = [*(f"p{n}" for n in range(300)), "big"]
        was, now = [await store.fetch(UID, shard, ids, records=True) for store in stores]
        assert [p and (p.id, p.version, p.record, p.metadata) for p in was] == [
            p and (p.id, p.version, p.record, p.metadata) for p in now
        ]
    assert await old.identity() != await new.identity()
    for store in stores:
        await store.close()
    with pytest.raises(AlreadyExists, match="not empty"):
        await restore(folder, file)


async def test_a_file_that_is_not_whole_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    folder, file, bad = await filled(tmp_path / "a"), tmp_path / "backup", tmp_path / "bad"
    await backed_up(SqliteReader(folder), file)
    whole = file.read_bytes()
    cuts = [whole[:size] for size in (0, 100, 512, 5000, len(whole) // 2, len(whole) - 12_000)]
    flips = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(3, len(whole) - 10_240, 997)]
    for content in [*cuts, *flips, whole + whole, b"not a tar" * 1000]:
        bad.write_bytes(content)
        try:
            read = read_backup(bad)
        except Damaged:
            continue
        assert read == read_backup(file), "what is not noticed is nothing that is read, such as padding"
    with tarfile.open(bad, "w") as tar:
        tar.add(file, "other")
    with pytest.raises(Damaged, match="no manifest"):
        read_backup(bad)


async def test_a_backup_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    class Failing(SqliteReader):
        @asynccontextmanager
        async def frozen(self, uid: str, shards: int) -> AsyncIterator[FrozenFile]:
            async with super().frozen(uid, shards):
                raise InsufficientStorage("no")
                yield

    folder, file = await filled(tmp_path / "a"), tmp_path / "backup"
    file.write_bytes(b"before")
    with pytest.raises(InsufficientStorage):
        await backed_up(Failing(folder), file)
    assert file.read_bytes() == b"before" and sorted(tmp_path.iterdir()) == [folder, file]


async def test_a_restore_that_fails_takes_back_what_it_did(tmp_path: Path) -> None:
    class Full(SqliteStore):
        async def commit(self, uid: str, commits: Any) -> Any:
            return [InsufficientStorage("no")] if commits[0].shard else await super().commit(uid, commits)

    folder, file = await filled(tmp_path / "a"), tmp_path / "backup"
    await backed_up(SqliteReader(folder), file)
    manifest, documents = read_backup(file)
    store = Full(tmp_path / "b")
    await store.open()
    with pytest.raises(InsufficientStorage):
        await restore_backup(store, file, manifest, documents, lambda *_: None)
    await store.close()
    assert list((tmp_path / "b" / "collections").iterdir()) == []
    await restore(tmp_path / "b", file)


@pytest.mark.parametrize("changes", [1, 100])
async def test_a_collection_whose_document_changes_meanwhile_is_read_again(tmp_path: Path, changes: int) -> None:
    writes = 0

    class Changing(SqliteReader):
        @asynccontextmanager
        async def frozen(self, uid: str, shards: int) -> AsyncIterator[FrozenFile]:
            nonlocal writes
            async with super().frozen(uid, shards) as found:
                yield found
                if writes < changes:
                    writes += 1
                    await store.put_document("collection", "docs", DOCUMENT | {"n": writes})

    folder, file = await filled(tmp_path / "a"), tmp_path / "backup"
    store = SqliteStore(folder)
    await store.open()
    if changes > 1:
        with pytest.raises(Conflict, match="try again later"):
            await backed_up(Changing(folder), file)
    else:
        await backed_up(Changing(folder), file)
        manifest, documents = read_backup(file)
        assert documents["collection"]["docs"]["n"] == 1
        assert len(manifest.members) == len({member.name for member in manifest.members})
    await store.close()


async def test_a_damaged_collection_stops_a_backup_unless_it_is_left_out(tmp_path: Path) -> None:
    folder, file = await filled(tmp_path / "a"), tmp_path / "backup"
    store = SqliteStore(folder)
    await store.open()
    other = "b" * 24
    await store.create(other, 1)
    await store.put_document("collection", "other", DOCUMENT | {"uid": other, "shards": 1})
    await commit(store, 0, [put("x")], other)
    await store.close()
    (folder / "collections" / f"{UID}.db").write_bytes(b"damaged" * 1000)
    with pytest.raises(DamagedStore, match="--skip-damaged"):
        await backed_up(SqliteReader(folder), file)
    manifest = await backed_up(SqliteReader(folder), file, skip_damaged=True)
    assert manifest.left_out == ["docs"] and [one.name for one in manifest.collections] == ["other"]
    await restore(tmp_path / "b", file)


async def test_no_tombstone_is_purged_while_a_backup_of_redis_reads(make_store: MakeStore) -> None:
    store: MetadataStore = make_store()
    if not isinstance(store, RedisStore):
        pytest.skip("SQLite reads in one transaction")
    await store.open()
    await store.create(UID, 2)
    await commit(store, 0, [put("a", "b"), DeleteWrite(["a"])])
    other = make_store()
    assert isinstance(other, RedisStore)
    reader = RedisReader(other)
    await reader.open()
    async with reader.frozen(UID, 2) as frozen:
        assert await store.purge_tombstones(UID, 0, 3) == 0
        entries: list[FeedEntry] = await frozen.feed(0, 0, 10)
        assert [(entry.id, entry.record is None) for entry in entries] == [("b", False), ("a", True)]
    assert await store.purge_tombstones(UID, 0, 3) == 1
    async with reader.frozen(UID, 2) as frozen:
        await store.hold_tombstones(UID, 0, 0)
        await commit(store, 0, [DeleteWrite(["b"])])
        await store.purge_tombstones(UID, 0, 4)
        with pytest.raises(Conflict):
            await frozen.counters(0)
    await reader.close()
    await store.close()


async def test_there_is_nothing_to_back_up(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    reader = RedisReader(store) if isinstance(store, RedisStore) else SqliteReader(tmp_path / "nothing")
    with pytest.raises(BebrError, match="there is no store"):
        await backed_up(reader, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


class Rewritten(SqliteReader):
    """A store whose service writes the pages of a sample anew after the first of them was read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._store = SqliteStore(folder)
        self._folder = folder
        self._done = False

    async def get_document(self, kind: str, name: str) -> Any:
        found = await super().get_document(kind, name)
        if kind == RESERVOIR_PAGE and not self._done:
            self._done = True
            await self._store.open()
            await self._store.put_document(RESERVOIR_PAGE, f"{UID}-2", {"ids": ["c"], "records": ""})
            await self._store.put_document(RESERVOIR, UID, {"first": 2, "next": 3})
            await self._store.delete_document(RESERVOIR_PAGE, f"{UID}-1")
            await self._store.close()
        return found


async def test_pages_of_a_sample_that_are_written_anew_meanwhile_are_those_of_one_time(tmp_path: Path) -> None:
    source = await filled(tmp_path / "source", points=10)
    store = SqliteStore(source)
    await store.open()
    for number in range(2):
        await store.put_document(RESERVOIR_PAGE, f"{UID}-{number}", {"ids": ["ab"[number]], "records": ""})
    await store.put_document(RESERVOIR, UID, {"first": 0, "next": 2})
    await store.close()
    await backed_up(Rewritten(source), tmp_path / "file")
    await restore(tmp_path / "target", tmp_path / "file")
    store = SqliteStore(tmp_path / "target")
    await store.open()
    assert await store.list_documents(RESERVOIR_PAGE) == {f"{UID}-2": {"ids": ["c"], "records": ""}}
    assert await store.list_documents(RESERVOIR) == {UID: {"first": 2, "next": 3}}
    await store.close()


async def test_backups_of_the_format_before_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have no documents but those of the one member."""
    source = await filled(tmp_path / "source", points=10)
    monkeypatch.setattr(archive, "FORMAT", 1)
    await backed_up(SqliteReader(source), tmp_path / "file")
    monkeypatch.undo()
    await restore(tmp_path / "target", tmp_path / "file")
    store = SqliteStore(tmp_path / "target")
    await store.open()
    assert (await store.counters(UID, 0)).points == 9
    await store.close()
