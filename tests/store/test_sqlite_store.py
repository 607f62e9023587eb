"""What is SQLite's alone: files that are locked, damaged, foreign, missing or full, and how commits are grouped."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tests.store.points import UID, commit, put, puts, whole_feed
from tests.waiting import PATIENCE_SECONDS

from bebr.core.types import Puts
from bebr.errors import DamagedStore, IdempotencyConflict, InsufficientStorage, PayloadTooLarge, StoreUnavailable
from bebr.store import Commit, DeleteWrite, PutWrite, Receipt, ShardCounters
from bebr.store.sqlite.collection import CollectionFile, create_collection_file
from bebr.store.sqlite.files import translate
from bebr.store.sqlite.reading import FEW_IDS
from bebr.store.sqlite.store import SqliteStore
from bebr.store.sqlite.threads import POOL_THREADS


async def filled_folder(folder: Path) -> Path:
    """A closed store with 500 points; the path of their file."""
    store = SqliteStore(folder)
    await store.open()
    await store.create(UID, 1)
    await commit(store, 0, [put(*(f"p{number}" for number in range(500)))])
    await store.close()
    return folder / "collections" / f"{UID}.db"


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    await filled_folder(tmp_path)
    program = (
        "import asyncio, sys; from pathlib import Path; from bebr.store.sqlite.store import SqliteStore\n"
        "async def main():\n"
        "    store = SqliteStore(Path(sys.argv[1])); await store.open(); print('open', flush=True); sys.stdin.read()\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen(  # noqa: ASYNC220 nothing else runs on this loop
        [sys.executable, "-c", program, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(StoreUnavailable, match=f"in use by process {other.pid}"):
            await SqliteStore(tmp_path).open()
        other.kill()
    store = SqliteStore(tmp_path)
    await store.open()
    assert await store.counters(UID, 0) == ShardCounters(500, 500)
    await store.close()


async def test_a_second_store_of_this_process_is_refused(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    with pytest.raises(StoreUnavailable, match="in use"):
        await SqliteStore(tmp_path).open()
    await store.put_document("k", "n", {})
    await store.close()


async def test_a_lock_file_that_is_no_text_locks_as_any(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(b"\xff\xfe\x00 7")
    store = SqliteStore(tmp_path)
    await store.open()
    with pytest.raises(StoreUnavailable, match=f"in use by process {os.getpid()}"):
        await SqliteStore(tmp_path).open()
    await store.close()


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        await SqliteStore(tmp_path / "file").open()


@pytest.mark.parametrize("start", [0, 4096, 20_000], ids=["header", "table", "middle"])
async def test_overwritten_pages_are_damage(tmp_path: Path, start: int) -> None:
    path = await filled_folder(tmp_path)
    content = bytearray(path.read_bytes())
    content[start : start + 8192] = b"\xa5" * 8192
    path.write_bytes(content)
    store = SqliteStore(tmp_path)
    await store.open()
    with pytest.raises(DamagedStore, match=f"{UID}.db"):
        for number in range(500):
            await store.fetch(UID, 0, [f"p{number}"])
        await whole_feed(store)
        await store.counters(UID, 0)
    await store.close()


async def test_a_truncated_file_is_damage(tmp_path: Path) -> None:
    path = await filled_folder(tmp_path)
    path.write_bytes(path.read_bytes()[: 3 * 4096])
    store = SqliteStore(tmp_path)
    await store.open()
    with pytest.raises(DamagedStore):
        await whole_feed(store)
    with pytest.raises(DamagedStore):
        await commit(store, 0, [put("p1")])
    await store.close()


async def test_a_missing_file_is_damage_and_can_be_dropped(tmp_path: Path) -> None:
    (await filled_folder(tmp_path)).unlink()
    store = SqliteStore(tmp_path)
    await store.open()
    with pytest.raises(DamagedStore, match="missing"):
        await store.counters(UID, 0)
    await store.drop(UID)
    await store.create(UID, 1)
    assert await store.counters(UID, 0) == ShardCounters(0, 0)
    await store.close()


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = await filled_folder(tmp_path)
    for file in (path, tmp_path / "catalog.db"):
        with sqlite3.connect(file) as connection:
            connection.execute("pragma user_version = 2")
        connection.close()
        before = file.read_bytes()
        store = SqliteStore(tmp_path)
        with pytest.raises(DamagedStore, match="newer bebr"):
            await store.open()
            await store.counters(UID, 0)
        await store.close()
        assert file.read_bytes() == before


async def test_a_foreign_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        connection.execute("create table precious (x)")
        connection.execute("pragma user_version = 1")
    connection.close()
    before = (tmp_path / "catalog.db").read_bytes()
    with pytest.raises(DamagedStore, match="did not write"):
        await SqliteStore(tmp_path).open()
    assert (tmp_path / "catalog.db").read_bytes() == before


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_text("these are not the bytes of a database" * 100)
    with pytest.raises(DamagedStore):
        await SqliteStore(tmp_path).open()


async def test_an_interrupted_drop_is_finished_at_the_next_open(tmp_path: Path) -> None:
    path = await filled_folder(tmp_path)
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        connection.execute("update collections set dropped = 1")
    connection.close()
    store = SqliteStore(tmp_path)
    await store.open()
    assert not path.exists()
    await store.create(UID, 1)
    assert await store.counters(UID, 0) == ShardCounters(0, 0)
    await store.close()


def test_a_full_disk_is_insufficient_storage_and_nothing_is_applied(tmp_path: Path) -> None:
    """max_page_count represents the disk: SQLite reports both alike."""
    path = tmp_path / f"{UID}.db"
    create_collection_file(path, "full", 1)
    file = CollectionFile(path, "full", 60, epoch="e1")
    file.commit_group([Commit(0, [put("a")])])
    file._open_writer().execute("pragma max_page_count = 20")
    big = [put(*(f"p{number}" for number in range(3000)))]
    outcomes = file.commit_group([Commit(0, big), Commit(0, [put("b")])])
    assert isinstance(outcomes[0], InsufficientStorage)
    assert not isinstance(outcomes[1], Exception)  # the small commit of the same group still fits
    assert file.counters(0) == ShardCounters(2, 2)
    file.close()


def test_what_sqlite_errors_mean() -> None:
    for code, expected in (
        (sqlite3.SQLITE_CORRUPT, DamagedStore),
        (sqlite3.SQLITE_NOTADB, DamagedStore),
        (sqlite3.SQLITE_FULL, InsufficientStorage),
        (sqlite3.SQLITE_TOOBIG, PayloadTooLarge),
        (sqlite3.SQLITE_IOERR | 3 << 8, StoreUnavailable),
        (sqlite3.SQLITE_CANTOPEN, StoreUnavailable),
        (sqlite3.SQLITE_BUSY, StoreUnavailable),
    ):
        error = sqlite3.OperationalError("text")
        error.sqlite_errorcode = code
        assert type(translate(error, Path("x.db"))) is expected


async def test_more_collections_than_open_files(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, max_open_files=3)
    await store.open()
    uids = [f"{number:016x}" for number in range(10)]
    for uid in uids:
        await store.create(uid, 1)
    await asyncio.gather(*(commit(store, 0, [put(uid)], uid=uid) for uid in uids))
    assert [await store.counters(uid, 0) for uid in uids] == [ShardCounters(1, 1)] * 10
    assert len(store._files) <= 3
    await store.close()


async def test_long_reads_and_commits_at_once(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    await store.create(UID, 1)
    ids = [f"p{number}" for number in range(5000)]
    await commit(store, 0, [put(*ids)])
    feeds = [asyncio.create_task(whole_feed(store)) for _ in range(4)]
    fetches = [asyncio.create_task(store.fetch(UID, 0, ids)) for _ in range(4)]
    cancelled = asyncio.create_task(store.feed(UID, 0, 0, 5000))
    await asyncio.sleep(0.01)
    cancelled.cancel()
    await commit(store, 0, [DeleteWrite(ids[:100])])
    assert await store.purge_tombstones(UID, 0, 10_000) == 100
    for feed in await asyncio.gather(*feeds):
        assert len({entry.id for entry in feed}) == len(feed) >= 4900
    assert all(len(found) == 5000 for found in await asyncio.gather(*fetches))
    await store.close()


async def test_the_commits_of_one_call_share_a_transaction(tmp_path: Path) -> None:
    """400 commits of two shards, one of which is refused, take one fsync."""
    path = tmp_path / f"{UID}.db"
    create_collection_file(path, "full", 2)
    file = CollectionFile(path, "full", 60, epoch="e1")
    statements: list[str] = []
    file._open_writer().set_trace_callback(statements.append)
    commits = [Commit(n % 2, [put(f"p{n}", receipt=Receipt(f"k{n}", b"1"))]) for n in range(400)]
    commits[200] = Commit(0, [put("other", receipt=Receipt("k0", b"2"))])
    outcomes = file.commit_group(commits)
    assert isinstance(outcomes.pop(200), IdempotencyConflict)
    seqs = [outcome[0].first_seq for outcome in outcomes if isinstance(outcome, list)]
    assert sorted(seqs) == sorted([*range(1, 200), *range(1, 201)])
    assert [statement for statement in statements if statement.startswith(("begin", "commit"))] == [
        "begin immediate",
        "commit",
    ]
    file.close()


async def test_a_group_is_split_into_statements_that_sqlite_can_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bebr.store.sqlite.statements.INSERT_CHUNK_BYTES", 1000)
    store = SqliteStore(tmp_path)
    await store.open()
    await store.create(UID, 1)
    ids = [f"p{number}" for number in range(300)]
    batch = puts(ids)
    texts = ["x" * (number * 37 % 2500) for number in range(300)]
    await commit(store, 0, [PutWrite(Puts(ids, 1, batch.records, texts))])
    found = await store.fetch(UID, 0, ids, records=True)
    assert [point and (point.metadata, point.record) for point in found] == [
        (text, row.tobytes()) for text, row in zip(texts, batch.records, strict=True)
    ]
    await store.close()


async def test_the_file_becomes_smaller_when_points_are_deleted(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    await store.create(UID, 1)
    pages = [[f"p{n}" for n in range(start, start + 500)] for start in range(0, 4000, 500)]
    for ids in pages:
        await commit(store, 0, [PutWrite(Puts(ids, 1, np.zeros((500, 66), np.uint8), ['"' + "x" * 4000 + '"'] * 500))])
    for ids in pages:
        await commit(store, 0, [DeleteWrite(ids)])
    await store.purge_tombstones(UID, 0, 10_000)
    await store.close()
    size = sum(file.stat().st_size for file in (tmp_path / "collections").iterdir())
    assert size < 6 * 2**20, "16 MB were written, and 4 MB may be kept for what comes next"


async def test_a_kill_before_the_tables_of_a_new_collection_are_there_does_not_stop_the_start(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    await store.close()
    with closing(sqlite3.connect(tmp_path / "collections" / f"{'c' * 24}.db")) as connection:
        connection.execute("pragma journal_mode = wal")  # as far as it had come
    await store.open()
    await store.create("c" * 24, 1)
    assert (await store.counters("c" * 24, 0)).last_seq == 0
    await store.close()


async def test_many_points_are_not_fetched_on_the_event_loop(tmp_path: Path) -> None:
    """They may have megabytes of metadata. While all threads of the store are held, few points are fetched."""
    await filled_folder(tmp_path)
    store = SqliteStore(tmp_path)
    await store.open()
    ids = [f"p{number}" for number in range(500)]
    gate, pool = threading.Event(), store._threads.pool
    held = [pool.submit(gate.wait, PATIENCE_SECONDS) for _ in range(POOL_THREADS)]
    try:
        for count in (1, FEW_IDS):
            found = await store.fetch(UID, 0, ids[:count])
            assert [point.id for point in found if point] == ids[:count]
            assert len(await store.fetch_all(UID, {0: ids[:count]})) == count
        counts = (FEW_IDS + 1, 256, 500)
        many = [asyncio.create_task(store.fetch(UID, 0, ids[:count])) for count in counts]
        of_all = [asyncio.create_task(store.fetch_all(UID, {0: ids[:count]})) for count in counts]
        await asyncio.wait([*many, *of_all], timeout=0.1)
        assert not any(task.done() for task in (*many, *of_all))
    finally:
        gate.set()
    assert [len(found) for found in await asyncio.gather(*many)] == list(counts)
    assert [len(found) for found in await asyncio.gather(*of_all)] == list(counts)
    assert all(future.result() for future in held)
    await store.close()
