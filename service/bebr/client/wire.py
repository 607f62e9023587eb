"""Values -> bytes: vectors as base64 float32, the binary frame of bulk vectors, NDJSON streamed through gzip. The only
I/O is to read the file that is sent."""

import base64
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bebr.errors import DimensionMismatch, InvalidVector, Malformed

PIECE_BYTES = 256 * 1024
ALIGNMENT_BYTES = 8
FRAME_TYPE = "application/octet-stream"
NDJSON_TYPE = "application/x-ndjson"


def to_json(value: Any) -> bytes:
    """Compact JSON in UTF-8. Raises Malformed for values that JSON does not have: NaN, sets, arrays."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise Malformed(f"the value cannot be written as JSON: {error}") from error


def from_json(text: bytes) -> Any:
    """The value of one JSON text."""
    return json.loads(text)


def vector_base64(vector: ArrayLike) -> str:
    """vector (dims,) of numbers -> base64 of little-endian float32."""
    row = _floats(vector)
    if row.ndim != 1:
        raise InvalidVector(f"expected a vector with one dimension, got an array of shape {row.shape}")
    return base64.b64encode(row.tobytes()).decode("ascii")


def point_json(point: Mapping[str, Any]) -> dict[str, Any]:
    """A point as the API expects it: `vector` becomes `vector_b64`, and `code` as bytes becomes `code_b64`."""
    sent = dict(point)
    if sent.get("vector") is not None:
        sent["vector_b64"] = vector_base64(sent.pop("vector"))
    if isinstance(sent.get("code"), bytes):
        sent["code_b64"] = base64.b64encode(sent.pop("code")).decode("ascii")
    return sent


def frame(ids: Sequence[str], vectors: NDArray[np.float32], metadata: Sequence[Any] | None) -> bytes:
    """ids and vectors (points, dims) float32 -> 8 bytes header length, JSON header, rows; all little-endian."""
    count, dims = vectors.shape
    header: dict[str, Any] = {"dims": dims, "count": count, "ids": list(ids)}
    if metadata is not None:
        header["metadata"] = list(metadata)
    encoded = to_json(header)
    encoded += b" " * (-len(encoded) % ALIGNMENT_BYTES)  # aligned, so that the service can read the rows in place
    return len(encoded).to_bytes(8, "little") + encoded + vectors.tobytes()


def rows(ids: Sequence[str], vectors: ArrayLike, metadata: Sequence[Any] | None) -> NDArray[np.float32]:
    """vectors as (points, dims) little-endian float32, one per id. Raises DimensionMismatch, InvalidVector."""
    matrix = _floats(vectors)
    if matrix.ndim != 2 or len(matrix) != len(ids):
        raise DimensionMismatch(f"expected vectors of shape ({len(ids)}, dims), one per id, got {matrix.shape}")
    if metadata is not None and len(metadata) != len(ids):
        raise DimensionMismatch(f"expected metadata for each of {len(ids)} ids, got {len(metadata)}")
    return matrix


def ndjson(points: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Points -> lines of JSON, several per piece."""
    piece = bytearray()
    for point in points:
        piece += to_json(point_json(point)) + b"\n"
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def file_pieces(path: Path) -> Iterator[bytes]:
    """The bytes of a file in pieces."""
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces as one gzip stream, at the fastest level."""
    deflate = zlib.compressobj(level=1, wbits=31)
    for piece in pieces:
        if packed := deflate.compress(piece):
            yield packed
    yield deflate.flush()


def _floats(values: ArrayLike) -> NDArray[np.float32]:
    try:
        return np.asarray(values, dtype="<f4", order="C")
    except (TypeError, ValueError) as error:
        raise InvalidVector(f"expected an array of float32: {error}") from error
