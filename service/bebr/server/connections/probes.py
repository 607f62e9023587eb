"""Probes on a port of their own, answered by threads of their own: what holds up the event loop holds up none of them.

Only so can a probe say that the loop is dead. The port takes no keys and names nothing.
"""

import asyncio
import json
import socket
import socketserver
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import TimeoutError as NotInTime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from bebr.errors import InvalidOption, NotReady, StoreUnavailable

MAX_CONNECTIONS = 32
"""One thread each."""
CALLER_SECONDS = 5.0
"""How long a connection may take to send its request, and to read the answer."""
READY_SECONDS = 3.0
"""How long the event loop may take to say whether the service is ready."""


class Probes:
    """Answers GET /livez and /readyz."""

    def __init__(
        self,
        address: tuple[str, int],
        check_ready: Callable[[], Awaitable[None]],
        stopped_seconds: Callable[[], float],
        dead_loop_seconds: float,
    ) -> None:
        """check_ready: called on the event loop, raises NotReady or StoreUnavailable. stopped_seconds: for how long
        the loop has stood still."""
        self._address = address
        self._check_ready = check_ready
        self._stopped_seconds = stopped_seconds
        self._dead_loop_seconds = dead_loop_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: _Server | None = None

    def start(self) -> None:
        """On the event loop. Raises InvalidOption when the address cannot be bound."""
        self._loop = asyncio.get_running_loop()
        self._server = _Server(self._address, self._answer)
        threading.Thread(target=self._server.serve_forever, name="probes", daemon=True).start()

    def stop(self) -> None:
        """May wait for half a second."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _answer(self, path: str) -> tuple[HTTPStatus, str]:
        if path == "/livez":
            alive = self._stopped_seconds() < self._dead_loop_seconds
            return (HTTPStatus.OK, "alive") if alive else (HTTPStatus.SERVICE_UNAVAILABLE, "stopped")
        if path == "/readyz":
            return (HTTPStatus.OK, "ready") if self._is_ready() else (HTTPStatus.SERVICE_UNAVAILABLE, "not ready")
        return HTTPStatus.NOT_FOUND, "this port has /livez and /readyz"

    def _is_ready(self) -> bool:
        assert self._loop is not None
        check: Any = self._check_ready()
        asked = asyncio.run_coroutine_threadsafe(check, self._loop)
        try:
            asked.result(READY_SECONDS)
        except (NotReady, StoreUnavailable, NotInTime):
            asked.cancel()
            return False
        return True


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, address: tuple[str, int], answer: Callable[[str], tuple[HTTPStatus, str]]) -> None:
        self.answer = answer
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        try:
            self.address_family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
            super().__init__(address, _Request)
        except OSError as error:
            host, port = address
            raise InvalidOption(
                f"cannot listen on {host}:{port} for probes: {error.strerror or error}; choose another probe_port"
            ) from error

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hung up is nobody's trouble."""


class _Request(BaseHTTPRequestHandler):
    server: _Server
    timeout = CALLER_SECONDS

    def do_GET(self) -> None:
        status, said = self.server.answer(self.path.partition("?")[0])
        body = json.dumps({"status": said}).encode()
        self.send_response_only(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Probes have no line in the log."""
