"""A bulk ingestion that was cancelled applies nothing more, whenever that was."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.engine.running import running_jobs
from tests.engine.test_engine import make, points
from tests.waiting import until

from bebr.jobs import JobState
from bebr.jobs.ingest.ingestion import Ingestion


async def lines(first: int) -> AsyncIterator[bytes]:
    for point in points(first + 3)[first:]:
        yield json.dumps(point).encode() + b"\n"


async def test_a_job_whose_turn_comes_while_it_is_cancelled_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end, may_be_cancelled, save = threading.Event(), threading.Event(), Ingestion.save

    def slow(ingestion: Ingestion, state: JobState | None = None) -> None:
        """As a slow disk would."""
        if state is JobState.SUCCEEDED:
            assert may_end.wait(120)
        if state is JobState.CANCELLED:
            assert may_be_cancelled.wait(120)
        save(ingestion, state)

    monkeypatch.setattr(Ingestion, "save", slow)
    async with running_jobs(tmp_path) as (engine, jobs):
        await make(engine)
        first, second = [await jobs.ingest.submit("docs", lines(start)) for start in (0, 10)]
        await until(lambda: jobs.get(first).state is JobState.RUNNING, "the first job")
        cancelling = asyncio.create_task(jobs.cancel(second))
        await asyncio.sleep(0)
        third = await jobs.ingest.submit("docs", lines(20))
        may_end.set()
        await until(lambda: jobs.get(third).state.ended, "the end of the job after it")
        may_be_cancelled.set()
        assert (await cancelling).state is JobState.CANCELLED
        assert jobs.get(second).detail is None and await engine.count("docs", None) == 6


async def test_a_job_that_was_being_cancelled_when_the_process_was_killed_is_cancelled(tmp_path: Path) -> None:
    async with running_jobs(tmp_path) as (engine, jobs):
        await make(engine)
        await jobs.ingest.stop()
        job = await jobs.ingest.submit("docs", lines(0))
    (folder,) = (path.parent for path in tmp_path.rglob("body"))
    ingestion = Ingestion.load(folder)
    ingestion.cancelled = True
    ingestion.save()
    async with running_jobs(tmp_path) as (engine, jobs):
        await until(lambda: jobs.get(job).state.ended, "the end of the job")
        assert jobs.get(job).state is JobState.CANCELLED and await engine.count("docs", None) == 0
        assert not list(tmp_path.rglob("body"))
