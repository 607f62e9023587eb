"""Baselines in numpy at equal bytes: sign codes, ITQ, PQ, OPQ and truncated floats.

`faiss_methods` has RaBitQ and 4-bit scalars.

A baseline is trained on the documents that it stores, which is its best case. Each setting that cannot be known in
advance is one `Variant`, and the caller reports the best one: again its best case.

Rule for bytes: everything that is stored for one document counts, except a scale of up to 2 bytes per document, because
the 2-byte gain of bebr's codes does not count either. What is stored once for all documents (projections, codebooks)
does not count. RaBitQ, which stores more than 2 bytes beside its bits, appears twice: `RaBitQ` counts everything,
`RaBitQ, factors free` counts only its bits.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from bebr.core.arrays import Floats, unit
from bebr.core.scoring import Scorer
from bebr_training.baselines.product import ProductQuantizer, train_opq, train_pq
from bebr_training.baselines.spectrum import Documents, closest_orthonormal, tight_frame
from bebr_training.search.ranking import Search, dot_search

SEED = 0
ITQ_ROUNDS = 50
ITQ_ROWS = 20_000
PQ_ROWS = 65_536
"""256 rows for each of the 256 centroids, the maximum that faiss would use."""
PQ_ROUNDS = 25
OPQ_ROWS = 20_000
OPQ_ROUNDS = 100


@dataclass(frozen=True)
class Variant:
    """One setting of a baseline, trained and filled with the documents."""

    scorer: Scorer
    """hamming, or adc for float queries."""
    detail: str
    """The setting, in words."""
    size_bytes: float
    """Bytes per document, by the rule above."""
    search: Search


Variants = Callable[[Documents, int], Iterator[Variant]]
"""(documents, bytes) -> the settings to try, each built when it is needed; none if no setting fits."""


def sign(documents: Documents, size_bytes: int) -> Iterator[Variant]:
    """Signs of random directions (Charikar, 2002), one per bit; with as many bits as dims also signs of the dims."""
    yield from _signs(documents, size_bytes, documents.rows, [np.zeros(documents.dims, np.float32)])


def sign_centered(documents: Documents, size_bytes: int) -> Iterator[Variant]:
    """`sign` after the mean is subtracted from the documents, and from queries too or, with adc, not."""
    yield from _signs(documents, size_bytes, documents.centered, [documents.mean, np.zeros_like(documents.mean)])


def _signs(documents: Documents, size_bytes: int, rows: Floats, means: list[Floats]) -> Iterator[Variant]:
    bits, dims = 8 * size_bytes, documents.dims
    frame = tight_frame(dims, bits, np.random.default_rng(SEED))
    yield from _sign_variants(f"{bits} random directions", rows, means, frame)
    if bits == dims:
        yield from _sign_variants("signs of the dims", rows, means, np.eye(dims, dtype=np.float32))


def itq(documents: Documents, size_bytes: int) -> Iterator[Variant]:
    """Iterative quantization (Gong and Lazebnik, 2011): signs of the principal axes after a learned rotation."""
    projection = itq_projection(documents, 8 * size_bytes)
    means = [documents.mean, np.zeros_like(documents.mean)]
    yield from _sign_variants(f"{8 * size_bytes} bits", documents.centered, means, projection)


def itq_projection(documents: Documents, bits: int) -> Floats:
    """(dims, bits) float32: with orthonormal columns onto the widest axes, or orthonormal rows when bits exceed dims.

    Alternates between the signs and the projection closest to them (Procrustes). With more bits than dims it starts
    with a random expansion; the same two steps apply, because the embeddings lie in a subspace of the wider space.
    """
    kept = min(bits, documents.dims)
    axes = documents.axes[:, :kept]
    sample: Floats = documents.sample(ITQ_ROWS, SEED) - documents.mean
    reduced: Floats = sample @ axes
    turn = tight_frame(kept, bits, np.random.default_rng(SEED))
    for _ in range(ITQ_ROUNDS):
        turn = closest_orthonormal(reduced.T @ _to_signs(reduced @ turn))
    projection: Floats = axes @ turn
    return projection


def pca_float(dtype: type[np.float16] | type[np.float32]) -> Variants:
    """The principal axes of largest variance as plain floats: the truncation that Matryoshka training aims for."""

    def variants(documents: Documents, size_bytes: int) -> Iterator[Variant]:
        dims = min(documents.dims, size_bytes // np.dtype(dtype).itemsize)
        if dims:
            axes = documents.axes[:, :dims]
            kept = (documents.centered @ axes).astype(dtype).astype(np.float32)
            used = dims * np.dtype(dtype).itemsize
            yield projected_variant(f"{dims} dims", used, kept, axes)

    return variants


def pq(documents: Documents, size_bytes: int) -> Iterator[Variant]:
    """Product quantizer: the vector is cut into as many parts as there are bytes, one byte each."""
    if size_bytes <= documents.dims:
        rows = documents.sample(PQ_ROWS, SEED)
        yield from _product_variants(documents, size_bytes, train_pq(rows, size_bytes, PQ_ROUNDS, SEED))


def opq(documents: Documents, size_bytes: int) -> Iterator[Variant]:
    """Optimized product quantizer: PQ after a learned rotation."""
    if size_bytes <= documents.dims:
        rows, fewer = documents.sample(PQ_ROWS, SEED), documents.sample(OPQ_ROWS, SEED)
        trained = train_opq(rows, fewer, size_bytes, OPQ_ROUNDS, PQ_ROUNDS, SEED)
        yield from _product_variants(documents, size_bytes, trained)


def _product_variants(documents: Documents, size_bytes: int, quantizer: ProductQuantizer) -> Iterator[Variant]:
    """Score the reconstructed vectors, as they are and at length one."""
    decoded = quantizer.decode(quantizer.encode(documents.rows))
    yield projected_variant("as reconstructed", size_bytes, decoded, quantizer.rotation)
    yield projected_variant("at length one", size_bytes, unit(decoded), quantizer.rotation)


def projected_variant(detail: str, size_bytes: float, values: Floats, projection: Floats) -> Variant:
    """Stored values (rows, n) against float queries times `projection` (dims, n).

    Queries are not centered, even where the values are: the mean only adds a constant to all scores.
    """
    return Variant(Scorer.ADC, detail, size_bytes, dot_search(values, lambda queries: queries @ projection))


def _sign_variants(detail: str, rows: Floats, means: list[Floats], projection: Floats) -> Iterator[Variant]:
    """Signs of rows (rows, dims) along `projection` (dims, bits), by hamming with the first of `means` subtracted from
    the query, and by adc with each of them. The inner product of two sign vectors orders as their distance does."""
    signs: Floats = _to_signs(rows @ projection)
    size_bytes = projection.shape[1] / 8

    def search(mean: Floats, asymmetric: bool) -> Search:
        def prepare(queries: Floats) -> Floats:
            centered: Floats = queries - mean
            projected = centered @ projection
            return projected if asymmetric else _to_signs(projected)

        return dot_search(signs, prepare)

    yield Variant(Scorer.HAMMING, detail, size_bytes, search(means[0], False))
    for mean in means:
        centering = ", query centered" if mean.any() else ""
        yield Variant(Scorer.ADC, detail + centering, size_bytes, search(mean, True))


def _to_signs(projected: Floats) -> Floats:
    return np.where(projected > 0, np.float32(1), np.float32(-1)).astype(np.float32)
