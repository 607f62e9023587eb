"""Shards whose sealed segments have lists answer all that is asked as shards without: the oracles are the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.index.lists.made import random_centroids
from tests.shards import model, test_client_contract, test_reads, test_rescoring
from tests.shards.clients import LocalClients
from tests.waiting import until

from bebr import kernel
from bebr.core.scoring import DotQueries
from bebr.index import compaction
from bebr.index.segment import SegmentView
from bebr.shards import upkeep
from bebr.shards.local import LocalShards


class ListedClients(LocalClients):
    """LocalShards that are given other lists whenever they are opened."""

    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        super().__init__(folder)
        self.rng, self.generation = rng, 0

    async def open(self, *args: Any, **options: Any) -> LocalShards:
        client = await super().open(*args, **options)
        self.use_lists(client)
        return client

    def use_lists(self, client: LocalShards) -> None:
        self.generation += 1
        for version, spec in client._specs.items():
            lists = int(self.rng.integers(1, 12))
            client.use_lists(random_centroids(self.rng, spec, version, self.generation, lists))


def listed_parts(client: LocalShards) -> int:
    parts = [part for view in client._views() for part in view.parts]
    return sum(isinstance(part, SegmentView) and part.segment.lists is not None for part in parts)


async def at_rest(client: LocalShards) -> None:
    """No segment is sealed, merged or sorted any more."""
    await until(lambda: not client.upkeep.is_busy, "segments change no more")


def check_lists(client: LocalShards, rng: np.random.Generator) -> None:
    """With an infinite delta, lists find what a whole scan finds."""
    view = client._scan_view()
    for version, selection in view.of_version.items():
        queries = model.random_queries(rng, version, [None, None], 7, "sdc")
        assert isinstance(queries.prepared, DotQueries)
        deltas, stop_at, flat = np.full(2, np.inf, np.float32), np.full(2, 7, np.int32), np.full(2, 2**40)
        exact = kernel.dot_candidates(selection, queries.prepared, 7)
        found, read, _ = kernel.list_candidates(
            selection, queries.prepared, 7, deltas=deltas, stop_at=stop_at, flat_rows=flat
        )
        for one, other in zip(found, exact, strict=True):
            assert np.array_equal(one, other)
        parts = [part for place in selection.places if isinstance(part := view.parts[place], SegmentView)]
        generations = {part.segment.lists.generation for part in parts if part.segment.lists is not None}
        has_lists = any((version, generation) in client._tables for generation in generations)
        assert bool(read.any()) == has_lists


@pytest.mark.parametrize("seed", range(3))
async def test_shards_with_lists_are_a_dict_that_survives(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "QUIET_SECONDS", 0.0 if seed else 3600.0)
    rng = np.random.default_rng([9, seed])
    clients, points, listed = ListedClients(tmp_path, rng), model.Model(1 + seed), 0
    await clients.start()
    client = await clients.open(points.shards, head_rows=16)
    for step in range(45):
        await test_client_contract.some_write(client, points, rng)
        if step % 5 == 4:
            listed += listed_parts(client)
            check_lists(client, rng)
            await test_client_contract.check(client, points, rng)
        if step % 11 == 10:
            clients.use_lists(client)
        if step % 15 == 14:
            await client.close(keep=bool(rng.random() < 0.5))
            client = await clients.open(points.shards, head_rows=16)
            await test_client_contract.check(client, points, rng)
    assert listed > 10
    await clients.stop()


async def test_segments_with_lists_are_joined_once_no_more_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "QUIET_SECONDS", 3600.0)
    rng = np.random.default_rng(11)
    clients, points = ListedClients(tmp_path, rng), model.Model(2)
    await clients.start()
    client = await clients.open(points.shards, head_rows=16)
    some_can_be = lambda: any(follower.shard.needs_joining for follower in client._followers)  # noqa: E731
    while not some_can_be():
        for _ in range(10):
            await test_client_contract.some_write(client, points, rng)
        await at_rest(client)
    before = [view.parts for view in client._views()]
    client.upkeep.sort()
    await at_rest(client)
    assert [view.parts for view in client._views()] == before  # it waits
    monkeypatch.setattr(upkeep, "QUIET_SECONDS", 0.0)
    client.upkeep.sort()
    await until(lambda: not some_can_be() and not client.upkeep.is_busy, "segments are joined")
    assert sum(len(view.parts) for view in client._views()) < sum(map(len, before))
    check_lists(client, rng)
    await test_client_contract.check(client, points, rng)
    await client.close(keep=True)
    client = await clients.open(points.shards, head_rows=16)
    await test_client_contract.check(client, points, rng)
    await clients.stop()


@pytest.mark.parametrize("seed", range(3))
async def test_rescoring_and_groups_of_shards_with_lists_are_those_of_numpy(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng([8, seed])
    clients, points = ListedClients(tmp_path, rng), test_rescoring.Model(1 + seed, {})
    await clients.start()
    client = await clients.open(points.shards, specs=test_rescoring.SPECS, head_rows=16)
    for step in range(12):
        await test_rescoring.write(client, points, rng, int(rng.integers(3)), int(rng.integers(1, 80)))
        await test_rescoring.check(client, points, rng)
        if step % 6 == 5:
            await client.close(keep=bool(rng.random() < 0.5))
            client = await clients.open(points.shards, specs=test_rescoring.SPECS, head_rows=16)
            await test_rescoring.check(client, points, rng)
    assert listed_parts(client)
    await clients.stop()


@pytest.mark.parametrize("seed", range(2))
def test_lists_that_change_all_the_while_change_no_answer(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MIN_DEAD_ROWS", 4)
    rng = np.random.default_rng([7, seed])
    fed = test_reads.FedModel(shards=1 + seed)
    index = test_reads.reopen(tmp_path, fed, 16)
    for step in range(12):
        for shard in index.shards:
            shard.lists = {
                version: random_centroids(rng, spec, version, step + 1, int(rng.integers(1, 30)))
                for version, spec in model.SPECS.items()
                if rng.random() < 0.8
            }
        test_reads.put(index, fed, rng, int(rng.integers(1, 90)), universe=200)
        if step % 3 == 1:
            test_reads.delete(index, fed, rng, universe=200)
        for shard in index.shards:
            shard.flush() if rng.random() < 0.3 else shard.maintain()
            for _ in range(rng.integers(4)):
                shard.join_some() if rng.random() < 0.3 else shard.sort_one()
        if step % 4 == 3:
            test_reads.check(index, fed, rng)
        if step % 6 == 5:
            index = test_reads.reopen(tmp_path, fed, 16)
    test_reads.check(index, fed, rng)


@pytest.mark.parametrize("shards", [1, 3])
async def test_a_sample_is_of_living_points_of_one_version(tmp_path: Path, shards: int) -> None:
    rng = np.random.default_rng(3)
    clients, points = ListedClients(tmp_path, rng), model.Model(shards)
    await clients.start()
    client = await clients.open(shards, head_rows=16)
    for _ in range(25):
        await test_client_contract.some_write(client, points, rng)
    await at_rest(client)  # a sample by seed is the same of the same segments
    for version, spec in model.SPECS.items():
        of_version = [point for point in points.points.values() if point.version == version]
        size = spec.scan_record_size_bytes
        expected = sorted(point.record[:size].tobytes() for point in of_version)
        whole = await client.sample(version, 10_000, 5)
        assert sorted(map(bytes, whole)) == expected
        some = await client.sample(version, 7, 5)
        assert len(some) == 7 and np.array_equal(some, await client.sample(version, 7, 5))
        assert set(map(bytes, some)) <= set(expected)
        assert not np.array_equal(some, await client.sample(version, 7, 6))
    assert len(await client.sample(9, 10, 0)) == 0
    await clients.stop()


async def test_stats_say_in_which_lists_rows_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    clients, points = LocalClients(tmp_path), model.Model(2)
    await clients.start()
    client = await clients.open(2, head_rows=16)
    await test_client_contract.fill(client, points, rng, 200)
    before = client.list_stats(0)
    assert (before.current, before.older, before.without, before.generations) == (0, 0, 200, ())
    assert before.mean_score is None
    for generation in (1, 2):
        client.use_lists(random_centroids(rng, model.SPECS[0], 0, generation, 4))
        await at_rest(client)
        stats = client.list_stats(0)
        assert stats.generations == (generation,) and stats.older == 0 and stats.current + stats.without == 200
        assert stats.current > 100 and stats.largest > 0 and stats.mean_score is not None
    client.use_lists(random_centroids(rng, model.SPECS[0], 0, 1, 4))  # an older one is not taken
    assert client.list_stats(0).generations == (2,)
    await clients.stop()
