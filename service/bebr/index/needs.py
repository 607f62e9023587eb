"""What it takes to find the best hits of queries by lists, for calibration: see `bebr.core.list_calibration`."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.list_calibration import needs_of
from bebr.core.scoring import DotQueries
from bebr.index.candidates import Candidates
from bebr.index.probe import ListsHeld
from bebr.index.scan import ScanQueries, scan
from bebr.index.scan_view import ScanView
from bebr.index.segment import SegmentView


@dataclass(frozen=True, slots=True)
class Needs:
    """Of the best hits of one query."""

    scores: NDArray[np.float64]
    """(hits,), best first."""
    needs: NDArray[np.float32]
    """(hits,): -inf for a hit in no list."""


def needs(view: ScanView, queries: ScanQueries) -> list[Needs]:
    """Of the `limit` best rows of each query, all of which are scored. Raises DamagedSegment."""
    while True:
        lost = view.begin_scan(checks_all=True)
        found = _needs(view, queries)
        if view.is_unhurt(lost):
            return found


def _needs(view: ScanView, queries: ScanQueries) -> list[Needs]:
    selection, held, prepared = view.of_version.get(queries.version), view.lists.get(queries.version), queries.prepared
    if selection is None or held is None or not isinstance(prepared, DotQueries):
        return [Needs(np.empty(0), np.empty(0, np.float32)) for _ in range(len(queries))]
    scores = {table.generation: kernel.centroid_scores(table, prepared) for table in held.tables}
    found = []
    for query, candidates in enumerate(scan(selection, view.parts, replace(queries, lists=None))):
        hits = candidates.at(slice(queries.limit))
        of_lists = {generation: of_queries[query] for generation, of_queries in scores.items()}
        found.append(Needs(hits.scores, needs_of(hits.scores, _of_hits(view, held, hits, of_lists))))
    return found


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
