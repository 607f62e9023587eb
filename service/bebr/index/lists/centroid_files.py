"""Centroids as bytes: in pages in the store, where they count, and in a file beside the segments, from which they are
mapped. What assigns rows is only read while rows are assigned.

Magic, header length and crc32, JSON header, then the arrays, each aligned to 64 bytes; the header has their crc32.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.codes import CodeSpec
from bebr.core.lists import Centroids
from bebr.core.scoring import DotQueries
from bebr.disk import replace_file

MAGIC = b"BEBRCEN\x00"
FORMAT = 1
ALIGNMENT = 64
_PREFIX_BYTES = len(MAGIC) + 8


def pack(centroids: Centroids) -> bytes:
    """The bytes of centroids."""
    arrays = [array.tobytes() for array in _arrays(centroids)]
    body = b"".join(part.ljust(_aligned(len(part)), b"\0") for part in arrays)
    header = {
        "format": FORMAT,
        "version": centroids.version,
        "generation": centroids.generation,
        "spec": str(centroids.spec),
        "lists": len(centroids),
        "rows": centroids.rows,
        "mean_score": centroids.mean_score,
        "crc32": crc32(body),
    }
    text = json.dumps(header).encode()
    prefix = MAGIC + struct.pack("<II", len(text), crc32(text)) + text
    return prefix.ljust(_aligned(len(prefix)), b"\0") + body


def unpack(data: NDArray[np.uint8]) -> Centroids:
    """The inverse of `pack`; the arrays are views of data. Raises ValueError where these are not such bytes."""
    header, start = _read_header(data)
    if crc32(data[start:].data) != header["crc32"]:
        raise ValueError("centroids do not match their checksum")
    spec, lists = CodeSpec.parse(header["spec"]), header["lists"]
    found = []
    for count, dtype, width in _layout(spec, lists):
        size = count * width * np.dtype(dtype).itemsize
        found.append(data[start : start + size].view(dtype).reshape(count, width))
        start += _aligned(size)
    return Centroids(
        header["version"],
        header["generation"],
        spec,
        found[0],
        found[1],
        DotQueries(found[2], found[3]),
        header["rows"],
        header["mean_score"],
    )


def save(path: Path, data: bytes) -> None:
    """Keep the bytes of centroids in a file. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, data)


def load(path: Path) -> Centroids:
    """Centroids whose arrays are mapped. Raises OSError, ValueError where the file is not what was written."""
    unpack(np.frombuffer(path.read_bytes(), np.uint8))
    return unpack(kernel.map_file(str(path)))


def _read_header(data: NDArray[np.uint8]) -> tuple[Mapping[str, Any], int]:
    if len(data) < _PREFIX_BYTES or data[: len(MAGIC)].tobytes() != MAGIC:
        raise ValueError("these are no centroids")
    length, checksum = struct.unpack("<II", data[len(MAGIC) : _PREFIX_BYTES].tobytes())
    text = data[_PREFIX_BYTES : _PREFIX_BYTES + length].tobytes()
    if crc32(text) != checksum:
        raise ValueError("the header of centroids does not match its checksum")
    header: dict[str, Any] = json.loads(text)
    if header["format"] != FORMAT:
        raise ValueError(f"centroids have format {header['format']}, this version reads {FORMAT}")
    return header, _aligned(_PREFIX_BYTES + length)


def _arrays(centroids: Centroids) -> list[NDArray[Any]]:
    queries = centroids.assigning
    return [centroids.values, centroids.scales, queries.values, queries.scales]


def _layout(spec: CodeSpec, lists: int) -> list[tuple[int, str, int]]:
    """(rows, dtype, columns) of each array, in order."""
    return [(lists, "int8", spec.dims), (lists, "float32", len(spec.blocks))] * 2


def _aligned(offset: int) -> int:
    return (offset + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
