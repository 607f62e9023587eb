"""The binary bodies of `/points/vectors` and `/points/records`: many float vectors, or records, with ids and metadata.

    8 bytes            size of the header in bytes, unsigned, little-endian
    header             JSON: {"dims": 384, "count": 2, "ids": ["a", "b"], "metadata": [{"lang": "en"}, null] | null}
    count * dims * 4   the rows, little-endian float32

In a frame of records the header says, in place of `dims`, what made them: {"code": "256x2", "fingerprint": "..." |
null}; its rows are whole records of that code.

The header may end in spaces, so that a writer can align the rows to 8 bytes, as in safetensors.
"""

import asyncio
import struct
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bebr.core.codes import CodeSpec
from bebr.errors import DimensionMismatch, InvalidOption, Malformed
from bebr.server.bodies.large_bodies import WHOLE_BYTES, parse_large
from bebr.server.requests.base import MAX_ITEMS, Body, Natural, Positive

_SIZE = struct.Struct("<Q")


MAX_FRAME_DIMS = 2**20
"""More than any embedding has. A frame of no rows could claim more than an array can."""


MAX_REST_BYTES = 16 << 20
"""What a header may hold beside metadata: as many ids as there may be, of any characters."""


class RowsHeader(Body):
    count: Natural
    ids: Annotated[list[Any], Field(max_length=MAX_ITEMS, description="One id per row.")]
    metadata: list[Any] | None = Field(
        None, max_length=MAX_ITEMS, description="One object or null per row; null for no metadata at all."
    )


class FrameHeader(RowsHeader):
    dims: Positive


class RecordsHeader(RowsHeader):
    code: Annotated[str, Field(max_length=200, description="Layout of the codes, such as 256x2 or 256x2/384x2.")]
    fingerprint: Annotated[
        str | None, Field(max_length=200, description="Of the bundle that made them; null where none did.")
    ]


Header = TypeVar("Header", bound=RowsHeader)


@dataclass(frozen=True, slots=True)
class VectorFrame:
    """A frame of vectors that was read."""

    ids: list[Any]
    """One per row."""
    vectors: NDArray[np.float32]
    """(rows, dims) float32, a view into the body where it is aligned."""
    metadata: list[Any]
    """One per row."""


@dataclass(frozen=True, slots=True)
class RecordFrame:
    """A frame of records that was read."""

    ids: list[Any]
    """One per row."""
    records: NDArray[np.uint8]
    """(rows, record_size_bytes) uint8, a view into the body."""
    metadata: list[Any]
    """One per row."""
    spec: CodeSpec
    """Layout of the codes."""
    fingerprint: str | None
    """Of the bundle that made them."""


async def read_frame(body: bytes) -> VectorFrame:
    """As `decode_frame`; a large one is read in a thread."""
    return await asyncio.to_thread(decode_frame, body) if len(body) > WHOLE_BYTES else decode_frame(body)


async def read_record_frame(body: bytes) -> RecordFrame:
    """As `decode_record_frame`; a large one is read in a thread."""
    large = len(body) > WHOLE_BYTES
    return await asyncio.to_thread(decode_record_frame, body) if large else decode_record_frame(body)


def decode_frame(body: bytes) -> VectorFrame:
    """Raises Malformed if the frame is incomplete, InvalidOption or DimensionMismatch if its parts do not match."""
    header, metadata, rows_at = _read_header(body, FrameHeader)
    if header.dims > MAX_FRAME_DIMS:
        raise DimensionMismatch(f"dims: expected at most {MAX_FRAME_DIMS}, got {header.dims!s:.40}", key="dims")
    what = f"float32 rows ({header.count} rows of {header.dims} dims)"
    _check_rows(body, rows_at, header.count * header.dims * 4, what, "dims")
    rows = np.frombuffer(body, "<f4", header.count * header.dims, rows_at).reshape(header.count, header.dims)
    return VectorFrame(header.ids, np.require(rows, np.float32, ["C", "A"]), metadata)


def decode_record_frame(body: bytes) -> RecordFrame:
    """Raises as `decode_frame`, and InvalidSpec."""
    header, metadata, rows_at = _read_header(body, RecordsHeader)
    spec = CodeSpec.parse(header.code)
    size = spec.record_size_bytes
    what = f"records ({header.count} of '{spec}', with their gains {size} bytes each)"
    _check_rows(body, rows_at, header.count * size, what, "code")
    records = np.frombuffer(body, np.uint8, header.count * size, rows_at).reshape(header.count, size)
    return RecordFrame(header.ids, records, metadata, spec, header.fingerprint)


def _read_header(body: bytes, kind: type[Header]) -> tuple[Header, list[Any], int]:
    """(the header, metadata of each row, where the rows begin)."""
    if len(body) < _SIZE.size:
        raise Malformed(
            f"expected {_SIZE.size} bytes with the size of the header first, got a body of {len(body)} bytes"
        )
    (header_size,) = _SIZE.unpack_from(body)
    rows_at = _SIZE.size + header_size
    if rows_at > len(body):
        raise Malformed(f"expected a header of {header_size} bytes, got a body of {len(body)} bytes in all")
    header = parse_large(kind, body[_SIZE.size : rows_at], "metadata", MAX_ITEMS, max_rest_bytes=MAX_REST_BYTES)
    metadata = header.metadata if header.metadata is not None else [None] * len(header.ids)
    for name, given in (("ids", header.ids), ("metadata", metadata)):
        if len(given) != header.count:
            raise InvalidOption(f"{name}: expected {header.count} entries ('count'), got {len(given)}", key=name)
    return header, metadata, rows_at


def _check_rows(body: bytes, rows_at: int, expected: int, what: str, key: str) -> None:
    if len(body) - rows_at != expected:
        raise DimensionMismatch(f"expected {expected} bytes of {what}, got {len(body) - rows_at}", key=key)
