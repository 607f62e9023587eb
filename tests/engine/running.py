"""A real engine and its jobs, on SQLite in a temporary folder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bebr.bootstrap import build_engine, build_jobs
from bebr.config import Settings
from bebr.engine import Engine
from bebr.jobs import JobQueue

PATIENT: dict[str, Any] = {
    "request_timeout_seconds": 120.0,
    "store_timeout_seconds": 60.0,
    "read_wait_seconds": 120.0,
    "header_timeout_seconds": 120.0,
    "keep_alive_seconds": 300.0,
    "min_body_bytes_per_s": 0,
}
"""A busy machine may take longer than people wait, and than callers may."""


def settings(folder: Path, **changes: Any) -> Settings:
    """Few rows in memory, short rests, and no regard for the disk of the machine that runs the tests."""
    few = {"head_rows": 32, "min_free_disk_bytes": 0, "fit_rest_seconds": 0.05} | PATIENT
    return Settings(**({"data_dir": folder} | few | changes))


@asynccontextmanager
async def running(folder: Path, **changes: Any) -> AsyncIterator[Engine]:
    """An engine that is ready."""
    async with running_jobs(folder, **changes) as (engine, _):
        yield engine


@asynccontextmanager
async def running_jobs(folder: Path, *, shares: bool = False, **changes: Any) -> AsyncIterator[tuple[Engine, JobQueue]]:
    """An engine that is ready, and its jobs. shares: followers use the folder, too."""
    chosen = settings(folder, **changes)
    engine = build_engine(chosen, shares=shares)
    jobs = build_jobs(engine, chosen)
    await engine.start()
    await jobs.start()
    try:
        await engine.wait_until_ready()
        yield engine, jobs
    finally:
        await jobs.stop()
        await engine.stop()
