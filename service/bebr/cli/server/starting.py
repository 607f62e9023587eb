"""What any service does before it answers: its logs, its data folder, its address, and saying what it waits for.

The process that keeps several workers needs no more than this, so no server and no client is imported here.
"""

import logging
import socket
import sys
import time

from bebr.config import LogFormat, LogLevel, Settings
from bebr.disk import make_private
from bebr.errors import InvalidOption
from bebr.telemetry import JsonLines, TextLines

BACKLOG = 2048
PATIENCE_SECONDS = 2.0
SHUTDOWN_SECONDS = 15
"""How long running requests may take to finish after the service was told to stop."""


def configure_logs(level: LogLevel, form: LogFormat, worker: int | None = None) -> None:
    """Log to stderr, as text or as one JSON object per line. The web server's own messages are left out.

    worker: the number of this process among several, which its lines have.
    """
    handler = logging.StreamHandler()
    always = {} if worker is None else {"worker": worker}
    handler.setFormatter(JsonLines(always) if form is LogFormat.JSON else TextLines(always))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("uvicorn.error", "uvicorn.asgi", "httpx", "httpcore", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    logging.getLogger("uvicorn.error").addFilter(lambda record: "Application startup failed" not in record.getMessage())


class Waiting:
    """Prints what a slow start is waiting for, each reason once; prints nothing during a fast one."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._said = ""

    def __call__(self, reason: str) -> None:
        if reason != self._said and time.monotonic() - self._since > PATIENCE_SECONDS:
            self._said = reason
            print(f"not ready yet: {reason}", file=sys.stderr)


def use_folder(settings: Settings) -> None:
    """Make the data folder private. Raises InvalidOption."""
    try:
        make_private(settings.data_dir, ("store", "collections", "jobs", "bundles", "run"))
    except OSError as error:
        raise InvalidOption(f"the data folder {settings.data_dir} cannot be used: {error}") from error


def listen(host: str, port: int) -> socket.socket:
    """Bind the address. Raises InvalidOption."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise InvalidOption(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another address with --host and --port"
        ) from error
