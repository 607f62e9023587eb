"""What every ShardClient promises of reads and of its life. The oracle is a dict of points, scored by numpy."""

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.shards.clients import UID, FollowedClients, LocalClients, MakeClients
from tests.shards.model import (
    FIELDS,
    FILTERS,
    MAX_METADATA_BYTES,
    SPECS,
    Model,
    Point,
    fill,
    names,
    random_points,
    random_queries,
    random_records,
    reencoded,
    same,
    write_of,
)

from bebr.core.filters import Filter, parse_filter
from bebr.core.operations import Commit, DeleteWrite
from bebr.core.types import WriteMode
from bebr.shards import Change, Patch, Reencode, Replace, ShardClient, ShardWrite

pytestmark = pytest.mark.parametrize("clients", [LocalClients, FollowedClients], indirect=True)

# -- everything at random ----------------------------------------------------------------------------------------------


async def some_write(client: ShardClient, model: Model, rng: np.random.Generator) -> None:
    """One random change; its outcome is what the model says."""
    shard, version = int(rng.integers(model.shards)), int(rng.integers(2))
    universe = names(model, shard, 150)
    ids = [universe[i] for i in rng.choice(len(universe), min(len(universe), int(rng.integers(1, 60))), replace=False)]
    living = [i in model.points for i in ids]
    change: Change
    match int(rng.integers(8)):
        case 0 | 1 | 2 | 3:
            mode = WriteMode(rng.choice([str(mode) for mode in WriteMode]))
            points = random_points(rng, version, ids)
            change = write_of(points, version, mode)
            allowed = {WriteMode.UPSERT: [True] * len(ids), WriteMode.UPDATE_ONLY: living}
            applied = allowed.get(mode, [not lives for lives in living])
            model.points.update({i: point for (i, point), yes in zip(points.items(), applied, strict=True) if yes})
        case 4:
            change, applied = ShardWrite(DeleteWrite(ids), {}), living
            for i, lives in zip(ids, living, strict=True):
                if lives:
                    del model.points[i]
        case 5:
            changes = {"year": 1999, "lang": None, "note": "é"}
            change, applied = Patch(ids, changes, MAX_METADATA_BYTES), living
            for i in (i for i, lives in zip(ids, living, strict=True) if lives):
                merged = model.points[i].metadata | changes
                model.points[i] = model.points[i]._replace(metadata={k: v for k, v in merged.items() if v is not None})
        case 6:
            change = Reencode(ids, 0, 1, reencoded)
            applied = [i in model.points and model.points[i].version == 0 for i in ids]
            for i in (i for i, yes in zip(ids, applied, strict=True) if yes):
                model.points[i] = model.points[i]._replace(version=1, record=reencoded(model.points[i].record[None])[0])
        case _:
            records = random_records(rng, SPECS[version], len(ids))
            kept = [model.points[i].record.tobytes() if i in model.points else b"" for i in ids]
            made_from = [record if rng.random() < 0.7 else b"other" for record in kept] if rng.random() < 0.5 else None
            change = Replace(ids, version, records, made_from)
            applied = [lives and (made_from is None or made_from[n] == kept[n]) for n, lives in enumerate(living)]
            for n in np.flatnonzero(applied).tolist():
                model.points[ids[n]] = model.points[ids[n]]._replace(version=version, record=records[n])
    committed = await client.write(shard, change)
    assert committed.applied == applied
    assert committed.last_seq - committed.first_seq + 1 == sum(applied) and not committed.replayed


async def check(client: ShardClient, model: Model, rng: np.random.Generator) -> None:
    """Every read says what the model says."""
    assert client.points() == model.counts()
    stats = client.stats()
    assert [one.number for one in stats] == list(range(model.shards))
    assert [one.points for one in stats] == [model.counts(model.in_shard(n)) for n in range(model.shards)]
    least = sum(SPECS[point.version].record_size_bytes for point in model.points.values())
    assert sum(one.scan_size_bytes for one in stats) >= least
    for condition in (None, parse_filter(FILTERS[rng.integers(len(FILTERS))], FIELDS)):
        expected = model.matching(condition)
        assert await client.count(condition) == len(expected)
        assert await client.ids(condition, None, 10_000) == expected
        after = expected[len(expected) // 2] if expected else "p1"
        assert await client.ids(condition, after, 3) == [i for i in expected if i > after][:3]
        by_shard = await client.matching(condition)
        assert {shard: sorted(ids) for shard, ids in by_shard.items()} == {
            shard: [i for i in expected if model.shard_of(i) == shard] for shard in range(model.shards)
        }
    shard, version = int(rng.integers(model.shards)), int(rng.integers(2))
    of_version = sorted(i for i, point in model.in_shard(shard).items() if point.version == version)
    assert sorted(await client.version_ids(shard, version, None)) == of_version
    some = await client.version_ids(shard, version, 5)
    assert len(some) == min(5, len(of_version)) and set(some) <= set(of_version)
    await check_search(client, model, rng)


async def check_search(client: ShardClient, model: Model, rng: np.random.Generator) -> None:
    def some_filter() -> Filter | None:
        return None if rng.random() < 0.4 else parse_filter(FILTERS[rng.integers(len(FILTERS))], FIELDS)

    for kind in ("sdc", "hamming"):
        limit, conditions = int(rng.choice([1, 5, 1000])), [some_filter() for _ in range(4)]
        queries = [random_queries(rng, version, conditions, limit, kind) for version in rng.permutation(2).tolist()]
        for some in (queries, queries[:1]):
            searched = await client.search(some)
            assert searched.points == model.counts()
            assert same(searched.found, model.search(some))


@pytest.mark.parametrize("seed", range(6))
async def test_shards_are_a_dict_that_survives(clients: MakeClients, seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = Model(int(rng.choice([1, 2, 5])))
    head_rows = int(rng.choice([16, 50, 500]))
    client = await clients.open(model.shards, head_rows=head_rows)
    for step in range(60):
        await some_write(client, model, rng)
        if step % 6 == 5:
            await check(client, model, rng)
        if step % 20 == 19:
            await client.close(keep=bool(rng.random() < 0.5))
            client = await clients.open(model.shards, head_rows=head_rows)
            await check(client, model, rng)


# -- searches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 2, 7])
async def test_ties_are_ordered_by_id_over_all_shards(clients: MakeClients, shards: int) -> None:
    rng = np.random.default_rng(1)
    model = Model(shards)
    client = await clients.open(shards, head_rows=32)
    record = random_records(rng, SPECS[1], 1)[0]
    points = {f"p{n}": Point(1, record, {}) for n in range(200)}
    for shard in range(shards):
        await client.write(shard, write_of({i: p for i, p in points.items() if model.shard_of(i) == shard}, 1))
    for kind in ("sdc", "hamming"):
        searched = await client.search([random_queries(rng, 1, [None], 30, kind)])
        assert searched.found[0].ids == sorted(points)[:30]


async def test_scores_below_the_floor_are_no_hits(clients: MakeClients) -> None:
    rng = np.random.default_rng(2)
    model = Model(3)
    client = await clients.open(3)
    await fill(client, model, rng, 150)
    for kind in ("sdc", "hamming"):
        queries = random_queries(rng, 0, [None, None], 1000, kind)
        found = (await client.search([queries])).found
        middle = len(found[0].ids) // 2
        floor = found[0].scores[middle] if found[0].distances is None else -found[0].distances[middle]
        floored = replace(queries, floors=np.array([floor, -np.inf], np.float32))
        searched = await client.search([floored])
        assert same(searched.found, model.search([floored]))
        assert middle < len(searched.found[0].ids) < 150 == len(searched.found[1].ids)


async def test_a_search_says_which_versions_it_was_not_asked_for(clients: MakeClients) -> None:
    rng = np.random.default_rng(3)
    model = Model(2)
    client = await clients.open(2)
    queries = random_queries(rng, 0, [None], 10, "sdc")
    empty = await client.search([queries])
    assert empty.points == {} and empty.found[0].ids == []
    await fill(client, model, rng, 30, version=0)
    await fill(client, model, rng, 20, version=1)
    assert (await client.search([queries])).points == {0: 30, 1: 20}
    nothing = await client.search([])
    assert nothing.found == [] and nothing.points == {0: 30, 1: 20}
    (one_version,) = (await client.search([replace(queries, limit=50)])).found
    assert one_version.versions == [0] * 30


async def test_a_small_search_is_told_from_a_large_one(clients: MakeClients) -> None:
    rng = np.random.default_rng(4)
    client = await clients.open(1)
    assert client.is_small(1000)
    await fill(client, Model(1), rng, 200)
    assert client.is_small(1) and not client.is_small(10**6)
    queries = random_queries(rng, 0, [None] * 3000, 1, "sdc")
    found = (await client.search([queries])).found
    assert (len(found) == 3000 and not client.is_small(3000)) or client.is_small(3000)


async def test_points_that_move_between_versions_are_found_once(clients: MakeClients) -> None:
    rng = np.random.default_rng(5)
    model = Model(3)
    client = await clients.open(3, head_rows=40)
    await fill(client, model, rng, 240)
    both = [random_queries(rng, version, [None], 1000, "sdc") for version in (0, 1)]
    moved = 0

    async def move() -> None:
        nonlocal moved
        for shard in range(3):
            while ids := await client.version_ids(shard, 0, 7):
                moved += sum((await client.write(shard, Reencode(ids, 0, 1, reencoded))).applied)

    moving = asyncio.create_task(move())
    while not moving.done():
        searched = await client.search(both)
        (found,) = searched.found
        assert sorted(found.ids) == sorted(model.points) and sum(searched.points.values()) == 240
        assert searched.points == {v: found.versions.count(v) for v in (0, 1) if v in found.versions}
        await asyncio.sleep(0.001)
    await moving
    assert moved == 240 and client.points() == {1: 240}


# -- life --------------------------------------------------------------------------------------------------------------


async def test_catching_up_applies_what_others_wrote(clients: MakeClients) -> None:
    rng = np.random.default_rng(16)
    model = Model(2)
    client = await clients.open(2)
    await fill(client, model, rng, 60)
    foreign: dict[str, Any] = random_points(rng, 1, [i for i in (f"f{n}" for n in range(40)) if model.shard_of(i) == 1])
    gone = [i for i in model.points if model.shard_of(i) == 1][:5]
    writes = [write_of(foreign, 1).write, DeleteWrite(gone)]
    (outcome,) = await clients.store.commit(UID, [Commit(1, writes)])
    assert isinstance(outcome, list)
    model.points.update(foreign)
    for i in gone:
        del model.points[i]
    await client.catch_up()
    await check(client, model, rng)
    await fill(client, model, rng, 20)
    await check(client, model, rng)


@pytest.mark.parametrize("keep", [True, False])
async def test_closed_shards_open_as_they_were(clients: MakeClients, keep: bool) -> None:
    rng = np.random.default_rng(17)
    model = Model(3)
    client = await clients.open(3)
    await fill(client, model, rng, 300)
    await client.write(1, ShardWrite(DeleteWrite([i for i in model.points if model.shard_of(i) == 1][:10]), {}))
    for i in [i for i in model.points if model.shard_of(i) == 1][:10]:
        del model.points[i]
    before = client.stats()
    await client.close(keep=keep)
    client = await clients.open(3)
    await check(client, model, rng)
    assert [one.seq for one in client.stats()] == [one.seq for one in before]
