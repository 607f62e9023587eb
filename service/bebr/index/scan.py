"""Scanning parts with prepared queries: what a search asks of the codes of one version, and the kernel calls for it.

Equal scores are ordered by ascending id, which the kernel does not know: it finds all rows that tie with the last one
wanted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.filters import Filter
from bebr.core.lists import ListRule
from bebr.core.scoring import DotQueries, HammingQueries, RescoreQueries, hamming_scores
from bebr.index.candidates import Candidates, Part
from bebr.index.slices import PartSlice

Selection = kernel.Selection
Scores = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ScanQueries:
    """Queries of one scorer against the codes of one version."""

    version: int
    """Number of the code version."""
    prepared: DotQueries | HammingQueries
    limit: int
    """Hits per query, the largest that any of them wants."""
    filters: tuple[Filter | None, ...]
    """One per query."""
    floors: Scores
    """(queries,): what scores less is no hit; -inf: all may be hits. For Hamming, minus the largest distance."""
    added: NDArray[np.float64] | None = None
    """(queries,): what the scan leaves out of every score of the query; None: nothing."""
    thresholds: NDArray[np.float64] | None = None
    """(queries,): the lowest whole score that counts, exactly; None: the floors are exact."""
    rescore: RescoreQueries | None = None
    """The queries as the version's rescore codes take them; None: they are not scored by them."""
    lists: ListRule | None = None
    """How lists are read, where there are some; None: all rows are scored."""
    share: float = 1.0
    """What that costs, of what it costs to score all rows, about."""

    def __len__(self) -> int:
        return len(self.prepared)

    def at(self, which: Rows) -> "ScanQueries":
        """Some of the queries, as the scan takes them: what comes after it is left out."""
        prepared, rule = self.prepared, self.lists
        assert isinstance(prepared, DotQueries), "Hamming queries are not divided"
        return ScanQueries(
            self.version,
            DotQueries(prepared.values[which], prepared.scales[which]),
            self.limit,
            tuple([self.filters[query] for query in which.tolist()]),
            self.floors[which],
            lists=None if rule is None else ListRule(rule.deltas[which], rule.stop_at[which]),
        )


def scan(selection: Selection, parts: Sequence[Part], queries: ScanQueries) -> list[Candidates]:
    """The `limit` best rows of the selected parts for each query, and all that tie with the last.

    Scores are those of the scan: nothing is added, and for Hamming they are minus the distance.
    """
    masks, mask_of_query = masks_of_parts(selection, parts, queries.filters)
    prepared, k = queries.prepared, queries.limit
    if isinstance(prepared, DotQueries):
        found = kernel.dot_candidates(selection, prepared, k, masks, mask_of_query, queries.floors)
    else:
        ceilings = ceiling_of(queries.floors)
        found = kernel.hamming_candidates(selection, prepared, k, masks, mask_of_query, ceilings)
    return candidates_of(found)


def candidates_of(found: kernel.Candidates) -> list[Candidates]:
    """Of each query."""
    if len(found.starts) == 2:
        return [Candidates(found.scores, found.places, found.rows)]
    return [
        Candidates(found.scores[start:stop], found.places[start:stop], found.rows[start:stop])
        for start, stop in pairwise(found.starts.tolist())
    ]


def masks_of_parts(
    selection: Selection, parts: Sequence[Part], filters: tuple[Filter | None, ...]
) -> tuple[list[list[NDArray[np.uint16]]], NDArray[np.int32] | None]:
    """One mask per distinct filter and selected part, and which of them is whose; -1: none."""
    if filters == (None,):  # most searches
        return [], None
    conditions = {condition for condition in filters if condition is not None}
    if not conditions:
        return [], None
    numbers: dict[Filter | None, int] = {condition: number for number, condition in enumerate(conditions)}
    masks = [[parts[place].mask(condition) for place in selection.places] for condition in conditions]
    return masks, np.array([numbers.get(condition, -1) for condition in filters], np.int32)


def finished(candidates: Candidates, query: int, queries: ScanQueries, dims: int) -> Candidates:
    """The same with the scores of the answer, which mean the same in all versions; less those that do not count."""
    if isinstance(queries.prepared, HammingQueries):
        distances = (-candidates.scores).astype(np.int32)
        scores = hamming_scores(distances, dims).astype(np.float64)
        return Candidates(scores, candidates.places, candidates.rows, distances)
    if queries.added is None and queries.thresholds is None:
        return candidates
    added = 0.0 if queries.added is None else float(queries.added[query])
    threshold = -np.inf if queries.thresholds is None else float(queries.thresholds[query])
    return candidates.raised(added, threshold)


def top_rows(part: Part | PartSlice, queries: ScanQueries) -> tuple[Scores, Rows]:
    """All rows that the first query finds: scores (rows,) float32, rows (rows,) int64, best first, padded with -1."""
    masks, mask_of_query = masks_of(part, queries.filters)
    scores, rows = _kernel_top_k(part, queries, part.rows, masks, mask_of_query, queries.floors)
    return scores[0], rows[0]


def ceiling_of(floors: Scores) -> NDArray[np.int32]:
    """The largest distances that count, (queries,) int32."""
    return np.where(np.isfinite(floors), -floors, np.float32(2**24)).astype(np.int32)


def _kernel_top_k(
    part: Part | PartSlice,
    queries: ScanQueries,
    k: int,
    masks: list[NDArray[np.uint16]] | None,
    mask_of_query: NDArray[np.int32] | None,
    floors: Scores,
) -> tuple[Scores, Rows]:
    """Scores (queries, k) float32 and rows (queries, k) int64; a Hamming score is still minus the distance here."""
    prepared = queries.prepared
    if isinstance(prepared, DotQueries):
        return kernel.dot_top_k(
            part.blocked, part.gains, part.rows, part.spec, prepared, k, masks, mask_of_query, floors
        )
    distances, rows = kernel.hamming_top_k(
        part.blocked, part.rows, part.spec, prepared, k, masks, mask_of_query, ceiling_of(floors)
    )
    return np.where(rows >= 0, -distances.astype(np.float32), np.float32(-np.inf)), rows


def masks_of(
    part: Part | PartSlice, filters: tuple[Filter | None, ...]
) -> tuple[list[NDArray[np.uint16]] | None, NDArray[np.int32] | None]:
    """The kernel's masks: one per distinct filter, none where all rows are alive and nothing is filtered."""
    if filters == (None,):  # most searches
        return ([part.live] if part.has_dead else None), None
    places = {condition: place for place, condition in enumerate(dict.fromkeys(filters))}
    if list(places) == [None]:
        return ([part.live] if part.has_dead else None), None
    masks = [part.live if condition is None else part.mask(condition) for condition in places]
    return masks, np.array([places[condition] for condition in filters], np.int32)
