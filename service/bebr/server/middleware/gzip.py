"""Compresses large answers for callers that accept gzip. For small ones it costs more than it saves."""

import asyncio
import gzip

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MIN_BYTES = 16 * 1024
THREAD_BYTES = 256 * 1024
"""From this size on, compressing would hold up other requests for milliseconds, so a thread does it."""
LEVEL = 3


class CompressLargeAnswers:
    """Compresses bodies of at least MIN_BYTES that are sent in one piece; streamed ones pass unchanged."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _accepts_gzip(scope):
            send = _Compressor(send)
        await self._app(scope, receive, send)


class _Compressor:
    """Holds the start of a response back until the size of its body is known."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        if self._start is not None:
            start, self._start = self._start, None
            body = message.get("body", b"")
            if len(body) >= MIN_BYTES and not message.get("more_body", False):
                message = {**message, "body": await _compressed(body)}
                start = _with_gzip_headers(start, len(message["body"]))
            await self._send(start)
        await self._send(message)


async def _compressed(body: bytes) -> bytes:
    if len(body) >= THREAD_BYTES:
        return await asyncio.to_thread(gzip.compress, body, LEVEL, mtime=0)
    return gzip.compress(body, LEVEL, mtime=0)


def _with_gzip_headers(start: Message, size_bytes: int) -> Message:
    kept = [(name, value) for name, value in start["headers"] if name != b"content-length"]
    added = [
        (b"content-length", str(size_bytes).encode()),
        (b"content-encoding", b"gzip"),
        (b"vary", b"accept-encoding"),
    ]
    return {**start, "headers": kept + added}


def _accepts_gzip(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"accept-encoding":
            return any(_is_wanted(part) for part in value.lower().split(b","))
    return False


def _is_wanted(part: bytes) -> bool:
    """Whether 'gzip', 'gzip;q=0.5' and the like ask for gzip; 'gzip;q=0' refuses it."""
    name, _, quality = part.partition(b";")
    return name.strip() == b"gzip" and quality.replace(b" ", b"").rstrip(b"0.") != b"q="
