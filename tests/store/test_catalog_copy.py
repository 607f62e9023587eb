"""A damaged catalog of the SQLite store: its copy has all that was acknowledged, and takes its place."""

import asyncio
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.store.points import UID, commit, put

from bebr.errors import DamagedStore
from bebr.store.sqlite.store import SqliteStore

OTHER, DROPPED = "b" * 16, "c" * 16
DOCUMENTS = {"n": {"a": 2}, "large": {"text": "x" * 20_000}}


def overwrite(data: bytes, start: int) -> bytes:
    return data[:start] + b"\xa5" * 4096 + data[start + 4096 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "half": lambda data: data[: len(data) // 2],
    "its header": lambda data: overwrite(data, 0),
    "its first table": lambda data: overwrite(data, 4096),
    "its end": lambda data: overwrite(data, len(data) - 4096),
    "all of it": lambda data: bytes(len(data)),
}


async def fill(folder: Path) -> SqliteStore:
    """A store that is open, with each kind of change made since its start."""
    store = SqliteStore(folder)
    await store.open()
    for uid in (UID, OTHER, DROPPED):
        await store.create(uid, 1)
    await store.put_document("k", "n", {"a": 1})
    await store.put_document("k", "gone", {})
    await store.renew_identity()
    await store.replace_documents("k", DOCUMENTS, ["gone"])
    await store.drop(DROPPED)
    await commit(store, 0, [put("a")])
    return store


async def state(folder: Path) -> tuple[Any, ...]:
    store = SqliteStore(folder)
    await store.open()
    found = await store.fetch(UID, 0, ["a"])
    known = (await store.identity(), await store.list_documents("k"), store._catalog.shards, found)
    await store.close()
    return known


@pytest.mark.parametrize(("damage", "killed"), [*((damage, False) for damage in DAMAGES), ("half", True)])
async def test_a_damaged_catalog_is_replaced_by_its_copy(
    tmp_path: Path, damage: str, killed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    store, folder = await fill(tmp_path / "store"), tmp_path / "here"
    if killed:
        shutil.copytree(tmp_path / "store", folder)
    expected = (await store.identity(), DOCUMENTS, {UID: 1, OTHER: 1}, await store.fetch(UID, 0, ["a"]))
    await store.close()
    if not killed:
        shutil.copytree(tmp_path / "store", folder)
    catalog = folder / "catalog.db"
    damaged = DAMAGES[damage](catalog.read_bytes())
    catalog.write_bytes(damaged)
    (folder / "catalog.db.tmp").write_bytes(b"what a crash left of an earlier try")
    assert await state(folder) == expected
    assert "the catalog is damaged, its copy is used" in caplog.text
    assert (folder / "catalog.db.damaged").read_bytes()[4096:] == damaged[4096:]
    caplog.clear()
    assert await state(folder) == expected and caplog.text == ""


async def test_a_damaged_copy_is_made_anew(tmp_path: Path) -> None:
    await (await fill(tmp_path)).close()
    copy = tmp_path / "catalog-copy.db"
    expected, sound = await state(tmp_path), copy.stat().st_size
    for content in (b"", b"no database", copy.read_bytes()[:5000]):
        copy.write_bytes(content)
        assert await state(tmp_path) == expected and copy.stat().st_size >= sound
    copy.unlink()  # as in folders of older releases
    assert await state(tmp_path) == expected
    (tmp_path / "catalog.db").write_bytes(b"no database either" * 100)
    assert await state(tmp_path) == expected


async def test_where_both_are_damaged_the_store_does_not_open(tmp_path: Path) -> None:
    await (await fill(tmp_path)).close()
    for name in ("catalog.db", "catalog-copy.db"):
        (tmp_path / name).write_bytes(overwrite((tmp_path / name).read_bytes(), 0))
    kept = {path: path.read_bytes() for path in tmp_path.glob("*.db")}
    with pytest.raises(
        DamagedStore, match=r"catalog.db is damaged .* catalog-copy.db is no help .*`bebr restore FILE`"
    ):
        await SqliteStore(tmp_path).open()
    assert {path: path.read_bytes() for path in tmp_path.glob("*.db")} == kept


async def test_the_copy_of_a_catalog_that_is_missing_is_put_back_by_the_named_command(tmp_path: Path) -> None:
    """Somebody took it away: that is not for the service to judge."""
    await (await fill(tmp_path)).close()
    expected = await state(tmp_path)
    for take_away in (lambda path: path.unlink(), lambda path: path.write_bytes(b"")):
        take_away(tmp_path / "catalog.db")
        with pytest.raises(DamagedStore, match="mv ") as refused:
            await SqliteStore(tmp_path).open()
        await asyncio.to_thread(subprocess.run, refused.value.detail.split("`")[1], shell=True, check=True)
        assert await state(tmp_path) == expected


async def test_a_copy_that_cannot_be_written_is_given_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An older copy in the place of the catalog would be a loss that nobody hears of."""
    store, copy = await fill(tmp_path), tmp_path / "catalog-copy.db"
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("drop table documents")
    await store.put_document("k", "late", {})
    assert not copy.exists() and "the catalog has no copy until the next start" in caplog.text
    await store.put_document("k", "later", {})
    await store.close()
    assert set((await state(tmp_path))[1]) == {*DOCUMENTS, "late", "later"} and copy.exists()
