"""A Redis that hangs: no search waits longer than the first ones, and all are served again once it goes on."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from tests.server.service import DOCS, serving
from tests.servers import Server, ServerKind
from tests.waiting import until

TIMEOUT_SECONDS = 3
SEARCHES = 100
ALL_SECONDS = TIMEOUT_SECONDS * SEARCHES / 4
"""Far more than one timeout, on a machine that is busy too; far less than a timeout for each search."""


@pytest.fixture
def server() -> Iterator[Server]:
    with TemporaryDirectory(prefix="bebr-hang-") as folder:
        server = Server(ServerKind.REDIS, Path(folder), appendfsync="no")
        server.start()
        yield server
        server.stop()


@pytest.fixture
async def client(tmp_path: Path, server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(tmp_path, redis_url=server.url, store_timeout_seconds=TIMEOUT_SECONDS) as client:
        assert (await client.put(DOCS, json={"code": "16x2"})).status_code == 200
        points = [{"id": f"p{n}", "code_b64": "AAAAAA==", "metadata": {"n": n}} for n in range(20)]
        answer = await client.post(f"{DOCS}/points", json={"points": points})
        assert answer.status_code == 200 and answer.json()["applied"] == 20, answer.text
        yield client


async def search(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post(f"{DOCS}/search", json={"code_b64": "AAAAAA==", "limit": 20, "scorer": "hamming"})


async def served(client: httpx.AsyncClient) -> httpx.Response:
    """The answer, once the service takes the search: a busy machine may be given less at a time."""

    async def taken() -> httpx.Response | None:
        answer = await search(client)
        return answer if answer.status_code != 429 else None

    found = await until(taken, "a search that is taken")
    assert found is not None
    return found


async def test_100_searches_at_a_redis_that_hangs(client: httpx.AsyncClient, server: Server) -> None:
    assert (await search(client)).status_code == 200
    server.freeze()
    try:
        for attempt in ("first", "known to hang"):
            started = time.monotonic()
            answers = await asyncio.gather(*(search(client) for _ in range(SEARCHES)))
            assert time.monotonic() - started < ALL_SECONDS
            assert all("retry-after" in answer.headers for answer in answers)
            refused = [answer.json() for answer in answers]
            away = [problem["detail"] for problem in refused if problem["error"] == "StoreUnavailable"]
            assert away and {problem["error"] for problem in refused} <= {"StoreUnavailable", "Overloaded"}
            assert attempt == "first" or all("still does not answer" in why for why in away), "it was not tried again"
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503
    finally:
        server.thaw()

    async def is_ready() -> bool:
        return (await client.get("/readyz")).status_code == 200

    await until(is_ready, "/readyz")
    answers = await asyncio.gather(*(served(client) for _ in range(SEARCHES)))
    assert [answer.text for answer in answers if answer.status_code != 200] == []
    assert all(len(answer.json()["hits"]) == 20 for answer in answers)
