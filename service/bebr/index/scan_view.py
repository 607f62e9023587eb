"""All parts of all shards as a scan takes them: one native object, made once for each set of views."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.codes import CodeSpec
from bebr.core.filters import Filter
from bebr.core.lists import Centroids
from bebr.errors import DamagedSegment
from bebr.index import segment_file
from bebr.index.candidates import Candidates, Found, Part
from bebr.index.probe import ListsHeld, Tables, lists_held, lists_of
from bebr.index.rescore_parts import RescoreParts
from bebr.index.segment import Segment, SegmentView
from bebr.index.view import ShardView


def table_of(centroids: Centroids, spec: CodeSpec) -> kernel.CentroidTable:
    """spec: of the code version, with its rescore code."""
    values, scales = centroids.values, centroids.scales
    return kernel.CentroidTable(spec, values, scales, centroids.generation, centroids.checksum, centroids.cells)


DamagedRows = kernel.DamagedRows
KEPT_FILTERS = 4
"""Filters whose masks a view keeps: a bit for each row."""


@dataclass(frozen=True, slots=True)
class ScanView:
    """What one search sees. It never changes."""

    views: tuple[ShardView, ...]
    """Of each shard."""
    parts: tuple[Part, ...]
    """Of all shards; a part's position here is its place."""
    native: kernel.Parts
    """The arrays of the parts, at the same places."""
    of_version: Mapping[int, kernel.Selection]
    """The parts with living rows, by number of their code version."""
    rescore: Mapping[int, RescoreParts]
    """Those of them that have rescore codes, by number of their code version."""
    lists: Mapping[int, ListsHeld]
    """Those that have lists, by number of their code version."""
    points: Mapping[int, int]
    """Living points by code version number."""
    scan_size_bytes: int
    """Bytes of codes and gains that a scan of all parts reads."""
    rows: int
    """Of all parts, dead ones included."""
    mapped: tuple[Segment, ...]
    """Whose codes were not read when their files were opened: `check` must be called before they are scanned."""
    shared: tuple[Segment, ...]
    """Whose codes are mapped, and were read and checked when their files were opened."""
    _masks: dict[tuple[int, Filter], list[NDArray[np.uint16]]] = field(default_factory=dict, compare=False)
    """What `masks` keeps, by version and filter."""

    @classmethod
    def of(cls, views: Sequence[ShardView], tables: Tables | None = None) -> "ScanView":
        """tables: of centroids; segments whose generation is not among them are scanned whole."""
        parts = tuple(part for view in views for part in view.parts)
        native, places, points = kernel.Parts(), dict[int, list[int]](), dict[int, int]()
        for place, part in enumerate(parts):
            _add(native, part, tables or {})
            if part.live_count:
                places.setdefault(part.version, []).append(place)
                points[part.version] = points.get(part.version, 0) + part.live_count
        selections = {version: native.select(some) for version, some in places.items()}
        rescore = {v: RescoreParts.of(parts, some) for v, some in places.items() if parts[some[0]].spec.rescore}
        size_bytes, rows = sum(view.scan_size_bytes for view in views), sum(part.rows for part in parts)
        segments = [part.segment for part in parts if isinstance(part, SegmentView)]
        mapped = tuple(segment for segment in segments if segment.pieces)
        shared = tuple(segment for segment in segments if segment.shares and not segment.pieces)
        lists = lists_held(parts, tables or {})
        return cls(tuple(views), parts, native, selections, rescore, lists, points, size_bytes, rows, mapped, shared)

    def masks(self, version: int, condition: Filter) -> list[NDArray[np.uint16]]:
        """Of the living rows of a version for which the filter holds, for each of its parts. A few are kept."""
        masks = self._masks.get((version, condition))
        if masks is None:
            masks = [self.parts[place].mask(condition) for place in self.of_version[version].places]
            if len(self._masks) >= KEPT_FILTERS:
                self._masks.clear()
            self._masks[version, condition] = masks
        return masks

    @property
    def is_in_files(self) -> bool:
        """Whether anything that is scanned is mapped: `begin_scan` and `is_unhurt` are to be called around a scan."""
        return bool(self.mapped or self.shared)

    def begin_scan(self, *, checks_all: bool) -> int:
        """Make mapped segments ready for a scan; the result is for `is_unhurt` after it. Raises DamagedSegment.

        checks_all: all that may be scanned is held to its checksums here; else `native` does it where it scans.
        """
        lost = kernel.lost_pages()
        for segment in self.mapped:
            segment.notice_change()
            if checks_all:
                segment.check()
        return lost

    def is_unhurt(self, lost: int) -> bool:
        """Whether no mapped file was cut short since that check. If one was, all is checked anew by the next one.

        Raises DamagedSegment."""
        if kernel.lost_pages() == lost:
            return True
        for segment in (*self.mapped, *self.shared):
            segment.forget_checks()
        for segment in self.shared:
            segment.check()  # what it has lost stays lost: it is opened anew
        return False

    def ids(self, places: NDArray[np.int32], rows: NDArray[np.int64]) -> list[str]:
        """The ids of rows (n,) of the parts at `places` (n,). Raises DamagedSegment."""
        ids = self.native.ids(places, rows)
        if None in ids:
            position = ids.index(None)
            raise self._damaged_id(places[position], rows[position])
        return cast(list[str], ids)

    def best(self, candidates: Candidates, scores: NDArray[np.float64], limit: int) -> Found:
        """The `limit` best candidates by these scores (n,). Raises DamagedSegment."""
        places, rows = candidates.places, candidates.rows
        best_scores, ids, best_places, damaged = self.native.best(scores, places, rows, limit)
        if damaged >= 0:
            raise self._damaged_id(places[damaged], rows[damaged])
        return Found(best_scores, ids, [self.parts[place].version for place in best_places])

    def _damaged_id(self, place: int, row: int) -> DamagedSegment:
        part = self.parts[place]
        assert isinstance(part, SegmentView)
        return segment_file.damaged(part.segment.path, f"the id of row {row} is not what was written")


def _add(native: kernel.Parts, part: Part, tables: Tables) -> None:
    live = part.live if part.has_dead else None
    if isinstance(part, SegmentView):
        segment = part.segment
        ids = segment.ids.offsets, segment.ids.blob, segment.lookup
        pieces = (segment.pieces["codes"], segment.pieces["gains"]) if segment.pieces else None
        lists = lists_of(part, tables)
        native.add_sorted(part.blocked, part.gains, part.rows, part.spec, live, ids, part.sorted_by_id, lists, pieces)
    else:
        native.add_unsorted(part.blocked, part.gains, part.rows, part.spec, live, part.segment.ids)
