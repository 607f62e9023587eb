"""What an earlier run of the service left of an ingestion is checked before it goes on."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.engine.running import running_jobs
from tests.waiting import until

from bebr.core.types import JobState, WriteMode
from bebr.jobs.ingest.ingestion import Ingestion
from bebr.jobs.ingest.spool import spool
from engine.test_engine import make, points


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b'"n":')] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flip_state(path: Path) -> None:
    state = path.with_name("job.json")
    state.write_bytes(state.read_bytes().replace(b'"batch_points": 4', b'"batch_points": 5'))


def cut_state(path: Path) -> None:
    state = path.with_name("job.json")
    state.write_bytes(state.read_bytes()[:80])


async def leave(folder: Path) -> Ingestion:
    """An ingestion that was accepted and has not begun."""
    from bebr.config import Settings

    ingestion = Ingestion(
        id="left", folder=folder / "jobs" / "left", collection="docs", mode=WriteMode.UPSERT, gzip=False,
        body_size_bytes=0, batch_points=4,
    )  # fmt: skip
    ingestion.folder.mkdir(parents=True)

    async def body() -> "asyncio.AsyncIterator[bytes]":  # type: ignore[name-defined]
        for point in points(20):
            yield json.dumps(point, separators=(",", ":")).encode() + b"\n"

    limits = Settings(min_free_disk_bytes=0).limits
    ingestion.body_size_bytes, ingestion.body_sha256 = await spool(body(), ingestion.body_path, limits)
    ingestion.save()
    return ingestion


@pytest.mark.parametrize("damage", [None, flip, cut, Path.unlink, flip_state, cut_state])
async def test_what_changed_on_disk_is_not_applied(tmp_path: Path, damage: Callable[[Path], None] | None) -> None:
    async with running_jobs(tmp_path) as (engine, _):
        await make(engine)
    ingestion = await leave(tmp_path)
    if damage is not None:
        damage(ingestion.body_path)
    async with running_jobs(tmp_path) as (engine, jobs):
        await until(lambda: jobs.get("left").state.ended, "the end of the job")
        job = jobs.get("left")
        assert await engine.count("docs", None) == (20 if damage is None else 0)
        assert job.state is (JobState.SUCCEEDED if damage is None else JobState.FAILED)
        assert damage is None or "again" in (job.detail or "")
