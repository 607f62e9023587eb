"""Reading request bodies: content type, encoding, size, model. The only place where the bytes of a caller enter.

Content types are strict on purpose: a web page can post `text/plain` to a service on localhost without asking, but not
`application/json`.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Collection
from functools import partial
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from bebr.config import Limits
from bebr.core.decoding import BOM, HEAD_BYTES, Unpacker, check_text, is_gzip
from bebr.errors import Overloaded, PayloadTooLarge
from bebr.server.problems import RequestTimeout, UnsupportedMedia
from bebr.server.validation import invalid_body

Model = TypeVar("Model", bound=BaseModel)

JSON = "application/json"
NDJSON = "application/x-ndjson"
BINARY = "application/octet-stream"
_CHARSET = re.compile(rb";\s*charset\s*=\s*\"?([^\s;\"]+)", re.IGNORECASE)

HELD = "bebr.held_bytes"
"""Entry of a scope: what its body holds of the budget."""


class BodyBudget:
    """What bodies that came in more than one chunk may take of memory, all together, until their requests end."""

    def __init__(self, limits: Limits) -> None:
        self.timeout_seconds = limits.body_timeout_seconds
        self._max_bytes = limits.max_bytes_in_flight
        self.held_bytes = 0

    def take(self, scope: Scope, size: int) -> None:
        """Hold `size` more bytes for the request. Raises Overloaded."""
        if self.held_bytes + size > self._max_bytes:
            raise Overloaded(
                f"bodies of {self.held_bytes} bytes are being read, the limit is {self._max_bytes}; try again later",
                max_bytes_in_flight=self._max_bytes,
            )
        self.held_bytes += size
        scope[HELD] = scope.get(HELD, 0) + size

    def give_back(self, scope: Scope) -> None:
        """The request has ended."""
        self.held_bytes -= scope.pop(HELD, 0)


async def read_body(scope: Scope, receive: Receive, max_bytes: int, types: Collection[str] = (JSON,)) -> bytes:
    """The whole body, uncompressed, whether or not a header says that it is gzip. `types`: the content types that the
    route reads.

    Raises UnsupportedMedia; PayloadTooLarge before more than `max_bytes` are held; Overloaded when all bodies together
    hold too much; RequestTimeout; Malformed for broken gzip; ClientDisconnect when the caller hangs up.
    """
    headers = dict(scope["headers"])
    check_content_type(headers, types)
    zipped = declares_gzip(headers) or None
    check_declared_size(headers, max_bytes)
    message = await receive()
    if not zipped and message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if not is_gzip(body):
            if len(body) > max_bytes:
                raise _too_large(max_bytes)
            return body
    budget: BodyBudget = scope["app"].state.bodies
    try:
        async with asyncio.timeout(budget.timeout_seconds):
            unpacked = _unpack(_chunks(receive, message), zipped)
            return await _collect(unpacked, max_bytes, partial(budget.take, scope))
    except TimeoutError as error:
        raise RequestTimeout(f"the body took over {budget.timeout_seconds:g} s") from error


def parse(model: type[Model], body: bytes) -> Model:
    """JSON body -> model. Raises Malformed with line and column, or naming what the body is instead of JSON;
    InvalidOption naming the fields at fault."""
    if body.startswith(BOM):
        body = body.removeprefix(BOM)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        if (
            error.error_count() == 1
            and error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid"
        ):
            check_text(body[:HEAD_BYTES])
        raise invalid_body(error, model, body) from None  # its findings would keep the body alive


async def stream_body(receive: Receive) -> AsyncIterator[bytes]:
    """The body chunk by chunk as it arrives, still compressed if it was. Raises ClientDisconnect."""
    async for chunk in _chunks(receive, await receive()):
        yield chunk


def content_type(headers: dict[bytes, bytes]) -> str:
    """The media type without its parameters, in lower case; '' when there is none."""
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")


def check_content_type(headers: dict[bytes, bytes], types: Collection[str]) -> None:
    """Raise UnsupportedMedia unless the content type is one of `types`, in UTF-8 if it names a charset."""
    if headers.get(b"content-type") == b"application/json" and JSON in types:  # most requests
        return
    given = content_type(headers)
    named = _CHARSET.search(headers.get(b"content-type", b""))
    if named is not None and named[1].lower() not in (b"utf-8", b"utf8", b"us-ascii"):
        raise UnsupportedMedia(
            f"expected charset=utf-8 or none, got {named[1].decode('latin-1')!r:.100}",
            header="content-type",
            expected=[*types],
        )
    if given not in types:
        expected = " or ".join(f"'{name}'" for name in types)
        raise UnsupportedMedia(
            f"expected the header content-type: {expected}, got {given!r:.100}",
            header="content-type",
            expected=[*types],
        )


def declares_gzip(headers: dict[bytes, bytes]) -> bool:
    """Whether the headers say that the body is compressed.

    Raises UnsupportedMedia for an encoding that is neither gzip nor identity.
    """
    if b"content-encoding" not in headers:
        return False
    encoding = headers[b"content-encoding"].strip().lower()
    if encoding in (b"gzip", b"x-gzip"):
        return True
    if encoding not in (b"identity", b""):
        given = encoding.decode("latin-1")
        raise UnsupportedMedia(
            f"expected content-encoding gzip or none, got {given!r:.100}", header="content-encoding", expected=["gzip"]
        )
    return False


def declared_size(headers: dict[bytes, bytes]) -> int | None:
    """Content-Length in bytes, or None when the body comes in chunks."""
    given = headers.get(b"content-length", b"")
    return int(given) if given.isdigit() else None


def check_declared_size(headers: dict[bytes, bytes], max_bytes: int) -> None:
    """Raise PayloadTooLarge when the caller announces more than `max_bytes`."""
    size = declared_size(headers)
    if size is not None and size > max_bytes:
        raise _too_large(max_bytes, size)


async def _chunks(receive: Receive, message: Message) -> AsyncIterator[bytes]:
    """The chunks of a body, after its first message was received."""
    while True:
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return
        message = await receive()


async def _unpack(chunks: AsyncIterator[bytes], zipped: bool | None) -> AsyncIterator[bytes]:
    unpacker = Unpacker(zipped)
    async for chunk in chunks:
        for piece in unpacker.push(chunk):
            yield piece
            if len(piece) > len(chunk):
                await asyncio.sleep(0)  # a small chunk may hold very much
    for piece in unpacker.finish():
        yield piece


async def _collect(chunks: AsyncIterator[bytes], max_bytes: int, take: Callable[[int], None]) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        if len(body) + len(chunk) > max_bytes:
            raise _too_large(max_bytes)
        take(len(chunk))
        body += chunk
    return bytes(body)


def _too_large(max_bytes: int, size: int | None = None) -> PayloadTooLarge:
    got = f", got {size}" if size is not None else ""
    return PayloadTooLarge(
        f"a body has at most {max_bytes} uncompressed bytes{got}; send smaller batches, or use /ingest, which streams",
        max_body_bytes=max_bytes,
    )
