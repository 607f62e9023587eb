"""Stores that are older, newer, cut or others than the segments beside them: noticed, said, and never served unsaid."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.engine.running import running

from bebr.core.types import WriteMode
from bebr.engine import Engine
from bebr.engine.statuses import CollectionStatus
from bebr.errors import DamagedCollection, DamagedStore
from engine.test_engine import codes, make, points, search


async def write(engine: Engine, start: int, stop: int) -> None:
    await engine.write_points("docs", points(stop)[start:], WriteMode.UPSERT)


async def session(folder: Path, start: int, stop: int) -> None:
    """A run of the service that writes the points from `start` to `stop`, and ends in order."""
    async with running(folder) as engine:
        if not engine.list_collections():
            await make(engine, shards=2)
        await write(engine, start, stop)


def restore_store(copy: Path, folder: Path) -> None:
    """Put a copy of the store beside the segments of a data folder."""
    shutil.rmtree(folder / "store")
    shutil.copytree(copy / "store", folder / "store")


async def check_serves(engine: Engine, ids: Sequence[str]) -> CollectionStatus:
    """The index has exactly these points: counts, lists, searches and the store agree."""
    assert engine.readiness().ready
    assert await engine.count("docs", None) == len(ids)
    page = await engine.scroll("docs", None, 1000, None)
    assert [point.id for point in page.points] == sorted(ids)
    result = await search(engine, codes(1)[0], limit=1000)
    assert sorted(hit.id for hit in result.hits) == sorted(ids)
    return await engine.describe_collection("docs")


def ids(*ranges: tuple[int, int]) -> list[str]:
    known = [str(point["id"]) for point in points(500)]
    return [known[i] for start, stop in ranges for i in range(start, stop)]


async def test_an_older_store_beside_newer_segments(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, older = tmp_path / "data", tmp_path / "older"
    await session(folder, 0, 200)
    shutil.copytree(folder, older)
    await session(folder, 150, 500)
    restore_store(older, folder)
    async with running(folder) as engine:
        status = await check_serves(engine, ids((0, 200)))
        assert (status.losses, status.rebuilds, status.rebuilding) == (2, 2, 0), "each shard says so"
        said = [record.fields["why"] for record in caplog.records if record.levelno == logging.ERROR]  # type: ignore[attr-defined]
        assert len(said) == 2 and all("went back from" in why for why in said)
        await write(engine, 300, 320)
    async with running(folder) as engine:
        status = await check_serves(engine, ids((0, 200), (300, 320)))
        assert (status.losses, status.rebuilds) == (0, 0), "it is said once"


async def test_a_newer_store_beside_older_segments(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is lost: the segments are brought up to it."""
    folder, older = tmp_path / "data", tmp_path / "older"
    await session(folder, 0, 200)
    shutil.copytree(folder, older)
    await session(folder, 150, 500)
    restore_store(folder, older)
    caplog.clear()
    async with running(older) as engine:
        status = await check_serves(engine, ids((0, 500)))
        assert (status.losses, status.rebuilds) == (0, 0)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_copies_that_both_went_on_exchange_their_stores(tmp_path: Path) -> None:
    """As many operations each, so that no seq tells."""
    one, two = tmp_path / "one", tmp_path / "two"
    await session(one, 0, 200)
    shutil.copytree(one, two)
    await session(two, 200, 260)
    await session(one, 300, 360)
    shutil.copytree(two, tmp_path / "kept")
    restore_store(one, two)
    restore_store(tmp_path / "kept", one)
    for folder, expected in ((one, ids((0, 260))), (two, ids((0, 200), (300, 360)))):
        async with running(folder) as engine:
            assert (await check_serves(engine, expected)).losses == 2


async def test_only_the_file_of_a_collection_is_exchanged(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    await session(one, 0, 200)
    shutil.copytree(one, two)
    await session(two, 200, 260)
    await session(one, 300, 360)
    (file,) = (two / "store" / "collections").glob("*.db")
    shutil.copy(file, one / "store" / "collections")
    async with running(one) as engine:
        assert (await check_serves(engine, ids((0, 260)))).losses == 2


@pytest.mark.parametrize("wal", ["missing", "cut", "zeros in it"])
async def test_a_store_that_lost_its_end_by_damage_is_refused_until_somebody_accepts(tmp_path: Path, wal: str) -> None:
    """After kill -9 all is in the -wal file; what no checkpoint knows of is missed all the same."""
    folder = tmp_path / "killed"
    async with running(tmp_path / "data") as engine:
        await make(engine, shards=2)
        await write(engine, 0, 10)
        await write(engine, 10, 30)
        shutil.copytree(tmp_path / "data", folder)  # as kill -9 leaves it
    (log,) = (folder / "store" / "collections").glob("*.db-wal")
    data = log.read_bytes()
    if wal == "missing":
        log.unlink()
    elif wal == "cut":
        log.write_bytes(data[: len(data) * 2 // 3])
    else:
        log.write_bytes(data[: len(data) * 2 // 3] + bytes(len(data) // 3))
    async with running(folder) as engine:
        with pytest.raises(DamagedCollection, match=r"went back from .* Restore the store .* delete ") as refused:
            await engine.count("docs", None)
        assert (await engine.describe_collection("docs")).damage
    (accepted,) = (folder / "collections").glob("*")
    assert str(accepted) in refused.value.detail
    shutil.rmtree(accepted)
    async with running(folder) as engine:
        assert len(ids((0, 30))) > await engine.count("docs", None)
        await write(engine, 0, 30)
        await check_serves(engine, ids((0, 30)))


async def test_a_store_that_lost_a_collection_is_refused(tmp_path: Path) -> None:
    """It is older than the collection, or was emptied: an empty service must not say that it is ready."""
    folder = tmp_path / "data"
    async with running(folder):
        pass
    shutil.copytree(folder, tmp_path / "older")
    await session(folder, 0, 20)
    for remove in (False, True):
        shutil.rmtree(folder / "store")
        if not remove:
            shutil.copytree(tmp_path / "older" / "store", folder / "store")
        with pytest.raises(DamagedStore, match=r"does not know collections .* delete these folders"):
            async with running(folder):
                pass
    for path in (folder / "collections").glob("*"):
        shutil.rmtree(path)
    async with running(folder) as engine:
        assert engine.readiness().ready and engine.list_collections() == []


async def test_a_deleted_collection_is_not_missed(tmp_path: Path) -> None:
    """Neither after a whole deletion nor after one that was cut short once its document was gone."""
    await session(tmp_path, 0, 20)
    async with running(tmp_path) as engine:
        uid = engine.registry.get("docs").document.uid
        shutil.copytree(tmp_path / "collections" / uid, tmp_path / "kept")
        await engine.delete_collection("docs")
    shutil.copytree(tmp_path / "kept", tmp_path / "collections" / uid)
    for note in (tmp_path / "collections" / uid).glob("acknowledged-*"):
        note.unlink()
    async with running(tmp_path) as engine:
        assert engine.list_collections() == []
