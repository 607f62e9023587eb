"""Frames: what goes over a connection, and how it is cut out of the stream of bytes.

A frame is its length, 4 bytes, the most significant first, and as many bytes of msgpack, an array:

    ["bebr", lowest, highest]                 hello, from the client: the versions of the wire that it speaks
    ["bebr", version, name]                   welcome, from the server: the one for this connection, and who it is
    ["bebr", 0, why]                          refused, from the server, which then closes the connection
    [0, number, method, milliseconds, value]  call; milliseconds: how long the caller waits
    [1, number]                               cancel: nobody waits for the call any more
    [2, number, value]                        answer
    [3, number, [error, detail, fields]]      failure, the name of a class of `bebr.errors` and what it says

Whatever does not read as one of these ends the connection. Nothing that is read takes much more memory than it has
bytes: frames, and arrays in them, have a greatest size.
"""

import asyncio
from abc import ABC, abstractmethod
from typing import Any

import msgpack

from bebr.errors import Malformed

VERSIONS = (1, 1)
"""The lowest and the highest version of the wire that is spoken here."""
MAGIC = "bebr"
CALL, CANCEL, ANSWER, FAILURE = range(4)
HEADER_BYTES = 4
MAX_FRAME_BYTES = 256 * 2**20
"""Of one message: the ids of all points of a large shard are one."""
MAX_HELLO_BYTES = 1024
"""Before the other side is known to speak this."""
MAX_ITEMS = 2**21
"""Of an array or a map: of each there is an object in memory. What is longer is sent as bytes."""
BIG_INTEGER = 1
"""Extension type: an integer of more than 64 bits, as filters may have them."""
MAX_INTEGER_BYTES = 512


class WireError(Malformed):
    """What came over the wire is not what is spoken there."""


def pack(value: Any) -> bytes:
    """A whole frame. Raises WireError where it is too large."""
    body: bytes = msgpack.packb(value, unicode_errors="surrogatepass", default=_big_integer)
    if len(body) > MAX_FRAME_BYTES:
        raise WireError(
            f"a message of {len(body):,} bytes is over the limit of {MAX_FRAME_BYTES:,}; ask for less at once"
        )
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def unpack(body: bytes | memoryview) -> list[Any]:
    """The array in a frame. Raises WireError."""
    try:
        value = msgpack.unpackb(
            body,
            unicode_errors="surrogatepass",
            max_array_len=min(MAX_ITEMS, len(body)),
            max_map_len=min(MAX_ITEMS, len(body)),
            ext_hook=_extension,
        )
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise WireError(f"expected a message in msgpack: {type(error).__name__} {error}"[:300]) from None
    if not isinstance(value, list):
        raise WireError(f"expected a message, which is an array, got {type(value).__name__}")
    return value


def _big_integer(value: object) -> msgpack.ExtType:
    if not isinstance(value, int):
        raise TypeError(f"nothing on the wire is a {type(value).__name__}")
    return msgpack.ExtType(BIG_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _extension(code: int, data: bytes) -> int:
    if code != BIG_INTEGER or len(data) > MAX_INTEGER_BYTES:
        raise ValueError(f"unknown extension type {code} of {len(data)} bytes")
    return int.from_bytes(data, "big", signed=True)


class FrameStream(asyncio.Protocol, ABC):
    """One side of a connection: whole messages come in by `received`, and go out by `send`.

    Reading stops while the other side does not take what is sent, so that nothing piles up.
    """

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self.transport: asyncio.Transport | None = None
        self.is_greeted = False
        """Until then only a short hello is read."""
        self._max_bytes = max_bytes
        self._left = bytearray()
        """The begin of a message."""

    # -- for whoever speaks ------------------------------------------------------------------------------------------

    @abstractmethod
    def received(self, message: list[Any]) -> None:
        """A message has come. What it raises as WireError ends the connection."""

    @abstractmethod
    def lost(self, why: str) -> None:
        """The connection is over."""

    def send(self, message: list[Any]) -> None:
        self.write(pack(message))

    def write(self, frame: bytes) -> None:
        """Nothing happens where the connection is over: `lost` was or will be called."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(frame)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    # -- for asyncio -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.lost("the connection was closed" if exc is None else f"the connection was lost: {exc}")

    def pause_writing(self) -> None:
        if self.transport is not None:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        left = self._left
        left += data
        start = 0
        try:
            while len(left) - start >= HEADER_BYTES:
                begin = start + HEADER_BYTES
                end = begin + self._size(int.from_bytes(left[start:begin], "big"))
                if len(left) < end:
                    break
                message = unpack(bytes(left[begin:end]))
                start = end
                self.received(message)
        except WireError as error:
            left.clear()
            self.refused(error)
            self.abort()
            return
        if start:
            del left[:start]

    def refused(self, error: WireError) -> None:
        """What came cannot be read; the connection ends after this."""

    def _size(self, size: int) -> int:
        most = self._max_bytes if self.is_greeted else MAX_HELLO_BYTES
        if size > most:
            raise WireError(f"a message has at most {most:,} bytes here, this one says {size:,}")
        return size


def greeting(message: list[Any]) -> tuple[int, Any]:
    """The second and third entry of a hello, welcome or refusal. Raises WireError."""
    if len(message) != 3 or message[0] != MAGIC or not _is_number(message[1]):
        raise WireError(f"expected [{MAGIC!r}, ...] first, got {str(message)[:80]}")
    return message[1], message[2]


def numbered(message: list[Any], length: int) -> int:
    """The number of the call that a message is about. Raises WireError."""
    if len(message) != length or not _is_number(message[1]):
        raise WireError(f"a message of kind {message[0]} has {length} entries, the second a number")
    return int(message[1])


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
