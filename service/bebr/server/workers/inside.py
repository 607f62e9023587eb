"""How the primary takes what other workers pass on: over a Unix socket in a private folder, so its callers are known.

The worker that a caller reached has counted what its key may send. All else is checked here, as of any other request.
"""

from dataclasses import replace

from starlette.types import ASGIApp, Receive, Scope, Send

from bebr.server.connections.connection import Gate

CLIENT = b"x-bebr-client"
"""Header: address and port of the caller, who reached another worker."""
KEEP_ALIVE_SECONDS = 3600.0


class Inside:
    """The app, for requests that other workers pass on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for name, value in scope["headers"]:
                if name == CLIENT:
                    host, _, port = value.decode("latin-1").rpartition(" ")
                    scope["client"] = (host, int(port)) if host else None
        await self._app(scope, receive, send)


def inside_gate(gate: Gate) -> Gate:
    """The gate of these connections: they wait for each other as long as it takes."""
    limits = replace(
        gate.limits,
        min_body_bytes_per_s=0,
        keep_alive_seconds=KEEP_ALIVE_SECONDS,
        header_timeout_seconds=KEEP_ALIVE_SECONDS,
        max_header_bytes=2 * gate.limits.max_header_bytes,
        max_headers=gate.limits.max_headers + 10,
        max_connections=0,
    )
    return replace(gate, limits=limits, receive=gate.receive_inside, refuse_unparsed=lambda data: None, repeats=None)
