"""What it takes to find the best hits of queries by lists, for calibration: see `bebr.core.list_calibration`."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.list_calibration import needs_of
from bebr.core.scoring import DotQueries
from bebr.index.candidates import Candidates, Part
from bebr.index.probe import ListsHeld
from bebr.index.scan import ScanQueries, candidates_of, scan
from bebr.index.scan_view import ScanView
from bebr.index.segment import SegmentView


@dataclass(frozen=True, slots=True)
class Needs:
    """Of the best hits of one query."""

    scores: NDArray[np.float64]
    """(hits,), best first."""
    needs: NDArray[np.float32]
    """(hits,): -inf for a hit in no list."""


def needs(view: ScanView, queries: ScanQueries, sample_rows: int | None = None) -> list[Needs]:
    """Of the `limit` best rows of each query. All are scored, or about so many random ones, for all queries the same.

    Raises DamagedSegment.
    """
    while True:
        lost = view.begin_scan(checks_all=True)
        found = _needs(view, queries, sample_rows)
        if view.is_unhurt(lost):
            return found


def _needs(view: ScanView, queries: ScanQueries, sample_rows: int | None) -> list[Needs]:
    selection, held, prepared = view.of_version.get(queries.version), view.lists.get(queries.version), queries.prepared
    if selection is None or held is None or not isinstance(prepared, DotQueries):
        return [Needs(np.empty(0), np.empty(0, np.float32)) for _ in range(len(queries))]
    scores = {table.generation: kernel.centroid_scores(table, prepared) for table in held.tables}
    if sample_rows is None:
        scanned = scan(selection, view.parts, replace(queries, lists=None))
    else:
        masks = [_drawn(view.parts[place], sample_rows / view.points[queries.version]) for place in selection.places]
        scanned = candidates_of(kernel.dot_candidates(selection, prepared, queries.limit, [masks]))
    found = []
    for query, candidates in enumerate(scanned):
        hits = candidates.at(slice(queries.limit))
        of_lists = {generation: of_queries[query] for generation, of_queries in scores.items()}
        found.append(Needs(hits.scores, needs_of(hits.scores, _of_hits(view, held, hits, of_lists))))
    return found


def _drawn(part: Part, share: float) -> NDArray[np.uint16]:
    """A mask of about this share of the living rows of a part."""
    if share >= 1:
        return part.live
    rows, mask = part.rows, np.zeros_like(part.live)
    drawn = np.random.default_rng(rows).integers(rows, size=round(share * rows))
    np.bitwise_or.at(mask, drawn // kernel.GROUP_ROWS, np.uint16(1) << (drawn % kernel.GROUP_ROWS).astype(np.uint16))
    return mask & part.live


def _of_hits(
    view: ScanView, held: ListsHeld, hits: Candidates, scores: dict[int, NDArray[np.float32]]
) -> NDArray[np.float32]:
    """The scores (hits,) of the centroids of their lists; inf for those in no list. scores: by generation."""
    found = np.full(len(hits), np.inf, np.float32)
    for place in np.unique(hits.places).tolist():
        part = view.parts[place]
        lists = part.segment.lists if isinstance(part, SegmentView) else None
        if lists is not None and place in held.places:
            of_part = hits.places == place
            numbers = np.searchsorted(lists.begin, hits.rows[of_part], "right") - 1
            found[of_part] = scores[lists.generation][numbers]
    return found
