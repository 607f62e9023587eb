"""Where the rescore codes of a code version lie: in files of sealed segments, and in the memory of growing ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec
from bebr.core.scoring import RescoreQueries
from bebr.index import segment_file
from bebr.index.candidates import Part
from bebr.index.segment import Segment, SegmentView
from bebr.kernel import rescore


@dataclass(frozen=True, slots=True)
class RescoreParts:
    """The parts of a code version that has rescore codes."""

    spec: CodeSpec
    segments: Sequence[Segment]
    files: Sequence[rescore.RowFile]
    """Of the segments."""
    arrays: Sequence[NDArray[np.uint8]]
    """Of the growing segments, each (rows, rescore_size_bytes) uint8."""
    source_at: NDArray[np.int32]
    """(parts,): which of these has the codes of a part, by its place, as `rescore.add_scores` takes it."""

    @classmethod
    def of(cls, parts: Sequence[Part], places: Sequence[int]) -> "RescoreParts":
        """places: those of the version among all parts, at least one."""
        segments: list[Segment] = []
        files: list[rescore.RowFile] = []
        arrays: list[NDArray[np.uint8]] = []
        source_at = np.full(len(parts), rescore.NO_SOURCE, np.int32)
        for place in places:
            part = parts[place]
            if isinstance(part, SegmentView):
                assert part.segment.rescore is not None, "a segment without rescore codes of its version is not opened"
                source_at[place] = len(files)
                segments.append(part.segment)
                files.append(part.segment.rescore)
            else:
                source_at[place] = rescore.in_array(len(arrays))
                arrays.append(part.rescore)
        return cls(parts[places[0]].spec, segments, files, arrays, source_at)

    def add_scores(
        self,
        queries: RescoreQueries,
        places: NDArray[np.int32],
        rows: NDArray[np.int64],
        query_of: NDArray[np.int32],
        scores: NDArray[np.float64],
        counts: NDArray[np.int64],
        waits: bool,
    ) -> None:
        """Add to scores (n,) what the rescore codes of candidates add, and to counts (queries,) how many were read.

        Candidates of other versions stay as they are. Raises DamagedSegment; without `waits` NotInMemory where a disk
        would be waited for.
        """
        source_of = self.source_at.take(places)
        try:
            rescore.add_scores(
                self.spec, queries, self.files, self.arrays, source_of, rows, query_of, scores, counts, waits
            )
        except rescore.DamagedRow as damage:
            raise segment_file.damaged_row(self.segments[source_of[damage.place]].path, damage) from damage
