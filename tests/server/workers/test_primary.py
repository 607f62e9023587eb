"""Requests that a worker passes on to the primary, which is played: here, away, slow, and gone in the middle."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from tests.waiting import PATIENCE_SECONDS, until

from bebr.engine.admission import Caller, caller
from bebr.errors import DeadlineExceeded, PrimaryUnavailable
from bebr.server.workers.exchange import PrimaryConnection
from bebr.server.workers.primary import Primary
from bebr.telemetry import Request

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def path() -> Iterator[str]:
    with TemporaryDirectory() as folder:  # pytest's own may be longer than a Unix socket may be
        yield str(Path(folder) / "primary.sock")


@asynccontextmanager
async def played(path: str, play: Play) -> AsyncIterator[None]:
    playing = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        playing.add(task := asyncio.ensure_future(play(reader, writer)))
        await asyncio.wait([task])
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield
    finally:
        server.close()
        Path(path).unlink()
        for task in playing:
            task.cancel()
        ended = await asyncio.gather(*playing, return_exceptions=True)
        allowed = ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError
        assert [error for error in ended if error is not None and not isinstance(error, allowed)] == []


async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)


class Asked:
    """A request and its caller, as an ASGI server has them. After the body the caller stays until `leaves`."""

    def __init__(self, method: str = "GET", body: Iterable[bytes] = (), chunked: bool = False) -> None:
        self._pieces = list(body)
        size = sum(map(len, self._pieces))
        headers = [(b"host", b"x"), (b"connection", b"close")]
        if chunked:
            headers.append((b"transfer-encoding", b"chunked"))
        elif self._pieces:
            headers.append((b"content-length", b"%d" % size))
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "raw_path": b"/a%20b",
            "query_string": b"c=d",
            "headers": headers,
            "client": ("10.0.0.1", 1234),
        }
        self.asked_for = 0
        self.leaves = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self.status = 0
        self.body = b""
        self.done = False

    async def receive(self) -> Any:
        if self._pieces or not self.asked_for:
            self.asked_for += 1
            piece = self._pieces.pop(0) if self._pieces else b""
            return {"type": "http.request", "body": piece, "more_body": bool(self._pieces)}
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.body += message["body"]
            self.done = not message["more_body"]

    async def asks(self, primary: Primary) -> "Asked":
        Request("the-id")
        await primary.exchange(self.scope, self.receive, self.send)
        return self


async def test_what_is_sent_is_what_came_with_its_id_and_caller(path: str):
    heard = b""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard = await reader.readuntil(b"0\r\n\r\n")
        writer.write(OK)

    async with played(path, play):
        asked = await Asked("POST", [b"one", b"", b"two"], chunked=True).asks(Primary(path, PATIENCE_SECONDS))
    assert (asked.status, asked.body, asked.done) == (200, b"ok", True)
    head, _, body = heard.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /a%20b?c=d HTTP/1.1",
        b"host: x",
        b"transfer-encoding: chunked",
        b"x-request-id: the-id",
        b"x-bebr-client: 10.0.0.1 1234",
    ]
    assert body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


async def test_a_request_waits_for_a_primary_that_is_away(path: str):
    asking = asyncio.create_task(Asked("POST", [b"x"]).asks(Primary(path, PATIENCE_SECONDS)))
    await asyncio.sleep(0.1)
    assert not asking.done()
    async with played(path, answer_all):
        assert (await asking).status == 200


async def test_it_waits_no_longer_than_it_may(path: str):
    asked = Asked("POST", [b"x"])
    with pytest.raises(PrimaryUnavailable, match="nothing was done") as raised:
        await asked.asks(Primary(path, 0.05))
    assert (raised.value.fields["retry_after_seconds"], asked.asked_for) == (1, 0)
    loop = asyncio.get_running_loop()
    caller.set(Caller(loop.time() + 0.05))
    with pytest.raises(DeadlineExceeded):
        await Asked().asks(Primary(path, PATIENCE_SECONDS))


async def test_a_primary_that_nobody_replaces_is_not_waited_for(path: str):
    """Neither by what waits already, nor while requests are held."""
    primary = Primary(path, 10 * PATIENCE_SECONDS)
    asking = [asyncio.create_task(Asked("POST", [b"x"]).asks(primary)) for _ in range(2)]
    await until(lambda: primary._reaching is not None, "the first ones wait")
    assert await primary.hold()
    asking.append(asyncio.create_task(Asked("POST", [b"x"]).asks(primary)))
    await asyncio.sleep(0)
    primary.expect_no_other()
    async with asyncio.timeout(PATIENCE_SECONDS):
        said = await asyncio.gather(*asking, return_exceptions=True)
    assert [(type(one), "nothing was done" in str(one)) for one in said] == [(PrimaryUnavailable, True)] * 3


async def test_readiness_is_told_at_once_where_the_primary_is_away(path: str):
    primary, asked = Primary(path, PATIENCE_SECONDS), Asked()
    asked.scope["raw_path"] = b"/readyz"
    async with asyncio.timeout(PATIENCE_SECONDS / 2):
        with pytest.raises(PrimaryUnavailable, match="is away"):
            await asked.asks(primary)
        async with played(path, answer_all):
            await asked.asks(primary)
    assert asked.status == 200
    primary.close()


async def test_of_a_write_that_was_sent_nobody_says_that_it_was_not_done(path: str):
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with played(path, play):
        with pytest.raises(PrimaryUnavailable, match="not known"):
            await Asked("POST", [b"x"]).asks(Primary(path, PATIENCE_SECONDS))


async def test_a_read_that_was_sent_is_sent_again(path: str):
    connections = 0

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        if connections > 1:
            writer.write(OK)

    async with played(path, play):
        asked = await Asked().asks(Primary(path, PATIENCE_SECONDS))
    assert (asked.status, connections) == (200, 2)


async def test_a_connection_is_used_again_until_the_primary_ends_it(path: str):
    connections = 0

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\nx")
            writer.write(OK)

    primary = Primary(path, PATIENCE_SECONDS)
    async with played(path, play):
        for expected in (1, 2):
            for _ in range(2):
                assert ((await Asked("POST", [b"x"]).asks(primary)).status, connections) == (200, expected)
            await until(lambda: not primary._idle[0].is_free, "the end is noticed")
    primary.close()


async def test_the_primary_learns_that_the_caller_has_left(path: str):
    ended, began = asyncio.Event(), asyncio.Event()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        began.set()
        try:
            assert await reader.read() == b""
        finally:
            ended.set()

    asked = Asked()
    async with played(path, play):
        asking = asyncio.create_task(asked.asks(Primary(path, PATIENCE_SECONDS)))
        await began.wait()
        asked.leaves.set()
        with pytest.raises(ClientDisconnect):
            await asking
        await asyncio.wait_for(ended.wait(), PATIENCE_SECONDS)


async def test_a_body_is_not_read_ahead_of_a_primary_that_does_not_read(path: str):
    """Nor is an answer ahead of its caller: neither side holds more than some buffers."""
    reads, written = asyncio.Event(), 0

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        await reads.wait()
        await reader.readexactly(PIECES * len(PIECE))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (PIECES * len(PIECE)))
        for _ in range(PIECES):
            writer.write(PIECE)
            await writer.drain()
            written += 1

    PIECE, PIECES = b"x" * 65536, 400
    asked = Asked("POST", [PIECE] * PIECES)
    asked.reads.clear()
    async with played(path, play):
        asking = asyncio.create_task(asked.asks(Primary(path, PATIENCE_SECONDS)))
        await stands_still(lambda: asked.asked_for)
        assert 0 < asked.asked_for < PIECES / 4
        reads.set()
        await stands_still(lambda: written)
        assert 0 < written < PIECES / 4
        asked.reads.set()
        assert len((await asking).body) == PIECES * len(PIECE)


async def stands_still(value: Callable[[], int]) -> None:
    """Return once it has begun to grow, and grows no more."""
    await until(value, "it begins")
    before = -1
    while before != value():
        before = value()
        await asyncio.sleep(0.1)


async def test_what_is_under_way_ends_before_others_are_held(path: str):
    began, ends = asyncio.Event(), asyncio.Event()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        began.set()
        await ends.wait()
        writer.write(OK)

    primary = Primary(path, PATIENCE_SECONDS)
    async with played(path, play):
        first = asyncio.create_task(Asked().asks(primary))
        await began.wait()
        holding = asyncio.create_task(primary.hold())
        await asyncio.sleep(0)
        second = asyncio.create_task(Asked().asks(primary))
        ends.set()
        await holding
        assert ((await first).status, second.done()) == (200, False)
        primary.release()
        assert (await second).status == 200


async def test_others_wait_for_what_is_under_way_no_longer_than_they_are_told_to(path: str):
    """So that a long upload holds up nobody: it is tried again later."""
    began, ends = asyncio.Event(), asyncio.Event()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST"):
            began.set()
            await ends.wait()
        writer.write(OK)

    primary = Primary(path, PATIENCE_SECONDS)
    async with played(path, play):
        upload = asyncio.create_task(Asked("POST", [b"x"]).asks(primary))
        await began.wait()
        assert not await primary.hold(0.01, gives_up=True)
        assert (await Asked().asks(primary)).status == 200
        assert not await primary.hold(0.01)
        other = asyncio.create_task(Asked().asks(primary))
        ends.set()
        assert (await upload).status == 200
        assert await primary.hold()
        assert not other.done()
        primary.release()
        assert (await other).status == 200


async def test_a_connection_that_is_made_while_others_are_held_is_not_used_before_they_are_released(path: str):
    class Reached(Primary):
        async def _connect(self) -> PrimaryConnection:
            connection = await super()._connect()
            if not held.is_set():
                held.set()
                assert await self.hold()
            return connection

    held, heads = asyncio.Event(), 0

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heads
        await reader.readuntil(b"\r\n\r\n")
        heads += 1
        writer.write(OK)

    primary = Reached(path, PATIENCE_SECONDS)
    async with played(path, play):
        asking = asyncio.create_task(Asked().asks(primary))
        await held.wait()
        await asyncio.sleep(0.1)
        assert (heads, asking.done()) == (0, False)
        primary.release()
        assert ((await asking).status, heads) == (200, 1)
    primary.close()


async def test_a_primary_that_stands_still_is_not_waited_for_beyond_the_callers_time(path: str):
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\nx")
        writer.write(OK)
        await reader.read()

    primary = Primary(path, PATIENCE_SECONDS)
    async with played(path, play):
        await Asked("POST", [b"x"]).asks(primary)  # from now on there is a connection, however long one takes
        caller.set(Caller(asyncio.get_running_loop().time() + 0.05))
        with pytest.raises(PrimaryUnavailable, match="not known"):
            await Asked("POST", [b"x"]).asks(primary)
    primary.close()
