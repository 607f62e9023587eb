"""Random changes at a primary, with restarts of all, against a plain dict: whatever happens, followers have what the
primary has acknowledged once they have reached it, and never less than they must have before."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tests.servers import Server, ServerKind, running_server
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
    """A primary and followers, each with a store of its own."""

    def __init__(self, folder: Path, make_store: MakeStore) -> None:
        super().__init__(folder)
        self._make_store = make_store
        self.store = make_store(folder, Role.PRIMARY)
        self.followed_store = make_store(folder, Role.FOLLOWER)

    async def opened(self, role: Role) -> LocalShards:
        store = self.store if role is Role.PRIMARY else self.followed_store
        return await self._opened_in(role, store, SHARDS, HEAD_ROWS, 1000, SPECS)

    async def replace_primary(self) -> None:
        """The store that it had is another process's, too."""
        await self.store.close()
        self.store = self._make_store(self._folder, Role.PRIMARY)
        await self.store.open()


def machine_of(make_store: MakeStore) -> type[RuleBasedStateMachine]:
    class FollowedMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.loop = asyncio.new_event_loop()
            self.folder = tempfile.TemporaryDirectory()
            self.rng = np.random.default_rng(1)
            self.model = Model(SHARDS)
            self.processes = Processes(Path(self.folder.name), make_store)
            self.run(self.processes.start())
            self.run(self.processes.store.create(UID, SHARDS))
            self.primary = self.run(self.processes.opened(Role.PRIMARY))
            self.followers = [self.run(self.processes.opened(Role.FOLLOWER)) for _ in range(FOLLOWERS)]
            self.kept: list[set[str]] = [set() for _ in range(FOLLOWERS)]
            """Ids that each follower must have: it had them, and they were not deleted since."""

        def run(self, call: Awaitable[Result]) -> Result:
            return self.loop.run_until_complete(asyncio.ensure_future(call, loop=self.loop))

        def teardown(self) -> None:
            self.run(self.processes.stop())
            self.loop.close()
            self.folder.cleanup()

        # -- changes ---------------------------------------------------------------------------------------------------

        @rule(ids=ids, version=st.integers(0, 1))
        def write(self, ids: list[str], version: int) -> None:
            for shard, some in self.of_shards(ids):
                points = random_points(self.rng, version, some)
                self.run(self.primary.write(shard, write_of(points, version)))
                self.model.points.update(points)

        @rule(ids=ids)
        def delete(self, ids: list[str]) -> None:
            for shard, some in self.of_shards(ids):
                self.run(self.primary.write(shard, ShardWrite(DeleteWrite(some), {})))
            for point_id in ids:
                self.model.points.pop(point_id, None)
            for kept in self.kept:
                kept.difference_update(ids)

        @rule(ids=ids, year=st.integers(2000, 2005))
        def patch(self, ids: list[str], year: int) -> None:
            for shard, some in self.of_shards(ids):
                self.run(self.primary.write(shard, Patch(some, {"year": year}, MAX_METADATA_BYTES)))
            for point_id in ids:
                if (point := self.model.points.get(point_id)) is not None:
                    self.model.points[point_id] = point._replace(metadata={**point.metadata, "year": year})

        @rule(shard=shards)
        def reencode(self, shard: int) -> None:
            before = {i: point for i, point in self.model.in_shard(shard).items() if point.version == 0}
            self.run(self.primary.write(shard, Reencode(sorted(before), 0, 1, reencoded)))
            for point_id, point in before.items():
                self.model.points[point_id] = Point(1, reencoded(point.record[None])[0], point.metadata)

        @rule(shard=shards)
        def seal(self, shard: int) -> None:
            self.primary._followers[shard].shard.flush()

        @rule(shard=shards)
        def purge(self, shard: int) -> None:
            self.run(self.primary._followers[shard].purge())

        # -- lives -----------------------------------------------------------------------------------------------------

        @rule(keep=st.booleans())
        def replace_the_primary(self, keep: bool) -> None:
            self.run(self.primary.close(keep))
            self.processes._opened.remove(self.primary)
            self.run(self.processes.replace_primary())
            self.primary = self.run(self.processes.opened(Role.PRIMARY))

        @rule(number=followers)
        def replace_a_follower(self, number: int) -> None:
            self.run(self.followers[number].close(keep=False))
            self.processes._opened.remove(self.followers[number])
            self.followers[number] = self.run(self.processes.opened(Role.FOLLOWER))
            self.kept[number] = set(self.model.points)

        @rule(shard=shards)
        def rebuild(self, shard: int) -> None:
            """As after damage."""
            self.primary._followers[shard]._distrusted = True
            self.run(self.primary.catch_up())

        @rule(number=followers)
        def adopt_files(self, number: int) -> None:
            self.run(self.followers[number].catch_up())
            self.kept[number] = set(self.model.points)

        # -- what must hold --------------------------------------------------------------------------------------------

        @rule(number=followers)
        def reach(self, number: int) -> None:
            follower = self.followers[number]
            if follower.behind():
                self.run(follower.reach())
            assert not follower.behind()
            assert self.run(follower.ids(None, None, 1000)) == sorted(self.model.points)
            assert follower.points() == self.model.counts()
            queries = [random_queries(np.random.default_rng(1), version, [None], 9, "sdc") for version in SPECS]
            assert same(self.run(follower.search(queries)).found, self.model.search(queries))
            self.kept[number] = set(self.model.points)

        @invariant()
        def a_view_never_shrinks(self) -> None:
            for follower, kept in zip(self.followers, self.kept, strict=True):
                assert kept <= set(self.run(follower.ids(None, None, 1000)))

        def of_shards(self, ids: list[str]) -> Iterator[tuple[int, list[str]]]:
            for shard in range(SHARDS):
                if some := [point_id for point_id in ids if self.model.shard_of(point_id) == shard]:
                    yield shard, some

    return FollowedMachine


def run_machine(make_store: MakeStore, max_examples: int) -> None:
    run_state_machine_as_test(
        machine_of(make_store),
        settings=settings(
            max_examples=max_examples,
            stateful_step_count=25,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_followers_are_a_dict_that_a_primary_writes() -> None:
    run_machine(lambda folder, role: SqliteStore(folder / "store", role=role), 12)


@pytest.fixture(scope="module")
def redis_server() -> Iterator[Server]:
    with running_server(ServerKind.REDIS) as server:
        yield server


def test_followers_are_a_dict_that_a_primary_writes_to_redis(redis_server: Server) -> None:
    prefixes: dict[Path, str] = {}

    def make_store(folder: Path, role: Role) -> MetadataStore:
        prefix = prefixes.setdefault(folder, f"t{uuid4().hex}")
        own = folder / "store" if role is Role.PRIMARY else None
        return RedisStore(redis_server.url, timeout_seconds=60, prefix=prefix, folder=own, role=role)

    run_machine(make_store, 4)
