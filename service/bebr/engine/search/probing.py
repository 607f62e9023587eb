"""Probing: which searches read lists of codes instead of all codes, and how much of an exact answer they find.

Lists are those of `bebr.core.lists`. A search that reads them wants a *recall*: the share of the hits of an exact
search that it finds, on average over searches. Its own comes first, then the collection's.
"""

from collections.abc import Mapping

from bebr.config import Limits
from bebr.core.scoring import Scorer
from bebr.engine.collections.registry import check_recall
from bebr.engine.collections.schema import CollectionDocument
from bebr.engine.requests import SearchRequest
from bebr.errors import InvalidOption


def check_probing(request: SearchRequest, scorer: Scorer) -> None:
    """Raise InvalidOption where a recall is wanted that cannot be, or of a search that is exact."""
    if request.recall is None:
        return
    check_recall(request.recall)
    why = None
    if request.exact:
        why = "'exact' finds all"
    elif scorer is Scorer.HAMMING:
        why = "scorer 'hamming' compares all codes"
    elif request.group_by is not None:
        why = "a search with 'group_by' compares all codes"
    if why is not None:
        raise InvalidOption(f"'recall' does not apply: {why}; leave 'recall' out", key="recall")


def recall_of(request: SearchRequest, scorer: Scorer, document: CollectionDocument) -> float | None:
    """The share of the exact hits that a search has to find; None: it is exact."""
    if request.exact or scorer is Scorer.HAMMING or request.group_by is not None:
        return None
    return document.recall if request.recall is None else request.recall


def why_exact(
    request: SearchRequest,
    scorer: Scorer,
    document: CollectionDocument,
    points: Mapping[int, int],
    limits: Limits,
) -> str:
    """Why a search compared all codes. points: number of points by code version."""
    if request.exact:
        return "the search says so"
    if scorer is Scorer.HAMMING:
        return "scorer hamming compares all codes"
    if request.group_by is not None:
        return "group_by compares all codes"
    if recall_of(request, scorer, document) is None:
        return "the recall of the collection is null"
    if max(points.values(), default=0) < limits.lists_from_points:
        return f"no code version has {limits.lists_from_points:,} points"
    return "the points are not in lists yet"
