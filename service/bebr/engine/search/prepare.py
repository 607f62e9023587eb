"""Prepare: queries of one scorer become what a scan takes, for the codes of one version.

adc       the embedding is projected into code space, all queries in one call
sdc       what the query's code represents is projected; a score then means the same in every version, and codes
          whose dimensions are not orthogonal can be compared. Codes without a binarizer are compared grid by grid
hamming   the query's code itself

Where candidates are scored again, the same embeddings are projected for the rescore codes too, and the scan has no
floors: a threshold is compared with the finer scores.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import TINY, Floats
from bebr.core.codes import CodeSpec, split_records
from bebr.core.scoring import (
    DotQueries,
    HammingQueries,
    RescoreQueries,
    Scorer,
    hamming_scores,
    prepare_hamming,
    prepare_sdc,
    reaches,
)
from bebr.encoding.quantization.int8 import Int8Binarizer
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.encoders import Codec, RescoreCodec
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.search.probing import rule_of
from bebr.engine.search.query import ONE, Query, RoutedQuery, VersionQuery
from bebr.shards import ScanQueries, quantize, quantize_rescore

FLOAT32_MAX = float(np.finfo(np.float32).max)
NO_FLOOR = np.float32(-np.inf)
ROUNDING = 1e-6
"""How much lower the floors of a scan are than the exact ones: float32 rounds, and so does what is shown of a score."""


def prepare_all(
    collection: Collection, routed: Sequence[RoutedQuery], limit: int, rescored: bool = False
) -> list[ScanQueries]:
    """Queries of one scorer -> what a scan takes, for each version that they ask of, by ascending number.

    rescored: candidates are scored again where the version has rescore codes; the scan then leaves none out.
    """
    numbers = routed[0].of_version
    versions = [collection.document.versions[n] for n in (numbers if len(numbers) == 1 else sorted(numbers))]
    codecs = [None if v.kind is VersionKind.RAW else collection.encoders.codec(v) for v in versions]
    found = [prepare(routed, version, codec, limit, rescored) for version, codec in zip(versions, codecs, strict=True)]
    if routed[0].probing is None:  # most searches
        return found
    return [
        replace(one, lists=rule_of(collection, routed, one.version), share=routed[0].probing.share) for one in found
    ]


def prepare(
    routed: Sequence[RoutedQuery], version: Version, codec: Codec | None, limit: int, rescored: bool = False
) -> ScanQueries:
    """Queries of one scorer -> what a scan of the version's codes takes. codec None: codes without a binarizer."""
    queries = [one.of_version[version.number] for one in routed]
    added, finer = None, None
    match routed[0].query.scorer:
        case Scorer.HAMMING:
            prepared: DotQueries | HammingQueries = prepare_hamming(
                split_records(_records(queries, codec), version.spec)[0]
            )
        case Scorer.SDC if codec is None:
            prepared = prepare_sdc(*split_records(_records(queries, codec), version.spec), version.spec, version.steps)
        case scorer:
            assert codec is not None, "adc needs a binarizer"
            if scorer is Scorer.SDC:
                queries = [_coded(one.query, query, codec) for one, query in zip(routed, queries, strict=True)]
            if rescored and version.spec.rescore is not None and not isinstance(codec, Int8Binarizer):
                if any(query.record is not None for query in queries):
                    queries = [_represented(query, codec) for query in queries]
                finer = _rescored(queries, codec)
            prepared = quantize(_projected(queries, codec), version.spec, version.steps)
            added = _added(queries, codec)
    conditions = tuple([one.query.condition for one in routed])
    if rescored or all(one.query.request.score_threshold is None for one in routed):
        no_floors = np.full(len(routed), NO_FLOOR)
        return ScanQueries(version.number, prepared, limit, conditions, no_floors, added, rescore=finer)
    floors = np.array([_floor(one.query, version.spec) for one in routed])
    if routed[0].query.scorer is Scorer.HAMMING:
        return ScanQueries(version.number, prepared, limit, conditions, floors.astype(np.float32))
    lowered = scan_floors(floors, np.zeros(len(floors)) if added is None else added)
    return ScanQueries(version.number, prepared, limit, conditions, lowered, added, floors)


def _records(queries: Sequence[VersionQuery], codec: Codec | None) -> NDArray[np.uint8]:
    """(queries, record_size_bytes) uint8: the queries' own codes, or those of their embeddings."""
    return np.concatenate([_record(query, codec) for query in queries])


def _record(query: VersionQuery, codec: Codec | None) -> NDArray[np.uint8]:
    if query.record is not None:
        return query.record
    assert codec is not None and query.unit is not None, "a query without a code needs a binarizer"
    return codec.encode(query.unit)


def _coded(source: Query, query: VersionQuery, codec: Codec) -> VersionQuery:
    """For sdc a text or vector counts by its code. A code of another version stays what it represents."""
    return query if source.record is not None else replace(query, record=_record(query, codec))


def _represented(query: VersionQuery, codec: RescoreCodec) -> VersionQuery:
    """A code counts as what it represents together with its rescore code, in the scan too: all is one product then."""
    if query.record is None:
        return query
    embedding = codec.decode(query.record) * query.factor
    length = np.float32(max(float(np.linalg.norm(embedding)), float(TINY)))
    return VersionQuery(embedding, embedding / length, length, query.offset)


def _projected(queries: Sequence[VersionQuery], codec: Codec) -> Floats:
    """(queries, dims) float32 in code space: of what codes represent; embeddings are projected together."""
    if all(query.record is None for query in queries):
        return _product(codec.project, queries)
    return np.concatenate(
        [
            _projected([query], codec) if query.record is None else codec.code_query(query.record) * query.factor
            for query in queries
        ]
    )


def _product(project: Callable[[Floats], Floats], queries: Sequence[VersionQuery]) -> Floats:
    """(queries, dims) float32: a projection of embeddings."""
    if len(queries) == 1 and (unit := queries[0].unit) is not None and queries[0].factor == ONE:
        return project(unit)  # most searches
    factors = np.array([query.factor for query in queries], np.float32)
    units = np.concatenate([query.unit for query in queries if query.unit is not None])
    return project(units) * factors[:, None]


def _rescored(queries: Sequence[VersionQuery], codec: RescoreCodec) -> RescoreQueries:
    """As rescore codes take them."""
    if len(queries) == 1 and (unit := queries[0].unit) is not None and queries[0].factor == ONE:
        return codec.rescore_queries(unit)  # most searches
    return quantize_rescore(_product(codec.project_rescore, queries), codec.spec)


def _added(queries: Sequence[VersionQuery], codec: Codec) -> NDArray[np.float64] | None:
    """(queries,) float64: what a scan leaves out of the scores; None where that is nothing.

    Codes of a centered binarizer lie around a mean, and the kernel sees only how they differ from it: the inner product
    of the mean and what is requested is added. For codes of another embedding model the offset that brings them to one
    scale is added too. With both, scores of all versions mean the same.
    """
    offsets = [query.offset for query in queries]
    if (mean := codec.exact_mean) is not None:
        # one by one: a product of many rows rounds otherwise than that of one, and a score must not depend on others
        products = [mean_product(_embedding(query, codec), mean) for query in queries]
        offsets = [offset + product for offset, product in zip(offsets, products, strict=True)]
    return np.array(offsets) if any(offsets) else None


def mean_product(embedding: Floats, mean: NDArray[np.float64]) -> float:
    """Of an embedding (1, dims) float32 and the mean (dims,)."""
    return float((embedding.astype(np.float64) @ mean)[0])


def _embedding(query: VersionQuery, codec: Codec) -> Floats:
    if query.record is not None:
        return codec.decode(query.record) * query.factor
    assert query.embedding is not None, "a query is a code or an embedding"
    return query.embedding


def _floor(query: Query, spec: CodeSpec) -> float:
    """The lowest score that counts, in the unit of a scan of such codes: a hit's own score keeps the hit."""
    threshold = query.request.score_threshold
    if threshold is None:
        return -np.inf
    if query.scorer is Scorer.HAMMING:
        return -float(_farthest(threshold, spec.dims))
    return float(np.clip(threshold, -FLOAT32_MAX, FLOAT32_MAX))


def scan_floors(floors: NDArray[np.float64], added: NDArray[np.float64]) -> NDArray[np.float32]:
    """A little too low; the thresholds are compared exactly."""
    is_finite = np.isfinite(floors)
    size = np.maximum(1, np.where(is_finite, np.abs(floors), 0) + np.abs(added))
    lowered = np.clip(floors - added - ROUNDING * size, -FLOAT32_MAX, FLOAT32_MAX)
    return np.where(is_finite, lowered, -np.inf).astype(np.float32)


def _farthest(threshold: float, dims: int) -> int:
    """The largest distance whose score is at least the threshold; -1 where there is none."""
    guess = int(np.clip(np.floor((1 - threshold) * dims / 2), -1, dims))
    near = [distance for distance in (guess + 1, guess, guess - 1) if 0 <= distance <= dims]
    scores = hamming_scores(np.array(near, np.int32), dims).tolist()  # float32, so that the guess may be one off
    return next((distance for distance, score in zip(near, scores, strict=True) if reaches(score, threshold)), -1)
