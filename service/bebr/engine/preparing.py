"""Queries of one scorer for the codes of one version.

All versions of a collection hold embeddings of one model, so what is asked for is brought into the code space of each:

    a text or vector    its embedding is projected (adc), or encoded (hamming; sdc, and then as a code)
    a code              sdc: what it stands for is projected, so that a score means the same in every version, and
                        that codes whose dimensions are not orthogonal can be compared; hamming: encoded, but for its
                        own version
    staged records      hold embeddings, not signs: hamming is refused
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


def prepare(collection: Collection, plans: Sequence[Plan], version: Version) -> DotQueries | HammingQueries:
    """Plans of one scorer -> one query each. Raises as `check` does."""
    match plans[0].scorer:
        case Scorer.ADC:
            embeddings = stack([embedding_of(collection, plan) for plan in plans])
            return prepare_adc(collection.codec(version).project(embeddings), version.spec, version.steps)
        case Scorer.SDC if version.staged_dims is None and version.bundle is None:
            codes, gains = split_records(stack([plan.records[version.number] for plan in plans]))
            return prepare_sdc(codes, gains, version.spec, version.steps)
        case Scorer.SDC:
            queries = stack([_code_query(collection, plan, version) for plan in plans])
            return prepare_adc(queries, version.spec, version.steps)
        case Scorer.HAMMING:
            if version.staged_dims is not None:
                raise _no_signs(collection)
            codes, _ = split_records(stack([_record(collection, plan, version) for plan in plans]))
            return prepare_hamming(codes)


def mean_scores(collection: Collection, plans: Sequence[Plan], version: Version) -> NDArray[np.float64] | None:
    """(plans,) float64: <what is asked for, the mean of the version's codes>, which a scan leaves out; None where zero.

    Codes of a centred binarizer lie around a mean, and the kernel sees only what lies around it. Added to the scores of
    a version, it makes them mean the same as those of every other.
    """
    if plans[0].scorer is Scorer.HAMMING or (version.staged_dims is None and version.bundle is None):
        return None
    mean = collection.codec(version).mean
    if not mean.any():
        return None
    asked = stack([_asked(collection, plan, version) for plan in plans])
    products: NDArray[np.float64] = asked.astype(np.float64) @ mean.astype(np.float64)
    return products


def _asked(collection: Collection, plan: Plan, version: Version) -> Floats:
    """(1, embedding dims) float32: the query's embedding, or for sdc what its code stands for."""
    if plan.scorer is Scorer.ADC or plan.is_code:
        return embedding_of(collection, plan)
    return collection.codec(version).decode(_record(collection, plan, version))


def _code_query(collection: Collection, plan: Plan, version: Version) -> Floats:
    """(1, dims) float32: a code's own query, or that of what the text, vector or code of another version stands for."""
    if not plan.is_code or plan.version.number == version.number:
        return collection.codec(version).code_query(_record(collection, plan, version))
    embedding = embedding_of(collection, plan)
    # What a code stands for need not have length one, and a projection takes unit vectors.
    length = max(float(np.linalg.norm(embedding)), float(np.finfo(np.float32).tiny))
    return collection.codec(version).project(embedding / np.float32(length)) * np.float32(length)


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
