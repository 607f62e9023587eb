"""Which binarizer a fit ends with: the one that was fitted, or one of the same size that measures better."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats
from bebr.core.codes import CodeSpec
from bebr.encoding.encoder import Encoder
from bebr.encoding.quantization.budget import default_cpu_seconds, encode_seconds
from bebr.encoding.quantization.measuring import RECALL_AT, Quality, error_of, measure
from bebr.encoding.quantization.trials import held_out_rows
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.encoders import Codec
from bebr.engine.collections.schema import Measured
from bebr.engine.collections.version import Version, VersionKind
from bebr.errors import BebrError

MANY_QUERIES = 200
"""With as many, what finds more is taken to be better."""
MEASURED_SHARE = 0.15
"""Of the CPU seconds of a fit, to measure what it found among all that was collected."""
MEASURED_BATCH = 4_096
"""Rows that are decoded and encoded at a time."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What was collected for a fit, as records of 8 bits a dim, in random order."""

    sample: NDArray[np.uint8]
    """(rows, record_size_bytes) uint8: what a binarizer is fitted to."""
    others: NDArray[np.uint8]
    """(rows, record_size_bytes) uint8: what was not drawn."""
    codec: Codec
    """Decodes them."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A binarizer for embeddings of the collection's model: one that there is already, or that was fitted now."""

    encoder: Encoder
    version: Version
    """Of the collection, or one more that it would get."""


def others_of(
    collection: Collection, size_bytes: int, rescore_bytes: int = 0, *, fitted: bool = False
) -> dict[str, Candidate]:
    """By id of its version: binarizers with codes of these sizes, of versions of the active version's model and of the
    model's bundle. What cannot be opened is none.

    fitted: earlier fits, too. They are none where somebody asked for another one.
    """
    document, active = collection.document, collection.active
    found: dict[str, Candidate] = {}
    for version in document.of_model(active):
        encoder = codec_of(collection, version)
        if encoder is not None and (fitted or version.kind is VersionKind.BUNDLE):
            found[version.id] = Candidate(encoder, version)
    bundle = _embedder(collection, active)
    if bundle is not None and bundle.bundle.has_binarizer and document.version(bundle.bundle.id) is None:
        found[bundle.bundle.id] = Candidate(bundle, Version.of_bundle(len(document.versions), bundle.bundle))
    return {name: one for name, one in found.items() if _sizes(one.encoder.spec) == (size_bytes, rescore_bytes)}


def _sizes(spec: CodeSpec) -> tuple[int, int]:
    """Bytes of the scan code and of the rescore code."""
    return spec.code_size_bytes, 0 if spec.rescore is None else spec.rescore.code_size_bytes


def choose(
    own: Candidate, others: Mapping[str, Candidate], rows: Collected, metrics: Mapping[str, Any]
) -> tuple[Candidate, Measured]:
    """The candidate that finds most, and what was measured of it. It takes seconds: run it in a thread.

    Where more was collected than the sample, all are measured among all of that, with queries that were not drawn. Else
    by what the fit measured. Then, and where there are few queries, another one must find more than chance may make
    of it.

    metrics: what the fit measured of its own and, as `others`, of the other candidates.
    """
    count, candidates = held_out_rows(len(rows.sample)), {own.version.id: own, **others}
    rows = replace(rows, others=rows.others[: count + _measured_rows(own, count)])
    if len(rows.others) >= count:
        found = {name: measure_candidate(one, rows, count) for name, one in candidates.items()}
        recalls = {name: one.rescored_recall_at_10 or one.recall_at_10 for name, one in found.items()}
        if count < MANY_QUERIES:
            recalls[own.version.id] += _chance(recalls[own.version.id], count)
        best = max(recalls, key=lambda name: recalls[name])
        return candidates[best], found[best]
    recall, queries = metrics["recall_at_10"], metrics["queries"]
    recalls = {own.version.id: recall + _chance(recall, queries), **metrics.get("others", {})}
    chosen = candidates[max(recalls, key=lambda name: recalls[name])]
    error = error_of(chosen.encoder, rows.codec.decode(rows.sample[-count:]))
    if chosen is not own:
        return chosen, _measured(chosen, Quality(recalls[chosen.version.id], queries, metrics["searched"], error))
    rescored = metrics.get("rescored_recall_at_10")
    return own, _measured(own, Quality(recall, queries, metrics["searched"], error, rescored))


def _measured_rows(own: Candidate, count: int) -> int:
    """How many rows that were not drawn are searched: as many as a share of a fit's CPU seconds pays for."""
    dims = own.encoder.embedding_dims
    seconds = encode_seconds(own.version.spec.scan, dims, rows=1)
    return max(count, int(MEASURED_SHARE * default_cpu_seconds(dims) / seconds))


def _chance(recall: float, queries: int) -> float:
    """Two standard errors of a recall@10."""
    return 2 * math.sqrt(recall * (1 - recall) / (queries * RECALL_AT))


def measure_candidate(candidate: Candidate, rows: Collected, count: int) -> Measured:
    """The first `count` rows that were not drawn search all the rest. For threads."""

    def batches() -> Iterator[Floats]:
        for records in (rows.sample, rows.others[count:]):
            for start in range(0, len(records), MEASURED_BATCH):
                yield rows.codec.decode(records[start : start + MEASURED_BATCH])

    return _measured(candidate, measure(candidate.encoder, rows.codec.decode(rows.others[:count]), batches()))


def _measured(chosen: Candidate, quality: Quality) -> Measured:
    return Measured(
        version=chosen.version.number,
        recall_at_10=round(quality.recall, 4),
        queries=quality.queries,
        searched=quality.searched,
        points=0,
        error=quality.error,
        rescored_recall_at_10=None if quality.rescored_recall is None else round(quality.rescored_recall, 4),
    )


def codec_of(collection: Collection, version: Version) -> Encoder | None:
    """What makes codes of a version; None where they are the user's own or embeddings, or it cannot be opened."""
    try:
        codec = collection.codec(version)
    except BebrError:
        return None
    return codec if isinstance(codec, Encoder) else None


def _embedder(collection: Collection, version: Version) -> Encoder | None:
    try:
        return collection.encoders.embedder(version)
    except BebrError:
        return None
