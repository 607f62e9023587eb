"""Leaves that take the shards that are their own. The oracle is the engine that has all shards of the same store."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest
from tests.engine.running import settings
from tests.engine.test_engine import make, points
from tests.servers import Server, ServerKind, running_server
from tests.waiting import until

from bebr.core.types import FieldType, WriteMode
from bebr.encoding import BundleRegistry
from bebr.engine import Engine, EngineOptions, Parts
from bebr.engine.leaves.holding import Holding, LeafOptions
from bebr.engine.leaves.topology import StoreTopology
from bebr.shards import HeldShards
from bebr.shards.placement import WHOLE, Place, holders
from bebr.store.redis.store import RedisStore


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server(ServerKind.VALKEY) as server:
        yield server


class Cluster:
    """One service that has everything, and leaves, on one store."""

    def __init__(self, folder: Path, server: Server, whole_points: int = 0) -> None:
        self._folder, self._server, self._whole_points = folder, server, whole_points
        self._prefix = f"t{uuid4().hex}"
        self.leaves: dict[str, Engine] = {}
        self._all: Engine | None = None

    @property
    def all(self) -> Engine:
        assert self._all is not None
        return self._all

    async def start(self) -> None:
        self._all = await self._started("all", None)

    async def _started(self, name: str, leaf: LeafOptions | None) -> Engine:
        chosen = settings(self._folder / name)
        store = RedisStore(
            self._server.url,
            timeout_seconds=60,
            prefix=self._prefix,
            folder=chosen.data_dir / "store",
            shared=True,
            is_partial=leaf is not None,
            tombstone_seconds=0.001,
        )
        options = EngineOptions(1, 1, chosen.head_rows, joins=True, leaf=leaf)
        engine = Engine(Parts(store, BundleRegistry([chosen.bundles_dir]), chosen.data_dir, chosen.limits, options))
        if engine.holding is not None:
            engine.holding.address = f"{name}:1"
        await engine.start()
        await engine.wait_until_ready()
        return engine

    async def add(self, name: str, zone: str = "") -> Holding:
        options = LeafOptions(zone, 1.0, 2, self._whole_points, (1, 1), drain_seconds=120.0)
        self.leaves[name] = await self._started(name, options)
        return self.holding(name)

    def holding(self, name: str) -> Holding:
        found = self.leaves[name].holding
        assert found is not None
        return found

    def shards(self, name: str) -> HeldShards:
        (collection,) = self.leaves[name].registry.all()
        assert isinstance(collection.shards, HeldShards)
        return collection.shards

    async def leave(self, name: str) -> None:
        """As told by a signal: it goes once others have what it has."""
        await self.leaves.pop(name).stop()

    async def kill(self, name: str) -> None:
        """It ends at once, without waiting for others, and its files stay."""
        engine = self.leaves.pop(name)
        for task in engine._life._running:
            task.cancel()
        await asyncio.gather(*engine._life._running, return_exceptions=True)
        engine.registry.problem = "killed"
        await engine.stop()

    async def settled(self, expected: dict[int, set[str]]) -> None:
        """Every leaf holds what it should, has it ready, and nothing else."""

        def is_settled() -> bool:
            with suppress(Exception):
                found = {name: self.shards(name) for name in self.leaves}
                return all(
                    one.held == one.ready == {n for n, names in expected.items() if name in names}
                    for name, one in found.items()
                )
            return False

        await until(is_settled, f"the leaves hold {expected}")

    def expected(self, zones: dict[str, str], is_whole: bool = False) -> dict[int, set[str]]:
        document = self.all.registry.get("docs").document
        places = [Place(f"{name}:1", zone) for name, zone in zones.items()]
        return {
            n: {one.removesuffix(":1") for one in holders(document.uid, WHOLE if is_whole else n, places, 2)}
            for n in range(document.shards)
        }

    async def check(self) -> None:
        """What each leaf answers of its shards is what the one service has."""
        everything = self.all.registry.get("docs").shards
        await everything.reach_store()
        matching = await everything.matching(None)
        for name in self.leaves:
            shards = self.shards(name)
            await shards.reach_store()
            numbers = sorted(shards.ready)
            with shards.reading(numbers) as reader:
                found = await reader.matching(None)
                assert {n: sorted(ids) for n, ids in found.items()} == {n: sorted(matching[n]) for n in numbers}


@asynccontextmanager
async def cluster(folder: Path, server: Server, *names: str, whole_points: int = 0) -> AsyncIterator[Cluster]:
    made = Cluster(folder, server, whole_points)
    await made.start()
    await make(made.all, shards=8)
    await made.all.write_points("docs", points(300), WriteMode.UPSERT)
    try:
        for name in names:
            await made.add(name)
        yield made
    finally:
        for name in list(made.leaves):
            await made.kill(name)
        await made.all.stop()


async def test_leaves_take_what_is_theirs_and_follow(tmp_path: Path, server: Server) -> None:
    async with cluster(tmp_path, server, "a", "b", "c") as made:
        await made.settled(made.expected({"a": "", "b": "", "c": ""}))
        await made.all.write_points("docs", points(500), WriteMode.UPSERT)
        await made.all.delete_points("docs", ids=[f"p{n:03d}" for n in range(0, 500, 3)])
        await made.check()
        assert all(made.leaves[name].readiness().ready for name in made.leaves)


async def test_a_leaf_that_joins_takes_shards_from_others(tmp_path: Path, server: Server) -> None:
    async with cluster(tmp_path, server, "a", "b") as made:
        await made.settled({n: {"a", "b"} for n in range(8)})
        await made.add("c")
        await made.settled(made.expected({"a": "", "b": "", "c": ""}))
        await made.check()
        held = sum(len(made.shards(name).held) for name in "abc")
        assert held == 16 and made.shards("c").held, "two leaves have each shard"


async def test_a_leaf_that_ends_is_replaced_and_comes_back(tmp_path: Path, server: Server) -> None:
    async with cluster(tmp_path, server, "a", "b", "c") as made:
        await made.settled(made.expected({"a": "", "b": "", "c": ""}))
        await made.kill("c")
        await made.all.write_points("docs", points(400), WriteMode.UPSERT)
        await made.settled({n: {"a", "b"} for n in range(8)})
        await made.check()
        await made.add("c")
        await made.settled(made.expected({"a": "", "b": "", "c": ""}))
        await made.check()


async def test_a_leaf_that_is_told_to_stop_waits_for_those_that_follow_it(tmp_path: Path, server: Server) -> None:
    async with cluster(tmp_path, server, "a", "b", "c") as made:
        await made.settled(made.expected({"a": "", "b": "", "c": ""}))
        await made.leave("c")
        for n in range(8):
            assert n in made.shards("a").ready and n in made.shards("b").ready, "they had it before the other one went"
        await made.check()


async def test_small_collections_lie_whole_on_two_leaves(tmp_path: Path, server: Server) -> None:
    async with cluster(tmp_path, server, "a", "b", "c", whole_points=1000) as made:
        await made.settled(made.expected({"a": "", "b": "", "c": ""}, is_whole=True))
        assert sorted(len(made.shards(name).held) for name in "abc") == [0, 8, 8]
        await made.check()


async def test_columns_of_a_field_are_made_by_each_leaf(tmp_path: Path, server: Server) -> None:
    async with cluster(tmp_path, server, "a", "b") as made:
        await made.settled({n: {"a", "b"} for n in range(8)})
        await made.all.change_fields("docs", {"n": FieldType.INTEGER})

        def made_by_all() -> bool:
            return all(
                "n" in made.leaves[name].registry.get("docs").document.filterable
                and not made.shards(name).columns().outdated
                for name in made.leaves
            )

        assert await until(made_by_all, "columns are made")


async def test_a_topology_says_who_is_there_and_who_was_found_gone(tmp_path: Path, server: Server) -> None:
    async with cluster(tmp_path, server, "a", "b") as made:
        await made.settled({n: {"a", "b"} for n in range(8)})
        uid = made.all.registry.get("docs").document.uid
        topology = StoreTopology(made.all.store)

        async def all_ready() -> bool:
            await topology.look()
            return len(topology.leaves()) == 2 and all(
                len(one.holds.get(uid, {})) == 8 and all(held.ready for held in one.holds[uid].values())
                for one in topology.leaves()
            )

        assert await until(all_ready, "both say what they have")
        assert topology.lacking(uid, 8) == [] and topology.lacking("f" * 24, 2) == [0, 1]
        leaf = topology.leaves()[0]
        topology.changed.clear()
        topology.gone(leaf)
        assert leaf.name not in [one.name for one in topology.leaves()] and topology.changed.is_set()
        assert await until(all_ready, "it is heard of again")
