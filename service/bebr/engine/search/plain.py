"""Plain searches: the best points for one vector, where all codes are of the active version. Most searches are plain.

`plain_query` makes of such a request in one step what `parse`, `read`, `embed` and `route` make of it in four. It says
None of whatever is not plain, and of whatever may be wrong: that goes the long way, which names what is wrong.
"""

from dataclasses import fields
from operator import attrgetter

from bebr.config import Limits
from bebr.core.scoring import Scorer
from bebr.encoding.embedding.vectors import unit_of
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import VersionKind
from bebr.engine.requests import SearchRequest
from bebr.engine.search.probing import probing_of
from bebr.engine.search.query import Query, RoutedQuery, VersionQuery
from bebr.engine.search.rescore import rescoring_of

_MAY_DIFFER = {"vector", "limit", "scorer", "with_metadata", "with_code", "explain", "rescore"}
_OTHERS = [field for field in fields(SearchRequest) if field.name not in _MAY_DIFFER]
_others_of = attrgetter(*(field.name for field in _OTHERS))
_PLAIN = tuple(field.default for field in _OTHERS)


def is_plain(request: SearchRequest) -> bool:
    """Whether nothing is requested that a plain search does not do."""
    return request.vector is not None and bool(_others_of(request) == _PLAIN)


def plain_query(collection: Collection, limits: Limits, request: SearchRequest) -> RoutedQuery | None:
    """The request, checked and routed; None: it has to go the long way."""
    version, vector = collection.active, request.vector
    if vector is None or not is_plain(request):
        return None
    if request.scorer not in (None, Scorer.ADC) or not 1 <= request.limit <= limits.max_limit:
        return None
    if any(number != version.number for number in collection.shards.points()):
        return None
    if version.kind is VersionKind.RAW or request.rescore:
        return None
    if len(vector) != collection.encoders.codec(version).embedding_dims or (unit := unit_of(vector)) is None:
        return None
    query = Query(request, Scorer.ADC, None, 0, request.limit, version, unit)
    asked = {version.number: VersionQuery(unit, unit)}
    rescoring = rescoring_of(query, [version], limits)
    return RoutedQuery(query, asked, {}, rescoring, probing_of(collection, query, rescoring is not None))
