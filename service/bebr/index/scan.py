"""Scanning one shard's parts with prepared queries: kernel calls, exact ties, and the merge.

Equal scores are ordered by ascending id. In a sealed segment rows are sorted by id, so the kernel's order is right. In
a growing segment they are not: where the last place is tied, more rows are fetched until the tie is whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.filters import Filter
from bebr.core.scoring import DotQueries, HammingQueries, hamming_scores, reaches
from bebr.core.topk import rank_by_score_then_id
from bebr.index.growing import GrowingView
from bebr.index.segment import SegmentView

FEW_ROWS = 8192
"""Raising the floors costs more than it saves when no more rows than this are left to scan."""
FEW_CANDIDATES = 128
"""Up to this many are sorted faster than numpy finds the lowest score that still counts."""
Part = SegmentView | GrowingView
Scores = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ScanQueries:
    """Queries of one scorer against the codes of one version.

    limit: hits per query, the largest that any of them wants. filters: one per query. floors (queries,) float32: the
    lowest score that counts, -inf for all; for Hamming, minus the largest distance that counts.
    """

    version: int
    prepared: DotQueries | HammingQueries
    limit: int
    filters: tuple[Filter | None, ...]
    floors: Scores

    def __len__(self) -> int:
        return len(self.prepared)


@dataclass(frozen=True, slots=True)
class Found:
    """Hits of one query, best first."""

    scores: list[float]
    ids: list[str]
    versions: list[int]
    """Number of each hit's code version."""
    distances: list[int] | None = None
    """Hamming only."""
    groups: Sequence[tuple[int, Any]] = ()
    """Grouped scans only: the value by which each is a hit, after its place among the values of the point."""

    def raised(self, by: float, floor: float) -> "Found":
        """The same hits with `by` added to every score, less those that then do not reach the floor."""
        scores = [score + by for score in self.scores]
        kept = sum(reaches(score, floor) for score in scores)
        distances = None if self.distances is None else self.distances[:kept]
        return Found(scores[:kept], self.ids[:kept], self.versions[:kept], distances, self.groups[:kept])

    def at(self, positions: Sequence[int]) -> "Found":
        """The hits at these positions."""
        if len(positions) == len(self.ids) and (not positions or positions[0] == 0):
            return self
        return Found(
            [self.scores[i] for i in positions],
            [self.ids[i] for i in positions],
            [self.versions[i] for i in positions],
            None if self.distances is None else [self.distances[i] for i in positions],
        )


def scan_parts(parts: Sequence[Part], queries: ScanQueries) -> list[Found]:
    """The `limit` best rows of all parts that hold the queries' version, for each query."""
    parts = [part for part in parts if part.version == queries.version and part.live_count]
    floors = queries.floors
    best = np.empty((len(queries), 0), np.float32)
    scanned: list[tuple[Part, Scores, Rows]] = []
    rows_left = sum(part.rows for part in parts)
    for part in parts:
        scores, rows = _scan_part(part, queries, floors)
        scanned.append((part, scores, rows))
        rows_left -= part.rows
        if rows_left > FEW_ROWS:
            best, floors = _raise_floors(best, scores, floors, queries.limit)
    return [_collect(scanned, query, queries) for query in range(len(queries))]


def merge(found: Sequence[Found], limit: int) -> Found:
    """Join the hits of several shards, or of several code versions whose scores mean the same."""
    if len(found) == 1:
        return found[0]
    scores = np.array([score for part in found for score in part.scores])
    ids = [point_id for part in found for point_id in part.ids]
    order = rank_by_score_then_id(scores, ids, limit)
    distances = None
    if found[0].distances is not None:
        together = [distance for part in found for distance in part.distances or []]
        distances = [together[i] for i in order]
    versions = [version for part in found for version in part.versions]
    return Found(scores[order].tolist(), [ids[i] for i in order], [versions[i] for i in order], distances)


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


def _collect(scanned: Sequence[tuple[Part, Scores, Rows]], query: int, queries: ScanQueries) -> Found:
    """Join the candidates of all parts: only ids of rows that can still be a hit are read."""
    limit = queries.limit
    worst = _worst([scores[query] for _, scores, _ in scanned], limit)
    candidates: list[tuple[float, str]] = []
    for part, scores, rows in scanned:
        pairs = zip(scores[query].tolist(), rows[query].tolist(), strict=True)
        kept = [(score, row) for score, row in pairs if score >= worst and row >= 0]
        ids = part.ids_at([row for _, row in kept])
        candidates += [(-score, point_id) for (score, _), point_id in zip(kept, ids, strict=True)]
    candidates.sort()
    ids = [point_id for _, point_id in candidates[:limit]]
    costs = [cost for cost, _ in candidates[:limit]]
    versions = [queries.version] * len(ids)
    if isinstance(queries.prepared, DotQueries):
        return Found([-cost for cost in costs], ids, versions)
    distances = [int(cost) for cost in costs]
    dims = scanned[0][0].spec.dims if scanned else 1
    return Found(hamming_scores(np.array(distances, np.int32), dims).tolist(), ids, versions, distances)


def _worst(scores: Sequence[Scores], limit: int) -> float:
    """The score of the last place: what lies below is no hit."""
    count = sum(map(len, scores))
    if count <= limit:
        return -np.inf
    if count <= FEW_CANDIDATES:
        together: list[float] = [score for of_part in scores for score in of_part.tolist()]
        return sorted(together, reverse=True)[limit - 1]
    return float(-np.partition(-np.concatenate(scores), limit - 1)[limit - 1])
