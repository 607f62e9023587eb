"""The binary body of `/points/vectors`: many float vectors with ids and metadata.

    8 bytes            size of the header in bytes, unsigned, little-endian
    header             JSON: {"dims": 384, "count": 2, "ids": ["a", "b"], "metadata": [{"lang": "en"}, null] | null}
    count * dims * 4   the rows, little-endian float32

The header may end in spaces, so that a writer can align the rows to 8 bytes, as in safetensors.
"""

import asyncio
import struct
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bebr.errors import DimensionMismatch, InvalidOption, Malformed
from bebr.server.bodies.large_bodies import WHOLE_BYTES, parse_large
from bebr.server.requests.base import MAX_ITEMS, Body, Natural, Positive

_SIZE = struct.Struct("<Q")


MAX_FRAME_DIMS = 2**20
"""More than any embedding has. A frame of no rows could claim more than an array can."""


MAX_REST_BYTES = 16 << 20
"""What a header may hold beside metadata: as many ids as there may be, of any characters."""


class FrameHeader(Body):
    dims: Positive
    count: Natural
    ids: Annotated[list[Any], Field(max_length=MAX_ITEMS, description="One id per row.")]
    metadata: list[Any] | None = Field(
        None, max_length=MAX_ITEMS, description="One object or null per row; null for no metadata at all."
    )


@dataclass(frozen=True, slots=True)
class VectorFrame:
    """A frame that was read."""

    ids: list[Any]
    """One per row."""
    vectors: NDArray[np.float32]
    """(rows, dims) float32, a view into the body where it is aligned."""
    metadata: list[Any]
    """One per row."""


async def read_frame(body: bytes) -> VectorFrame:
    """As `decode_frame`; a large one is read in a thread."""
    return await asyncio.to_thread(decode_frame, body) if len(body) > WHOLE_BYTES else decode_frame(body)


def decode_frame(body: bytes) -> VectorFrame:
    """Raises Malformed if the frame is incomplete, InvalidOption or DimensionMismatch if its parts do not match."""
    if len(body) < _SIZE.size:
        raise Malformed(
            f"expected {_SIZE.size} bytes with the size of the header first, got a body of {len(body)} bytes"
        )
    (header_size,) = _SIZE.unpack_from(body)
    rows_at = _SIZE.size + header_size
    if rows_at > len(body):
        raise Malformed(f"expected a header of {header_size} bytes, got a body of {len(body)} bytes in all")
    header = parse_large(FrameHeader, body[_SIZE.size : rows_at], "metadata", MAX_ITEMS, max_rest_bytes=MAX_REST_BYTES)
    metadata = header.metadata if header.metadata is not None else [None] * len(header.ids)
    for name, given in (("ids", header.ids), ("metadata", metadata)):
        if len(given) != header.count:
            raise InvalidOption(f"{name}: expected {header.count} entries ('count'), got {len(given)}", key=name)
    if header.dims > MAX_FRAME_DIMS:
        raise DimensionMismatch(f"dims: expected at most {MAX_FRAME_DIMS}, got {header.dims!s:.40}", key="dims")
    expected = header.count * header.dims * 4
    if len(body) - rows_at != expected:
        raise DimensionMismatch(
            f"expected {expected} bytes of float32 rows ({header.count} rows of {header.dims} dims), "
            f"got {len(body) - rows_at}",
            key="dims",
        )
    rows = np.frombuffer(body, "<f4", header.count * header.dims, rows_at).reshape(header.count, header.dims)
    return VectorFrame(header.ids, np.require(rows, np.float32, ["C", "A"]), metadata)
