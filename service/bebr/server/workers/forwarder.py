"""The app of a worker that answers nothing itself but whether it lives: all else goes to the primary.

Keys, rates and limits are then those of the primary, and so of the whole service.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from bebr.config import Limits
from bebr.server.bodies.body import BodyBudget
from bebr.server.connections.connection import ConnectionLimits, Gate
from bebr.server.connections.reception import Headers
from bebr.server.connections.refusals import alive
from bebr.server.metrics import HttpMetrics
from bebr.server.middleware.access_log import AccessLog
from bebr.server.middleware.callers import Callers
from bebr.server.middleware.envelope import Envelope
from bebr.server.middleware.request_ids import given_request_id, request_ids
from bebr.server.workers.forwarding import Forwarding
from bebr.server.workers.primary import Primary


class Forwarder:
    """The app, and the gate of its connections."""

    def __init__(
        self, primary: Primary, limits: Limits, connections: ConnectionLimits, log_requests_per_s: int
    ) -> None:
        self._ids = request_ids()
        self.primary = primary
        layers = Callers(Forwarding(self._live, primary, answers=lambda scope: False))
        log = AccessLog(log_requests_per_s)
        self._app: ASGIApp = Envelope(layers, BodyBudget(limits), HttpMetrics(), log, self._ids)
        self.gate = Gate(connections, receive=self._receive, request_ids=self._ids)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def _receive(self, method: bytes, path: bytes, headers: Headers) -> bytes | None:
        if path == b"/livez" and method == b"GET":
            return alive(given_request_id(headers) or next(self._ids))
        return None

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The lifespan of the app."""
        for said in ("startup", "shutdown"):
            await receive()
            if said == "shutdown":
                self.primary.close()
            await send({"type": f"lifespan.{said}.complete"})
