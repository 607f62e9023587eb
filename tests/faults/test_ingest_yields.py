"""Bulk texts leave everybody else their turn. Threads are held at gates, so nothing depends on how fast anything is."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.faults.test_flood import engine_of, held
from tests.server.bundles import TINY
from tests.server.conftest import bundles  # noqa: F401
from tests.server.service import DOCS, settings
from tests.waiting import PATIENCE_SECONDS, wait_until

from bebr.cli.server.running import Service
from bebr.encoding import TextKind
from bebr.engine.texts import YIELD_SECONDS

THREADS = 4
TEXT = {"text": "a brown fox", "limit": 1}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, bundles: Path) -> Iterator[Service]:  # noqa: F811
    folder = tmp_path_factory.mktemp("ingest")
    changes: dict[str, Any] = {
        "encoder_threads": THREADS,
        "ingest_batch_points": 2000,
    }
    with Service(settings(folder, port=0, bundles_dir=bundles, **changes)) as service:
        httpx.put(f"{service.url}{DOCS}", json={"bundle": TINY}).raise_for_status()
        yield service


def ingest(service: Service, count: int) -> str:
    """A job of so many texts."""
    lines = b"\n".join(json.dumps({"id": f"i{n}", "text": f"fox {n} " + "dog " * 60}).encode() for n in range(count))
    headers = {"content-type": "application/x-ndjson"}
    job: str = httpx.post(f"{service.url}{DOCS}/ingest", content=lines, headers=headers).json()["job"]
    return job


def state(service: Service, job: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{service.url}/v1/jobs/{job}").json()
    return found


def test_everybody_is_answered_before_a_job_goes_on(service: Service) -> None:
    engine = engine_of(service)
    with held((engine._threads.background, THREADS)):
        job = ingest(service, 500)
        wait_until(lambda: engine.admission.background.is_busy, "the job")
        with httpx.Client(base_url=service.url, timeout=PATIENCE_SECONDS) as client:
            point = {"points": [{"id": "first", "text": "a brown fox"}]}
            assert client.post(f"{DOCS}/points", json=point).json()["applied"] == 1
            assert client.post(f"{DOCS}/search", json=TEXT).json()["hits"][0]["id"] == "first"
            assert len(client.post("/v1/embeddings", json={"model": TINY, "input": ["a", "b"]}).json()["data"]) == 2
        assert state(service, job)["applied"] == 0, "all of that went before"
    wait_until(lambda: state(service, job)["state"] == "succeeded", "the end of the job")
    assert state(service, job)["applied"] == 500


def test_jobs_use_half_of_their_threads_while_somebody_is_served(service: Service) -> None:
    engine = engine_of(service)
    lane, pool = engine.admission.query_texts, engine._threads.background
    loop = service._server.servers[0].get_loop()
    encoder = engine.registry.get("docs").encoders.embedder(engine.registry.get("docs").active)
    wait_until(lambda: not engine.admission.background.is_busy, "no job")

    def embed(number: int) -> "Future[Any]":
        texts = engine._embedder._texts
        work = texts.embed(engine.admission.background, encoder, [f"fox {number}"], TextKind.PASSAGE, f"job{number}")
        return asyncio.run_coroutine_threadsafe(work, loop)

    with held((pool, THREADS)):
        lane.enter("somebody", 1)
        try:
            pieces = [embed(number) for number in range(THREADS)]
            wait_until(lambda: pool._work_queue.qsize() == THREADS // 2, "half of the pieces")
            for _ in range(20):
                asyncio.run_coroutine_threadsafe(asyncio.sleep(YIELD_SECONDS), loop).result()
                assert pool._work_queue.qsize() == THREADS // 2
        finally:
            lane.leave("somebody", 1, done=False)
        wait_until(lambda: pool._work_queue.qsize() == THREADS, "all pieces")
    for piece in pieces:
        piece.result(PATIENCE_SECONDS)
