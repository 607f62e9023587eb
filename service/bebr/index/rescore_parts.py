"""Where the rescore codes of a code version lie: in files of sealed segments, and in the memory of growing ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebr.core.scoring import RescoreQueries
from bebr.index import segment_file
from bebr.index.candidates import Candidates, Part
from bebr.index.segment import Segment, SegmentView
from bebr.kernel import rescore


@dataclass(frozen=True, slots=True)
class RescoreParts:
    """The parts of a code version that has rescore codes."""

    segments: Mapping[int, Segment]
    """Those that are sealed, by place."""
    sources: rescore.Sources
    """Of their rescore codes."""

    @classmethod
    def of(cls, parts: Sequence[Part], places: Sequence[int]) -> "RescoreParts":
        """places: those of the version among all parts, at least one."""
        segments: dict[int, Segment] = {}
        files: list[rescore.RowFile] = []
        arrays: list[NDArray[np.uint8]] = []
        source_at = [rescore.NO_SOURCE] * len(parts)
        for place in places:
            part = parts[place]
            if isinstance(part, SegmentView):
                assert part.segment.rescore is not None, "a segment without rescore codes of its version is not opened"
                source_at[place] = len(files)
                segments[place] = part.segment
                files.append(part.segment.rescore)
            else:
                source_at[place] = rescore.in_array(len(arrays))
                arrays.append(part.rescore)
        return cls(segments, rescore.Sources(parts[places[0]].spec, files, arrays, source_at))

    def add_scores(
        self,
        queries: RescoreQueries,
        candidates: Candidates,
        query_of: NDArray[np.int32] | None,
        scores: NDArray[np.float64],
        counts: NDArray[np.int64],
        waits: bool,
    ) -> None:
        """Add to scores (n,) what the rescore codes of candidates add, and to counts (queries,) how many were read.

        query_of: (n,); None: all are of the first query. Candidates of other versions stay as they are. Raises
        DamagedSegment; without `waits` NotInMemory where a disk would be waited for.
        """
        places = candidates.places
        try:
            self.sources.add_scores(queries, places, candidates.rows, query_of, scores, counts, waits)
        except rescore.DamagedRow as damage:
            raise segment_file.damaged_row(self.segments[int(places[damage.place])].path, damage) from damage
