"""Shards that are taken and let go while they are read. The oracle is the model, of the shards named alone."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.shards.clients import UID, LocalClients
from tests.shards.model import FIELDS, FILTERS, SPECS, Model, fill, random_points, random_queries, same, write_of
from tests.waiting import PATIENCE_SECONDS

from bebr.core.filters import parse_filter
from bebr.core.operations import DeleteWrite
from bebr.shards import ShardClient, ShardWrite
from bebr.shards.held import HeldShards, NotHeld

SHARDS = 6


@pytest.fixture
async def clients(tmp_path: Path) -> AsyncIterator[LocalClients]:
    made = LocalClients(tmp_path)
    await made.start()
    yield made
    await made.stop()


def held_shards(clients: LocalClients, folder: Path) -> HeldShards:
    """A leaf's shards, which follow what the client of `clients` writes."""
    return HeldShards(
        clients.store,
        UID,
        folder,
        name="docs",
        shards=SHARDS,
        specs=SPECS,
        fields=FIELDS,
        head_rows=64,
        max_queue=1000,
        threads=clients._threads,
        read_wait_seconds=PATIENCE_SECONDS,
    )


def part_of(model: Model, shards: Sequence[int]) -> Model:
    return Model(model.shards, {i: point for i, point in model.points.items() if model.shard_of(i) in shards})


async def check(held: HeldShards, shards: Sequence[int], model: Model, rng: np.random.Generator) -> None:
    """All reads of these shards say what the model says of them."""
    part = part_of(model, shards)
    with held.reading(shards) as reader:
        assert reader.points() == part.counts()
        condition = parse_filter(FILTERS[rng.integers(len(FILTERS))], FIELDS)
        for one in (None, condition):
            expected = part.matching(one)
            assert await reader.count(one) == len(expected)
            assert await reader.ids(one, None, 10_000) == expected
            matching = await reader.matching(one)
            assert {shard: sorted(ids) for shard, ids in matching.items()} == {
                shard: [i for i in expected if model.shard_of(i) == shard] for shard in shards
            }
        for shard in shards:
            of_version = sorted(i for i, point in model.in_shard(shard).items() if point.version == 1)
            assert sorted(await reader.version_ids(shard, 1, None)) == of_version
        for kind in ("sdc", "hamming"):
            queries = [random_queries(rng, version, [None, condition], 20, kind) for version in (1, 0)]
            searched = await reader.search(queries)
            assert searched.points == part.counts()
            assert same(searched.found, part.search(queries))


async def change(client: ShardClient, model: Model, rng: np.random.Generator) -> dict[int, int]:
    """Writes and deletes in some shards -> their seqs."""
    seqs: dict[int, int] = {}
    for shard in rng.choice(SHARDS, 3, replace=False).tolist():
        universe = [name for name in (f"p{n}" for n in range(600)) if model.shard_of(name) == shard]
        ids = [str(one) for one in rng.choice(universe, 40, replace=False)]
        points = random_points(rng, int(rng.integers(2)), ids)
        version = next(iter(points.values())).version
        await client.write(shard, write_of(points, version))
        model.points |= points
        gone = [i for i in universe if i in model.points][:10]
        seqs[shard] = (await client.write(shard, ShardWrite(DeleteWrite(gone), {}))).last_seq
        for i in gone:
            del model.points[i]
    return seqs


@pytest.mark.parametrize("seed", range(3))
async def test_any_subset_of_shards_that_come_and_go(clients: LocalClients, tmp_path: Path, seed: int) -> None:
    rng, model = np.random.default_rng(seed), Model(SHARDS)
    client = await clients.open(SHARDS)
    held = held_shards(clients, tmp_path / "leaf")
    await held.catch_up()
    assert held.held == frozenset() and held.stats() == []
    for _ in range(12):
        seqs = await change(client, model, rng)
        if held.held and rng.random() < 0.5:
            await held.release(int(rng.choice(sorted(held.held))))
        for shard in rng.choice(SHARDS, 2, replace=False).tolist():
            await held.hold(shard)
        assert held.ready == held.held
        await held.reach({shard: seq for shard, seq in seqs.items() if shard in held.held})
        await held.reach_store()
        assert [one.number for one in held.stats()] == sorted(held.held)
        for _ in range(3):
            count = int(rng.integers(1, len(held.held) + 1))
            await check(held, rng.permutation(sorted(held.held))[:count].tolist(), model, rng)
    await held.close(keep=True)


async def test_shards_that_are_not_held_are_named(clients: LocalClients, tmp_path: Path) -> None:
    await fill(await clients.open(SHARDS), Model(SHARDS), np.random.default_rng(0), 50)
    held = held_shards(clients, tmp_path / "leaf")
    await held.hold(2)
    with pytest.raises(NotHeld) as raised, held.reading([1, 2, 3]):
        pass
    assert raised.value.shards == (1, 3)
    held.seen({1: 10**6, 2: 1})
    held.recheck(3)
    assert [(one.number, one.problem) for one in held.stats()] == [(2, None)], "what is not held is nobody's business"
    await held.close(keep=True)


async def test_a_shard_that_is_read_is_let_go_afterwards(clients: LocalClients, tmp_path: Path) -> None:
    client, model, rng = await clients.open(SHARDS), Model(SHARDS), np.random.default_rng(1)
    await fill(client, model, rng, 400)
    held = held_shards(clients, tmp_path / "leaf")
    await held.hold(0)
    await held.hold(1)
    with held.reading([0, 1]) as reader:
        releasing = asyncio.create_task(held.release(1))
        await asyncio.sleep(0)
        assert held.ready == {0}, "nobody else may begin to read it"
        queries = [random_queries(rng, version, [None], 1000, "sdc") for version in (0, 1)]
        searched = await reader.search(queries)
        assert same(searched.found, part_of(model, [0, 1]).search(queries))
        assert not releasing.done()
    await releasing
    assert held.held == {0} and not (tmp_path / "leaf" / "shard-1").exists()
    await check(held, [0], model, rng)
    await held.close(keep=True)


async def test_a_shard_is_taken_again_from_its_files(clients: LocalClients, tmp_path: Path) -> None:
    client, model, rng = await clients.open(SHARDS), Model(SHARDS), np.random.default_rng(2)
    await fill(client, model, rng, 400)
    held = held_shards(clients, tmp_path / "leaf")
    await held.hold(4)
    await held.close(keep=True)
    await change(client, model, rng)
    again = held_shards(clients, tmp_path / "leaf")
    await again.hold(4)
    assert again.stats()[0].rebuilds == 0
    await check(again, [4], model, rng)
    await again.close(keep=True)
