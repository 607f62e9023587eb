"""Requests that repeat the head of the one before get the answer that the app gives, whatever they ask."""

import asyncio
import base64
import gzip
import json
import random
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.client.running import tiny_text_bundle
from tests.server.connections.answers import Answers
from tests.server.service import settings
from tests.servers import Server, ServerKind
from tests.waiting import PATIENCE_SECONDS

from bebr.cli.server.running import Service
from bebr.server.connections.repeats import Repeat, Repeated, Repeats

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
    begin = Repeats.begin

    def noted(self: Repeats, repeated: Repeated, is_calm: bool) -> None:
        bodies.append(repeated.body)
        begin(self, repeated, is_calm)

    monkeypatch.setattr(Repeats, "begin", noted)
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
        self.socket = socket.create_connection(
            ("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=PATIENCE_SECONDS
        )
        self._answers = Answers(self.socket)

    def ask(self, request: bytes) -> bytes:
        self.socket.sendall(request)
        return self.read()

    def read(self) -> bytes:
        head, body = self._answers.read()
        if head.startswith(b"HTTP/1.1 100 "):
            head, body = self._answers.read()
        if b"content-encoding: gzip" in head:
            body = gzip.decompress(body)
        return CHANGES.sub(b"", head + body)


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


def test_bodies_of_every_size_repeat_the_head(connect: Connect, repeated: list[bytes]) -> None:
    chance, caller, longest = random.Random(4), connect(), search(b'{"text":"cat"}'.ljust(500))
    assert b" 200 " in caller.ask(longest)
    bodies = [random_body(chance).rstrip() for _ in range(80)]
    for body in bodies:
        assert caller.ask(search(body)) == connect().ask(search(body)), body
        caller.ask(longest)
    assert len(set(map(len, repeated))) > 5
    larger = search(b'{"text":"cat"}'.ljust(501))
    before = len(repeated)
    answers = [caller.ask(larger), caller.ask(longest), caller.ask(larger)]
    assert answers[0] == answers[1] == answers[2] and len(repeated) == before + 2  # the first might have been refused


@pytest.mark.parametrize(
    "size", ["13", "15", "0", "014", "+14", "14 ", "1e1", "", "14\r\ncontent-length: 14", "9999999"]
)
def test_sizes_that_are_none_or_wrong(connect: Connect, repeated: list[bytes], size: str) -> None:
    first, body = search(b'{"text":"cat"}'.ljust(20)), b'{"text":"cat"}'
    odd = search(body).replace(b"content-length: 14", f"content-length: {size}".encode())
    after = b" " * 3 + b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    found = []
    for begins_so in (True, False):
        caller = connect()
        if begins_so:
            assert b" 200 " in caller.ask(first)
        caller.socket.sendall(odd)
        caller.socket.sendall(after)
        found.append(caller.read())
    assert found[0] == found[1] and len(repeated) == (size == "014")


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


def test_requests_of_all_kinds_cut_anywhere(connect: Connect) -> None:
    chunked = search(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
    requests = [
        search(b'{"text":"cat"}'),
        search(b'{"text":"cat"}'),
        b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n",
        search(b"{}"),
        chunked + b'5\r\n{"tex\r\n9\r\nt":"cat"}\r\n0\r\n\r\n',
        search(b'{"text":"cat"}', more="expect: 100-continue\r\n"),
        search(b'{"text":"cat"}', "none"),
        search(b'{"text":"cat"}', "x-no").replace(b"api-key", b"no-key"),
    ]
    alone = [connect().ask(request) for request in requests]
    caller, sent = connect(), b"".join(requests)
    for cut in range(1, len(sent), 13):
        caller.socket.sendall(sent[:cut])
        caller.socket.sendall(sent[cut:])
        assert [caller.read() for _ in requests] == alone, cut


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


class Connected:
    """A connection that keeps what it is given."""

    def __init__(self, writes: bool = True) -> None:
        self.answers: list[bytes] = []
        self.asked: list[bytes | Exception] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._writes = writes
        self._headers = [(b"date", b"today")]

    def can_write(self) -> bool:
        return self._writes

    def default_headers(self) -> list[tuple[bytes, bytes]]:
        return self._headers

    def answer(self, repeated: Repeated, answer: bytes) -> None:
        repeated.response_complete = True
        self.answers.append(answer)

    async def ask_app(self, repeated: Repeated, found: bytes | Exception) -> None:
        self.asked.append(found)

    def keep(self, task: "asyncio.Task[None]") -> None:
        self.tasks.append(task)


class Doubles:
    """A route that answers a number with twice as much; 0 fails, and so do all that are asked with it."""

    def __init__(self) -> None:
        self.together: list[list[int]] = []

    def read(self, body: bytes) -> Any:
        return int(body)

    def gathers(self, request: Any) -> bool:
        return bool(request >= 0)

    async def find(self, scope: Any, requests: Sequence[int]) -> list[bytes]:
        self.together.append(list(requests))
        if 0 in requests:
            raise ValueError("0")
        return [b"%d" % (2 * request) for request in requests]


async def asked(numbers: Sequence[int], is_calm: bool, writes: bool = True) -> tuple[Doubles, list[Connected]]:
    answered: list[int] = []
    route, connections = Doubles(), [Connected(writes) for _ in numbers]
    repeats = Repeats(iter([b"a", b"b", b"c", b"d"]), (b"v", b"1"), lambda *about: answered.append(about[3]))
    repeat = Repeat(b"", 0, {"raw_path": b"/", "headers": []}, route, None, has_deadline=False)
    for number, connection in zip(numbers, connections, strict=True):
        repeats.begin(Repeated(connection, repeat, b"", number, 0.0), is_calm)
    for _ in range(3):
        await asyncio.sleep(0)
    await asyncio.gather(*(task for connection in connections for task in connection.tasks))
    assert len(answered) == sum(len(connection.answers) for connection in connections)
    return route, connections


async def test_those_of_one_turn_are_found_together() -> None:
    route, connections = await asked([1, 2, 3], is_calm=False)
    assert route.together == [[1, 2, 3]]
    head = b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-type: application/json\r\ncontent-length: 1\r\n"
    expected = [head + b"x-request-id: %b\r\nv: 1\r\n\r\n%d" % (b"abc"[n : n + 1], 2 * n + 2) for n in range(3)]
    assert [connection.answers for connection in connections] == [[answer] for answer in expected]


async def test_those_that_come_one_by_one_or_are_not_gathered_are_found_alone() -> None:
    assert (await asked([1, 2], is_calm=True))[0].together == [[1], [2]]
    assert sorted((await asked([1, -2, 3], is_calm=False))[0].together) == [[-2], [1, 3]]


async def test_what_fails_for_all_is_found_by_each() -> None:
    route, connections = await asked([1, 0, 3], is_calm=False)
    assert sorted(route.together) == [[0], [1], [1, 0, 3], [3]]
    assert [len(connection.answers) for connection in connections] == [1, 0, 1]
    (error,) = connections[1].asked
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("is_calm", [True, False])
async def test_who_does_not_read_is_answered_by_the_app(is_calm: bool) -> None:
    route, connections = await asked([1, 2], is_calm, writes=False)
    assert [connection.asked for connection in connections] == [[b"2"], [b"4"]]
    assert [number for some in route.together for number in some] == [1, 2], "none is found twice"


async def test_callers_who_left_are_left_out() -> None:
    route, connection = Doubles(), Connected()
    repeats = Repeats(iter([b"a", b"b"]), (b"v", b"1"), lambda *about: None)
    repeat = Repeat(b"", 0, {"raw_path": b"/", "headers": []}, route, None, has_deadline=False)
    some = [Repeated(connection, repeat, b"", number, 0.0) for number in (1, 2)]
    for one in some:
        repeats.begin(one, is_calm=False)
    some[0].disconnected = True
    await asyncio.sleep(0)
    assert route.together == [[2]] and len(connection.answers) == 1


def test_many_callers_at_once_get_their_own_answers(connect: Connect, repeated: list[bytes]) -> None:
    chance, callers = np.random.default_rng(5), [connect() for _ in range(24)]
    for _ in range(4):
        bodies = []
        for _ in callers:
            vector = chance.standard_normal(DIMS, np.float32)
            bodies.append(json.dumps({"vector_b64": base64.b64encode(vector.tobytes()).decode()}).encode())
        for caller, body in zip(callers, bodies, strict=True):
            caller.socket.sendall(search(body))
        answers = [caller.read() for caller in callers]
        assert answers == [connect().ask(search(body)) for body in bodies]
    assert len(repeated) == 3 * len(callers)
