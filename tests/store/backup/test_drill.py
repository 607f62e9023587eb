"""The drill: back up while somebody writes, restore elsewhere, and compare with what was written and by searches."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4
from zlib import crc32

import numpy as np
import pytest
from tests.engine import fitting
from tests.engine.running import running, settings
from tests.engine.test_engine import codes, make, point, search
from tests.servers import Server

from bebr.bootstrap import build_reader, build_store
from bebr.core.types import WriteMode
from bebr.engine import AliasChange, Engine
from bebr.engine.collections.schema import FitSource
from bebr.store.backup import make as making
from bebr.store.backup.archive import Manifest
from bebr.store.backup.make import make_backup
from bebr.store.backup.restore import read_backup, restore_backup

SHARDS = 2
CODES = codes(400)
QUERIES = codes(8, seed=5)


@dataclass
class History:
    """What was acknowledged, by shard: after which seq it had which points."""

    states: list[dict[int, dict[str, int]]] = field(default_factory=lambda: [{0: {}} for _ in range(SHARDS)])

    def put(self, seq: dict[int, int], ids: list[str], value: int | None) -> None:
        """value None: the ids were deleted."""
        for shard, last in seq.items():
            before = self.states[shard][max(self.states[shard])]
            mine = [i for i in ids if crc32(i.encode()) % SHARDS == shard]
            after = {i: v for i, v in before.items() if i not in mine}
            self.states[shard][last] = after | ({} if value is None else dict.fromkeys(mine, value))


async def write(engine: Engine, history: History, step: int, rng: np.random.Generator) -> None:
    numbers = [int(n) for n in rng.choice(400, int(rng.integers(1, 30)), replace=False)]
    ids = [f"p{n:03d}" for n in numbers]
    if rng.random() < 0.4:
        history.put((await engine.delete_points("docs", ids)).seq, ids, None)
    else:
        batch = [point(n, CODES[(n + step) % 400], n=step) for n in numbers]
        history.put((await engine.write_points("docs", batch, WriteMode.UPSERT)).seq, ids, step)


@asynccontextmanager
async def writing(engine: Engine, history: History) -> AsyncIterator[None]:
    """Somebody writes and deletes all the time."""
    rng, stopped = np.random.default_rng(3), asyncio.Event()

    async def work() -> None:
        step = 0
        while not stopped.is_set():
            step += 1
            await write(engine, history, step, rng)
            await asyncio.sleep(0.001)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        stopped.set()
        await task


def place(kind: str, folder: Path, server: Server) -> dict[str, Any]:
    """Settings of a new store of this kind."""
    folder.mkdir(exist_ok=True)
    return {} if kind == "sqlite" else {"redis_url": server.url, "redis_prefix": f"drill-{uuid4().hex}"}


async def back_up(folder: Path, file: Path, **changes: Any) -> Manifest:
    reader = build_reader(settings(folder, **changes))
    await reader.open()
    try:
        return await make_backup(reader, file, "test", lambda *_: None)
    finally:
        await reader.close()


async def restored(folder: Path, file: Path, **changes: Any) -> None:
    manifest, documents = read_backup(file)
    store = build_store(settings(folder, **changes))
    await store.open()
    try:
        await restore_backup(store, file, manifest, documents, lambda *_: None)
    finally:
        await store.close()


async def everything(engine: Engine, name: str = "docs") -> dict[str, tuple[bytes | None, int]]:
    found, _ = await engine.get_points(name, [f"p{n:03d}" for n in range(400)], with_code=True)
    return {one.id: (one.code, json.loads(one.metadata or "{}")["n"]) for one in found}


@pytest.mark.parametrize("target", ["sqlite", "redis"])
@pytest.mark.parametrize("source", ["sqlite", "redis"])
async def test_a_backup_while_points_are_written_is_each_shard_at_one_seq(
    tmp_path: Path, redis_server: Server, source: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "READ_ENTRIES", 20)
    monkeypatch.setattr(making, "PAGE_ENTRIES", 50)
    first, second, fresh = tmp_path / "first", tmp_path / "second", tmp_path / "fresh"
    here, there = place(source, first, redis_server), place(target, second, redis_server)
    history, file = History(), tmp_path / "bebr.backup"
    async with running(first, max_limit=1000, **here) as engine:
        await make(engine, shards=SHARDS)
        await engine.change_aliases([AliasChange("prod", "docs")])
        for step in range(1, 60):
            await write(engine, history, -step, np.random.default_rng(step))
        async with writing(engine, history):
            manifest = await asyncio.to_thread(lambda: asyncio.run(back_up(first, file, **here)))
        await engine.delete_collection("docs")
    shards = manifest.collections[0].shards
    kept = [history.states[number][shard.seq] for number, shard in enumerate(shards)]  # each is a commit's end
    expected = {i: value for state in kept for i, value in state.items()}
    assert all(shard.points in (None, len(state)) for shard, state in zip(shards, kept, strict=True))
    await restored(second, file, **there)
    async with running(second, max_limit=1000, **there) as engine, running(fresh, max_limit=1000) as other:
        got = await everything(engine)
        assert {i: value for i, (_, value) in got.items()} == expected
        assert engine.list_aliases() == {"prod": "docs"} and await engine.count("docs", None) == len(expected)
        await make(other, shards=SHARDS)
        batch = [point(int(i[1:]), CODES[(int(i[1:]) + v) % 400], n=v) for i, v in expected.items()]
        await other.write_points("docs", batch, WriteMode.UPSERT)
        assert got == await everything(other)
        for query in QUERIES:
            one, two = [await search(some, query, limit=20) for some in (engine, other)]
            assert [(hit.id, hit.score) for hit in one.hits] == [(hit.id, hit.score) for hit in two.hits]


async def test_a_clean_stop_leaves_no_write_ahead_log(tmp_path: Path) -> None:
    """Also where the process before was killed and this one wrote nothing."""
    program = (
        "import asyncio, os, sys; from pathlib import Path\n"
        "from tests.engine.running import running\n"
        "from tests.engine.test_engine import make, points\n"
        "from bebr.core.types import WriteMode\n"
        "async def main():\n"
        "    async with running(Path(sys.argv[1])) as engine:\n"
        "        await make(engine); await engine.write_points('docs', points(50), WriteMode.UPSERT); os._exit(9)\n"
        "asyncio.run(main())"
    )
    assert await asyncio.to_thread(subprocess.call, [sys.executable, "-c", program, str(tmp_path)]) == 9
    left = [file for file in (tmp_path / "store").rglob("*-wal") if file.stat().st_size]
    assert left, "the kill left a log"
    async with running(tmp_path) as engine:
        assert await engine.count("docs", None) == 50
    assert not [file for file in (tmp_path / "store").rglob("*-wal") if file.stat().st_size]


async def sample_of(engine: Engine) -> dict[str, bytes]:
    collection = engine.registry.get("docs")
    return await collection.reservoir.read(collection.existing)


@pytest.mark.parametrize(("source", "target"), [("sqlite", "redis"), ("redis", "sqlite")])
async def test_a_restored_collection_is_fitted_to_its_sample_again(
    tmp_path: Path, redis_server: Server, source: str, target: str
) -> None:
    """The embeddings that it keeps of some points are in the backup."""
    here, there = place(source, tmp_path / "first", redis_server), place(target, tmp_path / "second", redis_server)
    file = tmp_path / "bebr.backup"
    async with running(tmp_path / "first", **here) as engine:
        await fitting.make(engine)
        await fitting.write(engine, range(700))
        await fitting.reached(engine, "done")
        collection = engine.registry.get("docs")
        await collection.reservoir.save()
        kept = await sample_of(engine)
        await asyncio.to_thread(lambda: asyncio.run(back_up(tmp_path / "first", file, **here)))
    assert len(kept) >= fitting.SAMPLE
    await restored(tmp_path / "second", file, **there)
    async with running(tmp_path / "second", **there) as engine:
        assert await sample_of(engine) == kept
        before = (await engine.describe_collection("docs")).active_version
        await engine.fits.request("docs", source=FitSource.SAMPLE)
        await fitting.reached(engine, "done")
        assert (await engine.describe_collection("docs")).active_version != before
