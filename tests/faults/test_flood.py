"""More comes than can be done. Threads are held at a gate, so nothing here depends on how fast anything is."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.server.bundles import TINY
from tests.server.conftest import bundles  # noqa: F401
from tests.server.connections.answers import Answers
from tests.server.service import code, points, settings
from tests.waiting import PATIENCE_SECONDS, wait_until

from bebr.cli.server.running import Service
from bebr.engine import Engine
from bebr.engine.admission import ALWAYS, Lane

TEXTS, CODES, NEIGHBOR = "/v1/collections/texts", "/v1/collections/codes", "/v1/collections/neighbor"
ONE_TEXT = {"text": "a brown fox", "limit": 1}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, bundles: Path) -> Iterator[Service]:  # noqa: F811
    folder = tmp_path_factory.mktemp("flood")
    with Service(settings(folder, port=0, bundles_dir=bundles)) as service:
        with httpx.Client(base_url=service.url) as client:
            client.put(TEXTS, json={"bundle": TINY}).raise_for_status()
            for path in (CODES, NEIGHBOR):
                client.put(path, json={"code": "24x2"}).raise_for_status()
                client.post(f"{path}/points", json={"points": points(1200)}).raise_for_status()
        yield service


def engine_of(service: Service) -> Engine:
    engine: Engine = service._app._app.state.services.engine
    return engine


@contextmanager
def held(*pools: tuple[Executor, int]) -> Iterator[None]:
    """So many threads of each pool wait for the end of the block."""
    gate = threading.Event()
    held = [pool.submit(gate.wait, PATIENCE_SECONDS) for pool, threads in pools for _ in range(threads)]
    try:
        yield
    finally:
        gate.set()
        for future in held:
            future.result()


@contextmanager
def slow(lane: Lane) -> Iterator[None]:
    """Every piece of its work seems to take forever."""
    before, lane.seconds_per_unit = lane.seconds_per_unit, 1000.0
    lane.refused = lane.dropped = 0
    try:
        yield
    finally:
        lane.seconds_per_unit = before


class Caller:
    """A connection with one request under way."""

    def __init__(self, service: Service, path: str, body: Any, **headers: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), PATIENCE_SECONDS)
        content = json.dumps(body).encode()
        lines = [f"POST {path} HTTP/1.1", "host: localhost", "content-type: application/json"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        head = "\r\n".join([*lines, f"content-length: {len(content)}", "", ""])
        self.socket.sendall(head.encode() + content)

    def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers, body."""
        head, body = Answers(self.socket).read()
        first, *rest = head.decode().removesuffix("\r\n\r\n").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in rest)
        self.socket.close()
        return int(first.split()[1]), headers, json.loads(body)


def everybody_else_is_served(service: Service, *, texts: bool) -> None:
    with httpx.Client(base_url=service.url, timeout=PATIENCE_SECONDS) as client:
        assert client.get("/livez").json() == {"status": "alive"}
        assert client.get("/readyz").status_code == 200
        hits = client.post(f"{NEIGHBOR}/search", json={"code_b64": code(3), "limit": 1}).json()["hits"]
        assert hits[0]["id"] == "p003"
        if texts:
            assert client.post(f"{TEXTS}/search", json=ONE_TEXT).status_code == 200


def check_refusal(answer: tuple[int, dict[str, str], Any], lane: Lane) -> None:
    status, headers, body = answer
    assert status == 429
    if lane.name == "embeddings":  # in OpenAI's shape
        assert "embeddings wait" in body["error"]["message"]
    else:
        assert (body["error"], body["fields"]["waiting"]) == ("Overloaded", lane.name)
    assert int(headers["retry-after"]) >= 1 and headers["x-request-id"] and headers["bebr-version"]


def flood(service: Service, lane: Lane, kept: int, path: str, body: Callable[[int], Any], leave: int) -> list[Any]:
    """Send more than the lane takes; `leave` callers of those that wait go away -> the answers of the others."""
    callers: list[Caller] = []
    for number in range(kept + 9):
        callers.append(Caller(service, path, body(number), x_request_id=f"flood-{number}"))
        wait_until(lambda: lane.requests + lane.refused == len(callers), "all have come")
    assert (lane.requests, lane.refused) == (kept, 9)
    for caller in callers[kept:]:
        check_refusal(caller.answer(), lane)
    for caller in callers[kept - leave : kept]:
        caller.socket.close()
    return callers[: kept - leave]


LANES = ["query_texts", "written_texts", "embeddings"]


@pytest.mark.parametrize("name", LANES)
def test_texts_beyond_what_can_be_embedded_are_refused_and_those_of_callers_who_left_are_dropped(
    service: Service, name: str
) -> None:
    engine = engine_of(service)
    lane: Lane = getattr(engine.admission, name)
    threads = {"query_texts": "query_encoding", "written_texts": "written_texts", "embeddings": "embedding"}
    path, body, kept = {
        "query_texts": (f"{TEXTS}/search", lambda n: ONE_TEXT, ALWAYS),
        "written_texts": (f"{TEXTS}/points", lambda n: {"points": [{"id": f"w{n}", "text": "a fox"}]}, ALWAYS),
        "embeddings": ("/v1/embeddings", lambda n: {"model": TINY, "input": ["a dog"] * 1000}, 1),
    }[name]
    with slow(lane):
        with held((getattr(engine._threads, threads[name]), 1)):
            left = min(kept, 5)
            waiting = flood(service, lane, kept, path, body, left)
            everybody_else_is_served(service, texts=name != "query_texts")
            with httpx.Client(base_url=service.url) as client:
                for _ in range(3):  # by now the service knows who left
                    client.get("/readyz").raise_for_status()
        assert [caller.answer()[0] for caller in waiting] == [200] * (kept - left)
        wait_until(lambda: not lane.is_busy, "the lane is empty")
        assert lane.dropped == left
    with httpx.Client(base_url=service.url, timeout=PATIENCE_SECONDS) as client:
        assert client.post(path, json=body(0)).status_code == 200
        if name == "written_texts":
            assert client.post(f"{TEXTS}/points/count", json={}).json()["count"] == kept - left
        metrics = client.get("/metrics").text
        assert f'bebr_lane_dropped_total{{lane="{name}"}} {float(left)}' in metrics


def test_searches_beyond_what_can_be_done_are_refused(service: Service) -> None:
    engine = engine_of(service)
    lane = engine.admission.searches
    store: Any = engine._store
    body = lambda n: {"code_b64": code(n), "limit": 250}  # noqa: E731
    with slow(lane):
        with held((store._threads.pool, store._threads.pool._max_workers)):  # so many points are fetched there
            waiting = flood(service, lane, ALWAYS, f"{CODES}/search", body, leave=0)
            everybody_else_is_served(service, texts=False)
            check_refusal(Caller(service, f"{CODES}/search", {"code_b64": code(3)}).answer(), lane)
            patient = Caller(service, f"{CODES}/search", {"code_b64": code(3)}, x_timeout_ms="3600000")
            check_refusal(patient.answer(), lane)
        for number, caller in enumerate(waiting):
            status, _, answer = caller.answer()
            assert (status, len(answer["hits"]), answer["hits"][0]["id"]) == (200, 250, f"p{number:03}")
    assert httpx.post(f"{service.url}{CODES}/search", json={"code_b64": code(3)}).status_code == 200


def test_writes_beyond_what_can_be_committed_are_refused_and_those_that_wait_are_all_there(service: Service) -> None:
    engine = engine_of(service)
    lane = engine.admission.writes
    store: Any = engine._store
    body = lambda n: {"points": [{"id": f"flood{n}", "code_b64": code(n)}]}  # noqa: E731
    with slow(lane):
        with held((store._threads.pool, store._threads.pool._max_workers)):
            waiting = flood(service, lane, ALWAYS, f"{CODES}/points", body, leave=0)
            everybody_else_is_served(service, texts=False)
        assert [caller.answer()[2]["applied"] for caller in waiting] == [1] * ALWAYS
    ids = [f"flood{n}" for n in range(ALWAYS + 9)]
    answer = httpx.post(f"{service.url}{CODES}/points/get", json={"ids": ids, "with_metadata": False}).json()
    assert [point["id"] for point in answer["points"]] == ids[:ALWAYS] and answer["missing"] == ids[ALWAYS:]


def test_a_caller_says_for_how_long_it_waits(service: Service) -> None:
    engine = engine_of(service)
    with held((engine._threads.query_encoding, 1)):
        first = Caller(service, f"{TEXTS}/search", ONE_TEXT)
        wait_until(lambda: engine.admission.query_texts.requests == 1, "the first")
        hasty = Caller(service, f"{TEXTS}/search", ONE_TEXT, x_timeout_ms="200")
        wait_until(lambda: engine.admission.query_texts.requests == 2, "the second")
        time.sleep(0.3)
    assert first.answer()[0] == 200
    status, _, body = hasty.answer()
    assert (status, body["error"]) == (504, "DeadlineExceeded")
    for wrong in ("0", "-1", "soon", "1.5", "99999999999"):
        status, _, body = Caller(service, f"{TEXTS}/search", ONE_TEXT, x_timeout_ms=wrong).answer()
        assert (status, body["error"], body["fields"]["key"]) == (400, "InvalidOption", "x-timeout-ms")
