"""Random changes at one or two primaries, with restarts of all, against a plain dict: whatever happens, every view has
what was acknowledged once it has reached it, and never less than it must have before."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tests.cluster import running_cluster
from tests.servers import ServerKind, running_server
from tests.shards.clients import UID, FollowedClients
from tests.shards.model import (
    MAX_METADATA_BYTES,
    SPECS,
    Model,
    Point,
    random_points,
    random_queries,
    reencoded,
    same,
    write_of,
)
from tests.waiting import PATIENCE_SECONDS

from bebr.core.operations import DeleteWrite
from bebr.core.types import Role
from bebr.shards import LocalShards, Patch, Reencode, ShardWrite
from bebr.store import MetadataStore
from bebr.store.redis.store import RedisStore
from bebr.store.sqlite.store import SqliteStore

Result = TypeVar("Result")
MakeStore = Callable[[Path, Role], MetadataStore]
SHARDS, HEAD_ROWS, FOLLOWERS = 2, 8, 2
ids = st.lists(st.integers(0, 40).map("p{}".format), unique=True, min_size=1, max_size=20)
followers = st.integers(0, FOLLOWERS - 1)
shards = st.integers(0, SHARDS - 1)


class Processes(FollowedClients):
    """A primary and followers of one machine, each with a store of its own."""

    def __init__(self, folder: Path, make_store: MakeStore) -> None:
        super().__init__(folder)
        self._make_store = make_store
        self.store = make_store(folder, Role.PRIMARY)
        self.followed_store = make_store(folder, Role.FOLLOWER)

    async def opened(self, role: Role) -> LocalShards:
        store = self.store if role is Role.PRIMARY else self.followed_store
        return await self._opened_in(role, store, SHARDS, HEAD_ROWS, 1000, SPECS)

    async def replaced(self, client: LocalShards, role: Role, *, keep: bool = False) -> LocalShards:
        """Another one after one that ends. The store that a primary had is another process's, too."""
        await client.close(keep)
        self._opened.remove(client)
        if role is Role.PRIMARY:
            await self.store.close()
            self.store = self._make_store(self._folder, Role.PRIMARY)
            await self.store.open()
        return await self.opened(role)

    def lose_files(self) -> None:
        """All but those of the store, where that is here."""
        shutil.rmtree(self._folder / "shards")


def machine_of(make_store: MakeStore, machines: int) -> type[RuleBasedStateMachine]:
    """machines: each with a primary and files of its own; FOLLOWERS are distributed over them."""
    writers = st.integers(0, machines - 1)

    class FollowedMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.loop = asyncio.new_event_loop()
            self.folder = tempfile.TemporaryDirectory()
            self.rng = np.random.default_rng(1)
            self.model = Model(SHARDS)
            self.places = [Processes(Path(self.folder.name) / str(n), make_store) for n in range(machines)]
            for place in self.places:
                self.run(place.start())
                self.run(place.store.create(UID, SHARDS))
            self.primaries = [self.run(place.opened(Role.PRIMARY)) for place in self.places]
            self.followers = [self.run(self.place_of(n).opened(Role.FOLLOWER)) for n in range(FOLLOWERS)]
            self.kept: list[set[str]] = [set() for _ in range(machines + FOLLOWERS)]
            """Ids that each view must have: it had them, and they were not deleted since."""

        @property
        def views(self) -> list[LocalShards]:
            return self.primaries + self.followers

        def place_of(self, follower: int) -> Processes:
            return self.places[follower % machines]

        def run(self, call: Awaitable[Result]) -> Result:
            return self.loop.run_until_complete(asyncio.ensure_future(call, loop=self.loop))

        def teardown(self) -> None:
            for place in self.places:
                self.run(place.stop())
            self.loop.close()
            self.folder.cleanup()

        # -- changes ---------------------------------------------------------------------------------------------------

        @rule(writer=writers, ids=ids, version=st.integers(0, 1))
        def write(self, writer: int, ids: list[str], version: int) -> None:
            for shard, some in self.of_shards(ids):
                points = random_points(self.rng, version, some)
                self.run(self.primaries[writer].write(shard, write_of(points, version)))
                self.model.points.update(points)

        @rule(writer=writers, ids=ids)
        def delete(self, writer: int, ids: list[str]) -> None:
            for shard, some in self.of_shards(ids):
                self.run(self.primaries[writer].write(shard, ShardWrite(DeleteWrite(some), {})))
            for point_id in ids:
                self.model.points.pop(point_id, None)
            for kept in self.kept:
                kept.difference_update(ids)

        @rule(writer=writers, ids=ids, year=st.integers(2000, 2005))
        def patch(self, writer: int, ids: list[str], year: int) -> None:
            for shard, some in self.of_shards(ids):
                self.run(self.primaries[writer].write(shard, Patch(some, {"year": year}, MAX_METADATA_BYTES)))
            for point_id in ids:
                if (point := self.model.points.get(point_id)) is not None:
                    self.model.points[point_id] = point._replace(metadata={**point.metadata, "year": year})

        @rule(writer=writers, shard=shards)
        def reencode(self, writer: int, shard: int) -> None:
            before = {i: point for i, point in self.model.in_shard(shard).items() if point.version == 0}
            self.run(self.primaries[writer].write(shard, Reencode(sorted(before), 0, 1, reencoded)))
            for point_id, point in before.items():
                self.model.points[point_id] = Point(1, reencoded(point.record[None])[0], point.metadata)

        @rule(writer=writers, shard=shards)
        def seal(self, writer: int, shard: int) -> None:
            self.primaries[writer]._followers[shard].shard.flush()

        @rule(writer=writers, shard=shards)
        def purge(self, writer: int, shard: int) -> None:
            self.run(self.primaries[writer]._followers[shard].purge())

        # -- lives -----------------------------------------------------------------------------------------------------

        @rule(writer=writers, keep=st.booleans())
        def replace_a_primary(self, writer: int, keep: bool) -> None:
            primary = self.places[writer].replaced(self.primaries[writer], Role.PRIMARY, keep=keep)
            self.primaries[writer] = self.run(primary)
            self.kept[writer] = set(self.model.points)

        @rule(number=followers)
        def replace_a_follower(self, number: int) -> None:
            self.followers[number] = self.run(self.place_of(number).replaced(self.followers[number], Role.FOLLOWER))
            self.kept[machines + number] = set(self.model.points)

        @rule(writer=writers)
        def lose_the_files_of_a_machine(self, writer: int) -> None:
            """All that ran on it ended, and starts again on another one."""
            place = self.places[writer]
            of_place = [n for n in range(FOLLOWERS) if self.place_of(n) is place]
            for client in [self.followers[n] for n in of_place] + [self.primaries[writer]]:
                self.run(client.close(keep=False))
                place._opened.remove(client)
            place.lose_files()
            self.primaries[writer] = self.run(place.opened(Role.PRIMARY))
            for number in of_place:
                self.followers[number] = self.run(place.opened(Role.FOLLOWER))
            for view in (writer, *(machines + number for number in of_place)):
                self.kept[view] = set(self.model.points)

        @rule(writer=writers, shard=shards)
        def rebuild(self, writer: int, shard: int) -> None:
            """As after damage."""
            self.primaries[writer]._followers[shard]._distrusted = True
            self.run(self.primaries[writer].catch_up())
            self.kept[writer] = set(self.model.points)

        @rule(number=followers)
        def adopt_files(self, number: int) -> None:
            self.run(self.followers[number].catch_up())
            self.kept[machines + number] = set(self.model.points)

        # -- what must hold --------------------------------------------------------------------------------------------

        @rule(number=followers)
        def reach(self, number: int) -> None:
            """What a machine's own primary has acknowledged, its followers know of without the store."""
            follower = self.followers[number]
            if machines > 1:
                self.run(follower.reach_store())
            elif follower.behind():
                self.run(follower.reach())
            assert not follower.behind()
            self.check(machines + number)

        @rule(writer=writers)
        def reach_a_primary(self, writer: int) -> None:
            self.run(self.primaries[writer].reach_store())
            self.check(writer)

        def check(self, number: int) -> None:
            view = self.views[number]
            assert self.run(view.ids(None, None, 1000)) == sorted(self.model.points)
            assert view.points() == self.model.counts()
            queries = [random_queries(np.random.default_rng(1), version, [None], 9, "sdc") for version in SPECS]
            assert same(self.run(view.search(queries)).found, self.model.search(queries))
            self.kept[number] = set(self.model.points)

        @invariant()
        def a_view_never_shrinks(self) -> None:
            for view, kept in zip(self.views, self.kept, strict=True):
                assert kept <= set(self.run(view.ids(None, None, 1000)))

        def of_shards(self, ids: list[str]) -> Iterator[tuple[int, list[str]]]:
            for shard in range(SHARDS):
                if some := [point_id for point_id in ids if self.model.shard_of(point_id) == shard]:
                    yield shard, some

    return FollowedMachine


def run_machine(make_store: MakeStore, max_examples: int, machines: int = 1) -> None:
    run_state_machine_as_test(
        machine_of(make_store, machines),
        settings=settings(
            max_examples=max_examples,
            stateful_step_count=25,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def redis_stores(url: str, *, exclusive: bool) -> MakeStore:
    """Those of all machines have one prefix. exclusive: a primary has it to itself."""
    prefixes: dict[Path, str] = {}

    def make_store(folder: Path, role: Role) -> MetadataStore:
        prefix = prefixes.setdefault(folder.parent, f"t{uuid4().hex}")
        own = folder / "store" if role is Role.PRIMARY and exclusive else None
        return RedisStore(url, prefix=prefix, folder=own, role=role, timeout_seconds=PATIENCE_SECONDS)

    return make_store


def test_followers_are_a_dict_that_a_primary_writes() -> None:
    run_machine(lambda folder, role: SqliteStore(folder / "store", role=role), 12)


def test_followers_are_a_dict_that_a_primary_writes_to_redis() -> None:
    with running_server(ServerKind.REDIS) as server:
        run_machine(redis_stores(server.url, exclusive=True), 3)


def test_views_are_a_dict_that_two_primaries_write_to_valkey() -> None:
    with running_server(ServerKind.VALKEY) as server:
        run_machine(redis_stores(server.url, exclusive=False), 4, machines=2)


def test_views_are_a_dict_that_two_primaries_write_to_a_cluster() -> None:
    with running_cluster() as cluster:
        run_machine(redis_stores(cluster.url, exclusive=False), 3, machines=2)
