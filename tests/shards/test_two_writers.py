"""Two writers of one store, as two services are: none costs the other anything that it has or has written.

The oracles are the store, and what was acknowledged."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from tests.shards.clients import UID, LocalClients
from tests.shards.model import (
    MAX_METADATA_BYTES,
    SPECS,
    Model,
    fill,
    random_points,
    random_queries,
    reencoded,
    same,
    write_of,
)

from bebr.core.operations import DeleteWrite
from bebr.core.types import Role
from bebr.shards import LocalShards, Patch, Reencode, Replace, ShardWrite


@asynccontextmanager
async def two(folder: Path, shards: int = 1) -> AsyncIterator[tuple[LocalShards, LocalShards]]:
    """Each has files of its own."""
    clients = LocalClients(folder)
    await clients.start()
    await clients.store.create(UID, shards)
    try:
        opened = []
        for name in ("one", "other"):
            clients._folder = folder / name
            opened.append(await clients._opened_in(Role.PRIMARY, clients.store, shards, 64, 1000, SPECS))
        yield opened[0], opened[1]
    finally:
        await clients.stop()


async def agree(model: Model, *clients: LocalShards) -> None:
    queries = [random_queries(np.random.default_rng(1), version, [None], 20, "sdc") for version in SPECS]
    for client in clients:
        await client.reach_store()
        assert await client.ids(None, None, 10**6) == sorted(model.points)
        assert same((await client.search(queries)).found, model.search(queries))
        assert [shard.rebuilds for shard in client.stats()] == [0] * model.shards


async def stored(client: LocalShards, ids: list[str]) -> dict[str, dict[str, int]]:
    found = await client._writer._truth.fetch(UID, 0, ids)
    return {point.id: json.loads(point.metadata) for point in found if point is not None}


async def test_patches_of_one_point_by_both_are_all_kept(tmp_path: Path) -> None:
    """What is read and written again is written only while it is what was read."""
    async with two(tmp_path) as writers:
        model = Model(1)
        await fill(writers[0], model, np.random.default_rng(1), 3)
        ids = sorted(model.points)
        await writers[1].reach_store()

        async def patch(writer: int) -> None:
            for number in range(120):
                committed = await writers[writer].write(0, Patch(ids, {f"{writer}-{number}": 1}, MAX_METADATA_BYTES))
                assert committed.applied == [True] * 3

        await asyncio.gather(patch(0), patch(1))
        wanted = {f"{writer}-{number}" for writer in range(2) for number in range(120)}
        for metadata in (await stored(writers[0], ids)).values():
            assert metadata.keys() >= wanted


async def test_new_codes_of_one_do_not_take_back_what_the_other_wrote(tmp_path: Path) -> None:
    rng, model = np.random.default_rng(2), Model(1)
    async with two(tmp_path) as (one, other):
        await fill(one, model, rng, 60)
        await other.reach_store()
        ids = sorted(model.points)
        written = random_points(rng, 0, ids[:20])
        gone = ids[20:30]

        async def write() -> None:
            for point_id, point in written.items():
                await other.write(0, write_of({point_id: point}, 0))
                await other.write(0, ShardWrite(DeleteWrite([gone[0]] if point_id == ids[0] else gone[1:2]), {}))

        records = np.stack([model.points[i].record for i in ids])
        replaced = np.roll(records, 1, axis=0)
        replace = Replace(ids, 0, replaced, [record.tobytes() for record in records])
        outcomes = await asyncio.gather(write(), one.write(0, replace), one.write(0, Reencode(ids, 0, 1, reencoded)))
        assert outcomes[2].applied[30:] == [True] * 30
        found = await one._writer._truth.fetch(UID, 0, ids, records=True)
        for point_id, point in zip(ids, found, strict=True):
            if point_id in gone[:2]:
                assert point is None
            elif point_id in written and point is not None and point.version == 0:
                assert point.record == written[point_id].record.tobytes()
            else:
                assert point is not None and point.version == 1
        for client in (one, other):
            await client.reach_store()
            assert await client.ids(None, None, 1000) == [i for i in ids if i not in gone[:2]]


async def test_writes_by_turns_are_followed_without_a_rebuild(tmp_path: Path) -> None:
    rng, model = np.random.default_rng(3), Model(2)
    async with two(tmp_path, shards=2) as writers:
        for turn in range(60):
            ids = [f"p{number}" for number in rng.choice(80, 6, replace=False)]
            for shard in range(2):
                some = [i for i in ids if model.shard_of(i) == shard]
                if not some:
                    continue
                if turn % 5 == 4:
                    await writers[turn % 2].write(shard, ShardWrite(DeleteWrite(some), {}))
                    for point_id in some:
                        model.points.pop(point_id, None)
                else:
                    points = random_points(rng, turn % 2, some)
                    committed = await writers[turn % 2].write(shard, write_of(points, turn % 2))
                    model.points.update(points)
                    await writers[1 - turn % 2].reach({shard: committed.last_seq})
        await agree(model, *writers)


async def test_a_view_keeps_its_points_while_deletes_that_it_has_not_seen_are_purged(tmp_path: Path) -> None:
    """It is built anew beside the one that is served, and takes its place once it is equal to the store."""
    rng, model = np.random.default_rng(4), Model(1)
    async with two(tmp_path) as (one, other):
        await fill(one, model, rng, 300)
        await other.reach_store()
        gone = sorted(model.points)[:50]
        await one.write(0, ShardWrite(DeleteWrite(gone), {}))
        one._followers[0].shard.flush()
        await one._followers[0].purge()
        for point_id in gone:
            del model.points[point_id]
        seen: set[int] = set()

        async def look() -> None:
            while True:
                seen.add(len(await other.ids(None, None, 10**6)))
                await asyncio.sleep(0)

        looking = asyncio.create_task(look())
        await other.reach_store()
        looking.cancel()
        assert seen <= {300, 250}
        assert await other.ids(None, None, 10**6) == sorted(model.points)
