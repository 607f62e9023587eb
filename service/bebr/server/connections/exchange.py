"""One request and its answer, as uvicorn's cycle; but an answer that comes whole is written at once, head and body.

Each write is a call of the system that wakes the caller: two of them cost more than the search of a small collection.
"""

from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

LENGTH = b"content-length"
_OWN_WAYS = frozenset({b"connection", b"transfer-encoding"})
"""Headers of answers that uvicorn has to read."""


class Outlet:
    """What an exchange may do with its transport. How that is closed is left to the connection: what the caller still
    sends may have to be read first."""

    def __init__(self, transport: Any, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


class Exchange(RequestResponseCycle):
    """_start: the beginning of an answer, which is kept until its body comes."""

    _start: Any = None

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start" and not self.response_started:
            self._start = message
            return
        start, self._start = self._start, None
        if start is not None:
            if (whole := self._whole(start, message)) is not None:
                await self._write(whole)
                return
            await super().send(start)
        await super().send(message)

    def _whole(self, start: Any, message: Any) -> bytes | None:
        """The answer as it goes over the connection; None: it comes in pieces, or is not as simple as most."""
        body, status = message.get("body", b""), start["status"]
        if message.get("more_body", False) or self.scope["method"] == "HEAD" or status in (204, 304):
            return None
        lines, length = [STATUS_LINE[status]], -1
        headers = [*self.default_headers, *start.get("headers", ())]
        for name, value in headers:
            if name == LENGTH:
                length = int(value)
            elif name in _OWN_WAYS:
                return None
            lines += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        if length != len(body) or head.count(b"\n") != 1 + len(headers) + (not self.keep_alive) or not head.isascii():
            return None
        return b"%b\r\n%b" % (head, body)

    async def _write(self, whole: bytes) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.transport.write(whole)
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
