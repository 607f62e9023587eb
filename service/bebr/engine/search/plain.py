"""Plain searches: the best points for one vector or text, where all codes are of the active version. Most searches are
plain.

`plain_query` makes of such a request in one step what `parse`, `read`, `embed` and `route` make of it in four. It says
None of whatever is not plain, and of whatever may be wrong: that goes the long way, which names what is wrong.
"""

from dataclasses import dataclass, fields
from operator import attrgetter

from bebr.config import Limits
from bebr.core.arrays import Floats
from bebr.core.scoring import Scorer
from bebr.encoding.embedding.vectors import unit_of
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.inputs import check_text
from bebr.engine.requests import SearchRequest
from bebr.engine.search.probing import probing_of
from bebr.engine.search.query import Query, RoutedQuery, VersionQuery
from bebr.engine.search.rescore import rescoring_of

_MAY_DIFFER = {"text", "vector", "limit", "scorer", "with_metadata", "with_code", "explain", "rescore"}
_OTHERS = [field for field in fields(SearchRequest) if field.name not in _MAY_DIFFER]
_others_of = attrgetter(*(field.name for field in _OTHERS))
_PLAIN = tuple(field.default for field in _OTHERS)


@dataclass(frozen=True, slots=True)
class EmbeddedText:
    """The text of a plain search, embedded."""

    unit: Floats
    """(1, embedding dims) as the model gave it, of length one."""
    model: str | None
    """Fingerprint of that model."""
    seconds: float
    """What it took."""


def is_plain(request: SearchRequest) -> bool:
    """Whether nothing is requested that a plain search does not do."""
    return (request.vector is None) != (request.text is None) and bool(_others_of(request) == _PLAIN)


def plain_text(collection: Collection, limits: Limits, request: SearchRequest) -> str | None:
    """The text of a plain search, to be embedded by the model of the active version; None: it goes the long way.

    Raises InvalidText.
    """
    if request.text is None or not _is_of_one_version(collection, limits, request):
        return None
    if not collection.encoders.embeds(collection.active):
        return None
    return check_text(request.text, True, limits.max_text_chars)


def plain_query(
    collection: Collection, limits: Limits, request: SearchRequest, embedded: EmbeddedText | None = None
) -> RoutedQuery | None:
    """The request, checked and routed; None: it has to go the long way. embedded: its text."""
    version = collection.active
    if not _is_of_one_version(collection, limits, request):
        return None
    unit = query_unit(request, embedded, version, collection.encoders.codec(version).embedding_dims)
    if unit is None:
        return None
    query = Query(request, Scorer.ADC, None, 0, request.limit, version, unit)
    asked = {version.number: VersionQuery(unit, unit)}
    rescoring = rescoring_of(query, [version], limits)
    return RoutedQuery(query, asked, {}, rescoring, probing_of(collection, query, rescoring is not None))


def query_unit(
    request: SearchRequest, embedded: EmbeddedText | None, version: Version, dims: int | None
) -> Floats | None:
    """(1, dims) of length one: the vector, or the embedded text. None: it has to go the long way."""
    if request.vector is None:
        return None if embedded is None or embedded.model != version.model_fingerprint else embedded.unit
    return unit_of(request.vector) if len(request.vector) == dims else None


def _is_of_one_version(collection: Collection, limits: Limits, request: SearchRequest) -> bool:
    version = collection.active
    if not is_plain(request) or request.rescore or version.kind is VersionKind.RAW:
        return False
    if request.scorer not in (None, Scorer.ADC) or not 1 <= request.limit <= limits.max_limit:
        return False
    return all(number == version.number for number in collection.shards.points())
