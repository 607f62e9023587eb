"""The outermost layer: request ids, the version header, metrics, the line in the log, unexpected exceptions.

Pure ASGI, because every search passes through it: Starlette's BaseHTTPMiddleware costs more than a whole search.
"""

import logging
import time
from collections.abc import Iterator

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bebr import __version__
from bebr.errors import BebrError
from bebr.server.bodies.body import HELD, BodyBudget
from bebr.server.metrics import HttpMetrics
from bebr.server.middleware.access_log import AccessLog
from bebr.server.middleware.request_ids import given_request_id
from bebr.server.paths import with_true_end
from bebr.server.problems import answer_problem
from bebr.telemetry import Request

logger = logging.getLogger(__name__)

STATUS_CLIENT_GONE = 499
"""Counted, never sent: the caller disconnected before the answer."""
FORWARDED = "bebr.forwarded"
"""Entry of a scope: another process has answered; there it was counted, and has its line in the log."""


VERSION_HEADER = (b"bebr-version", __version__.encode())


class InternalError(BebrError):
    """An unexpected error. The log has the traceback with the request id."""


class Envelope:
    """Wrap `app` so that every response carries `x-request-id` and `bebr-version` and is counted."""

    def __init__(
        self, app: ASGIApp, bodies: BodyBudget, metrics: HttpMetrics, access_log: AccessLog, ids: Iterator[bytes]
    ) -> None:
        self._app = app
        self._bodies = bodies
        self._metrics = metrics
        self._access_log = access_log
        self._ids = ids
        self._version_header = VERSION_HEADER

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # the server, which has the scope as it came, drops the body
        scope = with_true_end(scope)
        started, status, size_bytes = time.perf_counter(), 0, 0
        request_id = self._request_id(scope)
        request = Request(request_id.decode())

        async def send_sealed(message: Message) -> None:
            nonlocal status, size_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id), self._version_header]
            else:
                size_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, send_sealed)
        except ClientDisconnect:
            status = STATUS_CLIENT_GONE
        except Exception:
            # The one catch-all: the caller gets an answer without internals, the log gets everything.
            logger.exception("request %s: %s %s failed", request.id, scope["method"], scope["path"])
            if status:  # the answer has begun; all that is left is to cut it off
                raise
            error = InternalError(
                "an unexpected error; find the request id in the log of the service", request_id=request.id
            )
            await answer_problem(error, scope, receive, send_sealed)
        finally:
            seconds = time.perf_counter() - started
            if FORWARDED in scope:
                request.ended()
            else:
                note(self._metrics, self._access_log, scope, status, seconds, size_bytes, request)
            if HELD in scope:
                self._bodies.give_back(scope)

    def _request_id(self, scope: Scope) -> bytes:
        """The id that the caller sent, if it is valid, else a new one."""
        return given_request_id(scope["headers"]) or next(self._ids)


def note(
    metrics: HttpMetrics,
    access_log: AccessLog,
    scope: Scope,
    status: int,
    seconds: float,
    size_bytes: int,
    request: Request,
) -> None:
    """A request was answered: it is counted, and has its line in the log."""
    metrics.observe(scope, status, seconds)
    access_log.write(scope, status, seconds, size_bytes, request.id)
    request.ended()
