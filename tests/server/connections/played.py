"""A connection in memory, under a clock and in turns of the loop that a test decides: whatever may come between two
steps of the service can be made to come there."""

import asyncio
from collections.abc import Sequence
from typing import Any

import uvicorn
import uvicorn.server
from starlette.types import Receive, Scope, Send

from bebr.engine.admission import Lane
from bebr.errors import Overloaded
from bebr.server.connections.connection import ConnectionLimits, Gate
from bebr.server.connections.protocol import GuardedProtocol
from bebr.server.connections.reception import Ticket
from bebr.server.connections.refusals import wire
from bebr.server.connections.repeats import FOUND, REPEATABLE, Repeats, start_of
from bebr.server.middleware.gzip import MIN_BYTES

LIMITS = ConnectionLimits(header_timeout_seconds=10, keep_alive_seconds=60, max_header_bytes=4096)


class Clock(asyncio.SelectorEventLoop):
    """Time passes where a test says so."""

    now = 1000.0

    def time(self) -> float:
        return self.now


class Transport(asyncio.Transport):
    """The service's end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.written = bytearray()
        self.reads = True
        self.ended = False
        self.half_closed = False
        self.protocol: Any = None
        self._loop = loop

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: Any) -> None:
        assert not self.half_closed
        if not self.ended:
            self.written += data

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return self.ended

    def close(self) -> None:
        if not self.ended:
            self.ended = True
            self._loop.call_soon(self.protocol.connection_lost, None)

    abort = close

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.half_closed = True


class Play:
    """A service with one connection. `held`: answers that wait until `release` gives them."""

    def __init__(self, limits: ConnectionLimits = LIMITS) -> None:
        self.loop = Clock()
        self.failures: list[Any] = []
        self.loop.set_exception_handler(lambda loop, context: self.failures.append(context))
        ids = iter(range(10**9))
        self.gate = Gate(
            limits,
            receive=self._receive,
            request_ids=(b"%d" % number for number in ids),
            repeats=Repeats((b"%d" % number for number in ids), (b"v", b"1"), lambda *about: None),
        )
        config = uvicorn.Config(
            self._app, interface="asgi3", ws="none", lifespan="off", log_config=None, access_log=False
        )
        config.load()
        self.lane = Lane("searches", "searches", 1.0, 1.0)
        self.held: list[asyncio.Future[None]] = []
        self.repeated = 0
        self.transport = Transport(self.loop)
        self.protocol = GuardedProtocol(self.gate, config, uvicorn.server.ServerState(), {}, _loop=self.loop)
        self.transport.protocol = self.protocol
        self._do(lambda: self.protocol.connection_made(self.transport))

    def close(self) -> None:
        self.transport.close()
        self.turn(6)
        while self.held:
            self.release()
            self.turn(6)
        self.loop.close()

    def send(self, data: bytes) -> None:
        """Bytes come in. The service must be reading."""
        assert self.transport.reads and not self.transport.ended
        self._do(lambda: self.protocol.data_received(data))

    def turn(self, count: int = 1) -> None:
        """Turns of the loop."""
        for _ in range(count):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def wait(self, seconds: float) -> None:
        """Time passes, and what is due then is done before anything else comes."""
        self.loop.now += seconds
        self.turn(6)

    def release(self) -> None:
        """The answer that was held first is given, in the next turn."""
        if self.held:
            self.held.pop(0).set_result(None)

    def crowd(self) -> None:
        """Requests of others start in this turn: more than can."""
        self._do(lambda: [self.gate.starts.put("other", lambda: None) for _ in range(20)])

    def _do(self, what: Any) -> None:
        """Between two turns, as what a socket brings."""
        asyncio.events._set_running_loop(self.loop)
        try:
            what()
        finally:
            asyncio.events._set_running_loop(None)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = scope.pop(FOUND, None)
        path, body, more = scope["path"], b"", not scope["path"].startswith("/unread")
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        if found is None and (scope["method"], path) == ("POST", "/search"):
            try:
                (found,) = await self.find(scope, [body])
                scope[REPEATABLE] = self
            except ValueError as error:
                found = error
        elif path.endswith("/held"):
            await self._held()
        if isinstance(found, Exception):
            found = b'"failed"'
        answer = found or answer_of(scope["method"].encode(), path.encode(), body)
        await send(start_of(answer))
        if path == "/unread/broken":
            await send({"type": "http.response.body", "body": answer[:5], "more_body": True})
            raise ValueError
        await send({"type": "http.response.body", "body": answer})

    def read(self, body: bytes) -> Any:
        return None if body.startswith(b"odd") else body

    def gathers(self, request: Any) -> bool:
        return bool(request.startswith(b"together"))

    async def find(self, scope: Scope, requests: Sequence[bytes]) -> list[bytes]:
        self.repeated += 1
        if any(b"held" in body for body in requests):
            await self._held()
        if any(body.startswith(b"fails") for body in requests):
            raise ValueError
        return [answer_of(b"POST", b"/search", body) for body in requests]

    def _receive(self, method: bytes, path: bytes, headers: Any) -> bytes | Ticket | None:
        if path.startswith(b"/fault"):
            raise ValueError
        if path.startswith(b"/refused"):
            return wire(Overloaded("later"), b"id")
        return Ticket(self.lane, "a key") if path == b"/search" else None

    async def _held(self) -> None:
        held = self.loop.create_future()
        self.held.append(held)
        await held


def answer_of(method: bytes, path: bytes, body: bytes) -> bytes:
    """The body of an answer: nothing but what was asked, so that a plain function says what is right."""
    large = body.startswith(b"large")
    return b'"%b %b %d %b%b"' % (method, path, len(body), body[:30], b" " * MIN_BYTES if large else b"")
