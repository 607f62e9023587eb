"""All jobs of all kinds in one queue: listed, found by id, and refused what their kind cannot do."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.engine.fitting import FIT, SAMPLE, make, reached, write
from tests.engine.running import running_jobs, settings
from tests.engine.upgrading import FAST, ended, moved, upgrading_jobs
from tests.waiting import until

from bebr.bootstrap import build_engine, build_jobs
from bebr.engine import CollectionSettings
from bebr.errors import Conflict, JobNotFound, NotReady
from bebr.jobs import BackfillJob, FitJob, IngestJob, JobKind, JobState


async def lines(count: int) -> AsyncIterator[bytes]:
    for n in range(count):
        yield json.dumps({"id": f"t{n}", "text": "parse the date"}).encode() + b"\n"
    yield b"no json\n"


async def test_jobs_of_all_kinds_are_listed_newest_first(tmp_path: Path, bundles: Path) -> None:
    async with upgrading_jobs(tmp_path, bundles) as (engine, jobs):
        await moved(engine)
        backfill = await jobs.backfill.submit("docs", None, FAST)
        await ended(jobs, backfill)
        await engine.create_collection("fitted", CollectionSettings(fit=FIT))
        ingest = await jobs.ingest.submit("docs", lines(3))
        await until(lambda: jobs.get(ingest).state.ended, "the end of the job")
        found = jobs.list()
        newest = [job.id for job in found if job.kind is not JobKind.FIT]
        assert newest == [ingest, backfill]
        by_kind = {job.kind: job for job in found}
        assert len(by_kind) == len(found) == 3 and by_kind[JobKind.INGEST].id == ingest
        assert jobs.get(by_kind[JobKind.FIT].id) == by_kind[JobKind.FIT]
        assert jobs.states() == {JobState.SUCCEEDED: 2, JobState.QUEUED: 1}
        errors = b"".join([piece async for piece in jobs.errors(ingest)])
        assert json.loads(errors)["line"] == 4
        moved_job, ingested = by_kind[JobKind.BACKFILL], by_kind[JobKind.INGEST]
        assert isinstance(moved_job, BackfillJob) and (moved_job.total, moved_job.applied) == (80, 80)
        assert isinstance(ingested, IngestJob) and (ingested.applied, ingested.rejected) == (3, 1)
        with pytest.raises(JobNotFound, match="no job 'nobody'"):
            jobs.get("nobody")
        with pytest.raises(JobNotFound, match="no rejected lines"):
            jobs.errors(backfill)
        with pytest.raises(Conflict, match="cannot be paused; cancel it and send the rest later"):
            await jobs.pause(ingest)
        assert (await jobs.cancel(ingest)).state is JobState.SUCCEEDED, "no effect on a job that has ended"


async def test_a_fit_is_a_job_from_the_request_to_the_end(tmp_path: Path) -> None:
    async with running_jobs(tmp_path) as (engine, jobs):
        collection = await make(engine)
        (job,) = jobs.list()
        assert isinstance(job, FitJob) and job.state is JobState.QUEUED and job.version is None
        assert (job.bytes, job.sample, job.collected) == (FIT.bytes, SAMPLE, 0)
        assert job.created_at is not None and job.collection == "docs"
        for refused in (jobs.pause, jobs.resume):
            with pytest.raises(Conflict, match="of kind 'fit', which cannot be"):
                await refused(job.id)
        await write(engine, range(SAMPLE))
        fit = await reached(engine, "done")
        assert jobs.get(job.id).state is JobState.SUCCEEDED and jobs.get(job.id).version == fit.version
        await engine.fits.request("docs")
        (again,) = jobs.list()
        assert again.id != job.id and (again.state, again.created_at) == (JobState.QUEUED, None)
        assert collection.document.fit is not None
    async with running_jobs(tmp_path) as (engine, jobs):
        assert jobs.list() == [again]


async def test_nothing_is_said_to_be_absent_before_the_store_was_read(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    jobs = build_jobs(build_engine(chosen), chosen)
    with pytest.raises(NotReady):
        jobs.get("backfill-1")
    with pytest.raises(NotReady):
        jobs.list()
    assert not jobs.states()
