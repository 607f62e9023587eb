"""What is decided on the socket, against a service whose lanes are full: refusals, parsed or not, and who is let in."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.server.bundles import TINY
from tests.server.service import code, points, settings

from bebr.cli.server.running import Service
from bebr.engine.admission import Admission, Lane
from bebr.server.connections.connection import Gate

DOCS = "/v1/collections/docs"
BODY = json.dumps({"code_b64": code(3), "limit": 1}).encode()
TYPE = b"content-type: application/json\r\n"
FULL = 1_000_000
"""More requests than any lane takes."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, bundles: Path) -> Iterator[Service]:
    with Service(settings(tmp_path_factory.mktemp("reception"), port=0, bundles_dir=bundles)) as service:
        with httpx.Client(base_url=service.url) as client:
            client.put(DOCS, json={"code": "24x2"}).raise_for_status()
            client.post(f"{DOCS}/points", json={"points": points(20)}).raise_for_status()
            client.put("/v1/aliases/alias", json={"collection": "docs"})
        yield service


def app_of(service: Service) -> Any:
    return service._app._app


def admission(service: Service) -> Admission:
    found: Admission = app_of(service).state.services.engine.admission
    return found


@contextmanager
def full(service: Service, lane: Lane, name: str = "docs") -> Iterator[None]:
    """The lane is full for this collection; nothing that is let in meanwhile gets out of that."""
    key = app_of(service).state.services.engine.registry.key_of(name) or ""
    for _ in range(100):
        lane.enter(key, FULL)
    try:
        yield
    finally:
        for _ in range(100):
            lane.leave(key, FULL, done=False)


class Connection:
    """A connection that is kept."""

    def __init__(self, service: Service) -> None:
        self._socket = socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), 20)
        self._file = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], Any]:
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip().decode():
            name, value = line.split(": ", 1)
            headers[name] = value
        return status, headers, json.loads(self._file.read(int(headers["content-length"])))

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def connection(service: Service) -> Iterator[Connection]:
    connection = Connection(service)
    yield connection
    connection.close()


def search(headers: bytes = b"", body: bytes = BODY, name: bytes = b"docs") -> bytes:
    head = b"POST /v1/collections/%s/search HTTP/1.1\r\nhost: localhost\r\n" % name
    return head + TYPE + headers + b"content-length: %d\r\n\r\n" % len(body) + body


def unparsed(service: Service, data: bytes) -> bytes | None:
    gate: Gate = app_of(service).state.gate

    async def refuse() -> bytes | None:
        return gate.refuse_unparsed(data)

    return asyncio.run_coroutine_threadsafe(refuse(), service._server.servers[0].get_loop()).result()


def overloaded(metrics: str) -> int:
    """How many requests were refused for what waits."""
    found = metrics.partition('bebr_errors_total{error="Overloaded"} ')[2].split()
    return int(float(found[0])) if found else 0


def test_a_refusal_is_the_same_whether_the_request_was_parsed_or_not(service: Service, connection: Connection) -> None:
    lane = admission(service).search_requests
    before, reported, answers = lane.refused, overloaded(httpx.get(f"{service.url}/metrics").text), []
    with full(service, lane):
        for _ in range(3):
            connection.send(search())
            answers.append(connection.answer())
        assert unparsed(service, search()) is not None, "by now they are not parsed"
        connection.send(search(b"x-timeout-ms: 3600000\r\nx-request-id: mine\r\n"))
        status, headers, _ = connection.answer()
        assert (status, headers["x-request-id"]) == (429, "mine"), "whoever says something is heard"
        metrics = httpx.get(f"{service.url}/metrics").text
    assert lane.refused == before + 5
    assert overloaded(metrics) == reported + 5, (
        "each is counted, though all of one turn of the event loop are reported together"
    )
    assert f'bebr_lane_refused_total{{lane="search_requests"}} {float(lane.refused)}' in metrics
    ids = [headers.pop("x-request-id") for _, headers, _ in answers]
    assert len(set(ids)) == 3 and all(answer == answers[0] for answer in answers)
    status, headers, body = answers[0]
    assert (status, body["error"], body["fields"]["waiting"]) == (429, "Overloaded", "search_requests")
    assert int(headers["retry-after"]) >= 1 and headers["bebr-version"]
    connection.send(search())
    status, _, body = connection.answer()
    assert (status, body["hits"][0]["id"]) == (200, "p003"), "the same connection goes on once there is room"
    assert unparsed(service, search()) is None


ODD = {
    "chunks": search(b"transfer-encoding: chunked\r\n"),
    "two lengths": search(b"content-length: 1\r\n"),
    "expect": search(b"expect: 100-continue\r\n"),
    "timeout": search(b"x-timeout-ms: 5\r\n"),
    "request id": search(b"X-Request-Id: mine\r\n"),
    "close": search(b"Connection: close\r\n"),
    "several of connection": search(b"connection: keep-alive, upgrade\r\n"),
    "upgrade": search(b"upgrade: h2c\r\n"),
    "folded": search(b"a: b\r\n c: d\r\n"),
    "line feeds alone": search(b"a: b\n"),
    "a space before the colon": search(b"transfer-encoding : chunked\r\n"),
    "no colon": search(b"nothing\r\n"),
    "control characters": search(b"a: \x00\r\n"),
    "an older version": search().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "less than its body": search()[:-1],
    "more than its body": search() + b"G",
    "two requests": search() * 2,
    "a length of no number": search().replace(b"content-length: ", b"content-length: +"),
    "no length": search().replace(b"content-length: ", b"content-size: "),
    "another path": search(name=b"other"),
    "a head without an end": search().partition(b"\r\n\r\n")[0],
    "nothing": b"",
}


def test_only_what_cannot_be_read_in_two_ways_is_refused_unparsed(service: Service, connection: Connection) -> None:
    with full(service, admission(service).search_requests):
        connection.send(search())
        assert connection.answer()[0] == 429
        assert unparsed(service, search()) is not None
        assert (
            unparsed(service, search(b"Connection: keep-alive\r\nAuthorization: Bearer x\r\nACCEPT:*/*\r\n"))
            is not None
        )
        assert [name for name, data in ODD.items() if unparsed(service, data) is not None] == []


def test_two_requests_at_once_are_refused_one_by_one(service: Service, connection: Connection) -> None:
    with full(service, admission(service).search_requests):
        connection.send(search() * 3 + search()[:-5])
        assert [connection.answer()[0] for _ in range(4 - 1)] == [429] * 3
        connection.send(search()[-5:])
        assert connection.answer()[0] == 429
    connection.send(search())
    assert connection.answer()[0] == 200


def test_other_collections_other_kinds_and_probes_are_let_in(service: Service, connection: Connection) -> None:
    httpx.put(f"{service.url}/v1/collections/idle", json={"code": "24x2"}).raise_for_status()
    with full(service, admission(service).search_requests):
        connection.send(search())
        assert connection.answer()[0] == 429
        connection.send(search(name=b"idle"))
        assert connection.answer()[0] == 200
        connection.send(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert connection.answer()[2] == {"status": "alive"}
        assert httpx.post(f"{service.url}{DOCS}/points", json={"points": points(1)}).json()["applied"] == 1
        assert httpx.post(f"{service.url}{DOCS}/points/count", json={}).json() == {"count": 20}


def test_embeddings_are_refused_in_the_shape_of_openai(service: Service, connection: Connection) -> None:
    body = json.dumps({"model": TINY, "input": "a fox"}).encode()
    request = b"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\n" + TYPE + b"content-length: %d\r\n\r\n" % len(body) + body
    with full(service, admission(service).embedding_requests, ""):
        for _ in range(2):
            connection.send(request)
            status, _, answer = connection.answer()
            assert (status, answer["error"]["code"]) == (429, "rate_limit_exceeded")
    connection.send(request)
    assert connection.answer()[0] == 200


def test_a_request_counts_from_its_last_byte_to_its_answer(service: Service, connection: Connection) -> None:
    lane = admission(service).search_requests
    connection.send(search()[:-1])
    connection.send(b"")
    assert httpx.get(f"{service.url}/livez").status_code == 200
    assert lane.requests == 0, "a slow caller is in nobody's way"
    connection.send(search()[-1:])
    assert connection.answer()[0] == 200
    assert lane.requests == 0 and lane.backlog_seconds == 0


def test_a_refusal_from_within_says_nothing_about_the_rate(service: Service, connection: Connection) -> None:
    """Refusals are quick; if they counted, more would be let in, only to be refused."""
    inside = admission(service)
    with full(service, inside.searches):
        inside.search_requests._done_units = 0
        connection.send(search())
        status, _, body = connection.answer()
        assert (status, body["fields"]["waiting"]) == (429, "searches")
        assert inside.search_requests._done_units == 0
    connection.send(search())
    assert connection.answer()[0] == 200


def test_a_pipeline_is_no_way_around_a_refusal(service: Service, connection: Connection) -> None:
    """The second request waits for the answer to the first, which is not refused."""
    count = b"POST /v1/collections/docs/points/count HTTP/1.1\r\nhost: a\r\n" + TYPE + b"content-length: 2\r\n\r\n{}"
    with full(service, admission(service).search_requests):
        connection.send((count + search()) * 3 + count + search()[:-3])
        found = [connection.answer()[0] for _ in range(8)]
        assert found == [200, 429] * 4
        connection.send(search()[-3:] + count)
        assert connection.answer()[0] == 200
    connection.send(count + search())
    assert [connection.answer()[0] for _ in range(2)] == [200, 200]
    assert admission(service).search_requests.requests == 0
