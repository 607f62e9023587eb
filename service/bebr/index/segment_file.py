"""Segment files: written whole, read with every byte checked, and checked again while they lie there.

Magic, header length and crc32, JSON header, then 64-byte aligned sections (little-endian arrays), each with its crc32
in the header. A section of *rows* has none: each of its rows ends with a crc32 of its own, for they are read one by
one.
"""

import json
import os
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.disk import is_out_of_files, out_of_files_hint, replacing
from bebr.errors import DamagedSegment, NotReady
from bebr.index.columns import Arrays
from bebr.kernel import rescore

MAGIC = b"BEBRSEG\x00"
FORMAT = 1
FORMATS = (FORMAT, 2)
"""Those that this release reads. A header may name a later one than FORMAT: older releases refuse the file then."""
ALIGNMENT = 64
CHUNK_BYTES = 2**18
_PREFIX_BYTES = rescore.PREFIX_SIZE_BYTES
"""Magic, header length and crc32. They tell a file from every other one: the header has the checksums of the rest."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A section of rows to be written."""

    row_size_bytes: int
    """With the checksum."""
    count: int
    """How many rows there are."""
    pieces: Iterable[NDArray[np.uint8]]
    """All of them in order, some (n, row_size_bytes) uint8 at a time."""


def write(path: Path, header: dict[str, Any], sections: Arrays, rows: Mapping[str, Rows]) -> None:
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
    for name, section in rows.items():
        size = section.count * section.row_size_bytes
        table[name] = {"offset": offset, "size": size, "row_size": section.row_size_bytes}
        offset = _aligned(offset + size)
    text = json.dumps({"format": FORMAT} | header | {"sections": table}).encode()
    start = _aligned(len(MAGIC) + 8 + len(text))
    with replacing(path, durable=False) as file:
        file.write(MAGIC + struct.pack("<II", len(text), crc32(text)) + text)
        for name, array in sections.items():
            file.seek(start + table[name]["offset"])
            file.write(np.ascontiguousarray(array).view(np.uint8).data)
        for name, section in rows.items():
            file.seek(start + table[name]["offset"])
            for piece in section.pieces:
                file.write(piece.data)
        file.truncate(start + offset)


def read(path: Path, mapped: Collection[str]) -> tuple[dict[str, Any], Arrays, dict[str, rescore.RowFile]]:
    """The header, the sections, in memory but for those to be mapped, and the sections of rows, which stay in the file
    and are checked row by row. Raises DamagedSegment."""
    try:
        with path.open("rb") as file:
            header, start = _read_header(path, file)
            sections: Arrays = {}
            rows: dict[str, rescore.RowFile] = {}
            for name, entry in header["sections"].items():
                if "row_size" in entry:
                    rows[name] = _open_rows(path, file, start, name, entry)
                elif name in mapped:
                    _check_section(path, file, start, name, entry)
                else:
                    sections[name] = _read_section(path, file, start, name, entry)
        data = kernel.map_file(str(path))
    except OSError as error:
        raise _unreadable(path, error) from error
    for name in set(mapped) & header["sections"].keys():
        entry = header["sections"][name]
        begin = start + entry["offset"]
        raw = data[begin : begin + entry["size"]]
        if len(raw) != entry["size"]:
            raise _mismatch(path, name)
        sections[name] = raw.view(entry["dtype"])
    return header, sections, rows


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


def damaged_row(path: Path, damage: rescore.DamagedRow) -> DamagedSegment | NotReady:
    """The error for a row that cannot be read from a file."""
    if damage.error == 0:
        return damaged(path, "a row of a rescore code does not match its checksum")
    return _unreadable(path, OSError(damage.error, os.strerror(damage.error)))


def _open_rows(path: Path, file: BinaryIO, start: int, name: str, entry: dict[str, Any]) -> rescore.RowFile:
    begin = start + entry["offset"]
    if begin + entry["size"] > os.fstat(file.fileno()).st_size:
        raise damaged(path, f"section '{name}' is cut short")
    file.seek(0)
    return rescore.open_rows(path, file.read(_PREFIX_BYTES), begin, entry["row_size"])


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
    checksum, size_left, row_size = 0, entry["size"], entry.get("row_size")
    for piece in _pieces(file, start + entry["offset"], entry["size"], row_size or 1):
        size_left -= len(piece)
        if row_size is None:
            checksum = crc32(piece, checksum)
        elif len(piece) % row_size or not rescore.are_sound(np.frombuffer(piece, np.uint8).reshape(-1, row_size)):
            raise _mismatch(path, name)
        if pause is not None:
            pause(len(piece))
    if size_left or checksum != entry.get("crc32", 0):
        raise _mismatch(path, name)


def _unreadable(path: Path, error: OSError) -> DamagedSegment | NotReady:
    if is_out_of_files(error):
        return NotReady(f"segment {path.name} cannot be opened: {out_of_files_hint()}")
    return damaged(path, f"it cannot be read: {error}")


def _mismatch(path: Path, name: str) -> DamagedSegment:
    return damaged(path, f"section '{name}' does not match its checksum")


def _pieces(file: BinaryIO, begin: int, size: int, unit: int) -> Iterator[bytes]:
    """What there is of a section, in multiples of `unit` bytes."""
    file.seek(begin)
    while size > 0 and (piece := file.read(min(size, CHUNK_BYTES // unit * unit))):
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
    if header["format"] not in FORMATS:
        raise damaged(path, f"it has format {header['format']}, this version reads {' and '.join(map(str, FORMATS))}")
    return header, _aligned(_PREFIX_BYTES + length)


def _aligned(offset: int) -> int:
    return (offset + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
