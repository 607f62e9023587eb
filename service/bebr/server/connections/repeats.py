"""Requests that repeat the head of the one before on their connection, byte for byte but for the size of the body: most
of a busy client's.

What the layers decide by a head they have decided: the parsed head, the host, the key and its rights, the route. Only
what depends on more is done for each: limits of keys and lanes, its id, its deadline, the line in the log, metrics.
Those that come in one turn of the event loop are answered together, without a task for any. A route says that it can be
repeated by an entry in the scope. Whatever it cannot read in one step, fails at, or answers at length takes the way
through the app; tests hold both ways to the same bytes.
"""

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from bebr.at_once import in_task, run_at_once
from bebr.engine.admission import Caller, caller
from bebr.server.bodies.body import declared_size
from bebr.server.middleware.callers import HEADER, deadline_of
from bebr.server.middleware.gzip import MIN_BYTES
from bebr.server.middleware.request_ids import given_request_id
from bebr.telemetry import Request

REPEATABLE = "bebr.repeatable"
"""Entry of a scope: the Route that answered it, where it can be repeated."""
FOUND = "bebr.found"
"""Entry of a scope: the body of the answer, or the error, that was found before the app was asked."""
MAX_BYTES = 2**16
"""Of a head and a body that are repeated."""
MAX_DIGITS = 6
"""Of the size of a body that is repeated."""
END = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: ?(\d{1,%d})(?=\r\n)" % MAX_DIGITS, re.IGNORECASE)
JSON_HEADER = (b"content-type", b"application/json")
OnAnswer = Callable[[Scope, int, float, int, Request], None]
"""Told of an answer: its scope, status, seconds, size of the body, request."""


class Route(Protocol):
    """A route that can be repeated."""

    def read(self, body: bytes) -> Any:
        """What the body asks for; None: that takes the way through the app."""

    def gathers(self, request: Any) -> bool:
        """Whether it is worth while to find it together with others."""

    async def find(self, scope: Scope, requests: Sequence[Any]) -> list[bytes]:
        """The bodies of the answers to requests of one path, which are JSON with status 200."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """What the next request has to begin with, and how it is answered."""

    head: bytes
    """Up to the size of the body, in digits."""
    size: int
    """Of the body that was answered; larger ones might be refused."""
    scope: Scope
    """Of the request that was answered."""
    route: Route
    request_id: bytes | None
    """The caller's own."""
    has_deadline: bool
    rest: bytes = b""
    """What follows those digits, to the end of the head."""

    def body_of(self, data: bytes) -> bytes | None:
        """The body of a whole request with this head, but for the size; None: it is none, or is larger."""
        first = len(self.head)
        last = data.find(b"\r", first, first + MAX_DIGITS + 1) if data.startswith(self.head) else -1
        if last < 0 or not data.startswith(self.rest, last):
            return None
        digits, body = data[first:last], data[last + len(self.rest) :]
        return body if digits.isdigit() and int(digits) == len(body) <= self.size else None


def repeat_of(data: bytes, scope: Scope) -> Repeat | None:
    """How to repeat a request that was answered. data: what came of it, in one piece, or ''."""
    route = scope.get(REPEATABLE)
    if route is None or not data:
        return None
    head, headers = data[: data.find(END) + len(END)], dict(scope["headers"])
    size, lengths = len(data) - len(head), list(LENGTH.finditer(head))
    if declared_size(headers) != size or len(lengths) != 1 or b"expect" in headers:
        return None
    first, last = lengths[0].span(1)
    own = given_request_id(scope["headers"])
    return Repeat(head[:first], size, scope, route, own, HEADER in headers, head[last:])


class Answered(Protocol):
    """A connection, as far as its repeated requests are answered."""

    def can_write(self) -> bool:
        """Whether an answer needs not wait until the caller has read those before it."""

    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """Of every answer; another list once they change."""

    def answer(self, repeated: "Repeated", answer: bytes) -> None:
        """Give the answer, head and body."""

    async def ask_app(self, repeated: "Repeated", found: bytes | Exception) -> None:
        """Let the app answer. found: what it would find."""

    def keep(self, task: "asyncio.Task[None]") -> None:
        """It has to end before the service stops."""


class Repeats:
    """Answers them."""

    def __init__(self, request_ids: Iterator[bytes], version_header: tuple[bytes, bytes], on_answer: OnAnswer) -> None:
        self._request_ids = request_ids
        self._version_line = b"%b: %b\r\n" % version_header
        self._on_answer = on_answer
        self._default_headers: list[tuple[bytes, bytes]] = []
        self._first_lines = b""
        """Of all answers while these headers are the default ones."""
        self._gathered: list[Repeated] = []
        """Of this turn of the event loop."""

    def begin(self, repeated: "Repeated", is_calm: bool) -> None:
        """Answer a request: now where they come one by one, else together with the others of this turn."""
        repeat = repeated.repeat
        if is_calm:
            run_at_once(self._answer_alone(repeated), repeated.connection.keep)
        elif repeat.has_deadline or not repeat.route.gathers(repeated.request):
            repeated.connection.keep(asyncio.create_task(self._answer_alone(repeated)))
        else:
            if not self._gathered:
                asyncio.get_running_loop().call_soon(self._answer_gathered)
            self._gathered.append(repeated)

    def _answer_gathered(self) -> None:
        gathered, self._gathered = self._gathered, []
        of_path: dict[tuple[Route, bytes], list[Repeated]] = {}
        for one in gathered:
            if not one.disconnected:
                of_path.setdefault((one.repeat.route, one.scope["raw_path"]), []).append(one)
        for some in of_path.values():
            answer = self._answer_alone(some[0]) if len(some) == 1 else self._answer_together(some)
            run_at_once(answer, some[0].connection.keep)

    async def _answer_together(self, some: "list[Repeated]") -> None:
        """What fails for all of them fails for some: each is then found by itself."""
        started = time.perf_counter()
        caller.set(Caller(has_left=lambda: all(one.disconnected for one in some)))
        try:
            bodies = await some[0].repeat.route.find(some[0].scope, [one.request for one in some])
        except Exception:
            for one in some:
                run_at_once(self._answer_alone(one), one.connection.keep)
            return
        for one, body in zip(some, bodies, strict=True):
            if not self._give(one, body, self._request_id(one), started):
                run_at_once(one.connection.ask_app(one, body), one.connection.keep)

    async def _answer_alone(self, repeated: "Repeated") -> None:
        if repeated.disconnected:
            return
        started, request_id = time.perf_counter(), self._request_id(repeated)
        serving = Request(request_id.decode())
        found: bytes | Exception
        try:
            deadline = deadline_of(repeated.scope, repeated.arrived) if repeated.repeat.has_deadline else None
            caller.set(Caller(deadline, lambda: repeated.disconnected))
            (found,) = await repeated.repeat.route.find(repeated.scope, [repeated.request])
        except Exception as error:  # the app writes it down
            found = error
        if isinstance(found, Exception) or not self._give(repeated, found, request_id, started, serving):
            serving.ended()
            await in_task()
            await repeated.connection.ask_app(repeated, found)

    def _request_id(self, repeated: "Repeated") -> bytes:
        return repeated.repeat.request_id or next(self._request_ids)

    def _give(
        self, repeated: "Repeated", body: bytes, request_id: bytes, started: float, serving: Request | None = None
    ) -> bool:
        """Give the answer, where that takes no more than one step, or nobody wants it any more. serving: it began."""
        connection = repeated.connection
        if repeated.disconnected:
            if serving is not None:
                serving.ended()
            return True
        if len(body) >= MIN_BYTES or not repeated.keep_alive or not connection.can_write():
            return False
        if (headers := connection.default_headers()) is not self._default_headers:
            lines = [b"%b: %b\r\n" % header for header in (*headers, JSON_HEADER)]
            self._default_headers, self._first_lines = headers, b"".join([STATUS_LINE[200], *lines])
        head = b"%bcontent-length: %d\r\nx-request-id: %b\r\n%b\r\n"
        head %= self._first_lines, len(body), request_id, self._version_line
        connection.answer(repeated, head + body)
        seconds = time.perf_counter() - started
        self._on_answer(repeated.repeat.scope, 200, seconds, len(body), serving or Request(request_id.decode()))
        return True


class _Nobody:
    """Waits for what is still to come of a request that came whole."""

    def set(self) -> None:
        pass


class Repeated:
    """A request with the head of the one before, which came whole: as much of an exchange as a connection needs."""

    __slots__ = (
        "arrived",
        "body",
        "connection",
        "disconnected",
        "keep_alive",
        "repeat",
        "request",
        "response_complete",
    )
    more_body, response_started, waiting_for_100_continue = False, False, False
    message_event = _Nobody()

    def __init__(self, connection: Answered, repeat: Repeat, body: bytes, request: Any, arrived: float) -> None:
        """request: what the route read. arrived: in monotonic seconds."""
        self.connection = connection
        self.repeat = repeat
        self.body = body
        self.request = request
        self.arrived = arrived
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False

    @property
    def scope(self) -> Scope:
        """Of the request that it repeats."""
        return self.repeat.scope


def start_of(body: bytes) -> Any:
    """The ASGI message that begins an answer of JSON."""
    return {
        "type": "http.response.start",
        "status": 200,
        "headers": [JSON_HEADER, (b"content-length", str(len(body)).encode())],
    }
