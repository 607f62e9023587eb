"""Queries of one scorer for the codes of one version.

All versions of a collection hold embeddings of one model, so what is asked for is brought into the code space of each:

    a text or vector    its embedding is projected (adc), or encoded (sdc, hamming)
    a code              where it is searched in its own version alone: as it is. Else the embedding that it stands for:
                        projected for sdc, so that a score means the same in every version; encoded for hamming
    staged records      hold embeddings, not signs: sdc projects like adc, and hamming is refused
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import split_records
from bebr.core.scoring import DotQueries, HammingQueries, Scorer, prepare_adc, prepare_hamming, prepare_sdc
from bebr.engine.collection import Collection
from bebr.engine.document import Version
from bebr.engine.planning import Plan
from bebr.errors import Incompatible

Floats = NDArray[np.float32]
Value = TypeVar("Value", bound=np.generic)


def check(collection: Collection, plans: Sequence[Plan]) -> None:
    """Raise now what `prepare` would raise for the versions that have points, before others share a scan with it."""
    versions = collection.document.versions
    if len(versions) == 1:
        return
    searched = [versions[number] for number in sorted(collection.index.points())]
    for version in searched:
        collection.codec(version)
    for plan in plans:
        if plan.scorer is Scorer.HAMMING and any(version.staged_dims is not None for version in searched):
            raise _no_signs(collection)
        if plan.is_code and [version.number for version in searched] != [plan.version.number]:
            embedding_of(collection, plan)


def prepare(
    collection: Collection, plans: Sequence[Plan], version: Version, alone: bool = True
) -> DotQueries | HammingQueries:
    """Plans of one scorer -> one query each. alone: no other version is searched. Raises as `check` does."""
    match plans[0].scorer:
        case Scorer.ADC:
            embeddings = stack([embedding_of(collection, plan) for plan in plans])
            return prepare_adc(collection.codec(version).project(embeddings), version.spec, version.steps)
        case Scorer.SDC:
            return _sdc(collection, plans, version, alone)
        case Scorer.HAMMING:
            if version.staged_dims is not None:
                raise _no_signs(collection)
            codes, _ = split_records(stack([_record(collection, plan, version) for plan in plans]))
            return prepare_hamming(codes)


def _sdc(collection: Collection, plans: Sequence[Plan], version: Version, alone: bool) -> DotQueries:
    staged = version.staged_dims is not None
    projecting = [staged or (plan.is_code and not (alone and plan.version.number == version.number)) for plan in plans]
    if not any(projecting):
        codes, gains = split_records(stack([_record(collection, plan, version) for plan in plans]))
        return prepare_sdc(codes, gains, version.spec, version.steps)
    parts = [
        _projected(collection, plan, version) if project else _sdc(collection, [plan], version, alone)
        for plan, project in zip(plans, projecting, strict=True)
    ]
    return DotQueries(stack([part.values for part in parts]), stack([part.scales for part in parts]))


def _projected(collection: Collection, plan: Plan, version: Version) -> DotQueries:
    """What a code stands for need not have length one, and a projection takes unit vectors."""
    embedding = embedding_of(collection, plan)
    length = max(float(np.linalg.norm(embedding)), float(np.finfo(np.float32).tiny))
    projected = collection.codec(version).project(embedding / np.float32(length))
    return prepare_adc(projected * np.float32(length), version.spec, version.steps)


def _no_signs(collection: Collection) -> Incompatible:
    return Incompatible(
        f"scorer 'hamming' compares the signs of codes, and points of '{collection.name}' are kept as embeddings until "
        "the fit; use 'adc' or 'sdc', or wait",
        key="scorer",
    )


def _record(collection: Collection, plan: Plan, version: Version) -> NDArray[np.uint8]:
    """The query's record (1, record_size_bytes) uint8 in a version, made once."""
    if version.number not in plan.records:
        embedding = embedding_of(collection, plan)
        embedding = embedding / np.maximum(np.linalg.norm(embedding), np.finfo(np.float32).tiny)
        plan.records[version.number] = collection.codec(version).encode(embedding)
    return plan.records[version.number]


def embedding_of(collection: Collection, plan: Plan) -> Floats:
    """The query's embedding (1, dims) float32; that of a code is what it stands for."""
    if plan.embedding is None:
        version = plan.version
        plan.embedding = collection.codec(version).decode(plan.records[version.number])
    return plan.embedding


def stack(rows: Sequence[NDArray[Value]]) -> NDArray[Value]:
    """(1, n) each -> (rows, n)."""
    return rows[0] if len(rows) == 1 else np.concatenate(rows)
