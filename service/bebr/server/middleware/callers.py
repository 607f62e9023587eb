"""Who waits for an answer: until when, as the header `x-timeout-ms` says, and whether the connection is still there."""

import time
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from bebr.engine.admission import Caller, caller
from bebr.errors import InvalidOption
from bebr.server.problems import answer_problem

HEADER = b"x-timeout-ms"
MAX_TIMEOUT_MS = 3_600_000
ARRIVED = "bebr.arrived"
"""Entry of a scope: when the request came, in monotonic seconds; it may have waited for its start since."""


class Callers:
    """Tells the engine who the caller of each request is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                caller.set(caller_of(scope, receive))
            except InvalidOption as error:
                await answer_problem(error, scope, receive, send)
                return
        await self._app(scope, receive, send)


def caller_of(scope: Scope, receive: Receive) -> Caller:
    """Raises InvalidOption."""
    deadline = deadline_of(scope, scope.get(ARRIVED))
    # uvicorn's request knows when its connection is lost; ASGI would tell it only to somebody who waits for it
    connection: Any = getattr(receive, "__self__", None)
    if hasattr(connection, "disconnected"):
        return Caller(deadline, lambda: bool(connection.disconnected))
    return Caller(deadline)


def deadline_of(scope: Scope, arrived: float | None) -> float | None:
    """By when the caller wants the answer, in monotonic seconds; None: it did not say. Raises InvalidOption."""
    deadline = None
    for name, value in scope["headers"]:
        if name == HEADER:
            deadline = (time.monotonic() if arrived is None else arrived) + _checked_milliseconds(value) / 1000
    return deadline


def milliseconds(value: bytes) -> int:
    """The value of the header. Raises ValueError."""
    if not (value.isdigit() and len(value) < 10 and 1 <= int(value) <= MAX_TIMEOUT_MS):
        raise ValueError(f"a whole number from 1 to {MAX_TIMEOUT_MS}, got {value.decode('latin-1')!r:.50}")
    return int(value)


def _checked_milliseconds(value: bytes) -> int:
    try:
        return milliseconds(value)
    except ValueError as error:
        raise InvalidOption(f"the header x-timeout-ms is {error}", key="x-timeout-ms") from error
