"""How uvicorn serves the app, in a service of one process and in each of several workers."""

from collections.abc import MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn

from bebr.cli.server.starting import BACKLOG, SHUTDOWN_SECONDS

if TYPE_CHECKING:
    from bebr.server.connections.connection import Gate

SWITCH_SECONDS = 0.001
"""Thread switch interval, below Python's default: a thread that finished a scan waits this long for the interpreter."""


def server_config(app: Any, gate: "Gate") -> uvicorn.Config:
    """How uvicorn serves an app. gate: of its connections."""
    from bebr.server.connections.protocol import GuardedProtocol

    return uvicorn.Config(
        app,
        http=partial(GuardedProtocol, gate),  # type: ignore[arg-type]
        ws="none",
        access_log=False,
        log_config=None,
        lifespan="on",
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        backlog=BACKLOG,
    )


class Watched:
    """The application. Keeps what its startup raised, so that it is reported in one line instead of a traceback."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.failure: BaseException | None = None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_quietly(message: dict[str, Any]) -> None:
            if message["type"] == "lifespan.startup.failed":
                message = {"type": "lifespan.startup.failed", "message": ""}
            await send(message)

        try:
            await self._app(scope, receive, send_quietly)
        except BaseException as error:
            self.failure = error
            raise
