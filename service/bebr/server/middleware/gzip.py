"""gzip of large answers, when the caller takes it. Small ones go out as they are: zipping costs more than it saves."""

import asyncio
import gzip

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MIN_BYTES = 16 * 1024
THREAD_BYTES = 256 * 1024
"""From here on zipping would hold up other requests for milliseconds, so it moves to a thread."""
LEVEL = 3


class ZipLargeAnswers:
    """Zip bodies of at least MIN_BYTES that are sent in one piece; streamed ones pass as they are."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _takes_gzip(scope):
            send = _Zipper(send)
        await self._app(scope, receive, send)


class _Zipper:
    """Holds the start of one response back until the size of its body is known."""

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
                message = {**message, "body": await _zip(body)}
                start = _with_gzip_headers(start, len(message["body"]))
            await self._send(start)
        await self._send(message)


async def _zip(body: bytes) -> bytes:
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


def _takes_gzip(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"accept-encoding":
            return any(_is_wanted(part) for part in value.lower().split(b","))
    return False


def _is_wanted(part: bytes) -> bool:
    """Whether 'gzip', 'gzip;q=0.5' and the like ask for gzip; 'gzip;q=0' refuses it."""
    name, _, quality = part.partition(b";")
    return name.strip() == b"gzip" and quality.replace(b" ", b"").rstrip(b"0.") != b"q="
