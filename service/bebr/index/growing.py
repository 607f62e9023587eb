"""The mutable end of a shard: a growing segment holds rows of one code version in blocked layout, searched at once.

One writer appends; readers hold a `GrowingView`: a row count and a mask that never change. Rows beyond that count may
be written meanwhile and are not read. Its size is bounded, so here (and only here) ids are Python strings. A growing
segment that is full is frozen: nothing is appended any more, and maintenance seals it.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.codes import CodeSpec, join_records, split_records
from bebr.core.filters import Filter
from bebr.core.types import FieldType
from bebr.index.columns import Column, build_column, column_named, evaluate, pack_mask, unpack_mask
from bebr.index.labels import Labels, labels_of_values

CHUNK_ROWS = 2048
"""Columns of full chunks are built once; only the last, partial chunk is built anew after a write."""
FIRST_ROWS = 64
"""How many rows a segment has room for at first; the room doubles as needed, because most collections are small."""
NO_ROW = -1


class GrowingSegment:
    """Append-only rows; a row dies when its id is written again or deleted."""

    sorted_by_id = False

    def __init__(
        self, version: int, spec: CodeSpec, fields: Mapping[str, FieldType], capacity: int, after_seq: int = 0
    ) -> None:
        """`after_seq`: all operations of the shard up to this seq are in other segments."""
        self.version = version
        self.after_seq = after_seq
        self.spec = spec
        self.fields = dict(fields)
        self.capacity = capacity
        self._allocated = min(capacity, FIRST_ROWS)
        self.blocked = kernel.allocate(kernel.blocked_size_bytes(spec, self._allocated))
        self.gains = np.zeros(self._allocated, np.float16)
        self.rescore = np.zeros((self._allocated, spec.rescore_size_bytes), np.uint8)
        self.ids: list[str] = []
        self.row_of: dict[str, int] = {}
        self.values: dict[str, list[Any]] = {key: [] for key in fields}
        self._chunks: dict[int, dict[str, Column]] = {}

    @property
    def rows(self) -> int:
        return len(self.ids)

    @property
    def free_rows(self) -> int:
        """How many rows can be appended."""
        return self.capacity - len(self.ids)

    def append(self, ids: Sequence[str], records: NDArray[np.uint8], values: Mapping[str, Sequence[Any]]) -> None:
        """records (n, record_size_bytes) uint8, n at most `free_rows`; values: one list per filterable field."""
        codes, gains = split_records(records, self.spec)
        first = self.rows
        self._grow(first + len(ids))
        kernel.pack(codes, self.spec, self.blocked, first)
        self.gains[first : first + len(ids)] = gains
        self.rescore[first : first + len(ids)] = records[:, self.spec.scan_record_size_bytes :]
        for key, column in self.values.items():
            column.extend(values[key])
        self.row_of.update(zip(ids, range(first, first + len(ids)), strict=True))
        self.ids.extend(ids)

    def _grow(self, rows: int) -> None:
        """Make room for this many rows, in new arrays: readers go on with the old ones, whose rows never change."""
        if rows <= self._allocated:
            return
        self._allocated = min(self.capacity, max(rows, 2 * self._allocated))
        blocked = kernel.allocate(kernel.blocked_size_bytes(self.spec, self._allocated))
        blocked[: len(self.blocked)] = self.blocked
        gains = np.zeros(self._allocated, np.float16)
        gains[: len(self.gains)] = self.gains
        rescore = np.zeros((self._allocated, self.spec.rescore_size_bytes), np.uint8)
        rescore[: len(self.rescore)] = self.rescore
        self.blocked, self.gains, self.rescore = blocked, gains, rescore

    def append_rows(self, other: "GrowingSegment", rows: NDArray[np.int64]) -> None:
        """Append rows (n,) int64 of another segment of the same version."""
        where = rows.tolist()
        records = join_records(kernel.unpack(other.blocked, other.spec, rows), other.gains[rows], other.rescore[rows])
        values = {key: [column[row] for row in where] for key, column in other.values.items()}
        self.append([other.ids[row] for row in where], records, values)

    def forget(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Remove ids and return the rows that they had."""
        rows = [self.row_of.pop(point_id, NO_ROW) for point_id in ids]
        return np.array([row for row in rows if row >= 0], np.int64)

    def chunk(self, number: int, rows: int) -> dict[str, Column]:
        """Columns of rows number * CHUNK_ROWS up to `rows`; full chunks are kept."""
        start, end = number * CHUNK_ROWS, min(rows, (number + 1) * CHUNK_ROWS)
        full = end - start == CHUNK_ROWS  # an older view may end within a chunk that is full by now
        if full and (kept := self._chunks.get(number)) is not None:
            return kept
        columns = {key: build_column(kind, self.values[key][start:end]) for key, kind in self.fields.items()}
        if full:
            self._chunks[number] = columns  # readers that meet here store the same
        return columns


class GrowingView:
    """What a reader sees of a growing or frozen segment: `rows` rows, of which `live` ones count."""

    sorted_by_id = False

    def __init__(self, segment: GrowingSegment, rows: int, live: NDArray[np.uint16], live_count: int) -> None:
        self.segment = segment
        self.rows = rows
        self.live = live
        self.live_count = live_count
        self.has_dead = live_count < rows
        # plain attributes, since every scan of every search reads them
        self.version, self.spec = segment.version, segment.spec
        self.blocked, self.gains, self.rescore = segment.blocked, segment.gains, segment.rescore
        self._labels: dict[str, Labels] = {}

    @classmethod
    def of(cls, segment: GrowingSegment) -> "GrowingView":
        """No rows yet."""
        return cls(segment, 0, np.empty(0, np.uint16), 0)

    def extended(self) -> "GrowingView":
        """A view of all rows that the segment has now, the new ones alive."""
        rows = self.segment.rows
        keep = np.ones(rows, bool)
        keep[: self.rows] = unpack_mask(self.live, self.rows)
        return GrowingView(self.segment, rows, pack_mask(keep), self.live_count + rows - self.rows)

    def without(self, dead: NDArray[np.int64]) -> "GrowingView":
        """A view in which the rows `dead` (n,) int64 are dead too."""
        live, killed = kill(self.live, dead)
        return GrowingView(self.segment, self.rows, live, self.live_count - killed)

    def mask(self, condition: Filter) -> NDArray[np.uint16]:
        """Mask of the live rows for which the filter holds."""
        parts = []
        for number, columns in enumerate(self._columns):
            start, end = number * CHUNK_ROWS, min(self.rows, (number + 1) * CHUNK_ROWS)
            parts.append(evaluate(condition, columns, end - start, _Finder(self.segment.ids, start, end)))
        return pack_mask(np.concatenate(parts)) & self.live if parts else self.live

    def labels(self, key: str) -> Labels:
        """The labels of a field of all rows, dead or alive; kept, for the rows of a view never change."""
        labels = self._labels.get(key)
        if labels is None:
            labels = self._labels[key] = labels_of_values(column_named(key, self.segment.values)[: self.rows])
        return labels

    def rescore_records(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(rows, rescore_size_bytes) uint8."""
        return self.rescore[rows]

    def ids_at(self, rows: Sequence[int]) -> list[str]:
        return [self.segment.ids[row] for row in rows]

    @cached_property
    def _columns(self) -> list[dict[str, Column]]:
        return [self.segment.chunk(number, self.rows) for number in range((self.rows + CHUNK_ROWS - 1) // CHUNK_ROWS)]


class Compaction:
    """A growing segment made anew from its living rows, while the writer may go on with the old one.

    The long part runs beside the writer (`__init__`), the short one (`finish`) while the writer waits.
    """

    def __init__(self, view: GrowingView) -> None:
        old = view.segment
        self._before = view
        self._rows = np.flatnonzero(unpack_mask(view.live, view.rows))
        self._segment = GrowingSegment(old.version, old.spec, old.fields, old.capacity, old.after_seq)
        self._segment.append_rows(old, self._rows)

    def finish(self, now: GrowingView) -> GrowingView:
        """now: the view of the old segment as it is now. Carries over what was appended and what died meanwhile."""
        late = np.arange(self._before.rows, now.rows)
        self._segment.append_rows(now.segment, late)
        alive = unpack_mask(now.live, now.rows)[np.concatenate([self._rows, late])]
        dead = np.flatnonzero(~alive)
        for row in dead.tolist():
            point_id = self._segment.ids[row]
            if self._segment.row_of.get(point_id) == row:
                del self._segment.row_of[point_id]
        return GrowingView.of(self._segment).extended().without(dead)


def kill(live: NDArray[np.uint16], dead: NDArray[np.int64]) -> tuple[NDArray[np.uint16], int]:
    """A copy of the mask without the rows `dead`, and how many of them were alive."""
    copy = live.copy()
    bits = np.uint16(1) << (dead % 16).astype(np.uint16)
    killed = int(np.count_nonzero(live[dead // 16] & bits))
    np.bitwise_and.at(copy, dead // 16, ~bits)
    return copy, killed


class _Finder:
    """Rows of ids within rows start .. end of a segment; the last one wins, as it does in the shard."""

    def __init__(self, ids: list[str], start: int, end: int) -> None:
        self.ids, self.start, self.end = ids, start, end

    def __call__(self, wanted: frozenset[str]) -> NDArray[np.int64]:
        return np.array(
            [i for i, point_id in enumerate(self.ids[self.start : self.end]) if point_id in wanted], np.int64
        )
