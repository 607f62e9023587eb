"""Creations of collections that fail midway: what is left is nothing, or a collection like any other."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.engine.running import settings
from tests.engine.test_engine import FIELDS, SPEC, points
from tests.waiting import until

from bebr.core.operations import FeedPage
from bebr.core.types import WriteMode
from bebr.encoding import BundleRegistry
from bebr.engine import CollectionSettings, Engine, EngineOptions, Parts
from bebr.engine.collections.registry import COLLECTION
from bebr.errors import AlreadyExists, BebrError, CollectionNotFound, InsufficientStorage, StoreUnavailable
from bebr.store import RESERVOIR, Document
from bebr.store.sqlite.store import SqliteStore


class Faulty(SqliteStore):
    """One step of it fails: 'create' and 'answer' lose the answer, 'refused' changes nothing, 'feed' and 'beside' are
    reads; or waits: 'gate'."""

    step = ""
    reached: asyncio.Event
    gate: asyncio.Event

    async def create(self, uid: str, shards: int) -> None:
        await super().create(uid, shards)
        self._fail("create")
        if self.step == "gate":
            self.reached.set()
            await self.gate.wait()

    async def replace_documents(
        self,
        kind: str,
        puts: Mapping[str, Document],
        deletes: Sequence[str],
        *,
        expect: Mapping[str, Document | None] | None = None,
    ) -> None:
        if kind == COLLECTION and self.step == "refused":
            raise InsufficientStorage("no room")
        await super().replace_documents(kind, puts, deletes, expect=expect)
        if kind == COLLECTION:
            self._fail("answer")

    async def get_document(self, kind: str, name: str) -> Document | None:
        if kind == RESERVOIR:
            self._fail("beside")
        return await super().get_document(kind, name)

    async def feed(self, uid: str, shard: int, after_seq: int, limit: int) -> FeedPage:
        self._fail("feed")
        return await super().feed(uid, shard, after_seq, limit)

    def _fail(self, step: str) -> None:
        if self.step == step:
            raise StoreUnavailable("it does not answer")


@asynccontextmanager
async def faulty(folder: Path, bundles: Path | None = None, step: str = "") -> AsyncIterator[tuple[Engine, Faulty]]:
    chosen, store = settings(folder), Faulty(folder / "store")
    store.step = step
    options = EngineOptions(1, 1, chosen.head_rows, shares=True)
    engine = Engine(Parts(store, BundleRegistry([bundles or folder / "bundles"]), folder, chosen.limits, options))
    await engine.start()
    try:
        await engine.wait_until_ready()
        yield engine, store
    finally:
        store.step = ""
        await engine.stop()


async def make(engine: Engine) -> None:
    await engine.create_collection("docs", CollectionSettings(code=str(SPEC), filterable=FIELDS, shards=2))


async def bring(engine: Engine) -> Callable[[Engine], Awaitable[object]]:
    """-> what imports a collection that was exported."""
    await make(engine)
    definition = await engine.transfer.definition("docs")
    await engine.delete_collection("docs")
    return lambda engine: engine.import_collection("docs", definition, None)


def left(folder: Path) -> list[Path]:
    """Files and points of collections."""
    return [*folder.glob("collections/*"), *folder.glob("store/collections/*.db")]


def mapped(folder: Path) -> list[str]:
    """What open collections have mapped for their followers."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in lines if f"{folder}/collections" in line and line.endswith("/shared-seqs")]


@pytest.mark.parametrize("is_import", [False, True], ids=["made", "imported"])
@pytest.mark.parametrize("step", ["create", "refused", "answer", "feed"])
async def test_a_creation_that_fails_leaves_nothing_open(tmp_path: Path, step: str, is_import: bool) -> None:
    """Files and points of a collection that there certainly is not are gone; one that was stored is served."""
    async with faulty(tmp_path) as (engine, store):
        attempt = await bring(engine) if is_import else make
        store.step = step
        with pytest.raises((StoreUnavailable, InsufficientStorage)):
            await attempt(engine)
        assert mapped(tmp_path) == []
        if step in ("create", "refused"):
            assert left(tmp_path) == []
        store.step = ""
        if step == "feed":  # the store has its document
            await until(lambda: engine.registry.is_open("docs"), "it is served")
            with pytest.raises(AlreadyExists):
                await attempt(engine)
        else:
            await attempt(engine)
        assert (await engine.write_points("docs", points(20), WriteMode.UPSERT)).applied == 20
        assert await engine.count("docs", None) == 20
    async with faulty(tmp_path) as (engine, _):
        assert [status.name for status in engine.list_collections()] == ["docs"]
        assert await engine.count("docs", None) == 20


async def test_a_creation_whose_caller_leaves_while_a_model_loads_leaves_nothing(tmp_path: Path, bundles: Path) -> None:
    async with faulty(tmp_path, bundles) as (engine, store):
        store.step, store.reached, store.gate = "gate", asyncio.Event(), asyncio.Event()
        creating = asyncio.create_task(engine.create_collection("docs", CollectionSettings(bundle="old@1")))
        await store.reached.wait()
        with engine._maker._loader._encoders._lock:  # as whoever loads another model has it
            store.gate.set()
            for _ in range(10):
                await asyncio.sleep(0)  # it waits for the lock in its thread by now
            creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
        with pytest.raises(CollectionNotFound):
            engine.registry.get("docs")
        assert mapped(tmp_path) == [] and left(tmp_path) == []
        store.step = ""
        await engine.create_collection("docs", CollectionSettings(bundle="old@1"))
        assert engine.registry.is_open("docs")


async def test_a_collection_that_cannot_be_opened_now_is_not_held_open_meanwhile(tmp_path: Path) -> None:
    """Each try closes what it has opened."""
    async with faulty(tmp_path) as (engine, _):
        await make(engine)
        await engine.write_points("docs", points(200), WriteMode.UPSERT)
    async with faulty(tmp_path, step="beside") as (engine, store):
        entry = engine.registry.damaged["docs"]
        assert entry.passing
        assert mapped(tmp_path) == []
        with pytest.raises(BebrError):
            await engine._maker._loader._retry(entry)
        assert mapped(tmp_path) == []
        store.step = ""
        await until(lambda: engine.registry.is_open("docs"), "it is opened")
        assert await engine.count("docs", None) == 200
        assert mapped(tmp_path) != []
    assert mapped(tmp_path) == []
