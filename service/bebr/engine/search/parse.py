"""Parse: a search request becomes a `Query`. What is wrong with a request is said here, before anything is computed."""

from collections.abc import Sequence

import numpy as np

from bebr.config import Limits
from bebr.core.scoring import Scorer
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.cursors import read_search_cursor
from bebr.engine.inputs import check_text, check_vector, read_code
from bebr.engine.requests import SearchRequest
from bebr.engine.search.probing import check_probing
from bebr.engine.search.query import Query
from bebr.engine.search.rescore import check_rescore
from bebr.errors import BebrError, InvalidOption

MAX_GROUP_SIZE = 100


def parse_all(collection: Collection, limits: Limits, requests: Sequence[SearchRequest]) -> list[Query]:
    """One query per request. Raises InvalidRequest for the first that is wrong; where there are several, says which."""
    queries: list[Query] = []
    size_left = limits.max_filter_size
    for request in requests:
        try:
            query = parse(collection, limits, request, size_left)
            queries.append(query)
            size_left -= 0 if query.condition is None else query.condition.size
        except BebrError as error:
            if len(requests) > 1:
                error.fields["search"] = len(queries)
            raise
    return queries


def parse(collection: Collection, limits: Limits, request: SearchRequest, max_filter_size: int | None = None) -> Query:
    """Check a request against a collection and the limits. Raises InvalidRequest naming what is wrong.

    max_filter_size: where other searches of the batch have taken a part of the limit.
    """
    source = _source(request)
    scorer = _scorer(request, source)
    offset, wanted = _window(request, limits.max_limit)
    if request.score_threshold is not None and not np.isfinite(request.score_threshold):
        raise InvalidOption("score_threshold must be a finite number", key="score_threshold")
    version = _version(collection, request)
    _check_grouping(collection, request, limits.max_limit)
    check_probing(request, scorer)
    if request.rescore or request.candidates is not None:
        check_rescore(request, scorer, collection.document, collection.shards.points(), limits)
    max_size = limits.max_filter_size if max_filter_size is None else max_filter_size
    condition = None if request.filter is None else collection.parse_filter(request.filter, max_size)
    embedding, record = None, None
    if request.text is not None:
        check_text(request.text, collection.encoders.takes_text(version), limits.max_text_chars)
    elif request.vector is not None:
        embedding = check_vector(request.vector, collection.encoders.codec(version).embedding_dims)
    elif request.code is not None:
        record = read_code(request.code, version.spec, version.steps)[None]
    return Query(request, scorer, condition, offset, wanted, version, embedding, record)


def _source(request: SearchRequest) -> str:
    sources = ("text", request.text), ("vector", request.vector), ("code", request.code), ("id", request.id)
    given = [key for key, value in sources if value is not None]
    if len(given) != 1:
        raise InvalidOption(
            f"a search has exactly one of text, vector, vector_b64, code_b64, id; got {given or 'none'}", key="text"
        )
    return given[0]


def _scorer(request: SearchRequest, source: str) -> Scorer:
    is_code = source in ("code", "id")
    scorer = request.scorer or (Scorer.SDC if is_code else Scorer.ADC)
    if scorer is Scorer.ADC and is_code:
        raise InvalidOption("scorer 'adc' needs a float query (text or vector); use 'sdc' or 'hamming'", key="scorer")
    return scorer


def _window(request: SearchRequest, maximum: int) -> tuple[int, int]:
    """-> (hits to skip, hits to find)."""
    offset = request.offset
    if request.cursor is not None:
        if request.offset:
            raise InvalidOption("give either offset or cursor, not both", key="cursor")
        offset = read_search_cursor(request.cursor)
    wanted = offset + request.limit
    if request.cursor is not None and offset < maximum and request.limit <= maximum:
        wanted = min(wanted, maximum)  # whoever follows cursors gets a short last page, not an error
    if request.limit < 1 or offset < 0 or wanted > maximum:
        raise InvalidOption(
            f"limit must be at least 1 and offset + limit at most {maximum}, got limit {request.limit} and offset "
            f"{offset}; scroll to read everything",
            key="limit",
        )
    return offset, wanted


def _version(collection: Collection, request: SearchRequest) -> Version:
    """The version that the query is of: the active one, unless the request says which.

    While points are buffered for a fit, a code is of the newest version that has codes of the same model.
    """
    active = collection.active
    if request.code is not None and active.kind is VersionKind.BUFFERED:
        coded = [v for v in collection.document.coded if v.model_fingerprint == active.model_fingerprint]
        active = coded[-1] if coded else active
    if request.version is None:
        return active
    if request.id is not None:
        raise InvalidOption("'version' does not apply to an 'id': the point has a version already", key="version")
    versions = [version for version in collection.document.versions if not version.retired]
    for version in versions:
        if version.id == request.version:
            return version
    names = ", ".join(f"'{version.id}'" for version in versions)
    raise InvalidOption(
        f"'{collection.name}' has the code versions {names}, and no '{request.version:.200}'; name the version whose "
        "model made the query",
        key="version",
    )


def _check_grouping(collection: Collection, request: SearchRequest, maximum: int) -> None:
    if request.group_by is None:
        if request.group_size != 1:
            raise InvalidOption("group_size applies only together with group_by", key="group_size")
        return
    if request.group_by not in collection.document.filterable:
        raise InvalidOption(f"group_by needs a filterable field; '{request.group_by}' is not one", key="group_by")
    collection.check_built([request.group_by])
    if not 1 <= request.group_size <= MAX_GROUP_SIZE:
        raise InvalidOption(f"group_size must be 1 to {MAX_GROUP_SIZE}, got {request.group_size}", key="group_size")
    if request.cursor is not None or request.offset:
        raise InvalidOption("group_by cannot be combined with offset or cursor", key="group_by")
    if request.limit * request.group_size > maximum:
        raise InvalidOption(
            f"limit * group_size is at most {maximum}, got {request.limit} groups of {request.group_size} hits",
            key="group_size",
        )
