"""Route: what a query asks of the codes of each version, also where another embedding model made them.

Models are named by the fingerprint of their bundle. An adapter of a bundle leads from one to another, or several do one
after the other; where there is none, the text of the query is embedded by the other model itself (dual). What comes out
is a query of the other model, with a scale and an offset that make its scores mean what those of the query's own model
mean. See `encoding.adapters`.

A query that cannot reach a version with points is refused here, before others share a scan with it.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bebr.core.arrays import TINY, Floats
from bebr.core.scoring import Scorer
from bebr.encoding import AdapterKind
from bebr.encoding.adapters.adapter import Adapter
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.encoders import CollectionEncoders
from bebr.engine.collections.schema import CollectionDocument
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.search.query import Query, RoutedQuery, VersionQuery
from bebr.errors import Incompatible


@dataclass(frozen=True, slots=True)
class Hop:
    """One step from a model to another."""

    target: str
    """The model that it leads to."""
    adapter: Adapter | None
    """None: only the text leads there."""


@dataclass(frozen=True, slots=True)
class Crossed:
    """A query of another model, found by a route. A score of it counts as scale * score + offset."""

    embedding: Floats
    """(1, dims of the other model), length one."""
    scale: float
    offset: float
    adapters: str
    """The kinds of the adapters that led here, in order."""


def route_all(collection: Collection, queries: Sequence[Query], versions: Sequence[Version]) -> list[RoutedQuery]:
    """What the queries ask of each of the versions. Queries of one model cross to another together.

    Raises Incompatible for a query that cannot search one of them, and what went wrong with a version's bundle.
    """
    for version in versions:
        if version.kind is not VersionKind.RAW:
            collection.encoders.codec(version)
    if len(versions) == 1 and all(_is_plain(query, versions[0]) for query in queries):  # most searches
        number = versions[0].number
        return [RoutedQuery(query, {number: VersionQuery(query.embedding, query.embedding)}, {}) for query in queries]
    crossed: dict[str | None, list[Crossed | None]] = {}
    for version in versions:
        if version.model_fingerprint not in crossed:
            crossed[version.model_fingerprint] = _cross_all(collection, queries, version)
    return [
        _routed(collection, query, versions, {model: found[n] for model, found in crossed.items()})
        for n, query in enumerate(queries)
    ]


def _is_plain(query: Query, version: Version) -> bool:
    """Whether a query is one embedding for the codes of its own version."""
    return query.version is version and query.embedding is not None and query.scorer is not Scorer.HAMMING


def _routed(
    collection: Collection, query: Query, versions: Sequence[Version], crossed: Mapping[str | None, Crossed | None]
) -> RoutedQuery:
    of_version: dict[int, VersionQuery] = {}
    route: dict[str, str] = {}
    for version in versions:
        if query.scorer is Scorer.HAMMING and version.kind is VersionKind.BUFFERED:
            raise _no_signs(collection)
        if version.number == query.version.number and query.record is not None:
            of_version[version.number] = VersionQuery(record=query.record)
            continue
        embedding, length = _embedding(collection, query)
        if (other := crossed[version.model_fingerprint]) is None:
            unit = embedding if query.record is None else embedding / np.float32(length)
            of_version[version.number] = VersionQuery(embedding, unit, np.float32(length))
        else:
            factor = np.float32(other.scale * length)
            of_version[version.number] = VersionQuery(
                other.embedding * factor, other.embedding, factor, other.offset * length
            )
            route[version.id] = other.adapters
    return RoutedQuery(query, of_version, route)


def _cross_all(collection: Collection, queries: Sequence[Query], version: Version) -> list[Crossed | None]:
    """The queries as those of the version's model; None for a query that is of that model already."""
    crossed: list[Crossed | None] = [None] * len(queries)
    alike: dict[tuple[str | None, frozenset[str]], list[int]] = {}
    for n, query in enumerate(queries):
        if query.version.model_fingerprint != version.model_fingerprint:
            if query.scorer is Scorer.HAMMING:
                raise _unreachable(collection, query, version)
            alike.setdefault((query.version.model_fingerprint, frozenset(query.duals)), []).append(n)
    for (model, others), members in alike.items():
        hops = find_route(collection.encoders, model, version.model_fingerprint, bool(others))
        units = np.concatenate([_unit(collection, queries[n]) for n in members])
        duals = {other: np.concatenate([queries[n].duals[other] for n in members]) for other in others}
        found = None if hops is None else cross(hops, units, duals, collection.document.upgrades.adapters)
        if found is None:
            raise _unreachable(collection, queries[members[0]], version)
        for n, other in zip(members, found, strict=True):
            crossed[n] = other
    return crossed


def _unit(collection: Collection, query: Query) -> Floats:
    embedding, length = _embedding(collection, query)
    return embedding / np.float32(length)


def _embedding(collection: Collection, query: Query) -> tuple[Floats, float]:
    """What is requested (1, dims), and its length: one for texts and vectors, not for what a code represents."""
    if query.record is None:
        assert query.embedding is not None, "the query was not embedded"
        return query.embedding, 1.0
    embedding = collection.encoders.codec(query.version).decode(query.record)
    return embedding, max(float(np.linalg.norm(embedding)), float(TINY))


def cross(
    hops: Sequence[Hop], embeddings: Floats, duals: Mapping[str, Floats], chosen: Mapping[str, str]
) -> list[Crossed] | None:
    """embeddings (rows, dims) float32, length one -> each as a query of the model at the end of the route.

    duals: embeddings (rows, their dims) of the same texts by other models, as far as they are known. chosen: kinds of
    adapters, by the model that they lead to. None: a hop needs an embedding that is missing.
    """
    scale, offsets, kinds = 1.0, np.zeros(len(embeddings)), []
    for hop in hops:
        dual = duals.get(hop.target)
        kind = choose_kind(hop, chosen.get(hop.target), dual is not None)
        if hop.adapter is None:
            if dual is None:
                return None
            crossed = dual
        else:
            crossed = hop.adapter.map(kind, embeddings, dual)
            offsets += scale * hop.adapter.offsets(kind, embeddings, crossed)
            scale *= hop.adapter.scales[kind]
        embeddings = crossed
        kinds.append(str(kind))
    names = ", then ".join(kinds)
    return [Crossed(row[None], scale, float(offset), names) for row, offset in zip(embeddings, offsets, strict=True)]


def find_route(encoders: CollectionEncoders, start: str | None, target: str | None, has_text: bool) -> list[Hop] | None:
    """The fewest adapters from one model to another; without any, the text alone. None: there is no route."""
    if start is None or target is None:
        return None
    waiting: deque[tuple[str, list[Hop]]] = deque([(start, [])])
    seen = {start}
    while waiting:
        model, hops = waiting.popleft()
        for (here, there), adapter in encoders.adapters.items():
            if here == model and there not in seen:
                further = [*hops, Hop(there, adapter)]
                if there == target:
                    return further
                seen.add(there)
                waiting.append((there, further))
    return [Hop(target, None)] if has_text else None


def choose_kind(hop: Hop, chosen: str | None, has_dual: bool) -> AdapterKind:
    """The kind that was chosen, or that measured best; where it needs a text and there is none, the linear one."""
    if hop.adapter is None:
        return AdapterKind.DUAL
    kind = AdapterKind(chosen) if chosen is not None else hop.adapter.default
    return kind if has_dual or not kind.needs_text else AdapterKind.LINEAR


def needed_texts(
    encoders: CollectionEncoders, document: CollectionDocument, own: Version, versions: Sequence[Version]
) -> dict[str, Version]:
    """The other models that must embed the text of a query of `own`, each with a version of it."""
    models = {version.model_fingerprint: version for version in document.versions if encoders.embeds(version)}
    needed: dict[str, Version] = {}
    for version in versions:
        if version.model_fingerprint == own.model_fingerprint:
            continue
        has_text = version.model_fingerprint in models
        for hop in find_route(encoders, own.model_fingerprint, version.model_fingerprint, has_text) or []:
            able = hop.target in models
            if able and choose_kind(hop, document.upgrades.adapters.get(hop.target), able).needs_text:
                needed[hop.target] = models[hop.target]
    return needed


def _unreachable(collection: Collection, query: Query, version: Version) -> Incompatible:
    if query.scorer is Scorer.HAMMING:
        how = "distances of signs of two models have no scale in common; use 'adc' or 'sdc'"
    elif query.request.text is not None:
        how = f"the embedding model of '{version.id}' is missing; restore its bundle, or backfill these points"
    else:
        how = "search by text, attach a bundle that was trained with --compatible-with, or backfill these points"
    return Incompatible(
        f"'{collection.name}' holds points of '{version.id}', which this query of '{query.version.id}' cannot search: "
        f"{how}",
        version=version.id,
        query_version=query.version.id,
    )


def _no_signs(collection: Collection) -> Incompatible:
    return Incompatible(
        f"scorer 'hamming' compares the signs of codes, and points of '{collection.name}' are buffered as embeddings "
        "until the fit; use 'adc' or 'sdc', or wait",
        key="scorer",
    )
