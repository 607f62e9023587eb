"""Reference scorers: what hamming, sdc and adc mean, in plain numpy. The kernel must equal them to the last bit.

With levels L, grid values v = 2L - (2^bits - 1), steps s (one per block) and gain g (so that g * s * v approximates the
projected embedding):

    sdc(q, d) = g_q g_d sum_b s_b^2 <v_q, v_d>_b
    adc(q, d) = g_d sum_b s_b <y_q, v_d>_b          y_q = the query's real-valued vector in code space
    hamming(q, d) = 1 - 2 * distance / dims         distance of the sign planes

    rescored(q, d) = adc(q, d) + h_d <z_q, w_d>     of the rescore code: gain h, grid values w, z_q in its space

sdc and adc share one form: 8-bit query values and one float32 scale per block. Higher is better everywhere.

The product of grids in sdc is the published one. It says how near two codes are where their dimensions are orthogonal,
and it is all that can be said of codes without a binarizer. Where a bundle made them, its `code_query` gives the y_q of
what the query's code represents, and adc with that is sdc: the product of what both codes represent, up to a constant
for each query, whether or not dimensions are orthogonal.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec, grid_values, need_rescore, rescore_grid_values, split_records, unpack_levels
from bebr.errors import InvalidCode

SCORE_FORMAT = ".7g"
"""How a score is shown: as many digits as a float32 has."""


class Scorer(StrEnum):
    """How a query is compared with codes."""

    HAMMING = "hamming"
    SDC = "sdc"
    ADC = "adc"


@dataclass(frozen=True, slots=True)
class DotQueries:
    """Queries of sdc or adc, ready to scan.

    values: (queries, dims) int8, grid values (sdc) or rounded code-space values (adc).
    scales: (queries, blocks) float32, non-negative.
    """

    values: NDArray[np.int8]
    scales: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class HammingQueries:
    """Queries of hamming: codes (queries, code_size_bytes) uint8, of which only the top bit of each level counts."""

    codes: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True, slots=True)
class RescoreQueries:
    """Queries for rescore codes.

    values: (queries, rescore.dims) int16, rounded code-space values.
    scales: (queries,) float32, non-negative.
    """

    values: NDArray[np.int16]
    scales: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.values)


def prepare_sdc(
    codes: NDArray[np.uint8], gains: NDArray[np.float16], spec: CodeSpec, steps: NDArray[np.float32]
) -> DotQueries:
    """codes (queries, code_size_bytes) uint8, gains (queries,) float16, steps (blocks,) float32 -> DotQueries."""
    values = grid_values(unpack_levels(codes, spec), spec)
    scales = gains.astype(np.float32)[:, None] * (steps.astype(np.float32) ** 2)[None, :]
    return DotQueries(values, scales)


def prepare_adc(projected: NDArray[np.float32], spec: CodeSpec, steps: NDArray[np.float32]) -> DotQueries:
    """projected (queries, dims) float32, finite; steps (blocks,) float32 -> DotQueries.

    Each block is rounded to 8 bits with its own scale, so blocks of different steps lose nothing to each other.
    """
    peaks = np.maximum.reduceat(np.abs(projected), spec.block_starts, axis=1)
    peaks[peaks == 0] = 1
    units = peaks * np.float32(1 / 127)
    values = np.rint(projected / np.repeat(units, spec.block_dims, axis=1)).astype(np.int8)
    return DotQueries(values, units * steps)


def prepare_hamming(codes: NDArray[np.uint8]) -> HammingQueries:
    """codes (queries, code_size_bytes) uint8 -> HammingQueries."""
    return HammingQueries(codes)


def prepare_rescore(projected: NDArray[np.float32], spec: CodeSpec) -> RescoreQueries:
    """projected (queries, rescore.dims) float32, finite -> RescoreQueries.

    One scale per query, such that the sum over all dimensions fits an int32 whatever the code: exact in any order.
    """
    rescore = need_rescore(spec)
    if projected.ndim != 2 or projected.shape[1] != rescore.dims:
        raise InvalidCode(f"expected queries of shape (queries, {rescore.dims}) for '{spec}', got {projected.shape}")
    peaks = np.abs(projected).max(axis=1, initial=0)
    peaks[peaks == 0] = 1
    units = peaks * np.float32(1 / rescore_peak(rescore))
    return RescoreQueries(np.rint(projected / units[:, None]).astype(np.int16), units)


def rescore_peak(rescore: CodeSpec) -> int:
    """The largest value of a query for these codes."""
    return min(np.iinfo(np.int16).max - 1, (np.iinfo(np.int32).max - 1) // int(rescore.max_levels.sum(dtype=np.int64)))


def rescore_scores(queries: RescoreQueries, records: NDArray[np.uint8], spec: CodeSpec) -> NDArray[np.float32]:
    """records (rows, rescore_size_bytes) uint8 -> what is added to scores of the scan (queries, rows) float32.

    An integer sum; then, in float32 and in this order: float32(sum) * scale, * gain.
    """
    rescore = need_rescore(spec)
    codes, gains = split_records(records, rescore)
    grid = rescore_grid_values(unpack_levels(codes, rescore), spec)
    sums = queries.values.astype(np.float64) @ grid.T.astype(np.float64)  # exact, as in dot_scores
    scores: NDArray[np.float32] = sums.astype(np.float32) * queries.scales[:, None] * gains.astype(np.float32)[None, :]
    return scores


def dot_scores(
    queries: DotQueries, codes: NDArray[np.uint8], gains: NDArray[np.float16], spec: CodeSpec
) -> NDArray[np.float32]:
    """codes (rows, code_size_bytes) uint8, gains (rows,) float16 -> scores (queries, rows) float32.

    Integer sums per block; then, in float32 and in this order: scale_0 * sum_0, + scale_1 * sum_1, ..., * gain.
    """
    grid = grid_values(unpack_levels(codes, spec), spec)
    total = np.zeros((len(queries), len(codes)), np.float32)
    for b, dims in enumerate(spec.dim_slices):
        # float64 holds these integer sums exactly and, unlike int32, multiplies fast
        sums = queries.values[:, dims].astype(np.float64) @ grid[:, dims].T.astype(np.float64)
        total += queries.scales[:, b, None] * sums.astype(np.float32)
    scores: NDArray[np.float32] = total * gains.astype(np.float32)[None, :]
    return scores


def hamming_distances(queries: HammingQueries, codes: NDArray[np.uint8], spec: CodeSpec) -> NDArray[np.int32]:
    """codes (rows, code_size_bytes) uint8 -> distances of the sign planes (queries, rows) int32."""
    query_signs, signs = sign_plane(queries.codes, spec), sign_plane(codes, spec)
    differing = query_signs[:, None, :] != signs[None, :, :]
    distances: NDArray[np.int32] = differing.sum(axis=2, dtype=np.int32)
    return distances


def hamming_scores(distances: NDArray[np.int32], dims: int) -> NDArray[np.float32]:
    """distances int32 -> scores 1 - 2 * distance / dims float32, same shape."""
    return (1.0 - 2.0 * distances.astype(np.float64) / dims).astype(np.float32)


def reaches(score: float, threshold: float) -> bool:
    """Whether a score counts. What is shown of it may be sent back as a threshold, and is rounded."""
    return score >= threshold or float(format(score, SCORE_FORMAT)) >= threshold


def sign_plane(codes: NDArray[np.uint8], spec: CodeSpec) -> NDArray[np.bool_]:
    """codes (rows, code_size_bytes) uint8 -> plane 0 (rows, dims) bool: True where the grid value is positive."""
    signs: NDArray[np.bool_] = grid_values(unpack_levels(codes, spec), spec) > 0
    return signs
