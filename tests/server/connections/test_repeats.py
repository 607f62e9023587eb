"""Requests that repeat the head of the one before get the answer that the app gives, whatever they ask."""

import base64
import gzip
import json
import random
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.client.running import tiny_text_bundle
from tests.server.service import settings
from tests.servers import Server, ServerKind

from bebr.cli.server.running import Service
from bebr.server.connections.repeats import Repeats

Connect = Callable[[], "Caller"]
DIMS = 32
"""Of the bundle."""
KEY, READER = "k" * 20, "r" * 20
CHANGES = re.compile(rb'"took_ms":[\d.]+|x-request-id: (?!mine)[^\r]*|date: [^\r]*|content-length: [^\r]*')
"""What differs between two answers to one request."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("repeats")
    bundle = tiny_text_bundle(folder / "bundles", folder / "checkpoint")
    with Service(settings(folder, port=0, api_keys=(KEY,), read_only_api_keys=(READER,))) as service:
        with httpx.Client(base_url=service.url, headers={"api-key": KEY}) as client:
            for name, size in (("docs", 10), ("large", 4000)):
                client.put(f"/v1/collections/{name}", json={"bundle": bundle.id}).raise_for_status()
                points = [{"id": f"p{n}", "text": f"the cat {n}", "metadata": {"a": "x" * size}} for n in range(40)]
                client.post(f"/v1/collections/{name}/points", json={"points": points}).raise_for_status()
        yield service


@pytest.fixture
def repeated(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bodies of requests that were answered as repeated ones."""
    bodies: list[bytes] = []
    answer = Repeats.answer

    def noted(self: Repeats, exchange: Any, *others: Any) -> Any:
        bodies.append(bytes(exchange.body))
        return answer(self, exchange, *others)

    monkeypatch.setattr(Repeats, "answer", noted)
    return bodies


@pytest.fixture
def connect(service: Service) -> Iterator[Connect]:
    callers: list[Caller] = []

    def connected() -> Caller:
        callers.append(Caller(service))
        return callers[-1]

    yield connected
    for caller in callers:
        caller.socket.close()


class Caller:
    """One connection. `ask` sends a request as one piece."""

    def __init__(self, service: Service) -> None:
        self.socket = socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=20)

    def ask(self, request: bytes) -> bytes:
        self.socket.sendall(request)
        return self.read()

    def read(self) -> bytes:
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._some(answer)
        head, _, body = answer.partition(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", head)
        assert found is not None, answer
        while len(body) < int(found[1]):
            body += self._some(body)
        if b"content-encoding: gzip" in head:
            body = gzip.decompress(body)
        return CHANGES.sub(b"", head + b"\r\n\r\n" + body)

    def _some(self, so_far: bytes) -> bytes:
        chunk = self.socket.recv(1 << 16)
        assert chunk, so_far
        return chunk


def search(body: bytes, collection: str = "docs", key: str = READER, more: str = "") -> bytes:
    head = f"POST /v1/collections/{collection}/search HTTP/1.1\r\nhost: a\r\napi-key: {key}\r\n{more}"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def random_body(chance: random.Random) -> bytes:
    """A search, most often a right one. All are of one size."""
    vector = np.frombuffer(chance.randbytes(DIMS * 4), np.float16).astype("<f4")[:DIMS]
    size = chance.choice([DIMS, DIMS, DIMS, 5])
    body = chance.choice(
        [
            {"vector_b64": base64.b64encode(np.nan_to_num(vector[:size]).tobytes()).decode()},
            {"vector_b64": "%%%"},
            {"text": chance.choice(["the cat", "é", "a cat sat", "\ud800"])},
            {"text": "cat", "limit": chance.choice([0, 1, 5, 100, -1, 2**40, True])},
            {"text": "cat", "with_metadata": chance.choice([True, False, ["a"]])},
            {"id": chance.choice(["p1", "nobody"])},
            {"text": "cat", "filter": {"a": chance.choice([1, None])}},
            {},
        ]
    )
    text = json.dumps(body).encode()
    return chance.choice([text, text, text, text[:-1], b"\x1f\x8b" + text]).ljust(420)


def test_answers_are_those_of_the_app(connect: Connect, repeated: list[bytes]) -> None:
    chance, caller = random.Random(3), connect()
    assert b" 200 " in caller.ask(search(b'{"text":"cat"}'.ljust(420)))
    bodies = [random_body(chance) for _ in range(200)]
    for body in bodies:
        fresh = connect()
        assert caller.ask(search(body)) == fresh.ask(search(body)), body
        caller.ask(search(b'{"text":"cat"}'.ljust(420)))  # one that failed in the app is not repeated
    assert len(repeated) > 50


@pytest.mark.parametrize("more", ["accept-encoding: gzip\r\n", "", "x-timeout-ms: 5000\r\n", "x-request-id: mine\r\n"])
def test_large_answers_and_headers_that_change_answers(connect: Connect, repeated: list[bytes], more: str) -> None:
    caller, request = connect(), search(b'{"text":"cat"}', "large", more=more)
    answers = [caller.ask(request) for _ in range(3)]
    assert b" 200 " in answers[0] and answers[0] == answers[1] == answers[2]
    assert len(repeated) == 2


def test_another_head_is_read_anew(connect: Connect, repeated: list[bytes]) -> None:
    caller, body = connect(), b'{"text":"cat"}'
    assert b" 200 " in caller.ask(search(body))
    assert b" 401 " in caller.ask(search(body, key="w" * 20))
    assert b" 404 " in caller.ask(search(body, "none"))
    assert b" 200 " in caller.ask(search(body))
    assert not repeated
    assert b" 200 " in caller.ask(search(body)) and len(repeated) == 1


def test_requests_that_come_in_pieces_or_together(connect: Connect, repeated: list[bytes]) -> None:
    caller, request = connect(), search(b'{"text":"cat"}')
    first = caller.ask(request)
    assert caller.ask(request) == first and len(repeated) == 1
    caller.socket.sendall(request * 3)
    assert [caller.read() for _ in range(3)] == [first] * 3
    caller.socket.sendall(request[:50])
    assert caller.ask(request[50:]) == first
    assert caller.ask(request) == first


def test_they_are_counted_and_refused_as_others(service: Service, connect: Connect, tmp_path: Path) -> None:
    bundle = tiny_text_bundle(tmp_path / "bundles", tmp_path / "checkpoint")
    with Service(settings(tmp_path, port=0, api_keys=(KEY,), key_requests_per_s=8)) as limited:
        address = f"{limited.url}/v1/collections/docs"
        httpx.put(address, json={"bundle": bundle.id}, headers={"api-key": KEY}).raise_for_status()
        caller = Caller(limited)
        request = search(b'{"text":"cat"}', key=KEY)
        assert {caller.ask(request)[9:12] for _ in range(30)} == {b"200", b"429"}
        caller.socket.close()
    with httpx.Client(base_url=service.url, headers={"api-key": KEY}) as client:
        line = r'bebr_http_requests_total{method="POST",route="/v1/collections/{collection}/search",status="200"} (\S+)'
        pattern = re.compile(line.replace("{", r"\{").replace("}", r"\}"))

        def count() -> float:
            found = pattern.search(client.get("/metrics").text)
            return 0.0 if found is None else float(found[1])

        before, caller = count(), connect()
        for _ in range(5):
            caller.ask(search(b'{"text":"cat"}'))
        assert count() == before + 5


def test_points_in_redis(tmp_path: Path, repeated: list[bytes]) -> None:
    """What waits for the store goes on in a task."""
    bundle = tiny_text_bundle(tmp_path / "bundles", tmp_path / "checkpoint")
    server = Server(ServerKind.REDIS, tmp_path, appendfsync="no")
    server.start()
    try:
        with Service(settings(tmp_path, port=0, redis_url=server.url)) as service:
            with httpx.Client(base_url=service.url) as client:
                client.put("/v1/collections/docs", json={"bundle": bundle.id}).raise_for_status()
                vector = json.dumps({"vector_b64": base64.b64encode(bytes([0, 0, 128, 63]) * DIMS).decode()}).encode()
                points = [{"id": "a", "text": "the cat", "metadata": {"a": 1}}]
                client.post("/v1/collections/docs/points", json={"points": points}).raise_for_status()
            caller = Caller(service)
            answers = [caller.ask(search(vector)) for _ in range(3)]
            caller.socket.close()
    finally:
        server.stop()
    assert b'"metadata":{"a":1}' in answers[0] and answers[0] == answers[1] == answers[2]
    assert len(repeated) == 2
