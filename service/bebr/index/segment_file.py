"""Segment files: written whole, read with every byte checked, and checked again while they lie there.

Magic, header length and crc32, JSON header, then 64-byte aligned sections (little-endian arrays), each with its crc32
in the header. A section of *rows* has none: each of its rows ends with a crc32 of its own, for they are read one by
one. Sections that may grow large have another one beside them, `pieces:` and their name, with a crc32 of each piece, so
that they can be mapped, and checked where they are used.
"""

import json
import os
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
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
FORMATS = (FORMAT, 2, 3)
"""Those that this release reads. A header may name a later one than FORMAT: older releases refuse the file then."""
ALIGNMENT = 64
CHUNK_BYTES = 2**18
PIECE_BYTES = 2**12
"""What is checked at a time of a section that is mapped."""
PIECES = "pieces:"
_UNKNOWN = 2**32 - 1
"""Stands for a checksum that is not known yet, and takes as much room as any."""
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


@dataclass(frozen=True, slots=True)
class Opened:
    """A segment file that was opened."""

    header: dict[str, Any]
    sections: Arrays
    """In memory, but for those that are mapped."""
    rows: dict[str, rescore.RowFile]
    """Sections of rows, which stay in the file and are checked row by row."""
    pieces: dict[str, kernel.Pieces] = field(default_factory=dict)
    """Of the sections that are mapped, not read, and must be checked before they are used; none in most files."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """A section in pieces that is too large to be made in memory."""

    size_bytes: int
    chunks: Iterable[NDArray[np.uint8]]
    """All of it in order, some whole pieces at a time; only the last chunk may end with a part of one."""


def write(
    path: Path,
    header: dict[str, Any],
    sections: Mapping[str, NDArray[Any] | Streamed],
    rows: Mapping[str, Rows],
    in_pieces: Collection[str] = (),
) -> None:
    """in_pieces: the sections that may be mapped instead of being read."""
    table, size = _table(sections, rows, in_pieces)
    header = {"format": FORMAT, "piece_size": PIECE_BYTES} | header | {"sections": table}
    room = len(json.dumps(header))  # checksums that are not known yet are as long as any
    start = _aligned(_PREFIX_BYTES + room)
    with replacing(path, durable=False) as file:
        for name, section in sections.items():
            file.seek(start + table[name]["offset"])
            chunks = section.chunks if isinstance(section, Streamed) else [_bytes_of(section)]
            if name not in in_pieces:
                table[name]["crc32"] = _write_chunks(file, chunks)
                continue
            table[name]["crc32"], checksums = _write_pieces(file, chunks)
            file.seek(start + table[f"{PIECES}{name}"]["offset"])
            table[f"{PIECES}{name}"]["crc32"] = _write_chunks(file, [checksums.view(np.uint8)])
        for name, of_rows in rows.items():
            file.seek(start + table[name]["offset"])
            _write_chunks(file, of_rows.pieces)
        file.truncate(start + size)
        text = json.dumps(header).ljust(room).encode()
        file.seek(0)
        file.write(MAGIC + struct.pack("<II", room, crc32(text)) + text)


def _table(
    sections: Mapping[str, NDArray[Any] | Streamed], rows: Mapping[str, Rows], in_pieces: Collection[str]
) -> tuple[dict[str, dict[str, Any]], int]:
    """Where each section lies, and where the last one ends."""
    table: dict[str, dict[str, Any]] = {}
    offset = 0

    def add(name: str, size: int, **entry: Any) -> None:
        nonlocal offset
        table[name] = {"offset": offset, "size": size} | entry
        offset = _aligned(offset + size)

    for name, section in sections.items():
        # dtype names carry no byte order: files are little-endian, as every supported machine is
        dtype, size = ("uint8", section.size_bytes) if isinstance(section, Streamed) else _kind_of(section)
        add(name, size, dtype=dtype, crc32=_UNKNOWN)
        if name in in_pieces:
            add(f"{PIECES}{name}", -(-size // PIECE_BYTES) * 4, dtype="uint32", crc32=_UNKNOWN)
    for name, of_rows in rows.items():
        add(name, of_rows.count * of_rows.row_size_bytes, row_size=of_rows.row_size_bytes)
    return table, offset


def _write_chunks(file: BinaryIO, chunks: Iterable[NDArray[np.uint8]]) -> int:
    """The crc32 of all."""
    checksum = 0
    for chunk in chunks:
        checksum = crc32(chunk.data, checksum)
        file.write(chunk.data)
    return checksum


def _write_pieces(file: BinaryIO, chunks: Iterable[NDArray[np.uint8]]) -> tuple[int, NDArray[np.uint32]]:
    """The crc32 of all, and of each piece."""
    checksums: list[int] = []

    def noted() -> Iterator[NDArray[np.uint8]]:
        for chunk in chunks:
            checksums.extend(crc32(chunk[i : i + PIECE_BYTES].data) for i in range(0, len(chunk), PIECE_BYTES))
            yield chunk

    return _write_chunks(file, noted()), np.array(checksums, np.uint32)


def read(path: Path, mapped: Collection[str], map_from_bytes: int, shares: bool = False) -> Opened:
    """Open a file. Raises DamagedSegment.

    mapped: sections that are mapped in any case; their reader checks what it reads. From `map_from_bytes` on sections
    with pieces are mapped too, and then neither those nor these are read here. shares: all else is mapped as well, once
    it was checked, so that its memory is that of every process that has the file open.
    """
    try:
        with path.open("rb") as file:
            header, start = _read_header(path, file)
            table = header["sections"]
            in_pieces = [name for name in table if f"{PIECES}{name}" in table]
            is_large = any(table[name]["size"] >= map_from_bytes for name in in_pieces)
            unread = [name for name in table if is_large and (name in mapped or name in in_pieces)]
            at_once = [
                name for name in table if name in mapped or name in unread or (shares and _is_shared(table, name))
            ]
            sections: Arrays = {}
            rows: dict[str, rescore.RowFile] = {}
            for name, entry in table.items():
                if "row_size" in entry:
                    rows[name] = _open_rows(path, file, start, name, entry)
                elif name not in at_once:
                    sections[name] = _read_section(path, file, start, name, entry)
                elif name not in unread:
                    _check_section(path, file, start, name, entry)
        data = kernel.map_file(str(path))
    except OSError as error:
        raise _unreadable(path, error) from error
    pieces = {}
    for name in at_once:
        begin, size = start + table[name]["offset"], table[name]["size"]
        raw = data[begin : begin + size]
        if len(raw) != size:
            raise _mismatch(path, name)
        sections[name] = raw.view(table[name]["dtype"])
        if is_large and name in in_pieces:
            pieces[name] = kernel.Pieces(raw, header["piece_size"], sections[f"{PIECES}{name}"])
    return Opened(header, sections, rows, pieces)


def _is_shared(table: Mapping[str, Any], name: str) -> bool:
    return "row_size" not in table[name] and not name.startswith(PIECES)


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


def _bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _kind_of(array: NDArray[Any]) -> tuple[str, int]:
    """The dtype's name, and how many bytes there are."""
    return array.dtype.name, array.nbytes


def _aligned(offset: int) -> int:
    return (offset + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
