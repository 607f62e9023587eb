"""LocalShards: maintenance runs by itself, bounds what waits to be sealed, and is tried again where it failed."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.shards.clients import UID, LocalClients
from tests.shards.model import SPECS, Model, Point, fill, names, random_records, write_of
from tests.waiting import until

from bebr.core.operations import DeleteWrite
from bebr.errors import Overloaded
from bebr.index import shard_files
from bebr.shards import LocalShards, Reencode, ShardWrite


@pytest.fixture
async def local(tmp_path: Path):  # type: ignore[no-untyped-def]
    clients = LocalClients(tmp_path)
    await clients.start()
    yield clients
    await clients.stop()


def plain(names_of: list[str], version: int = 0) -> dict[str, Point]:
    rng = np.random.default_rng(0)
    records = random_records(rng, SPECS[version], len(names_of))
    return {name: Point(version, record, {}) for name, record in zip(names_of, records, strict=True)}


def size_bytes(client: LocalShards) -> int:
    return sum(one.scan_size_bytes for one in client.stats())


@pytest.mark.parametrize("shards", [1, 8])
@pytest.mark.parametrize("head_rows", [64, 10_000])
async def test_rows_of_a_version_that_was_left_are_not_scanned(
    local: LocalClients, shards: int, head_rows: int
) -> None:
    """What a fit and a backfill do: every point moves to another version, page by page."""
    client = await local.open(shards, head_rows=head_rows)
    model = Model(shards)
    await fill(client, model, np.random.default_rng(1), 500)
    to_zeros: Callable[[np.ndarray], np.ndarray] = lambda records: np.zeros(  # noqa: E731
        (len(records), SPECS[1].record_size_bytes), np.uint8
    )
    for shard in range(shards):
        while ids := await client.version_ids(shard, 0, 100):
            await client.wait_for_capacity(shard)
            await client.write(shard, Reencode(ids, 0, 1, to_zeros))
    assert client.points() == {1: 500}
    await until(lambda: size_bytes(client) == 500 * SPECS[1].record_size_bytes, "sealing")


async def test_points_that_are_written_again_and_again_take_their_own_bytes(local: LocalClients) -> None:
    client = await local.open(1, head_rows=10_000)
    for _ in range(30):
        await client.write(0, write_of(plain([f"p{n}" for n in range(100)]), 0))
    await until(lambda: size_bytes(client) <= 1.5 * 100 * SPECS[0].record_size_bytes, "compaction")
    assert client.points() == {0: 100}


async def test_sealing_that_fails_is_tried_again_and_bounds_what_waits(
    local: LocalClients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = await local.open(2, head_rows=16)
    monkeypatch.setattr("bebr.shards.upkeep.RETRY_SECONDS", 0.02)
    folder, aside = tmp_path / "shards" / "shard-0", tmp_path / "aside"
    folder.rename(aside)
    folder.write_bytes(b"")  # no segment can be written into a file
    model = Model(2)
    with caplog.at_level(logging.ERROR):
        for number in range(10):
            ids = [f"{number}-{n}" for n in range(60) if model.shard_of(f"{number}-{n}") == 0][:16]
            await client.write(0, write_of(plain(ids), 0))
        with pytest.raises(Overloaded, match="segments wait to be sealed"):
            client.check_capacity([1, 0])
        client.check_capacity([1])
    assert "maintenance of collection docs, shard 0 failed" in caplog.text
    waiting = asyncio.create_task(client.wait_for_capacity(0))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    folder.unlink()
    aside.rename(folder)
    await waiting
    client.check_capacity([0, 1])
    assert client.points() == {0: 160}


async def test_tombstones_are_purged_by_maintenance(local: LocalClients) -> None:
    client = await local.open(1, head_rows=50)
    await client.write(0, write_of(plain([f"p{n}" for n in range(60)]), 0))
    await client.write(0, ShardWrite(DeleteWrite([f"p{n}" for n in range(20)]), {}))
    assert len((await local.store.feed(UID, 0, 0, 1000)).entries) == 60
    await client.write(0, write_of(plain([f"q{n}" for n in range(60)]), 0))

    async def are_gone() -> bool:
        await client.write(0, write_of(plain(["q0"]), 0))
        return len((await local.store.feed(UID, 0, 0, 1000)).entries) == 100

    await until(are_gone, "tombstones are purged")
    assert client.points() == {0: 100}


@pytest.mark.parametrize("damage", ["segment", "manifest"])
async def test_damaged_files_are_told_of_and_made_anew(
    local: LocalClients, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = await local.open(2, head_rows=16)
    model = Model(2)
    await fill(client, model, np.random.default_rng(2), 200)
    await client.close(keep=True)
    folder = tmp_path / "shards" / "shard-1"
    path = next(folder.glob("*.seg")) if damage == "segment" else folder / shard_files.NAME
    path.write_bytes(path.read_bytes()[:-200])
    with caplog.at_level(logging.WARNING):
        client = await local.open(2, head_rows=16)
    assert "collection docs, shard 1" in caplog.text and "rebuilding it from the store" in caplog.text
    assert client.points() == model.counts() and await client.ids(None, None, 1000) == sorted(model.points)


async def test_a_cleared_name_is_free_again(local: LocalClients) -> None:
    """Names of one shard that are deleted and written again keep the shard equal to the store."""
    client = await local.open(3, head_rows=32)
    model = Model(3)
    mine = names(model, 1, 120)
    for _ in range(5):
        await client.write(1, write_of(plain(mine), 0))
        await client.write(1, ShardWrite(DeleteWrite(mine), {}))
    assert client.points() == {} and await client.ids(None, None, 10) == []
    await until(lambda: size_bytes(client) == 0, "nothing is left")
