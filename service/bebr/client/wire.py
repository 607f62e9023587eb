"""Values -> bytes: vectors as base64 float32, the binary frame of bulk vectors, NDJSON streamed through gzip. The only
I/O is to read the file that is sent.

A value that JSON does not have is an error of its point where there are several.
"""

import base64
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bebr.client.results import ItemError
from bebr.client.values import UNSAYABLE, check_keys, encode, keys_are_strings, to_json
from bebr.errors import (
    BebrError,
    DimensionMismatch,
    InvalidCode,
    InvalidId,
    InvalidMetadata,
    InvalidOption,
    InvalidVector,
    Malformed,
)

PIECE_BYTES = 256 * 1024
ALIGNMENT_BYTES = 8
FRAME_TYPE = "application/octet-stream"
NDJSON_TYPE = "application/x-ndjson"
GZIP_MAGIC = b"\x1f\x8b"


def points_body(points: Sequence[Any]) -> tuple[bytes, Sequence[int], list[ItemError]]:
    """Points -> a body with those that JSON can say, their positions, and an error for each of the others."""
    try:
        sent = [point_json(point) for point in points]
        if keys_are_strings([point.get("metadata") for point in sent]):
            return b'{"points":' + encode(sent).encode() + b"}", range(len(sent)), []
    except (BebrError, *UNSAYABLE):
        pass  # each by itself says which it is
    texts, errors = _each_json(points)
    return b'{"points":[' + b",".join(texts.values()) + b"]}", list(texts), errors


def vector_base64(vector: ArrayLike) -> str:
    """vector (dims,) of numbers -> base64 of little-endian float32."""
    row = _floats(vector)
    if row.ndim != 1:
        raise InvalidVector(f"expected a vector with one dimension, got an array of shape {row.shape}")
    return base64.b64encode(row.tobytes()).decode("ascii")


def point_json(point: Mapping[str, Any]) -> dict[str, Any]:
    """A point as the API expects it: `vector` becomes `vector_b64`, and `code` as bytes becomes `code_b64`.

    Raises InvalidOption for what is no mapping, or has both; InvalidVector.
    """
    if type(point) is not dict and not isinstance(point, Mapping):
        raise InvalidOption(f"expected a mapping such as {{'id': 'a', 'text': '...'}}, got {type(point).__name__}")
    sent = dict(point)
    if sent.get("vector") is not None:
        _check_one(sent, "vector")
        sent["vector_b64"] = vector_base64(sent.pop("vector"))
    if isinstance(sent.get("code"), bytes | bytearray | memoryview):
        _check_one(sent, "code")
        sent["code_b64"] = base64.b64encode(sent.pop("code")).decode("ascii")
    return sent


def segment(value: Any, name: str) -> str:
    """A name or an id as one segment of a path. Raises InvalidOption, InvalidId for what is no string, or empty."""
    if not isinstance(value, str) or not value:
        kind = InvalidId if name == "id" else InvalidOption
        raise kind(f"{name}: expected a string that is not empty, got {value!r:.80}", key=name)
    quoted = quote(value, safe="")
    return (
        quoted if value.strip(".") else quoted.replace(".", "%2E")
    )  # a segment of dots would be taken out of the path


def a_list(values: Any, name: str, example: str = "'a'") -> list[Any]:
    """Several values as a list. Raises InvalidOption for a bare string, which is never read as its letters, and for a
    mapping."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise InvalidOption(f"{name}: expected a list such as [{example}], got {values!r:.80}", key=name)
    return list(values)


def frame(header: Mapping[str, Any], ids: Sequence[str], matrix: NDArray[Any], metadata: Sequence[Any] | None) -> bytes:
    """ids and rows (points, width) -> 8 bytes header length, JSON header, rows; all little-endian.

    header: what it says of all rows.
    """
    whole = {**header, "count": len(matrix), "ids": list(ids)}
    if metadata is not None:
        whole["metadata"] = list(metadata)
    encoded = to_json(whole)
    encoded += b" " * (-len(encoded) % ALIGNMENT_BYTES)  # aligned, so that the service can read the rows in place
    return len(encoded).to_bytes(8, "little") + encoded + matrix.tobytes()


def sound_rows(ids: Sequence[Any], metadata: Sequence[Any] | None) -> tuple[Sequence[int], list[ItemError]]:
    """The positions of the rows whose id and metadata JSON can say, and an error for each of the others."""
    try:
        if keys_are_strings(metadata or []):
            encode([ids, metadata]).encode()
            return range(len(ids)), []
    except UNSAYABLE:
        pass  # each by itself says which it is
    texts, errors = _each_json([{"id": i, "metadata": metadata and metadata[n]} for n, i in enumerate(ids)])
    return list(texts), errors


def rows(ids: Sequence[str], vectors: ArrayLike, metadata: Sequence[Any] | None) -> NDArray[np.float32]:
    """vectors as (points, dims) little-endian float32, one per id. Raises DimensionMismatch, InvalidVector."""
    return _counted(ids, _floats(vectors), metadata, "vectors", "dims")


def record_rows(ids: Sequence[str], records: Any, metadata: Sequence[Any] | None) -> NDArray[np.uint8]:
    """records as (points, record_size_bytes) uint8, one per id. Raises DimensionMismatch, InvalidCode."""
    matrix = np.asarray(records)
    if matrix.dtype != np.uint8:
        raise InvalidCode(f"expected records as an array of uint8, got {matrix.dtype}")
    return _counted(ids, matrix, metadata, "records", "bytes")


def _counted(
    ids: Sequence[str], matrix: NDArray[Any], metadata: Sequence[Any] | None, what: str, width: str
) -> NDArray[Any]:
    if matrix.ndim != 2 or len(matrix) != len(ids):
        raise DimensionMismatch(f"expected {what} of shape ({len(ids)}, {width}), one per id, got {matrix.shape}")
    if metadata is not None and len(metadata) != len(ids):
        raise DimensionMismatch(f"expected metadata for each of {len(ids)} ids, got {len(metadata)}")
    return matrix


def ndjson(points: Iterable[Mapping[str, Any] | bytes], unsent: list[ItemError] | None = None) -> Iterator[bytes]:
    """Points -> lines of JSON, several per piece; what is bytes already is left as it is.

    A point that JSON cannot say leaves an empty line, and its error goes to `unsent`.
    """
    piece = bytearray()
    unsent = [] if unsent is None else unsent
    unsent.clear()
    for position, point in enumerate(points):
        if isinstance(point, bytes):
            piece += point
        else:
            texts, errors = _each_json([point])
            piece += b"".join(texts.values()) + b"\n"
            unsent += [ItemError(position, error.id, error.error, error.detail) for error in errors]
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
    """The pieces as one gzip stream, at the fastest level; as they are, if they are gzip already."""
    pieces = iter(pieces)
    head = b""
    while len(head) < len(GZIP_MAGIC) and (piece := next(pieces, b"")):
        head += piece
    pieces = chain([head], pieces)
    if head.startswith(GZIP_MAGIC):
        yield from pieces
        return
    deflate = zlib.compressobj(level=1, wbits=31)
    for piece in pieces:
        if packed := deflate.compress(piece):
            yield packed
    yield deflate.flush()


def _floats(values: ArrayLike) -> NDArray[np.float32]:
    """Numbers as float32; what they are not is never made into numbers. Raises InvalidVector."""
    try:
        if np.ma.is_masked(values):
            raise InvalidVector("expected an array without masked values")
        given = np.asarray(values)
        if given.dtype.kind not in "fiu":
            raise InvalidVector(f"expected an array of numbers, got {given.dtype} in {values!r:.80}")
        with np.errstate(over="ignore"):
            return np.asarray(given, dtype="<f4", order="C")
    except (TypeError, ValueError) as error:
        raise InvalidVector(f"expected an array of float32: {error}") from error


def _check_one(point: Mapping[str, Any], key: str) -> None:
    if point.get(f"{key}_b64") is not None:
        raise InvalidOption(f"expected '{key}' or '{key}_b64', got both", key=key)


def _each_json(points: Sequence[Any]) -> tuple[dict[int, bytes], list[ItemError]]:
    """(each point as JSON by its position, an error for each of the others)."""
    texts: dict[int, bytes] = {}
    errors: list[ItemError] = []
    for position, point in enumerate(points):
        try:
            texts[position] = _point_bytes(point)
        except BebrError as error:
            point_id = point.get("id") if isinstance(point, Mapping) else None
            errors.append(ItemError(position, point_id, type(error).__name__, error.detail))
    return texts, errors


def _point_bytes(point: Any) -> bytes:
    """Raises the error of the field that JSON cannot say."""
    sent = point_json(point)
    try:
        if isinstance(metadata := sent.get("metadata"), dict):
            check_keys(metadata)
        return to_json(sent)
    except RecursionError as error:
        raise Malformed(f"the point cannot be written as JSON: {error}") from error
    except Malformed as error:
        if isinstance(error.__cause__, UnicodeError | RecursionError):
            raise
        key = str(error.fields["at"]).partition(".")[0]
        kind = {"metadata": InvalidMetadata, "id": InvalidId}.get(key, InvalidOption)
        raise kind(error.detail, key=key) from error
