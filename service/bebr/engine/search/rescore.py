"""Rescore: which searches score their candidates again by rescore codes, and how many candidates they take."""

from collections.abc import Mapping, Sequence

import numpy as np

from bebr.config import Limits
from bebr.core.scoring import Scorer
from bebr.engine.collections.schema import CollectionDocument
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.requests import SearchRequest
from bebr.engine.search.query import Query, RescoredRows, RoutedQuery
from bebr.errors import InvalidOption
from bebr.shards import Rescoring, Searched

MEASURED_LIMIT = 10
"""Hits that a version's own number of candidates was measured for."""
CANDIDATES_OF_64_BYTES = 50
"""For MEASURED_LIMIT hits, where a version has no number of its own. A scan code of half as many bytes takes four times
as many (docs/recall.md#candidates)."""
MIN_CANDIDATES, MAX_CANDIDATES = 20, 1000
"""Bounds of that rule."""
RESCORED_PER_UNIT = 100
"""Candidates that are scored again for about what everything else of a search costs."""
COARSE_CANDIDATES = 400
"""For training-free codes of one bit a dim."""
EXTRA_GROUP_SIZE = 2
"""A grouped search takes this many candidates of each group beyond twice those wanted."""


def rescoring_of(query: Query, versions: Sequence[Version], limits: Limits) -> Rescoring | None:
    """How a search scores its candidates again; None: hits keep the scores of the scan.

    versions: those that are searched. The number of candidates follows from `limit`, so it is the same on each page.
    """
    request = query.request
    if request.rescore is False or query.scorer is Scorer.HAMMING:
        return None
    of_versions = [candidates_of(version) for version in versions if version.spec.rescore is not None]
    if not of_versions:
        return None
    threshold = -np.inf if request.score_threshold is None else request.score_threshold
    return Rescoring(candidates_for(request, max(of_versions), limits), query.offset, query.wanted, threshold)


def candidates_for(request: SearchRequest, of_version: int, limits: Limits) -> int:
    """How many are scored again together. of_version: `candidates_of` what is searched."""
    if (candidates := request.candidates) is None:
        scaled = of_version * max(request.limit, MEASURED_LIMIT) // MEASURED_LIMIT
        candidates = min(scaled, limits.max_candidates)
    return max(candidates, request.limit)


def candidates_of(version: Version) -> int:
    """Candidates for MEASURED_LIMIT hits: as many as its fit has measured, else by the size of its scan code."""
    measured = version.metrics.get("candidates")
    if measured is not None:
        return int(measured)
    if version.rotated_dims is not None or version.buffered_dims is not None:
        return COARSE_CANDIDATES if version.spec.blocks[0].bits == 1 else CANDIDATES_OF_64_BYTES
    by_size = CANDIDATES_OF_64_BYTES * 64**2 // version.spec.code_size_bytes**2
    return min(max(by_size, MIN_CANDIDATES), MAX_CANDIDATES)


def rescored_rows(routed: Sequence[RoutedQuery], searched: Searched) -> list[RescoredRows | None]:
    """How the candidates of each query were scored again."""
    if (rescored := searched.rescored) is None:
        return [None] * len(routed)
    return [
        RescoredRows(one.rescoring.candidates if one.rescoring else 0, rows, rescored.seconds)
        for one, rows in zip(routed, rescored.rows, strict=True)
    ]


def group_candidates(request: SearchRequest) -> int:
    """Candidates of each group."""
    return 2 * request.group_size + EXTRA_GROUP_SIZE


def check_rescore(
    request: SearchRequest,
    scorer: Scorer,
    document: CollectionDocument,
    points: Mapping[int, int],
    limits: Limits,
) -> None:
    """Raise InvalidOption where rescoring is wanted and cannot be, or by more candidates than allowed.

    points: number of points by code version.
    """
    if request.candidates is not None and not 1 <= request.candidates <= limits.max_candidates:
        raise InvalidOption(
            f"rescore.candidates must be 1 to {limits.max_candidates}, got {request.candidates}",
            key="rescore.candidates",
        )
    if not request.rescore:
        return
    if scorer is Scorer.HAMMING:
        raise InvalidOption(
            "scorer 'hamming' compares the signs of scan codes and is not rescored; use 'adc' or 'sdc', or leave "
            "'rescore' out",
            key="rescore",
        )
    searched = [document.versions[number] for number in points] or [document.active_version]
    if not any(version.spec.rescore for version in searched) and not _is_planned(document):
        names = ", ".join(dict.fromkeys(f"'{version.id}'" for version in searched))
        raise InvalidOption(
            f"no code version that is searched has rescore codes (only {names}); fit the collection with "
            "rescore_bytes, or leave 'rescore' out",
            key="rescore",
        )


def _is_planned(document: CollectionDocument) -> bool:
    """Whether points are collected for a fit that will give them rescore codes."""
    is_buffered = document.active_version.kind is VersionKind.BUFFERED
    return is_buffered and document.fit is not None and bool(getattr(document.fit, "rescore_bytes", 0))
