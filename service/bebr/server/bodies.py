"""Reading request bodies: content type, encoding, size, model. The only place where the bytes of a caller enter.

Content types are strict on purpose: a web page can post `text/plain` to a service on localhost without asking, but not
`application/json`.
"""

import zlib
from collections.abc import AsyncIterator, Collection
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from bebr.errors import Malformed, PayloadTooLarge
from bebr.server.problems import UnsupportedMedia
from bebr.server.validation import invalid_body

Model = TypeVar("Model", bound=BaseModel)

JSON = "application/json"
NDJSON = "application/x-ndjson"
BINARY = "application/octet-stream"

_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_PIECE_BYTES = 1 << 20


async def read_body(scope: Scope, receive: Receive, max_bytes: int, types: Collection[str] = (JSON,)) -> bytes:
    """The whole body, uncompressed. `types`: the content types that the route reads.

    Raises UnsupportedMedia; PayloadTooLarge before more than `max_bytes` are held; Malformed for broken gzip;
    ClientDisconnect when the caller hangs up.
    """
    headers = dict(scope["headers"])
    check_content_type(headers, types)
    zipped = is_gzip(headers)
    check_declared_size(headers, max_bytes)
    message = await receive()
    if not zipped and message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        return body
    chunks = _chunks(receive, message)
    return await _collect(_unzip(chunks) if zipped else chunks, max_bytes)


def parse(model: type[Model], body: bytes) -> Model:
    """JSON body -> model. Raises Malformed with line and column, or InvalidOption naming the fields at fault."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise invalid_body(error, model) from error


async def stream_body(receive: Receive) -> AsyncIterator[bytes]:
    """The body chunk by chunk as it arrives, still compressed if it was. Raises ClientDisconnect."""
    async for chunk in _chunks(receive, await receive()):
        yield chunk


def content_type(headers: dict[bytes, bytes]) -> str:
    """The media type without its parameters, in lower case; '' when there is none."""
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")


def check_content_type(headers: dict[bytes, bytes], types: Collection[str]) -> None:
    """Raise UnsupportedMedia unless the content type is one of `types`."""
    given = content_type(headers)
    if given not in types:
        expected = " or ".join(f"'{name}'" for name in types)
        raise UnsupportedMedia(
            f"expected the header content-type: {expected}, got {given!r:.100}",
            header="content-type",
            expected=[*types],
        )


def is_gzip(headers: dict[bytes, bytes]) -> bool:
    """Whether the body is compressed. Raises UnsupportedMedia for an encoding that is neither gzip nor identity."""
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
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


async def _unzip(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Uncompress in pieces of at most _PIECE_BYTES, so that a small body cannot grow large unnoticed."""
    unzipper = zlib.decompressobj(_GZIP_WINDOW)
    async for chunk in chunks:
        pending, piece = chunk, b""
        while pending or (len(piece) == _PIECE_BYTES and not unzipper.eof):  # a full piece may have left more inside
            if unzipper.eof:  # gzip members may follow each other
                unzipper = zlib.decompressobj(_GZIP_WINDOW)
            try:
                piece = unzipper.decompress(pending, _PIECE_BYTES)
            except zlib.error as error:
                raise Malformed(f"the body is not valid gzip: {error}") from error
            yield piece
            pending = unzipper.unconsumed_tail or unzipper.unused_data
    if not unzipper.eof:
        raise Malformed("the gzip body is incomplete; send it again")


async def _collect(chunks: AsyncIterator[bytes], max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        if len(body) + len(chunk) > max_bytes:
            raise _too_large(max_bytes)
        body += chunk
    return bytes(body)


def _too_large(max_bytes: int, size: int | None = None) -> PayloadTooLarge:
    got = f", got {size}" if size is not None else ""
    return PayloadTooLarge(
        f"a body has at most {max_bytes} uncompressed bytes{got}; send smaller batches, or use /ingest, which streams",
        max_body_bytes=max_bytes,
    )
