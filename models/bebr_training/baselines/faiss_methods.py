"""Baselines from faiss at equal bytes: RaBitQ and 4-bit scalars. See `numpy_methods` for the rules."""

from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np

from bebr.core.arrays import Floats
from bebr_training.baselines.numpy_methods import SEED, Variant, Variants, projected_variant
from bebr_training.baselines.spectrum import Documents, tight_frame

TRAIN_ROWS = 65_536
RABITQ_BITS = (1, 2, 3, 4)
RABITQ_SIGN_FACTORS_BYTES = 12
RABITQ_EXTRA_FACTORS_BYTES = 8


def set_threads(threads: int) -> None:
    """Set the number of threads that faiss uses."""
    faiss.omp_set_num_threads(threads)


def _round_trip(quantizer: Any, rows: Floats) -> Floats:
    """rows (rows, dims), encoded and decoded by a trained quantizer of faiss. Its type stubs lack these methods."""
    decoded: Floats = quantizer.decode(quantizer.compute_codes(np.ascontiguousarray(rows)))
    return decoded


def rabitq(count_factors: bool) -> Variants:
    """RaBitQ (Gao and Long, 2024) and Extended RaBitQ (Gao et al., 2025) with 1 to 4 bits a dimension, float queries.

    The documents are centered, projected to as many principal axes as the bytes allow, and rotated at random. With 1
    bit and more bytes than the axes need, they are expanded to more dims. Unless `count_factors` is set, the two
    float32 that the method stores beside the bits of a document do not count.
    """

    def variants(documents: Documents, size_bytes: int) -> Iterator[Variant]:
        factors = 8 if count_factors else 0
        for bits in RABITQ_BITS:
            dims = (size_bytes - factors) * 8 // bits
            if dims > documents.dims and bits > 1:
                dims = documents.dims
            if dims > 0:
                values, projection = rabitq_values(documents, bits, dims)
                yield projected_variant(f"{dims} x {bits} bit", dims * bits / 8 + factors, values, projection)

    return variants


def rabitq_values(documents: Documents, bits: int, dims: int) -> tuple[Floats, Floats]:
    """What RaBitQ's estimator multiplies a float query with: values (rows, dims), projection (embedding_dims, dims).

    faiss makes the codes. The estimate is that of its own search with float queries, |z|^2 / <z, v> * <y, v>, computed
    for all rows as one matrix product, which is much faster than the scan of faiss with several bits.
    """
    kept = min(dims, documents.dims)
    projection: Floats = documents.axes[:, :kept] @ tight_frame(kept, dims, np.random.default_rng(SEED))
    stored = np.ascontiguousarray(documents.centered @ projection)
    index = faiss.IndexRaBitQ(dims, faiss.METRIC_INNER_PRODUCT, bits)
    index.train(stored)
    values = rabitq_grid(index.sa_encode(stored), bits, dims)
    deviations = stored - faiss.vector_to_array(index.center)
    along = np.einsum("ij,ij->i", values, deviations)
    values *= (np.einsum("ij,ij->i", deviations, deviations) / np.maximum(along, 1e-12))[:, None]
    return values, projection


def rabitq_grid(codes: np.ndarray[tuple[int, int], np.dtype[np.uint8]], bits: int, dims: int) -> Floats:
    """faiss' codes (rows, code_size) uint8 -> grid values (rows, dims) float32.

    Their layout: a plane of signs and its factors; with several bits also bits - 1 bits per dimension, lowest first,
    and their factors.
    """
    sign_bytes = (dims + 7) // 8
    signs = np.unpackbits(codes[:, :sign_bytes], axis=1, count=dims, bitorder="little").astype(np.float32)
    if bits == 1:
        return signs - np.float32(0.5)
    rest = codes[:, sign_bytes + RABITQ_SIGN_FACTORS_BYTES : -RABITQ_EXTRA_FACTORS_BYTES]
    extra = np.unpackbits(rest, axis=1, count=dims * (bits - 1), bitorder="little").reshape(len(codes), dims, bits - 1)
    values: Floats = signs * np.float32(2 ** (bits - 1)) - np.float32((2**bits - 1) / 2)
    for bit in range(bits - 1):
        values += extra[:, :, bit] * np.float32(2**bit)
    return values


def sq4(documents: Documents, size_bytes: int) -> Iterator[Variant]:
    """Scalar quantizer of 4 bits per dimension on as many principal axes as fit; each dimension has its own range."""
    # faiss divides by the range of a dimension, so axes without variance are left out.
    dims = min(documents.rank, 2 * size_bytes)
    if not dims:
        return
    rotated = documents.axes[:, :dims] @ tight_frame(dims, dims, np.random.default_rng(SEED))
    projections = {"principal axes": documents.axes[:, :dims], "random rotation": rotated}
    ranges = {"full range": faiss.ScalarQuantizer.RS_minmax, "best range": faiss.ScalarQuantizer.RS_optim}
    for axes, projection in projections.items():
        stored = np.ascontiguousarray(documents.centered @ projection)
        for width, kind in ranges.items():
            quantizer = faiss.ScalarQuantizer(dims, faiss.ScalarQuantizer.QT_4bit)
            quantizer.rangestat = kind
            quantizer.train(np.ascontiguousarray((documents.sample(TRAIN_ROWS, SEED) - documents.mean) @ projection))
            remembered = _round_trip(quantizer, stored)
            yield projected_variant(f"{dims} dims, {axes}, {width}", dims / 2, remembered, projection)
