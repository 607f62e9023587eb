"""Random changes of collections, aliases, versions, fields and points at engines that share a store, with restarts and
failovers, against plain dicts: after each step every engine says what the store holds, and never less than before.

BEBR_TEST_EXAMPLES says how many times as many examples are tried; those on Valkey and on a cluster run only with it.
"""

import asyncio
import json
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4
from zlib import crc32

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.cluster import Cluster, running_cluster
from tests.engine import running
from tests.engine.two_models import texts
from tests.servers import ServerKind, running_server
from tests.waiting import until

from bebr.bootstrap import build_engine
from bebr.core.types import FieldType, Role, WriteMode
from bebr.engine import AliasChange, CollectionSettings, Engine, Gate
from bebr.errors import AlreadyExists, CollectionNotFound, Conflict, InvalidOption, Unavailable

Result = TypeVar("Result")
NONE_OF_THAT_NAME = (CollectionNotFound, InvalidOption)
"""The second where it is an alias."""
EXAMPLES = int(os.environ.get("BEBR_TEST_EXAMPLES", "1"))
with_time = pytest.mark.skipif("BEBR_TEST_EXAMPLES" not in os.environ, reason="takes long: set BEBR_TEST_EXAMPLES")
TEXTS = texts(40)
BUNDLES = ("old@1", "new@1")
NAMES, ALIASES, KEYS = ("a", "b"), ("live", "b"), ("k0", "k1", "k2")
names, aliases, keys = st.sampled_from(NAMES), st.sampled_from(ALIASES), st.sampled_from(KEYS)
numbers = st.lists(st.integers(0, 39), unique=True, min_size=1, max_size=8)


@dataclass
class Expected:
    """What a collection must be."""

    points: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    """By id: the version of the code, and the metadata."""
    fields: dict[str, FieldType] = field(default_factory=lambda: {"n": FieldType.INTEGER})
    versions: list[str] = field(default_factory=lambda: [BUNDLES[0]])
    active: str = BUNDLES[0]


class Machine(RuleBasedStateMachine):
    """Engines: some that write, and after them a follower of each in its folder."""

    writers = 2
    models: Path
    """Where the bundles are."""
    shared: Callable[[], dict[str, Any]]
    """Settings that the engines of one example have in common."""
    cluster: Cluster | None = None

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        few = {"bundles_dir": self.models, "search_threads": 1, "encoder_threads": 1, "head_rows": 8}
        self.settings = few | type(self).shared()
        self.engines: list[Engine] = []
        self.expected: dict[str, Expected] = {}
        self.aliases: dict[str, str] = {}
        self.kept: list[dict[str, set[str]]] = []
        """For each engine, by uid of the collection: ids that it has served, and that were not deleted since."""

    @initialize()
    def start(self) -> None:
        for number in range(2 * self.writers):
            self.engines.append(self.run(self.started(number)))
            self.kept.append({})
        self.make(self.engines[0], "a", 2)
        self.put(self.engines[0], "a", range(20))

    def run(self, call: Awaitable[Result]) -> Result:
        return self.loop.run_until_complete(asyncio.ensure_future(call, loop=self.loop))

    async def started(self, number: int) -> Engine:
        follows = number >= self.writers
        chosen = running.settings(Path(self.folder.name) / str(number % self.writers), **self.settings)
        engine = build_engine(chosen, Role.FOLLOWER if follows else Role.PRIMARY, shares=not follows)
        await engine.start()
        await engine.wait_until_ready()
        return engine

    def teardown(self) -> None:
        for engine in reversed(self.engines):
            self.run(engine.stop())
        self.loop.close()
        self.folder.cleanup()

    # -- changes of documents ------------------------------------------------------------------------------------------

    @rule(data=st.data(), name=names, shards=st.integers(1, 2))
    def create(self, data: st.DataObject, name: str, shards: int) -> None:
        self.make(self.writer(data), name, shards)

    def make(self, engine: Engine, name: str, shards: int) -> None:
        fields = {"n": FieldType.INTEGER}
        wanted = CollectionSettings(bundle=BUNDLES[0], filterable=fields, shards=shards, text_field="text")
        made = engine.create_collection(name, wanted)
        if self.happens(made, AlreadyExists, name not in self.expected and name not in self.aliases):
            self.expected[name] = Expected()

    @rule(data=st.data(), name=names)
    def delete(self, data: st.DataObject, name: str) -> None:
        if self.happens(self.writer(data).delete_collection(name), NONE_OF_THAT_NAME, name in self.expected):
            del self.expected[name]
            self.aliases = {alias: target for alias, target in self.aliases.items() if target != name}

    @rule(data=st.data(), alias=aliases, name=st.none() | names)
    def point_alias(self, data: st.DataObject, alias: str, name: str | None) -> None:
        changed = self.writer(data).change_aliases([AliasChange(alias, name)])
        is_free = alias not in self.expected and name in self.expected
        may = alias in self.aliases if name is None else is_free
        if self.happens(changed, (AlreadyExists, CollectionNotFound), may):
            self.aliases.pop(alias, None)
            if name is not None:
                self.aliases[alias] = name

    @rule(data=st.data(), name=names)
    def attach(self, data: st.DataObject, name: str) -> None:
        if (about := self.expected.get(name)) is not None:
            attached = self.writer(data).versions.attach(name, BUNDLES[1])
            if self.happens(attached, AlreadyExists, BUNDLES[1] not in about.versions):
                about.versions.append(BUNDLES[1])

    @rule(data=st.data(), name=names, version=st.sampled_from(BUNDLES))
    def promote(self, data: st.DataObject, name: str, version: str) -> None:
        if (about := self.expected.get(name)) is not None and version in about.versions:
            promoted = self.writer(data).versions.promote(name, version, Gate(), force=True)
            if self.happens(promoted, Conflict, version != about.active):
                about.active = version

    @rule(data=st.data(), name=names, key=keys, kind=st.sampled_from([FieldType.INTEGER, FieldType.KEYWORD]))
    def add_field(self, data: st.DataObject, name: str, key: str, kind: FieldType) -> None:
        if (about := self.expected.get(name)) is not None and key not in about.fields:
            self.run(self.writer(data).change_fields(name, {key: kind}))
            about.fields[key] = kind

    # -- changes of points ---------------------------------------------------------------------------------------------

    @rule(data=st.data(), name=names, numbers=numbers)
    def write(self, data: st.DataObject, name: str, numbers: list[int]) -> None:
        if name in self.expected:
            self.put(self.writer(data), name, numbers)

    def put(self, engine: Engine, name: str, numbers: Iterable[int]) -> None:
        about = self.expected[name]
        points = [{"id": f"p{n:02}", "text": TEXTS[n], "metadata": {"n": n}} for n in numbers]
        report = self.run(engine.write_points(name, points, WriteMode.UPSERT))
        assert report.applied == len(points), report
        for point in points:
            about.points[point["id"]] = (about.active, {"n": point["metadata"]["n"], "text": point["text"]})

    @rule(data=st.data(), name=names, numbers=numbers)
    def delete_points(self, data: st.DataObject, name: str, numbers: list[int]) -> None:
        if (about := self.expected.get(name)) is None:
            return
        ids = [f"p{n:02}" for n in numbers]
        self.run(self.writer(data).delete_points(name, ids))
        for point_id in ids:
            about.points.pop(point_id, None)
        for kept in self.kept:
            for had in kept.values():  # of all collections: what another one has is noted again after this step
                had.difference_update(ids)

    @rule(data=st.data(), name=names, numbers=numbers, n=st.integers(100, 105))
    def patch(self, data: st.DataObject, name: str, numbers: list[int], n: int) -> None:
        if (about := self.expected.get(name)) is None:
            return
        ids = [f"p{i:02}" for i in numbers]
        self.run(self.writer(data).set_metadata(name, ids, None, {"n": n}))
        for point_id in ids:
            if point_id in about.points:
                version, metadata = about.points[point_id]
                about.points[point_id] = version, {**metadata, "n": n}

    @rule(data=st.data(), name=names)
    def purge(self, data: st.DataObject, name: str) -> None:
        if name in self.expected:
            for follower in self.writer(data).registry.get(name).shards._followers:  # type: ignore[attr-defined]
                follower.shard.flush()
                self.run(follower.purge())

    # -- lives ---------------------------------------------------------------------------------------------------------

    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.engines) - 1))
        self.run(self.engines[number].stop())
        self.engines[number] = self.run(self.started(number))
        self.kept[number] = {}

    @precondition(lambda self: self.cluster is not None)
    @rule(data=st.data(), name=names, numbers=numbers)
    def fail_over(self, data: st.DataObject, name: str, numbers: list[int]) -> None:
        """It takes back what no replica has, which one engine has seen; all the rest is still there."""
        assert self.cluster is not None
        if name not in self.expected:
            return
        engine = self.writer(data)
        uid, shards = engine.registry.get(name).document.uid, engine.registry.get(name).document.shards
        self.cluster.learn_roles()
        place = self.cluster.of_key(f"{{{self.settings['redis_prefix']}:{uid}:0}}:info")
        self.cluster.wait_for_replica(place)
        self.cluster.cut_off(place)
        ids = [point_id for point_id in map("p{:02}".format, numbers) if crc32(point_id.encode()) % shards == 0]
        points = [{"id": point_id, "text": TEXTS[0], "metadata": {"n": 999}} for point_id in ids]
        engine._store._client._ack_replicas = 0  # type: ignore[attr-defined]
        assert self.run(engine.write_points(name, points, WriteMode.UPSERT)).applied == len(points)
        engine._store._client._ack_replicas = 1  # type: ignore[attr-defined]
        self.cluster.fail_over(place)
        self.cluster.heal(place)
        for engine in self.engines:
            self.run(until(partial(answers, engine), "the store answers again"))

    # -- what must hold ------------------------------------------------------------------------------------------------

    def writer(self, data: st.DataObject) -> Engine:
        """One of them, which knows of all that the others have changed."""
        engine = self.engines[data.draw(st.integers(0, self.writers - 1), label="writer")]
        self.run(self.knows_documents(engine))
        return engine

    def happens(
        self, call: Awaitable[object], refusal: type[Exception] | tuple[type[Exception], ...], may: bool
    ) -> bool:
        try:
            self.run(call)
        except refusal:
            assert not may
            return False
        assert may
        return True

    async def knows_documents(self, engine: Engine) -> None:
        """As each second."""
        if engine._following is not None and engine.registry.role is Role.PRIMARY:
            await engine._following.refresh()

    @invariant()
    def no_view_shrinks(self) -> None:
        for engine, kept in zip(self.engines, self.kept, strict=True):
            for collection in engine.registry.collections.values():
                if (had := kept.get(collection.document.uid)) is not None:
                    assert had <= set(self.run(collection.shards.ids(None, None, 1000)))

    @invariant()
    def every_engine_says_what_the_store_holds(self) -> None:
        for number, engine in enumerate(self.engines):
            self.run(self.knows_documents(engine))
            self.run(engine.keep_up())
            assert engine.list_aliases() == self.aliases
            assert [one.name for one in engine.list_collections()] == sorted(self.expected)
            for name, about in self.expected.items():
                self.kept[number] |= self.run(self.compare(engine, name, about))

    async def compare(self, engine: Engine, name: str, about: Expected) -> dict[str, set[str]]:
        """The ids that the engine has, by uid of the collection."""
        collection = engine.registry.get(name)
        page = await engine.scroll(name, None, 1000, None, strong=True)
        found = {point.id: (point.version, json.loads(point.metadata or "")) for point in page.points}
        assert found == about.points
        assert [version.id for version in collection.document.versions] == about.versions
        assert collection.active.id == about.active
        assert dict(collection.document.filterable) == about.fields
        counted = await engine.count(name, {"must": [{"key": "n", "range": {"lt": 100}}]}, strong=True)
        assert counted == sum(metadata["n"] < 100 for _, metadata in about.points.values())
        by_version = (await engine.describe_collection(name)).points
        of_versions = [version for version, _ in about.points.values()]
        assert {i: count for i, count in by_version.items() if count} == {i: of_versions.count(i) for i in of_versions}
        return {collection.document.uid: set(found)}


async def answers(engine: Engine) -> bool:
    try:
        await engine.ping_store()
        await engine.keep_up()
        for name in list(engine.registry.collections):
            await engine.count(name, None, strong=True)
    except Unavailable:
        return False
    return engine.readiness().problem is None


def run_machine(machine: type[Machine], examples: int, steps: int = 30) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples * EXAMPLES,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=True,
            phases=(Phase.generate,),  # what fails is long already, and each step of a smaller one takes its time
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_primary_and_its_follower_are_plain_dicts(bundles: Path) -> None:
    machine = type("OnSqlite", (Machine,), {"writers": 1, "models": bundles, "shared": dict})
    run_machine(machine, 5)


@with_time
def test_two_services_and_their_followers_are_plain_dicts(bundles: Path) -> None:
    with running_server(ServerKind.VALKEY) as server:
        shared = staticmethod(partial(shared_settings, server.url))
        run_machine(type("OnValkey", (Machine,), {"models": bundles, "shared": shared}), 4)


@with_time
def test_two_services_on_a_cluster_that_fails_over_are_plain_dicts(bundles: Path) -> None:
    with running_cluster() as cluster:
        shared = staticmethod(partial(shared_settings, cluster.url))
        run_machine(type("OnCluster", (Machine,), {"models": bundles, "shared": shared, "cluster": cluster}), 3)


def shared_settings(url: str) -> dict[str, Any]:
    return {"redis_url": url, "redis_prefix": f"t{uuid4().hex}", "shared_store": True, "tombstone_seconds": 0.001}
