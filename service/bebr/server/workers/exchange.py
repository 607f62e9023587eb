"""One request to the primary worker and its answer, over one connection; the bodies of both are streamed.

Nothing of a body is read ahead by more than a buffer: where the primary waits, so does the caller, and the reverse.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import httptools

HIGH_WATER_BYTES = 64 * 1024
"""Of an answer, beyond which no more of it is read until some was passed on."""
FIRST_FINAL = 200
Headers = list[tuple[bytes, bytes]]


class Lost(Exception):
    """The connection ended before the answer did."""


class PrimaryConnection(asyncio.Protocol):
    """A connection to the primary. Carries one exchange at a time: `begin`, `write`, `head`, `some` until `has_all`.

    _news: something came, or the connection has ended. _writable: what is written goes out.
    """

    def __init__(self) -> None:
        self._transport: Any = None
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self.lost = False
        self._forget()

    def _forget(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: Headers = []
        self._status = 0
        self._chunks: list[bytes] = []
        self._held_bytes = 0
        self._head_came = self._complete = self._stays = False
        self.heard = False
        """Whether anything of an answer came."""
        self.goes_on = asyncio.Event()
        """The primary wants the body, has answered without it, or has gone."""

    @property
    def is_free(self) -> bool:
        """Whether it can carry another exchange."""
        return not self.lost and not self._transport.is_closing()

    def begin(self, method: str, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Send the head of a request."""
        self._forget()
        lines = [b"%b %b HTTP/1.1\r\n" % (method.encode(), target)]
        lines += [b"%b: %b\r\n" % header for header in headers]
        self._transport.write(b"".join([*lines, b"\r\n"]))

    async def write(self, data: bytes) -> None:
        """Send some of the body; returns when more may be sent. Raises Lost."""
        if self.lost:
            raise Lost
        self._transport.write(data)
        await self._writable.wait()

    async def head(self) -> tuple[int, Headers]:
        """Status and headers of the answer. Raises Lost."""
        while not self._head_came:
            await self._wait()
        return self._status, self._headers

    async def some(self) -> bytes:
        """What came of its body; b'' only at its end. Raises Lost."""
        while not self._chunks and not self._complete:
            await self._wait()
        some = b"".join(self._chunks)
        self._chunks.clear()
        if self._held_bytes > HIGH_WATER_BYTES and not self.lost:
            self._transport.resume_reading()
        self._held_bytes = 0
        return some

    @property
    def has_begun(self) -> bool:
        """Whether the head of the answer came."""
        return self._head_came

    @property
    def has_all(self) -> bool:
        """Whether nothing of the answer is left."""
        return self._complete and not self._chunks

    @property
    def can_go_on(self) -> bool:
        """Whether the primary takes another request after this answer."""
        return self.has_all and self._stays

    def abort(self) -> None:
        """End it; the primary notices that its caller has left."""
        self._transport.abort()

    async def _wait(self) -> None:
        if self.lost:
            raise Lost
        self._news.clear()
        await self._news.wait()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()
        if self._held_bytes > HIGH_WATER_BYTES:
            self._transport.pause_reading()
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._news.set()
        self._writable.set()
        self.goes_on.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        if self._status < FIRST_FINAL:
            self._headers = []
        else:
            self._head_came = True
        self.goes_on.set()

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        self._held_bytes += len(body)

    def on_message_complete(self) -> None:
        self._complete = self._head_came
        self._stays = self._parser.should_keep_alive()  # only now; afterwards the parser has forgotten it
