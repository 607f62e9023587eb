"""Where the rescore codes of a code version lie: in files of sealed segments, and in the memory of growing ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec
from bebr.index.candidates import Part
from bebr.index.growing import GrowingView
from bebr.index.segment import Segment, SegmentView, read_rescore_rows


@dataclass(frozen=True, slots=True)
class RescoreParts:
    """The parts of a code version that has rescore codes."""

    spec: CodeSpec
    segments: Sequence[Segment]
    segment_at: NDArray[np.int32]
    """(parts,): position in `segments` by place of the part; -1: it is none of them."""
    growing: Sequence[tuple[int, GrowingView]]
    """With their places."""

    @classmethod
    def of(cls, parts: Sequence[Part], places: Sequence[int]) -> "RescoreParts":
        """places: those of the version among all parts, at least one."""
        segments: list[Segment] = []
        segment_at = np.full(len(parts), -1, np.int32)
        growing: list[tuple[int, GrowingView]] = []
        for place in places:
            part = parts[place]
            if isinstance(part, SegmentView):
                segment_at[place] = len(segments)
                segments.append(part.segment)
            else:
                growing.append((place, part))
        return cls(parts[places[0]].spec, segments, segment_at, growing)

    def read(
        self, places: NDArray[np.int32], rows: NDArray[np.int64], waits: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """For rows (n,) of the parts at places (n,): (n, at least rescore_size_bytes) uint8, and which are of the
        version (n,) bool; those of others are zeros, which add nothing to a score.

        Raises DamagedSegment; without `waits` NotInMemory where a disk would be waited for.
        """
        segment_of = self.segment_at[places]
        records = read_rescore_rows(self.segments, segment_of, rows, self.spec, waits)
        has = segment_of >= 0
        for place, part in self.growing:
            where = np.flatnonzero(places == place)
            records[where, : self.spec.rescore_size_bytes] = part.rescore_records(rows[where])
            has[where] = True
        return records, has
