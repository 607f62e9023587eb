"""Centroids as bytes: in pages in the store, where they count, and in a file beside the segments, from which they are
mapped. What assigns rows is only read while rows are assigned.

Magic, header length and crc32, JSON header, then the arrays, each aligned to 64 bytes; the header has their crc32.
Format 2 has cells, whose arrays come last; centroids without any are written as format 1.
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
from bebr.core.lists import Cells, Centroids
from bebr.core.scoring import DotQueries
from bebr.disk import replace_file

MAGIC = b"BEBRCEN\x00"
FORMAT, FORMAT_WITH_CELLS = 1, 2
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
    if centroids.cells is not None:
        header |= {"format": FORMAT_WITH_CELLS, "cells": len(centroids.cells)}
    text = json.dumps(header).encode()
    prefix = MAGIC + struct.pack("<II", len(text), crc32(text)) + text
    return prefix.ljust(_aligned(len(prefix)), b"\0") + body


def unpack(data: NDArray[np.uint8]) -> Centroids:
    """The inverse of `pack`; the arrays are views of data. Raises ValueError where these are not such bytes."""
    header, start = _read_header(data)
    if crc32(data[start:].data) != header["crc32"]:
        raise ValueError("centroids do not match their checksum")
    spec, cells = CodeSpec.parse(header["spec"]), header.get("cells", 0)
    found = []
    for count, dtype, width in _layout(spec, header["lists"], cells):
        size = count * width * np.dtype(dtype).itemsize
        found.append(data[start : start + size].view(dtype).reshape(count, width))
        start += _aligned(size)
    values, scales, *assigning = found[:4]
    return Centroids(
        header["version"],
        header["generation"],
        spec,
        values,
        scales,
        DotQueries(*assigning),
        header["rows"],
        header["mean_score"],
        _cells(found[4:], header["lists"]) if cells else None,
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
    if header["format"] not in (FORMAT, FORMAT_WITH_CELLS):
        raise ValueError(f"centroids have format {header['format']}, this version reads up to {FORMAT_WITH_CELLS}")
    return header, _aligned(_PREFIX_BYTES + length)


def _cells(arrays: list[NDArray[Any]], lists: int) -> Cells:
    values, scales, in_queries, in_query_scales, begin = arrays
    begin = begin[:, 0]
    if begin[0] != 0 or begin[-1] != lists or (begin[1:] < begin[:-1]).any():
        raise ValueError(f"expected cells that ascend from list 0 to list {lists}")
    return Cells(begin, values, scales, DotQueries(in_queries, in_query_scales))


def _arrays(centroids: Centroids) -> list[NDArray[Any]]:
    queries, cells = centroids.assigning, centroids.cells
    found: list[NDArray[Any]] = [centroids.values, centroids.scales, queries.values, queries.scales]
    if cells is not None:
        found += [cells.values, cells.scales, cells.assigning.values, cells.assigning.scales, cells.begin]
    return found


def _layout(spec: CodeSpec, lists: int, cells: int) -> list[tuple[int, str, int]]:
    """(rows, dtype, columns) of each array, in order."""
    found = [(count, dtype, width) for count in (lists, cells) if count for dtype, width in _columns(spec) * 2]
    return [*found, (cells + 1, "uint32", 1)] if cells else found


def _columns(spec: CodeSpec) -> list[tuple[str, int]]:
    return [("int8", spec.dims), ("float32", len(spec.blocks))]


def _aligned(offset: int) -> int:
    return (offset + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
