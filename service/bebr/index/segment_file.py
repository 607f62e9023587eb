"""Segment files: written whole, read with every byte checked, and checked again while they lie there.

Magic, header length and crc32, JSON header, then 64-byte aligned sections (little-endian arrays), each with its crc32
in the header.
"""

import json
import struct
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.disk import is_out_of_files, out_of_files_hint, replacing
from bebr.errors import DamagedSegment, NotReady
from bebr.index.columns import Arrays

MAGIC = b"BEBRSEG\x00"
FORMAT = 1
ALIGNMENT = 64
CHUNK_BYTES = 2**18
_PREFIX_BYTES = len(MAGIC) + 8


def write(path: Path, header: dict[str, Any], sections: Arrays) -> None:
    table: dict[str, dict[str, Any]] = {}
    offset = 0
    for name, array in sections.items():
        flat = np.ascontiguousarray(array)
        # dtype names carry no byte order: files are little-endian, as every supported machine is
        table[name] = {
            "offset": offset,
            "size": flat.nbytes,
            "dtype": flat.dtype.name,
            "crc32": crc32(flat.view(np.uint8).data),
        }
        offset = _aligned(offset + flat.nbytes)
    text = json.dumps({"format": FORMAT} | header | {"sections": table}).encode()
    start = _aligned(len(MAGIC) + 8 + len(text))
    with replacing(path, durable=False) as file:
        file.write(MAGIC + struct.pack("<II", len(text), crc32(text)) + text)
        for name, array in sections.items():
            file.seek(start + table[name]["offset"])
            file.write(np.ascontiguousarray(array).view(np.uint8).data)
        file.truncate(start + offset)


def read(path: Path, mapped: Collection[str]) -> tuple[dict[str, Any], Arrays]:
    """The header and the sections, in memory but for those to be mapped. Raises DamagedSegment."""
    try:
        with path.open("rb") as file:
            header, start = _read_header(path, file)
            sections: Arrays = {}
            for name, entry in header["sections"].items():
                if name in mapped:
                    _check_section(path, file, start, name, entry)
                else:
                    sections[name] = _read_section(path, file, start, name, entry)
        data = kernel.map_file(str(path))
    except OSError as error:
        raise _unreadable(path, error) from error
    for name in mapped:
        entry = header["sections"][name]
        begin = start + entry["offset"]
        raw = data[begin : begin + entry["size"]]
        if len(raw) != entry["size"]:
            raise _mismatch(path, name)
        sections[name] = raw.view(entry["dtype"])
    return header, sections


def verify(path: Path, pause: Callable[[int], None] | None = None) -> None:
    """Read the file, and hold every byte to its checksum. Raises DamagedSegment.

    pause: called with the size of each piece that was read, for a caller who wants to read slowly.
    """
    try:
        with path.open("rb") as file:
            header, start = _read_header(path, file)
            for name, entry in header["sections"].items():
                _check_section(path, file, start, name, entry, pause)
    except OSError as error:
        raise _unreadable(path, error) from error


def damaged(path: Path, reason: str) -> DamagedSegment:
    """The error for a file that is not what was written."""
    return DamagedSegment(f"segment {path.name}: {reason}", segment=path.name, folder=str(path.parent))


def _read_section(path: Path, file: BinaryIO, start: int, name: str, entry: dict[str, Any]) -> NDArray[Any]:
    array = kernel.allocate(entry["size"])[: entry["size"]]
    file.seek(start + entry["offset"])
    if file.readinto(array.data) != entry["size"] or crc32(array.data) != entry["crc32"]:  # type: ignore[attr-defined]
        raise _mismatch(path, name)
    return array.view(entry["dtype"])


def _check_section(
    path: Path,
    file: BinaryIO,
    start: int,
    name: str,
    entry: dict[str, Any],
    pause: Callable[[int], None] | None = None,
) -> None:
    checksum = 0
    for piece in _pieces(file, start + entry["offset"], entry["size"]):
        checksum = crc32(piece, checksum)
        if pause is not None:
            pause(len(piece))
    if checksum != entry["crc32"]:
        raise _mismatch(path, name)


def _unreadable(path: Path, error: OSError) -> DamagedSegment | NotReady:
    if is_out_of_files(error):
        return NotReady(f"segment {path.name} cannot be opened: {out_of_files_hint()}")
    return damaged(path, f"it cannot be read: {error}")


def _mismatch(path: Path, name: str) -> DamagedSegment:
    return damaged(path, f"section '{name}' does not match its checksum")


def _pieces(file: BinaryIO, begin: int, size: int) -> Iterator[bytes]:
    """What there is of a section."""
    file.seek(begin)
    while size > 0 and (piece := file.read(min(size, CHUNK_BYTES))):
        size -= len(piece)
        yield piece


def _read_header(path: Path, file: BinaryIO) -> tuple[dict[str, Any], int]:
    prefix = file.read(_PREFIX_BYTES)
    if len(prefix) < _PREFIX_BYTES or prefix[: len(MAGIC)] != MAGIC:
        raise damaged(path, "it is not a segment file")
    length, checksum = struct.unpack("<II", prefix[len(MAGIC) :])
    text = file.read(min(length, path.stat().st_size))
    if len(text) != length or crc32(text) != checksum:
        raise damaged(path, "its header does not match its checksum")
    header: dict[str, Any] = json.loads(text)
    if header["format"] != FORMAT:
        raise damaged(path, f"it has format {header['format']}, this version reads {FORMAT}")
    return header, _aligned(_PREFIX_BYTES + length)


def _aligned(offset: int) -> int:
    return (offset + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
