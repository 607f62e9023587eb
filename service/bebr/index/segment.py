"""A sealed segment: immutable rows of one code version, sorted by id or by (list, id), read from one file.

What scans and filters touch is read into memory once: nothing that happens to the file later can change an answer. The
ids stay in the mapped file, and each is checked against its hash when it is read. Rescore codes stay in the file too;
rows of them are read one by one, each checked against its checksum, and none is kept. Which rows are still alive is not
the segment's business; the shard knows. Where rows are sorted by id, the kernel's order of equal scores (by row) is the
order by id. A segment with lists keeps the order of ids beside its rows, mapped too, and checked piece by piece.
"""

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.codes import CodeSpec
from bebr.core.filters import Filter
from bebr.core.types import FieldType
from bebr.disk import identity
from bebr.index import segment_file
from bebr.index.columns import Arrays, Column, column_from_arrays, column_named, evaluate, pack_mask
from bebr.index.growing import kill
from bebr.index.labels import Labels, labels_of_column
from bebr.index.lists.segment_lists import SegmentLists
from bebr.index.strings import StringTable, find_many
from bebr.kernel import rescore

IDS = ("id_offsets", "id_blob")
MAPPED = (*IDS, "by_id")
FORMAT_OF_LISTS = 2
"""Of a segment file with lists, whose rows are not sorted by id: what a release that knows of none refuses."""
FORMAT_OF_SMALL_ORDER = 3
"""Of one whose order of ids has three bytes for each row: what a release that knows of four only refuses."""
RESCORE = "rescore"
CHECKED_ON_USE = ("codes", "gains")
"""Sections that are mapped where they are large, each piece checked before its first use."""
ANY_SIZE = 2**63
"""No file is so large that it is mapped."""
CACHED_FILTERS = 8
"""Masks of recent filters kept per segment, one bit a row each."""


class Matches(NamedTuple):
    """The rows of a segment that a filter holds for."""

    rows: int
    groups: int
    """Groups of rows, as the kernel scores them together, with any of them."""


class Segment:
    """Open segment file. Raises DamagedSegment when a byte is not what was written.

    map_from_bytes: codes of this size or more stay in the file, mapped; `check` must be called before they are used.
    shares: everything is mapped, so that processes share its memory; it was read and checked once the file is open.
    """

    def __init__(self, path: Path, map_from_bytes: int = ANY_SIZE, shares: bool = False) -> None:
        self.written = identity(path)
        """The file as it was before it was read: see `identity`."""
        opened = segment_file.read(path, MAPPED, map_from_bytes, shares)
        self.shares = shares
        self._is_sound = True
        header, sections, row_files = opened.header, opened.sections, opened.rows
        self.path = path
        self.pieces = opened.pieces
        """Of what is mapped and was not read when the file was opened, by section; none where all of it was."""
        self.version: int = header["version"]
        self.spec = CodeSpec.parse(header["spec"])
        self.rows: int = header["rows"]
        self.blocked: NDArray[np.uint8] = sections["codes"]
        self.gains: NDArray[np.float16] = sections["gains"]
        self.lookup: NDArray[np.uint64] = sections["lookup"]
        self.ids = StringTable(sections["id_offsets"], sections["id_blob"])
        self.lists = _lists(header, sections)
        """None: rows are sorted by id."""
        self.rescore = row_files.get(RESCORE)
        """Rescore records in the order of the rows; None: the version has none."""
        if (self.rescore is None) != (self.spec.rescore is None):
            raise segment_file.damaged(path, f"it has no rescore codes of '{self.spec}'")
        self.fields = {key: FieldType(kind) for key, kind in header["fields"].items()}
        self.reads_paths = header.get("reads_paths", False)
        self.columns = {key: _column(key, kind, sections) for key, kind in self.fields.items()}
        self._checksums = tuple(header["sections"][name]["crc32"] for name in IDS)
        self._masks: OrderedDict[Filter, NDArray[np.uint16]] = OrderedDict()
        self._matches: dict[Filter, Matches] = {}
        self._masks_lock = threading.Lock()
        self._labels: dict[str, Labels] = {}
        self._ranks: NDArray[np.uint32] | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes that a scan reads: codes and gains."""
        return self.blocked.nbytes + self.gains.nbytes

    def find(self, ids: Collection[str]) -> NDArray[np.int64]:
        """Rows (len(ids),) int64 of ids, -1 where absent; dead rows are found too. Raises DamagedSegment."""
        try:
            return find_many(self.ids, self.lookup, ids)
        except ValueError as error:
            raise segment_file.damaged(self.path, str(error)) from error

    def ids_at(self, rows: Sequence[int]) -> list[str]:
        """Raises DamagedSegment."""
        try:
            return kernel.read_ids(self.ids.offsets, self.ids.blob, self.lookup, rows)
        except ValueError as error:
            raise segment_file.damaged(self.path, str(error)) from error

    def first_kept(self, keep: NDArray[np.bool_], after: str | None, limit: int | None) -> NDArray[np.int64]:
        """The first `limit` rows, or all, of those to keep (rows,) whose id is greater than `after`, in ascending order
        of id. Raises DamagedSegment."""
        try:
            start = 0 if after is None else bisect_right(range(self.rows), after, key=self._id_at)
            if self.lists is not None:
                return self.lists.first_kept(keep, start, limit)
        except ValueError as error:
            raise segment_file.damaged(self.path, str(error)) from error
        return np.flatnonzero(keep[start:])[:limit] + start

    def _id_at(self, position: int) -> str:
        """The id at this position of all in ascending order. Raises DamagedSegment, ValueError."""
        return self.ids_at([position if self.lists is None else self.lists.row_at(position)])[0]

    def check_ids(self) -> None:
        """Raise DamagedSegment unless all ids are what was written: for whoever reads them at once."""
        found = crc32(self.ids.offsets.data), crc32(self.ids.blob.data)
        if found != self._checksums:
            raise segment_file.damaged(self.path, "its ids do not match their checksums")

    def check(self) -> None:
        """Raise DamagedSegment unless codes and gains are what was written; what was checked before is not read again.

        To be called before they are used where `pieces` says that they were not read when the file was opened.
        """
        if not self._is_sound:
            segment_file.verify(self.path)
            self._is_sound = True
        for name, pieces in self.pieces.items():
            if not pieces.is_checked:
                pieces.advise(0, pieces.size)
                if not pieces.check_all():
                    raise segment_file.damaged(self.path, f"section '{name}' does not match its checksums")

    def notice_change(self) -> bool:
        """Have all of what is mapped checked anew where the file was written to since; whether it was."""
        written = identity(self.path)
        if written is None or written == self.written:
            return False
        self.written = written
        self.forget_checks()
        return True

    def forget_checks(self) -> None:
        """Have all of what is mapped checked anew before it is used."""
        self._is_sound = not self.shares
        for pieces in self.pieces.values():
            pieces.forget()

    def move_to(self, path: Path) -> None:
        """The file lies there now."""
        self.path = path
        if self.rescore is not None:
            self.rescore.move_to(str(path))

    def mask(self, condition: Filter) -> NDArray[np.uint16]:
        """Mask of the rows, dead or alive, for which the filter holds. Recent ones are kept, for rows never change."""
        mask = self._masks.get(condition)
        if mask is None:
            mask = pack_mask(evaluate(condition, self.columns, self.rows, self.find))
            with self._masks_lock:  # scans run in several threads, and comparing filters lets them take turns
                self._masks[condition] = mask
                while len(self._masks) > CACHED_FILTERS:
                    self._matches.pop(self._masks.popitem(last=False)[0], None)
        return mask

    def matches(self, condition: Filter) -> Matches:
        """How many rows, dead or alive, the filter holds for; kept beside the mask."""
        found = self._matches.get(condition)
        if found is None:
            mask = self.mask(condition)
            found = Matches(int(np.bitwise_count(mask).sum()), int(np.count_nonzero(mask)))
            with self._masks_lock:
                if condition in self._masks:
                    self._matches[condition] = found
        return found

    def labels(self, key: str) -> Labels:
        """The labels of a field, kept once hits were grouped by it."""
        labels = self._labels.get(key)
        if labels is None:
            labels = self._labels[key] = labels_of_column(column_named(key, self.columns))
        return labels

    def ranks(self) -> NDArray[np.uint32] | None:
        """(rows,): the position of each row's id among all, kept once hits were grouped; None: rows are sorted by id.

        Raises DamagedSegment.
        """
        if self._ranks is None and self.lists is not None:
            try:
                self._ranks = self.lists.ranks()
            except ValueError as error:
                raise segment_file.damaged(self.path, str(error)) from error
        return self._ranks


class SegmentView:
    """What a reader sees of a segment: its rows, of which `live` ones count."""

    def __init__(self, segment: Segment, live: NDArray[np.uint16], live_count: int) -> None:
        self.segment = segment
        self.live = live
        self.live_count = live_count
        self.rows = segment.rows
        self.has_dead = live_count < segment.rows
        # plain attributes, since every scan of every search reads them
        self.version, self.spec = segment.version, segment.spec
        self.blocked, self.gains = segment.blocked, segment.gains
        self.sorted_by_id = segment.lists is None

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
        return self.segment.ids_at(rows)

    def rescore_records(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(rows, rescore_size_bytes) uint8, read from the file. Raises DamagedSegment."""
        found = read_rescore_rows([self.segment], np.zeros(len(rows), np.int32), rows, self.spec)
        return found[:, : self.spec.rescore_size_bytes]


def read_rescore_rows(
    segments: Sequence[Segment],
    segment_of: NDArray[np.int32],
    rows: NDArray[np.int64],
    spec: CodeSpec,
) -> NDArray[np.uint8]:
    """Rows (n,) int64 of segments with codes of `spec`, each of the one whose place is segment_of (n,) int32.

    -> their rescore records with checksums (n, rescore_size_bytes + 4) uint8. Raises DamagedSegment.
    """
    files = [segment.rescore for segment in segments if segment.rescore is not None]
    try:
        return rescore.read_rows(files, segment_of, rows, spec.rescore_size_bytes + rescore.CHECKSUM_SIZE_BYTES)
    except rescore.DamagedRow as damage:
        raise segment_file.damaged_row(segments[int(segment_of[damage.place])].path, damage) from damage


def write_segment(
    path: Path,
    version: int,
    spec: CodeSpec,
    ids: StringTable,
    lookup: NDArray[np.uint64],
    blocked: NDArray[np.uint8] | segment_file.Streamed,
    gains: NDArray[np.float16],
    fields: Mapping[str, FieldType],
    columns: Mapping[str, Column],
    rescore_rows: Iterable[NDArray[np.uint8]],
    lists: SegmentLists | None = None,
) -> None:
    """Write a segment file, rows in ascending order of id, or by (list, id). Its name is durable once the shard's files
    are saved.

    rescore_rows: in the same order, some (n, rescore_size_bytes + 4) uint8 at a time, each with its checksum; only
    where the spec has a rescore code.
    """
    sections: dict[str, NDArray[Any] | segment_file.Streamed] = {
        "codes": blocked,
        "gains": gains,
        "lookup": lookup,
        "id_offsets": ids.offsets,
        "id_blob": ids.blob,
    }
    for key, column in columns.items():
        sections |= {f"field:{key}:{name}": array for name, array in column.arrays().items()}
    header: dict[str, Any] = {
        "version": version,
        "spec": str(spec),
        "rows": len(ids),
        "fields": {key: str(kind) for key, kind in fields.items()},
        "reads_paths": True,
    }
    if lists is not None:
        of_lists = {"generation": lists.generation, "count": len(lists), "mean_score": lists.mean_score}
        of_lists |= {} if lists.checksum is None else {"centroids_crc32": lists.checksum}
        header |= {"format": FORMAT_OF_SMALL_ORDER if lists.is_small else FORMAT_OF_LISTS, "lists": of_lists}
        sections |= {"list_begin": lists.begin, "by_id": lists.order, "by_id_checks": lists.checks}
    row_size = spec.rescore_size_bytes + rescore.CHECKSUM_SIZE_BYTES
    rows = {RESCORE: segment_file.Rows(row_size, len(ids), rescore_rows)} if spec.rescore else {}
    segment_file.write(path, header, sections, rows, CHECKED_ON_USE)


def _lists(header: dict[str, Any], sections: Arrays) -> SegmentLists | None:
    if "lists" not in header:
        return None
    of_lists = header["lists"]
    return SegmentLists(
        of_lists["generation"],
        sections["list_begin"],
        sections["by_id"],
        sections["by_id_checks"],
        of_lists["mean_score"],
        of_lists.get("centroids_crc32"),
    )


def _column(key: str, kind: FieldType, sections: Arrays) -> Column:
    prefix = f"field:{key}:"
    arrays = {name.removeprefix(prefix): array for name, array in sections.items() if name.startswith(prefix)}
    return column_from_arrays(kind, arrays)
