"""A sealed segment: immutable rows of one code version, sorted by id, memory-mapped from one file.

File: magic, header length and crc32, JSON header, then 64-byte aligned sections (little-endian arrays), each with its
crc32 in the header. Which rows are still alive is not the file's business; the shard knows.
Because rows are sorted by id, the kernel's order of equal scores (by row) is the order by id.
"""

import json
import mmap
import struct
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec
from bebr.core.filters import Filter
from bebr.core.types import FieldType
from bebr.disk import replacing
from bebr.errors import DamagedSegment
from bebr.index.columns import Arrays, Column, column_from_arrays, evaluate, pack_mask
from bebr.index.growing import kill
from bebr.index.labels import Labels, labels_of_column
from bebr.index.strings import StringTable, find_many

MAGIC = b"BEBRSEG\x00"
FORMAT = 1
ALIGNMENT = 64
RARELY_READ = ("id_offsets", "id_blob")
CACHED_FILTERS = 8
"""Masks of recent filters kept per segment, one bit a row each."""


class Segment:
    """Open segment file. Raises DamagedSegment when a byte is not what was written."""

    def __init__(self, path: Path) -> None:
        header, sections = _read(path)
        self.path = path
        self.version: int = header["version"]
        self.spec = CodeSpec.parse(header["spec"])
        self.rows: int = header["rows"]
        self.blocked: NDArray[np.uint8] = sections["codes"]
        self.gains: NDArray[np.float16] = sections["gains"]
        self.lookup: NDArray[np.uint64] = sections["lookup"]
        self.ids = StringTable(sections["id_offsets"], sections["id_blob"])
        self.fields = {key: FieldType(kind) for key, kind in header["fields"].items()}
        self.reads_paths = header.get("reads_paths", False)
        self.columns = {key: _column(key, kind, sections) for key, kind in self.fields.items()}
        self._masks: OrderedDict[Filter, NDArray[np.uint16]] = OrderedDict()
        self._masks_lock = threading.Lock()
        self._labels: dict[str, Labels] = {}

    @property
    def size_bytes(self) -> int:
        """Bytes that a scan reads: codes and gains."""
        return self.blocked.nbytes + self.gains.nbytes

    def find(self, ids: Collection[str]) -> NDArray[np.int64]:
        """Rows (len(ids),) int64 of ids, -1 where absent; dead rows are found too."""
        return find_many(self.ids, self.lookup, ids)

    def mask(self, condition: Filter) -> NDArray[np.uint16]:
        """Mask of the rows, dead or alive, for which the filter holds. Recent ones are kept, for rows never change."""
        mask = self._masks.get(condition)
        if mask is None:
            mask = pack_mask(evaluate(condition, self.columns, self.rows, self.find))
            with self._masks_lock:  # scans run in several threads, and comparing filters lets them take turns
                self._masks[condition] = mask
                while len(self._masks) > CACHED_FILTERS:
                    self._masks.popitem(last=False)
        return mask

    def labels(self, key: str) -> Labels:
        """The labels of a field, kept once hits were grouped by it."""
        labels = self._labels.get(key)
        if labels is None:
            labels = self._labels[key] = labels_of_column(self.columns[key])
        return labels


class SegmentView:
    """What a reader sees of a segment: its rows, of which `live` ones count."""

    sorted_by_id = True

    def __init__(self, segment: Segment, live: NDArray[np.uint16], live_count: int) -> None:
        self.segment = segment
        self.live = live
        self.live_count = live_count
        self.rows = segment.rows
        self.has_dead = live_count < segment.rows
        # plain attributes, since every scan of every search reads them
        self.version, self.spec = segment.version, segment.spec
        self.blocked, self.gains = segment.blocked, segment.gains

    @classmethod
    def of(cls, segment: Segment) -> "SegmentView":
        """All rows alive."""
        return cls(segment, pack_mask(np.ones(segment.rows, bool)), segment.rows)

    def without(self, dead: NDArray[np.int64]) -> "SegmentView":
        """A view in which the rows `dead` (n,) int64 are dead too."""
        live, killed = kill(self.live, dead)
        return SegmentView(self.segment, live, self.live_count - killed)

    def mask(self, condition: Filter) -> NDArray[np.uint16]:
        """Mask of the live rows for which the filter holds."""
        return self.segment.mask(condition) & self.live

    def labels(self, key: str) -> Labels:
        """The labels of a field of all rows, dead or alive."""
        return self.segment.labels(key)

    def ids_at(self, rows: Sequence[int]) -> list[str]:
        return self.segment.ids.take(rows)


def write_segment(
    path: Path,
    version: int,
    spec: CodeSpec,
    ids: StringTable,
    lookup: NDArray[np.uint64],
    blocked: NDArray[np.uint8],
    gains: NDArray[np.float16],
    fields: Mapping[str, FieldType],
    columns: Mapping[str, Column],
) -> None:
    """Write a segment file, rows in ascending order of id. Its name is durable once the shard's files are saved."""
    sections: Arrays = {
        "codes": blocked,
        "gains": gains,
        "lookup": lookup,
        "id_offsets": ids.offsets,
        "id_blob": ids.blob,
    }
    for key, column in columns.items():
        sections |= {f"field:{key}:{name}": array for name, array in column.arrays().items()}
    header = {
        "format": FORMAT,
        "version": version,
        "spec": str(spec),
        "rows": len(ids),
        "fields": {key: str(kind) for key, kind in fields.items()},
        "reads_paths": True,
    }
    _write(path, header, sections)


def _write(path: Path, header: dict[str, Any], sections: Arrays) -> None:
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
    text = json.dumps(header | {"sections": table}).encode()
    start = _aligned(len(MAGIC) + 8 + len(text))
    with replacing(path, durable=False) as file:
        file.write(MAGIC + struct.pack("<II", len(text), crc32(text)) + text)
        for name, array in sections.items():
            file.seek(start + table[name]["offset"])
            file.write(np.ascontiguousarray(array).view(np.uint8).data)
        file.truncate(start + offset)


def _read(path: Path) -> tuple[dict[str, Any], Arrays]:
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise DamagedSegment(f"segment {path.name} cannot be opened: {error}", segment=path.name) from error
    data = np.frombuffer(mapped, np.uint8)
    header, start = _read_header(path, data)
    sections: Arrays = {}
    for name, entry in header["sections"].items():
        begin = start + entry["offset"]
        raw = data[begin : begin + entry["size"]]
        if len(raw) != entry["size"] or crc32(raw.data) != entry["crc32"]:
            raise DamagedSegment(
                f"segment {path.name}: section '{name}' does not match its checksum", segment=path.name
            )
        sections[name] = raw.view(entry["dtype"])
        if name in RARELY_READ:
            _let_go(mapped, begin, begin + entry["size"])
    return header, sections


def _let_go(mapped: mmap.mmap, begin: int, end: int) -> None:
    """Checking a section made its pages resident; drop those that only a hit or an update will ask for again."""
    first = (begin + mmap.PAGESIZE - 1) // mmap.PAGESIZE * mmap.PAGESIZE
    if first < end:
        mapped.madvise(mmap.MADV_DONTNEED, first, end - first)


def _read_header(path: Path, data: NDArray[np.uint8]) -> tuple[dict[str, Any], int]:
    prefix = len(MAGIC) + 8
    if len(data) < prefix or bytes(data[: len(MAGIC)]) != MAGIC:
        raise DamagedSegment(f"{path.name} is not a segment file", segment=path.name)
    length, checksum = struct.unpack("<II", data[len(MAGIC) : prefix].tobytes())
    text = data[prefix : prefix + length].tobytes()
    if len(text) != length or crc32(text) != checksum:
        raise DamagedSegment(f"segment {path.name}: its header does not match its checksum", segment=path.name)
    header: dict[str, Any] = json.loads(text)
    if header["format"] != FORMAT:
        raise DamagedSegment(
            f"segment {path.name} has format {header['format']}, this version reads {FORMAT}", segment=path.name
        )
    return header, _aligned(prefix + length)


def _column(key: str, kind: FieldType, sections: Arrays) -> Column:
    prefix = f"field:{key}:"
    arrays = {name.removeprefix(prefix): array for name, array in sections.items() if name.startswith(prefix)}
    return column_from_arrays(kind, arrays)


def _aligned(offset: int) -> int:
    return (offset + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
