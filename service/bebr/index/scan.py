"""Scanning parts with prepared queries: kernel calls and exact ties.

Equal scores are ordered by ascending id. In a sealed segment rows are sorted by id, so the kernel's order is right. In
a growing segment they are not: where the last place is tied, more rows are fetched until the tie is whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.filters import Filter
from bebr.core.scoring import DotQueries, HammingQueries, hamming_scores
from bebr.index.candidates import Candidates, Part, best_of

FEW_ROWS = 8192
"""Raising the floors costs more than it saves when no more rows than this are left to scan."""
Scores = NDArray[np.float32]
Rows = NDArray[np.int64]
Scanned = tuple[int, Scores, Rows]
"""Place of a part, and what was found in it: scores and rows (queries, n)."""


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

    def __len__(self) -> int:
        return len(self.prepared)


def scan_parts(parts: Sequence[Part], places: Sequence[int], queries: ScanQueries) -> list[Candidates]:
    """The `limit` best rows of the parts at these places, for each query, and all that tie with the last.

    Scores are those of the scan: nothing is added, and for Hamming they are minus the distance.
    """
    floors = queries.floors
    best = np.empty((len(queries), 0), np.float32)
    scanned: list[Scanned] = []
    places = [place for place in places if parts[place].live_count]
    rows_left = sum(parts[place].rows for place in places)
    for place in places:
        scores, rows = _scan_part(parts[place], queries, floors)
        scanned.append((place, scores, rows))
        rows_left -= parts[place].rows
        if rows_left > FEW_ROWS:
            best, floors = _raise_floors(best, scores, floors, queries.limit)
    return [_candidates(scanned, query, queries.limit) for query in range(len(queries))]


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


def top_rows(part: Part, queries: ScanQueries) -> tuple[Scores, Rows]:
    """All rows that the first query finds: scores (rows,) float32, rows (rows,) int64, best first, padded with -1."""
    masks, mask_of_query = masks_of(part, queries.filters)
    scores, rows = _kernel_top_k(part, queries, part.rows, masks, mask_of_query, queries.floors)
    return scores[0], rows[0]


def ceiling_of(floors: Scores) -> NDArray[np.int32]:
    """The largest distances that count, (queries,) int32."""
    return np.where(np.isfinite(floors), -floors, np.float32(2**24)).astype(np.int32)


def _scan_part(part: Part, queries: ScanQueries, floors: Scores) -> tuple[Scores, Rows]:
    masks, mask_of_query = masks_of(part, queries.filters)
    wanted = min(queries.limit, part.rows)
    if part.sorted_by_id:
        return _kernel_top_k(part, queries, wanted, masks, mask_of_query, floors)
    last = wanted - 1
    wanted = min(wanted + 1, part.rows)
    while True:
        scores, rows = _kernel_top_k(part, queries, wanted, masks, mask_of_query, floors)
        tied = (scores[:, last] == scores[:, -1]) & (rows[:, -1] >= 0)
        if wanted == part.rows or not tied.any():
            return scores, rows
        wanted = min(4 * wanted, part.rows)


def _kernel_top_k(
    part: Part,
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
    part: Part, filters: tuple[Filter | None, ...]
) -> tuple[list[NDArray[np.uint16]] | None, NDArray[np.int32] | None]:
    """The kernel's masks: one per distinct filter, none where all rows are alive and nothing is filtered."""
    if filters == (None,):  # most searches
        return ([part.live] if part.has_dead else None), None
    places = {condition: place for place, condition in enumerate(dict.fromkeys(filters))}
    if list(places) == [None]:
        return ([part.live] if part.has_dead else None), None
    masks = [part.live if condition is None else part.mask(condition) for condition in places]
    return masks, np.array([places[condition] for condition in filters], np.int32)


def _raise_floors(best: Scores, scores: Scores, floors: Scores, limit: int) -> tuple[Scores, Scores]:
    """Once `limit` rows were seen, nothing below the worst of them can still be a hit; equal scores still can."""
    best = np.concatenate([best, scores], axis=1)
    if best.shape[1] > limit:
        best = -np.partition(-best, limit - 1, axis=1)[:, :limit]
    if best.shape[1] == limit:
        floors = np.maximum(floors, best.min(axis=1))
    return best, floors


def _candidates(scanned: Sequence[Scanned], query: int, limit: int) -> Candidates:
    return best_of(
        [
            Candidates(scores[query].astype(np.float64), np.full(len(rows[query]), place, np.int32), rows[query])
            for place, scores, rows in scanned
        ],
        limit,
    )
