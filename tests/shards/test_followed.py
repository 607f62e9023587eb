"""Shards that follow those of another process in the same folder: they see what it acknowledges, and touch nothing."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.shards.clients import FollowedClients
from tests.shards.model import SPECS, Model, fill, random_points, random_queries, same, write_of
from tests.waiting import until

from bebr.core.operations import DeleteWrite
from bebr.core.types import Role
from bebr.disk import identity
from bebr.errors import NotReady
from bebr.shards import LocalShards, ShardWrite, SharedSeqs, numbers


@asynccontextmanager
async def pair(folder: Path, shards: int = 2, head_rows: int = 64) -> AsyncIterator[tuple[LocalShards, LocalShards]]:
    """A primary and a follower on one folder."""
    clients = FollowedClients(folder)
    await clients.start()
    followed = await clients.open(shards, head_rows=head_rows)
    try:
        yield followed._primary, followed._follower  # type: ignore[attr-defined]
    finally:
        await clients.stop()


async def seal(primary: LocalShards) -> None:
    """All rows are in files, and no file is written, merged or deleted any more."""
    for follower in primary._followers:
        follower.shard.flush()
    await until(lambda: not primary.upkeep.is_busy, "upkeep rests")


def files_of(folder: Path) -> dict[Path, object]:
    return {path: identity(path) for path in folder.rglob("*") if path.is_file()}


async def ids_of(client: LocalShards) -> list[str]:
    return await client.ids(None, None, 10**6)


async def equal_to(model: Model, client: LocalShards, seed: int = 1) -> bool:
    """Whether a client has the points of the model, and finds what its oracle finds."""
    queries = [random_queries(np.random.default_rng(seed), 0, [None], 20, "sdc")]
    found = (await client.search(queries)).found
    return await ids_of(client) == sorted(model.points) and same(found, model.search(queries))


async def test_a_follower_makes_changes_and_deletes_no_file(tmp_path: Path) -> None:
    rng, model = np.random.default_rng(1), Model(2)
    async with pair(tmp_path) as (primary, follower):
        await fill(primary, model, rng, 900)
        await seal(primary)
        before = files_of(tmp_path / "shards")
        await follower.reach()
        await follower.catch_up()
        assert await equal_to(model, follower)
        await follower.scrub(2**40)
        await follower.close(keep=True)
        assert files_of(tmp_path / "shards") == before


async def test_the_rows_of_a_follower_are_those_of_the_files_once_the_primary_has_sealed_them(tmp_path: Path) -> None:
    """Else they would lie in its memory for ever. Segments that it has open already are not opened again."""
    rng, model = np.random.default_rng(2), Model(1)
    async with pair(tmp_path, shards=1) as (primary, follower):
        for _ in range(12):
            await fill(primary, model, rng, 70)
            await follower.reach()
        assert len(follower.stats()) == 1
        await seal(primary)
        await until(lambda: not follower._followers[0].shard.backlog, "the files of the primary")
        await follower.catch_up()  # those that were merged meanwhile, too
        view, files = follower._followers[0].view, sorted(path.name for path in tmp_path.rglob("*.seg"))
        assert sorted(part.segment.path.name for part in view.parts) == files  # type: ignore[union-attr]
        assert await equal_to(model, follower)
        kept = {id(part.segment) for part in view.parts}
        await primary.write(0, ShardWrite(DeleteWrite(sorted(model.points)[:1]), {}))
        primary._followers[0].shard.flush()
        await follower.catch_up()
        assert {id(part.segment) for part in follower._followers[0].view.parts} <= kept


async def test_a_follower_is_behind_from_the_acknowledgment_on_and_no_longer_once_it_has_reached_it(
    tmp_path: Path,
) -> None:
    rng, model = np.random.default_rng(3), Model(2)
    async with pair(tmp_path) as (primary, follower):
        assert not primary.behind()
        await follower.reach()
        assert not follower.behind()
        points = random_points(rng, 0, ["p0"])
        committed = await primary.write(model.shard_of("p0"), write_of(points, 0))
        assert follower.behind() and not primary.behind()
        await asyncio.gather(*(follower.reach() for _ in range(20)))
        assert not follower.behind() and await ids_of(follower) == ["p0"]
        await follower.reach({model.shard_of("p0"): committed.last_seq})
        await primary.reach({model.shard_of("p0"): committed.last_seq})


async def test_operations_that_no_store_has_are_refused_after_a_while(
    tmp_path: Path,
) -> None:
    async with pair(tmp_path) as (primary, follower):
        for client in (primary, follower):
            client._freshness._wait_seconds = 0.05
            with pytest.raises(NotReady, match="shard 1 has the operations up to 0 so far, and operation 7"):
                await client.reach({0: 0, 1: 7})


@pytest.mark.parametrize("steps", range(8))
async def test_who_waits_for_operations_is_told_that_the_shards_are_closed(tmp_path: Path, steps: int) -> None:
    """Whatever it waits for at that moment; it is not cancelled itself."""
    async with pair(tmp_path) as (primary, _):
        waiting = asyncio.create_task(primary.reach({1: 7}))
        for _ in range(steps):
            await asyncio.sleep(0)
        await primary._freshness.close()
        with pytest.raises(NotReady, match="is being closed"):
            await waiting


async def test_a_follower_without_the_numbers_of_a_primary_asks_the_store(tmp_path: Path) -> None:
    """The file is a cache as all others: it is slower without it, and right."""
    rng, model = np.random.default_rng(4), Model(2)
    async with pair(tmp_path) as (primary, follower):
        follower._shared._path = tmp_path / "nowhere"  # type: ignore[union-attr]
        follower._shared.close()  # type: ignore[union-attr]
        await fill(primary, model, rng, 50)
        assert follower.behind()
        await follower.reach()
        assert await equal_to(model, follower)


async def test_files_that_the_primary_has_merged_and_deleted_hold_up_no_search(tmp_path: Path) -> None:
    """A follower may have opened them, and reads what has taken their place."""
    rng, model = np.random.default_rng(5), Model(1)
    async with pair(tmp_path, shards=1) as (primary, follower):
        shard = primary._followers[0].shard
        for _ in range(3):
            await fill(primary, model, rng, 40)
            shard.flush()
            await follower.catch_up()
            assert await equal_to(model, follower)
        await primary.write(0, ShardWrite(DeleteWrite(sorted(model.points)[::2]), {}))
        for gone in sorted(model.points)[::2]:
            del model.points[gone]
        shard.flush()
        await until(lambda: not primary.upkeep.is_busy, "upkeep rests")
        await follower.reach()
        assert await equal_to(model, follower)


async def test_a_damaged_file_is_replaced_by_what_the_store_has(tmp_path: Path) -> None:
    rng, model = np.random.default_rng(6), Model(1)
    async with pair(tmp_path, shards=1) as (primary, follower):
        await fill(primary, model, rng, 200)
        await seal(primary)
        for path in tmp_path.rglob("*.seg"):
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 0xFF
            path.write_bytes(data)
        await follower.catch_up()
        assert await equal_to(model, follower)


async def test_code_versions_that_a_follower_does_not_know_yet_hide_nothing_that_it_has(tmp_path: Path) -> None:
    """Whoever follows learns of them a moment later, and of their points then."""
    rng, model = np.random.default_rng(7), Model(1)
    async with pair(tmp_path, shards=1) as (primary, follower):
        await fill(primary, model, rng, 20)
        await follower.reach()
        del follower._specs[1]
        await fill(primary, model, rng, 20, version=1)
        with pytest.raises(NotReady, match="code version"):
            await follower.reach()
        assert len(await ids_of(follower)) == 20
        primary._followers[0].shard.flush()
        with pytest.raises(NotReady, match="code version"):
            await follower.reach()
        assert len(await ids_of(follower)) == 20
        follower.add_version(1, SPECS[1])
        await follower.reach()
        assert await ids_of(follower) == sorted(model.points)


async def test_segments_of_any_size_are_mapped_and_searched_as_those_in_memory(tmp_path: Path) -> None:
    """So their memory is that of all processes together; and searches go on on the event loop."""
    rng, model = np.random.default_rng(8), Model(1)
    async with pair(tmp_path, shards=1) as (primary, follower):
        await fill(primary, model, rng, 200)
        await seal(primary)
        await follower.catch_up()
        for client in (primary, follower):
            view = client._scan_view()
            assert view.shared and not view.mapped and len(view.parts) == len(view.shared)
            for segment in view.shared:
                columns = [array for column in segment.columns.values() for array in column.arrays().values()]
                for array in (segment.blocked, segment.gains, segment.lookup, *columns):
                    assert not array.flags.owndata and not array.flags.writeable
            assert await equal_to(model, client)


async def test_a_mapped_file_that_is_cut_short_ends_in_no_wrong_answer(tmp_path: Path) -> None:
    rng, model = np.random.default_rng(9), Model(1)
    async with pair(tmp_path, shards=1, head_rows=2048) as (primary, follower):
        await fill(primary, model, rng, 3000)
        await seal(primary)
        await follower.catch_up()
        for path in tmp_path.rglob("*.seg"):
            with path.open("r+b") as file:
                file.truncate(8192)

        async def is_mended(client: LocalShards) -> bool:
            try:
                assert await equal_to(model, client)
            except NotReady:
                return False
            return True

        for client in (follower, primary):
            await until(partial(is_mended, client), "the files anew")
            assert await is_mended(client)


@pytest.mark.parametrize("others", [0, 60])
async def test_what_a_store_has_taken_back_is_taken_back_by_followers(tmp_path: Path, others: int) -> None:
    """An older copy of the store is put back, and other writes may have taken its seqs beyond those of the follower."""
    clients, rng = FollowedClients(tmp_path), np.random.default_rng(10)
    store, copy = tmp_path / "store", tmp_path / "copy"
    await clients.start()
    first = await clients.open(1)
    primary, follower = first._primary, first._follower  # type: ignore[attr-defined]
    try:
        model = Model(1)
        await fill(primary, model, rng, 50)
        await primary.close(keep=True)
        await clients.close_stores()
        shutil.copytree(store, copy)
        await clients.start()
        primary = await clients.reopened(primary)
        lost = Model(1, dict(model.points))
        await fill(primary, lost, rng, 40)
        await follower.reach()
        assert await equal_to(lost, follower)
        await primary.close(keep=True)
        await clients.close_stores()
        shutil.rmtree(store)
        shutil.copytree(copy, store)
        await clients.start()
        primary = await clients.reopened(primary)
        for number in range(others):
            points = random_points(rng, 0, [f"q{number}"])
            await primary.write(0, write_of(points, 0))
            model.points.update(points)
        assert follower.behind()
        await follower.reach()
        assert await equal_to(model, follower) and await equal_to(model, primary)
    finally:
        await clients.stop()


def test_shared_numbers_only_grow_and_outlive_who_wrote_them(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    follower = SharedSeqs(path, 3, Role.FOLLOWER)
    assert follower.read() is None and not path.exists()
    primary = SharedSeqs(path, 3, Role.PRIMARY)
    assert path.stat().st_blocks, "a full disk would end the process at the first number"
    primary.raise_to(1, 2**63)
    primary.raise_to(2, 5)
    primary.raise_to(2, 4)
    raw = follower.read()
    assert raw is not None and numbers(raw) == [0, 2**63, 5]
    primary.close()
    again = SharedSeqs(path, 3, Role.PRIMARY)
    again.raise_to(0, 1)
    raw = follower.read()
    assert raw is not None and numbers(raw) == [1, 2**63, 5]
    follower.close()
    again.close()
