"""Bulk ingestion: streamed, reported line by line, resumed after a restart, cancelled without loss."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.server.service import DOCS, assert_problem, create, ended, point, points, serving
from tests.waiting import until

from bebr.core.types import WriteMode
from bebr.engine import Engine, WriteReport
from bebr.errors import StoreUnavailable
from bebr.jobs import JobQueue, JobState

NDJSON = {"content-type": "application/x-ndjson"}


def lines(items: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


async def submit(client: httpx.AsyncClient, body: bytes | AsyncIterator[bytes], query: str = "", **headers: str) -> str:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await client.post(f"{DOCS}/ingest{query}", content=body, headers=NDJSON | headers)
    assert answer.status_code == 202, answer.text
    job: str = answer.json()["job"]
    assert answer.headers["location"] == f"/v1/jobs/{job}"
    return job


async def count(client: httpx.AsyncClient) -> int:
    return int((await client.post(f"{DOCS}/points/count")).json()["count"])


@pytest.mark.parametrize("zipped", [False, True])
async def test_good_lines_are_applied_and_bad_ones_listed(tmp_path: Path, zipped: bool) -> None:
    bad = [{"id": "x"}, 7, {"id": "y", "code_b64": "AAAA"}]
    body = lines(points(50)) + b"\n{broken\n" + lines(bad) + lines(points(60)[50:])
    async with serving(tmp_path, ingest_batch_points=7) as client:
        await create(client)
        headers = {"content_encoding": "gzip"} if zipped else {}
        job = await submit(client, gzip.compress(body) if zipped else body, **headers)
        state = await ended(client, job)
        assert state["state"] == "succeeded" and state["detail"] is None and state["finished_at"]
        assert (state["received"], state["applied"], state["rejected"]) == (64, 60, 4)
        assert await count(client) == 60
        answer = await client.get(f"/v1/jobs/{job}/errors")
        assert answer.headers["content-type"] == "application/x-ndjson"
        errors = [json.loads(line) for line in answer.text.splitlines()]
        assert [(e["line"], e["error"]) for e in errors] == [
            (52, "Malformed"),
            (53, "InvalidOption"),
            (54, "InvalidOption"),
            (55, "DimensionMismatch"),
        ]
        assert errors[3]["id"] == "y"
        assert [j["job"] for j in (await client.get("/v1/jobs")).json()["jobs"]] == [job]
        assert not list(tmp_path.glob("data/jobs/*/body*"))


async def test_the_last_line_of_an_id_wins(tmp_path: Path) -> None:
    body = lines(point(i % 5, title=f"t{i}") for i in range(50))
    async with serving(tmp_path, ingest_batch_points=7) as client:
        await create(client)
        state = await ended(client, await submit(client, body))
        assert state["applied"] == 50 and await count(client) == 5
        for i in range(5):
            assert (await client.get(f"{DOCS}/points/p00{i}")).json()["metadata"]["title"] == f"t{45 + i}"


async def test_a_job_stays_with_its_collection_when_the_alias_moves(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client, "/v1/collections/old")
        await create(client, "/v1/collections/new")
        await client.post("/v1/aliases", json={"actions": [{"create": {"alias": "docs", "collection": "old"}}]})
        job = await submit(client, lines(points(5)))
        await client.post("/v1/aliases", json={"actions": [{"create": {"alias": "docs", "collection": "new"}}]})
        state = await ended(client, job)
        assert (state["collection"], state["applied"]) == ("old", 5)
        assert await count(client) == 0


async def test_a_line_too_deep_to_be_shown_again_is_rejected_alone(tmp_path: Path) -> None:
    deep = b'{"id":"deep","code_b64":"%s","metadata":{"a":%s}}' % (b"AAAAAAAA", b"[" * 300 + b"]" * 300)
    async with serving(tmp_path) as client:
        await create(client)
        job = await submit(client, lines(points(3)) + deep + b"\n" + b'{"id":' + b"[" * 900 + b"]" * 900 + b"}\n")
        state = await ended(client, job)
        assert (state["state"], state["applied"], state["rejected"]) == ("succeeded", 3, 2)
        answer = await client.post(f"{DOCS}/points/scroll", json={})
        assert len(answer.json()["points"]) == 3


async def test_a_mode_holds_for_every_line(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await ended(client, await submit(client, lines(points(3))))
        state = await ended(client, await submit(client, lines(points(5)), "?mode=insert_only"))
        assert (state["applied"], state["rejected"]) == (2, 3)


async def test_an_empty_body_is_a_job_of_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        state = await ended(client, await submit(client, b""))
        assert (state["state"], state["received"]) == ("succeeded", 0)


async def test_broken_gzip_fails_and_keeps_what_was_read(tmp_path: Path) -> None:
    body = gzip.compress(lines(points(900)))[:-20]
    async with serving(tmp_path, ingest_batch_points=10) as client:
        await create(client)
        state = await ended(client, await submit(client, body, content_encoding="gzip"))
        assert state["state"] == "failed" and "gzip" in state["detail"]
        assert state["applied"] == await count(client)


async def test_what_cannot_be_taken_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, max_ingest_bytes=2000) as client:
        await create(client)
        url = f"{DOCS}/ingest"
        assert_problem(await client.post(url, content=b"x" * 2001, headers=NDJSON), 413, "PayloadTooLarge")
        assert_problem(await client.post(url, content=chunks(30, 100), headers=NDJSON), 413, "PayloadTooLarge")
        assert_problem(await client.post(url, content=b"{}"), 415, "UnsupportedMedia")
        assert_problem(await client.post(f"{url}?mode=x", content=b"{}", headers=NDJSON), 400, "InvalidOption", "mode")
        answer = await client.post("/v1/collections/nope/ingest", content=b"{}", headers=NDJSON)
        assert_problem(answer, 404, "CollectionNotFound")
        assert (await client.get("/v1/jobs")).json() == {"jobs": []}
        assert not list(tmp_path.glob("data/jobs/*"))


async def chunks(number: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(number):
        yield b"x" * size


async def test_low_disk_is_507(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
    async with serving(tmp_path, min_free_disk_bytes=2**60) as client:
        answer = await client.post(f"{DOCS}/ingest", content=lines(points(3)), headers=NDJSON)
        assert_problem(answer, 507, "InsufficientStorage")
        assert not list(tmp_path.glob("data/jobs/*"))


class Gate:
    """Holds the engine's writes back until it is opened."""

    def __init__(self, engine: Engine) -> None:
        self._write = engine.write_points
        self.opened = asyncio.Event()
        self.calls = 0
        engine.write_points = self

    async def __call__(self, *arguments: Any, **options: Any) -> WriteReport:
        self.calls += 1
        await self.opened.wait()
        return await self._write(*arguments, **options)


def engine_of(client: httpx.AsyncClient) -> Engine:
    engine: Engine = client._transport.app.state.services.engine
    return engine


async def test_jobs_wait_in_line_up_to_a_limit_and_can_be_cancelled(tmp_path: Path) -> None:
    async with serving(tmp_path, max_jobs=2, ingest_batch_points=5) as client:
        await create(client)
        gate = Gate(engine_of(client))
        running, queued = await submit(client, lines(points(100))), await submit(client, lines(points(3)))
        answer = await client.post(f"{DOCS}/ingest", content=b"{}", headers=NDJSON)
        assert_problem(answer, 429, "Overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        assert (await client.delete(f"/v1/jobs/{queued}")).json()["state"] == "cancelled"
        await client.delete(f"/v1/jobs/{running}")
        gate.opened.set()
        state = await ended(client, running)
        assert state["state"] == "cancelled" and state["applied"] == await count(client) < 100
        assert (await client.delete(f"/v1/jobs/{running}")).json()["state"] == "cancelled"
        assert (await ended(client, await submit(client, lines(points(100)))))["applied"] == 100


async def test_a_job_goes_on_after_a_restart_and_counts_every_line_once(tmp_path: Path) -> None:
    body = lines(points(100)) + b"{broken\n" + lines(points(200)[100:])
    async with serving(tmp_path, ingest_batch_points=5) as client:
        await create(client)
        engine = engine_of(client)
        write = engine.write_points

        async def slowly(*arguments: Any, **options: Any) -> WriteReport:
            await asyncio.sleep(0.01)
            return await write(*arguments, **options)

        engine.write_points = slowly
        job = await submit(client, body, "?mode=insert_only")

        async def is_under_way() -> bool:
            return bool((await client.get(f"/v1/jobs/{job}")).json()["applied"] >= 40)

        await until(is_under_way, "40 points")
    async with serving(tmp_path, ingest_batch_points=9) as client:
        state = await ended(client, job)
        assert (state["state"], state["applied"], state["rejected"], state["received"]) == ("succeeded", 200, 1, 201)
        assert await count(client) == 200
        errors = (await client.get(f"/v1/jobs/{job}/errors")).text.splitlines()
        assert [json.loads(line)["line"] for line in errors] == [101]


async def test_a_job_killed_between_commit_and_save_repeats_without_counting_twice(tmp_path: Path) -> None:
    async with serving(tmp_path, ingest_batch_points=5) as client:
        await create(client)
        engine = engine_of(client)
        job = await submit(client, lines(points(23)), "?mode=insert_only")
        await ended(client, job)
        # what a kill leaves behind: all batches committed, the job's file as it was in the beginning
        folder = tmp_path / "data" / "jobs" / job
        saved = json.loads((folder / "job.json").read_bytes())
        del saved["crc32"]
        fresh = dict.fromkeys(saved["progress"], 0)
        (folder / "job.json").write_text(json.dumps(saved | {"state": "running", "progress": fresh}))
        (folder / "errors.ndjson").write_text('{"line": 1}\n')
        (folder / "body").write_bytes(lines(points(23)))
        jobs = JobQueue(engine, tmp_path / "data" / "jobs", engine.limits)
        await jobs.start()
        await until(lambda: jobs.get(job).state.ended, "the end of the job")
        state = jobs.get(job)
        await jobs.stop()
        assert (state.applied, state.rejected) == (23, 0)
        assert (folder / "errors.ndjson").read_text() == ""


async def test_a_job_waits_while_the_store_is_away(tmp_path: Path) -> None:
    async with serving(tmp_path, ingest_batch_points=5) as client:
        await create(client)
        engine = engine_of(client)
        write, failures = engine.write_points, iter(range(2))

        async def failing(*arguments: Any, **options: Any) -> WriteReport:
            if next(failures, None) is not None:
                raise StoreUnavailable("the store is away")
            return await write(*arguments, **options)

        engine.write_points = failing
        job = await submit(client, lines(points(20)))

        async def tells_why() -> bool:
            return "the store is away" in ((await client.get(f"/v1/jobs/{job}")).json()["detail"] or "")

        await until(tells_why, "what the job waits for")
        state = await ended(client, job)
        assert (state["state"], state["applied"], state["detail"]) == ("succeeded", 20, None)


async def test_a_collection_that_goes_away_fails_its_job(tmp_path: Path) -> None:
    async with serving(tmp_path, ingest_batch_points=5) as client:
        await create(client)
        gate = Gate(engine_of(client))
        job = await submit(client, lines(points(100)))
        await until(lambda: gate.calls, "the first batch")
        await client.delete(DOCS)
        gate.opened.set()
        state = await ended(client, job)
        assert state["state"] == "failed" and "CollectionNotFound" in state["detail"]


async def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield lines(points(3))
        raise ConnectionError

    async with serving(tmp_path) as client:
        await create(client)
        engine = engine_of(client)
        jobs = JobQueue(engine, tmp_path / "jobs", engine.limits)
        await jobs.start()
        with pytest.raises(ConnectionError):
            await jobs.ingest.submit("docs", broken(), mode=WriteMode.UPSERT)
        await jobs.stop()
        assert jobs.list() == [] and not list((tmp_path / "jobs").iterdir())


async def test_old_jobs_are_forgotten(tmp_path: Path) -> None:
    async with serving(tmp_path, max_jobs=2) as client:
        await create(client)
        made = []
        for _ in range(4):
            made.append(await submit(client, lines(points(1))))
            await ended(client, made[-1])
        known = [job["job"] for job in (await client.get("/v1/jobs")).json()["jobs"]]
        assert known == made[:0:-1] or known == made[:1:-1]
        assert len(list((tmp_path / "data" / "jobs").iterdir())) == len(known)


def test_states_are_those_of_the_contract() -> None:
    assert [*JobState] == ["queued", "running", "paused", "succeeded", "failed", "cancelled"]
