"""Embeddings to 8 bits a dimension: the codes of a collection until a binarizer is fitted to it.

A value of an embedding is rounded to an odd integer v in -255 .. 255, in units that take the largest one of its row to
255. Both halves of v fit a code of two 4-bit blocks with the same dims:

    v = 16 high + low        high, low odd in -15 .. 15, so level_v = 16 level_high + level_low

So the steps are 16 to 1, a query is the embedding twice, and the gain makes adc unbiased: everything that stores and
scans codes works as it is. Only the sign of `high` is that of the embedding: plane 0 of these codes means nothing.
Pure numpy; nothing is learned, so one such code fits every collection with embeddings of these dims.
"""

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import TINY, Floats
from bebr.core.codes import MAX_DIMS, CodeSpec, grid_values, join_records, pack_levels, split_records, unpack_levels
from bebr.encoding.quantization.rows import check_shape
from bebr.errors import InvalidOption

MAX_INT8_DIMS = MAX_DIMS // 2
PEAK = 255
LOW_STEP = 2.0**-8
"""Any step would do; with this one the gain of a unit vector lies where float16 is precise."""


class Int8Binarizer:
    """Embeddings <-> records of 8 bits a dimension. Has what a Binarizer has, and `decode`. Threads may share it."""

    def __init__(self, embedding_dims: int) -> None:
        """Raises InvalidOption for more dims than a code of two blocks can hold."""
        if not 1 <= embedding_dims <= MAX_INT8_DIMS:
            raise InvalidOption(
                f"embeddings of {embedding_dims} dims are not taken: it is 1 to {MAX_INT8_DIMS}",
                key="dims",
            )
        self.embedding_dims = embedding_dims
        self.spec = CodeSpec.parse(f"{embedding_dims}x4+{embedding_dims}x4")
        self.steps = np.array([16 * LOW_STEP, LOW_STEP], np.float32)
        self.mean = np.zeros(embedding_dims, np.float32)
        self.exact_mean: NDArray[np.float64] | None = None

    def project(self, embeddings: Floats) -> Floats:
        """embeddings (rows, embedding_dims) float32 -> the query side of adc (rows, 2 * embedding_dims) float32."""
        check_shape(embeddings, self.embedding_dims)
        return np.hstack([embeddings, embeddings])

    def encode(self, embeddings: Floats) -> NDArray[np.uint8]:
        """embeddings (rows, embedding_dims) float32, no row of zeros -> records (rows, record_size_bytes) uint8."""
        check_shape(embeddings, self.embedding_dims)
        peaks = np.maximum(np.abs(embeddings).max(axis=1, keepdims=True), TINY)
        levels = np.clip(np.floor(embeddings * ((PEAK + 1) / 2 / peaks)) + (PEAK + 1) // 2, 0, PEAK).astype(np.uint8)
        codes = pack_levels(np.hstack([levels >> 4, levels & 15]), self.spec)
        values = (2 * levels.astype(np.float32) - PEAK) * np.float32(LOW_STEP)
        squares = np.einsum("ij,ij->i", embeddings, embeddings)
        gains = squares / np.maximum(np.einsum("ij,ij->i", embeddings, values), TINY)
        return join_records(codes, gains.astype(np.float16))

    def decode(self, records: NDArray[np.uint8]) -> Floats:
        """records (rows, record_size_bytes) uint8 -> unit embeddings (rows, embedding_dims) float32."""
        codes, _ = split_records(records, self.spec)
        grid = grid_values(unpack_levels(codes, self.spec), self.spec).astype(np.float32)
        values = 16 * grid[:, : self.embedding_dims] + grid[:, self.embedding_dims :]
        unit: Floats = values / np.linalg.norm(values, axis=1, keepdims=True)
        return unit

    def code_query(self, records: NDArray[np.uint8]) -> Floats:
        """records (rows, record_size_bytes) uint8 that are queries -> the query side of sdc (rows, 2 * dims)."""
        return self.project(self.decode(records))
