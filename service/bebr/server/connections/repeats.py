"""Requests that repeat the head of the one before on their connection, byte for byte: most of a busy client's.

What the layers decide by a head they have decided: the parsed head, the host, the key and its rights, the route. Only
what depends on more is done for each: limits of keys and lanes, its id, its deadline, the line in the log, metrics.
A route says that it can be repeated by an entry in the scope. Whatever it cannot read in one step, fails at, or answers
at length takes the way through the app; tests hold both ways to the same bytes.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from starlette.types import Scope

from bebr.at_once import in_task
from bebr.engine.admission import caller
from bebr.server.bodies.body import declared_size
from bebr.server.connections.exchange import Exchange
from bebr.server.middleware.callers import caller_of
from bebr.server.middleware.gzip import MIN_BYTES
from bebr.server.middleware.request_ids import given_request_id
from bebr.telemetry import Request

REPEATABLE = "bebr.repeatable"
"""Entry of a scope: the Route that answered it, where it can be repeated."""
FOUND = "bebr.found"
"""Entry of a scope: the body of the answer, or the error, that was found before the app was asked."""
MAX_BYTES = 2**16
"""Of a head and a body that are repeated."""
END = b"\r\n\r\n"
OnAnswer = Callable[[Scope, int, float, int, Request], None]
"""Told of an answer: its scope, status, seconds, size of the body, request."""


class Route(Protocol):
    """A route that can be repeated."""

    def read(self, body: bytes) -> Any:
        """What the body asks for; None: that takes the way through the app."""

    async def find(self, scope: Scope, request: Any) -> bytes:
        """The body of the answer, which is JSON with status 200."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """What the next request has to begin with, and how it is answered."""

    head: bytes
    size: int
    """Of head and body."""
    scope: Mapping[str, Any]
    """Of the request that was answered."""
    route: Route


def repeat_of(data: bytes, scope: Mapping[str, Any]) -> Repeat | None:
    """How to repeat a request that was answered. data: what came of it, in one piece, or ''."""
    route = scope.get(REPEATABLE)
    if route is None or not data:
        return None
    head, headers = data[: data.find(END) + len(END)], dict(scope["headers"])
    if declared_size(headers) != len(data) - len(head) or b"expect" in headers:
        return None
    return Repeat(head, len(data), scope, route)


@dataclass(frozen=True)
class Repeats:
    """Answers them."""

    request_ids: Iterator[bytes]
    version_header: tuple[bytes, bytes]
    on_answer: OnAnswer

    async def answer(self, exchange: Exchange, route: Route, request: Any, app: Any) -> None:
        scope, receive = cast(Any, exchange.scope), cast(Any, exchange.receive)
        started = time.perf_counter()
        request_id = given_request_id(scope["headers"]) or next(self.request_ids)
        serving = Request(request_id.decode())
        caller.set(caller_of(scope, receive))
        found: bytes | Exception
        try:
            found = await route.find(scope, request)
        except Exception as error:  # the app writes it down
            found = error
        if not isinstance(found, bytes) or len(found) >= MIN_BYTES:
            scope[FOUND] = found
            await in_task()
            await exchange.run_asgi(app)
            return
        await exchange.send(start_of(found, (b"x-request-id", request_id), self.version_header))
        await exchange.send({"type": "http.response.body", "body": found})
        self.on_answer(scope, 200, time.perf_counter() - started, len(found), serving)


def start_of(body: bytes, *more: tuple[bytes, bytes]) -> Any:
    """The ASGI message that begins an answer of JSON."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *more]
    return {"type": "http.response.start", "status": 200, "headers": headers}
