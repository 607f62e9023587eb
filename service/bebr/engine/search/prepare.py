"""Queries of one scorer for the codes of one version.

What is asked for is brought into the code space of each version:

    a text or vector    its embedding is projected (adc), or encoded (hamming; sdc, and then as a code)
    a code              sdc: what it stands for is projected, so that a score means the same in every version, and
                        that codes whose dimensions are not orthogonal can be compared; hamming: encoded, but for its
                        own version
    buffered embeddings hold embeddings, not signs: hamming is refused

Codes made from another embedding model are reached as `reaching` says; their scores then count as scale * score +
offset, which adc and sdc allow and hamming does not.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import split_records
from bebr.core.scoring import DotQueries, HammingQueries, Scorer, prepare_adc, prepare_hamming, prepare_sdc
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.search.request import Plan
from bebr.engine.search.route import Reached, reach, route
from bebr.errors import Incompatible

Floats = NDArray[np.float32]
Value = TypeVar("Value", bound=np.generic)
TINY = np.finfo(np.float32).tiny


def check(collection: Collection, plans: Sequence[Plan]) -> None:
    """Raise now what `prepare` would raise for the versions that have points, before others share a scan with it."""
    versions = collection.document.versions
    if len(versions) == 1:
        return
    searched = [versions[number] for number in sorted(collection.shards.points())]
    for version in searched:
        collection.codec(version)
    for plan in plans:
        if plan.scorer is Scorer.HAMMING and any(version.kind is VersionKind.BUFFERED for version in searched):
            raise _no_signs(collection)
        if plan.is_code and [version.number for version in searched] != [plan.version.number]:
            embedding_of(collection, plan)
    for version in searched:
        _cross(collection, plans, version)


def prepare(collection: Collection, plans: Sequence[Plan], version: Version) -> DotQueries | HammingQueries:
    """Plans of one scorer -> one query each. Raises as `check` does."""
    match plans[0].scorer:
        case Scorer.ADC:
            return prepare_adc(_projected(collection, plans, version), version.spec, version.steps)
        case Scorer.SDC if version.kind is VersionKind.RAW:
            codes, gains = split_records(stack([plan.records[version.number] for plan in plans]))
            return prepare_sdc(codes, gains, version.spec, version.steps)
        case Scorer.SDC:
            queries = stack([_code_query(collection, plan, version) for plan in plans])
            return prepare_adc(queries, version.spec, version.steps)
        case Scorer.HAMMING:
            if version.kind is VersionKind.BUFFERED:
                raise _no_signs(collection)
            codes, _ = split_records(stack([_record(collection, plan, version) for plan in plans]))
            return prepare_hamming(codes)


def added_scores(collection: Collection, plans: Sequence[Plan], version: Version) -> NDArray[np.float64] | None:
    """(plans,) float64: what a scan leaves out of the scores of a version; None where that is nothing.

    Codes of a centred binarizer lie around a mean, and the kernel sees only what lies around it: <what is asked for,
    the mean> is added. For codes of another embedding model the offset that brings them to one scale is added too.
    With both, scores of all versions mean the same.
    """
    if plans[0].scorer is Scorer.HAMMING or version.kind is VersionKind.RAW:
        return None
    mean, added = collection.codec(version).mean, np.zeros(len(plans))
    if mean.any():
        asked = stack([_asked(collection, plan, version) for plan in plans])
        added += asked.astype(np.float64) @ mean.astype(np.float64)
    added += [_crossing(collection, plan, version)[1] for plan in plans]
    return added if added.any() else None


def _crossing(collection: Collection, plan: Plan, version: Version) -> tuple[float, float]:
    """The scale and the offset of a version's scores for this query."""
    if version.model_fingerprint == plan.version.model_fingerprint:
        return 1.0, 0.0
    reached, length = _reached(collection, plan, version), _length(collection, plan)
    return reached.scale * length, reached.offset * length


def _direction(collection: Collection, plan: Plan, version: Version) -> tuple[Floats, np.float32]:
    """The query as a unit embedding (1, dims) of the version's model, and what to multiply by after its projection."""
    if version.model_fingerprint == plan.version.model_fingerprint:
        length = np.float32(_length(collection, plan))
        return embedding_of(collection, plan) / length, length
    return _reached(collection, plan, version).embedding, np.float32(_crossing(collection, plan, version)[0])


def _projected(collection: Collection, plans: Sequence[Plan], version: Version) -> Floats:
    """(plans, dims) float32: a projection takes unit vectors."""
    directions = [_direction(collection, plan, version) for plan in plans]
    factors = np.array([factor for _, factor in directions], np.float32)
    return collection.codec(version).project(stack([unit for unit, _ in directions])) * factors[:, None]


def _reached(collection: Collection, plan: Plan, version: Version) -> Reached:
    """The query as one of the version's model, which is not its own; found once for each model."""
    target = str(version.model_fingerprint)
    if target not in plan.reached:
        _cross(collection, [plan], version)
    return plan.reached[target]


def _cross(collection: Collection, plans: Sequence[Plan], version: Version) -> None:
    """Find what plans of other models ask of the version's; those of one model are crossed together."""
    target = str(version.model_fingerprint)
    alike: dict[tuple[str | None, frozenset[str]], list[Plan]] = {}
    for plan in plans:
        if plan.version.model_fingerprint != version.model_fingerprint and target not in plan.reached:
            if plan.scorer is Scorer.HAMMING:
                raise _out_of_reach(collection, plan, version)
            alike.setdefault((plan.version.model_fingerprint, frozenset(plan.duals)), []).append(plan)
    for (model, others), group in alike.items():
        hops = route(collection.encoders, model, version.model_fingerprint, bool(others))
        units = stack([embedding_of(collection, plan) / np.float32(_length(collection, plan)) for plan in group])
        duals = {other: stack([plan.duals[other] for plan in group]) for other in others}
        reached = None if hops is None else reach(hops, units, duals, collection.document.upgrades.adapters)
        if reached is None:
            raise _out_of_reach(collection, group[0], version)
        for plan, query in zip(group, reached, strict=True):
            plan.reached[target] = query


def _out_of_reach(collection: Collection, plan: Plan, version: Version) -> Incompatible:
    if plan.scorer is Scorer.HAMMING:
        how = "distances of signs of two models have no scale in common; use 'adc' or 'sdc'"
    elif plan.request.text is not None:
        how = f"the embedding model of '{version.id}' is not on hand; put its bundle back, or backfill these points"
    else:
        how = "search by text, attach a bundle that was trained with --compatible-with, or backfill these points"
    return Incompatible(
        f"'{collection.name}' holds points of '{version.id}', which this query of '{plan.version.id}' cannot search: "
        f"{how}",
        version=version.id,
        query_version=plan.version.id,
    )


def _asked(collection: Collection, plan: Plan, version: Version) -> Floats:
    """(1, embedding dims) float32: the query's embedding, or for sdc what its code stands for."""
    if plan.scorer is Scorer.ADC or plan.is_code:
        if version.model_fingerprint == plan.version.model_fingerprint:
            return embedding_of(collection, plan)
        unit, factor = _direction(collection, plan, version)
        return unit * factor
    scale = np.float32(_crossing(collection, plan, version)[0])
    return collection.codec(version).decode(_record(collection, plan, version)) * scale


def _code_query(collection: Collection, plan: Plan, version: Version) -> Floats:
    """(1, dims) float32: a code's own query, or that of what the text, vector or code of another version stands for."""
    if plan.is_code and plan.version.number != version.number:
        return _projected(collection, [plan], version)
    scale = np.float32(_crossing(collection, plan, version)[0])
    return collection.codec(version).code_query(_record(collection, plan, version)) * scale


def _no_signs(collection: Collection) -> Incompatible:
    return Incompatible(
        f"scorer 'hamming' compares the signs of codes, and points of '{collection.name}' are kept as embeddings until "
        "the fit; use 'adc' or 'sdc', or wait",
        key="scorer",
    )


def _record(collection: Collection, plan: Plan, version: Version) -> NDArray[np.uint8]:
    """The query's record (1, record_size_bytes) uint8 in a version, made once."""
    if version.number not in plan.records:
        plan.records[version.number] = collection.codec(version).encode(_direction(collection, plan, version)[0])
    return plan.records[version.number]


def embedding_of(collection: Collection, plan: Plan) -> Floats:
    """The query's embedding (1, dims) float32; that of a code is what it stands for."""
    if plan.embedding is None:
        version = plan.version
        plan.embedding = collection.codec(version).decode(plan.records[version.number])
    return plan.embedding


def _length(collection: Collection, plan: Plan) -> float:
    """Texts and vectors have length one; what a code stands for need not."""
    if not plan.is_code:
        return 1.0
    return max(float(np.linalg.norm(embedding_of(collection, plan))), float(TINY))


def stack(rows: Sequence[NDArray[Value]]) -> NDArray[Value]:
    """(1, n) each -> (rows, n)."""
    return rows[0] if len(rows) == 1 else np.concatenate(rows)
