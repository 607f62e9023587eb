"""HTTP on the socket, against the really running service: nothing that a caller sends without an end is taken."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import pytest
import uvicorn
import uvicorn.server
from starlette.types import Receive, Scope, Send
from tests.server.connections.answers import Answers
from tests.server.service import settings
from tests.waiting import PATIENCE_SECONDS

from bebr.cli.server.running import Service
from bebr.errors import Overloaded
from bebr.server.connections.connection import Gate
from bebr.server.connections.protocol import GuardedProtocol
from bebr.server.connections.refusals import wire

LIVEZ = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n"
COUNT = b"POST /v1/collections/docs/points/count HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
FLOOD_BYTES = 4 * 2**20


@contextmanager
def running(folder: Path, **changes: object) -> Iterator[Service]:
    with Service(settings(folder, port=0, **changes)) as service:
        yield service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("protocol")) as service:
        httpx.put(f"{service.url}/v1/collections/docs", json={"code": "24x2"}).raise_for_status()
        yield service


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One that hardly waits for a head."""
    with running(tmp_path_factory.mktemp("hasty"), header_timeout_seconds=0.3) as service:
        yield service


def connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=PATIENCE_SECONDS)


def send_endless(caller: socket.socket, start: bytes, again: bytes) -> bytes:
    """Everything that is answered to `start` and then `again`, over and over."""
    try:
        caller.sendall(start)
        sent = 0
        while sent < FLOOD_BYTES:
            caller.sendall(again)
            sent += len(again)
    except (ConnectionResetError, BrokenPipeError):
        pass
    return read_all(caller)


def read_all(caller: socket.socket) -> bytes:
    answer = b""
    try:
        while chunk := caller.recv(1 << 16):
            answer += chunk
    except ConnectionResetError:
        pass
    return answer


def read_until(caller: socket.socket, end: bytes) -> bytes:
    answer = b""
    while not answer.endswith(end):
        chunk = caller.recv(1 << 16)
        assert chunk, answer
        answer += chunk
    return answer


def problem(answer: bytes, status: int) -> dict[str, object]:
    """The problem document of an answer with this status, after which the connection ends."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer[:300]
    assert b"content-type: application/problem+json" in head and b"\r\nx-request-id: " in head
    assert b"connection: close" in head and b"content-length: %d" % len(body) in head
    document: dict[str, object] = json.loads(body)
    assert document["status"] == status
    return document


ENDLESS = {
    "request line": (b"GET /", b"a" * 4096),
    "method": (b"", b"A" * 4096),
    "query": (b"GET /livez?", b"a=1&" * 1024),
    "header value": (LIVEZ + b"x: ", b"a" * 4096),
    "header name": (LIVEZ, b"a" * 4096),
    "headers": (LIVEZ, b"a: b\r\n" * 1024),
    "large headers": (LIVEZ, b"x: " + b"a" * 8000 + b"\r\n"),
    "blank lines": (b"", b"\r\n" * 2048),
    "chunk extension": (COUNT + b"transfer-encoding: chunked\r\n\r\n2;x=", b"a" * 4096),
    "chunk extension of the last chunk": (COUNT + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0;x=", b"a" * 4096),
    "chunk size": (COUNT + b"transfer-encoding: chunked\r\n\r\n", b"0" * 4096),
    "trailer value": (COUNT + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx: ", b"a" * 4096),
    "trailers": (COUNT + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"a: b\r\n" * 1024),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_nothing_without_an_end_is_taken(service: Service, what: str) -> None:
    with connect(service) as caller:
        answer = send_endless(caller, *ENDLESS[what])
    assert problem(answer, 400 if what == "method" else 431)["error"] == (
        "InvalidHttp" if what == "method" else "HeadTooLarge"
    )
    assert httpx.get(f"{service.url}/livez").status_code == 200


def test_the_limits_of_a_head_are_exact(service: Service) -> None:
    def status(head: bytes) -> bytes:
        with connect(service) as caller:
            caller.sendall(head + b"connection: close\r\n\r\n")
            return read_all(caller)[:12]

    assert status(LIVEZ + b"a: b\r\n" * 98) == b"HTTP/1.1 200"
    assert status(LIVEZ + b"a: b\r\n" * 99) == b"HTTP/1.1 431"
    assert status(LIVEZ + b"a: " + b"b" * 65_000 + b"\r\n") == b"HTTP/1.1 200"
    assert status(LIVEZ + b"a: " + b"b" * 65_536 + b"\r\n") == b"HTTP/1.1 431"
    assert status(LIVEZ.replace(b"/livez", b"/livez?" + b"b" * 65_536)) == b"HTTP/1.1 431"


def test_a_pipeline_is_answered_whole_and_in_order(service: Service) -> None:
    count = 3000
    with connect(service) as caller:
        caller.sendall(b"".join(LIVEZ + b"x-request-id: r%d\r\n\r\n" % number for number in range(count)))
        answers = Answers(caller)
        for number in range(count):
            head, _ = answers.read()
            assert head.startswith(b"HTTP/1.1 200 OK") and b"\r\nx-request-id: r%d\r\n" % number in head


@pytest.mark.parametrize("size", [1, 7, 2047, 2048, 2049, 70_000, 300_000])
def test_bodies_of_any_size_are_read_whole_however_they_come(service: Service, size: int) -> None:
    padded = b"{" + b" " * size + b"}"
    chunks = b"".join(
        b"%x;ext=1\r\n%s\r\n" % (len(padded[i : i + 999]), padded[i : i + 999]) for i in range(0, len(padded), 999)
    )
    plain = COUNT + b"content-length: %d\r\n\r\n" % len(padded) + padded
    chunked = COUNT + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\napi-key: x\r\n\r\n"
    with connect(service) as caller:
        answers = Answers(caller)
        for sent in (plain + chunked + plain, chunked + plain + chunked):
            caller.sendall(sent)
            for _ in range(3):
                head, body = answers.read()
                assert head.startswith(b"HTTP/1.1 200 OK") and body == b'{"count":0}'


def test_a_trailer_never_becomes_a_header(service: Service) -> None:
    with connect(service) as caller:
        caller.sendall(
            COUNT + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-request-id: trailer\r\n\r\n" + LIVEZ + b"\r\n"
        )
        answers = Answers(caller)
        for _ in range(2):
            head, _ = answers.read()
            assert head.startswith(b"HTTP/1.1 200 OK") and b"trailer" not in head


def test_what_came_before_a_fault_is_answered_first(service: Service) -> None:
    with connect(service) as caller:
        caller.sendall(COUNT + b"content-length: 2\r\n\r\n{}" + b"GET /livez HTTP/1.1\r\nno colon\r\n\r\n")
        first, _, second = read_all(caller).partition(b'{"count":0}')
    assert first.startswith(b"HTTP/1.1 200 OK")
    problem(second, 400)


@pytest.mark.parametrize("start", [b"GET", LIVEZ, LIVEZ + b"x: y"])
def test_a_head_that_never_ends_is_cut_off(hasty: Service, start: bytes) -> None:
    with connect(hasty) as caller:
        caller.sendall(start)
        problem(read_all(caller), 408)


def test_a_connection_that_sends_nothing_is_closed(hasty: Service) -> None:
    with connect(hasty) as silent, connect(hasty) as blank:
        blank.sendall(b"\r\n")
        assert read_all(silent) == read_all(blank) == b""


def test_expect_100_is_honored(service: Service) -> None:
    with connect(service) as caller:
        caller.sendall(COUNT + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        answers = Answers(caller)
        assert answers.read()[0] == b"HTTP/1.1 100 Continue\r\n\r\n"
        caller.sendall(b"{}")
        assert answers.read()[0].startswith(b"HTTP/1.1 200 OK")


def test_an_upgrade_is_not_taken(service: Service) -> None:
    upgrade = b"connection: upgrade\r\nupgrade: h2c\r\n"
    with connect(service) as caller:
        caller.sendall(LIVEZ + upgrade + b"\r\n" + LIVEZ + b"\r\n")
        answers = Answers(caller)
        assert [answers.read()[0][:15] for _ in range(2)] == [b"HTTP/1.1 200 OK"] * 2
    with connect(service) as caller:
        caller.sendall(COUNT + upgrade + b"content-length: 2\r\n\r\n{}")
        problem(read_all(caller), 400)


def test_a_path_that_is_not_utf_8_names_nothing(service: Service) -> None:
    with connect(service) as caller:
        caller.sendall(LIVEZ.replace(b"/livez", b"/v1/collections/docs/points/%ff") + b"\r\n")
        problem(read_all(caller), 400)


def test_connections_over_the_limit_take_the_place_of_those_that_wait(tmp_path: Path) -> None:
    with running(tmp_path, max_connections=20) as service, ExitStack() as opened:
        held = [opened.enter_context(connect(service)) for _ in range(60)]
        for caller in held[::2]:
            with suppress(OSError):
                caller.sendall(LIVEZ)  # half a head
        for _ in range(5):
            assert httpx.get(f"{service.url}/livez").status_code == 200
        for caller in held:
            caller.settimeout(0)
        assert sum(is_open(caller) for caller in held) <= 20


def is_open(caller: socket.socket) -> bool:
    try:
        return caller.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


async def test_a_request_can_be_refused_before_the_app_hears_of_it() -> None:
    asked, heard = [], []

    def receive(method: bytes, path: bytes, headers: object) -> bytes | None:
        asked.append((method, path))
        return wire(Overloaded("try later", retry_after_seconds=7), b"id-1") if b"refused" in path else None

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    protocol = partial(GuardedProtocol, Gate(receive=receive))
    config = uvicorn.Config(app, http=protocol, ws="none", lifespan="off", log_config=None)  # type: ignore[arg-type]
    config.load()
    loop = asyncio.get_running_loop()
    state = uvicorn.server.ServerState()
    listening = await loop.create_server(lambda: protocol(config, state, {}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
    request = b"POST /%s HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"
    writer.write(request % b"refused")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"retry-after: 7" in head and b"x-request-id: id-1" in head
    await reader.readuntil(b"}}")
    writer.write(request % b"taken")
    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 OK")
    writer.close()
    listening.close()
    assert asked == [(b"POST", b"/refused"), (b"POST", b"/taken")] and heard == ["/taken"]


def test_a_body_that_trickles_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path, min_body_bytes_per_s=1024) as service, connect(service) as caller:
        httpx.put(f"{service.url}/v1/collections/docs", json={"code": "24x2"}).raise_for_status()
        monkeypatch.setattr("bebr.server.connections.rates.WINDOW_SECONDS", 0.3)
        caller.sendall(COUNT + b"content-length: 1000\r\n\r\n{")
        problem(read_all(caller), 408)
