"""The residual binarizer: makes the rescore code, of what a scan code leaves over of an embedding. Pure numpy; the
reference of its graph. Nothing is learned but second moments, so it is fitted in a second.

A residual r = f - decode(scan code) has a flat spectrum, so most dims get a few bits. An error costs as much as queries
feel of it: errors are measured in the metric M = S^(w/2), S the second moments of embeddings, which stand in for
queries. There the residuals have principal axes P (columns), and bits are given to axes one by one, each where it
removes most of the error (reverse water-filling): an axis may have any number of bits up to eight.

    z = P^T M r                     what is cut into levels, at the length that residuals have on average
    t = the middle of each cell     uniform cells, their width that of a Gaussian grid for the axis
    gain = <t, z> / <t, t>          the least squared error
    y = P^T M^-1 q                  query side; gain <y, t> estimates <q, r>

A code has blocks of 8, 4, 2 and 1 bits, so the level of an axis is cut into parts: of seven bits the upper four lie in
the 4-bit block, the next two in the 2-bit block and the last one in the 1-bit block. Grid values then add up,

    v_7 = 8 v_4 + 2 v_2 + v_1       (2L - 127 with L = 8 L_4 + 2 L_2 + L_1)

and so does a score, where the query side has an entry for every part, times cell / 2 and its power of two. These
factors take the place of steps: value = gain * grid value.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import TINY, Floats
from bebr.core.codes import Block, RescoreSpec, join_records, pack_levels
from bebr.encoding.quantization.grid import UNIT_ERRORS, UNIT_STEPS
from bebr.encoding.quantization.rows import Axes, check_shape, principal_axes
from bebr.errors import InvalidOption

WEIGHT = 0.5
"""w of the metric: 0 counts errors in every direction alike, 1 by what queries like the embeddings would feel. Between
the two the most is found (docs/benchmarks.md#rescoring)."""
LEAST_SHARE = 1e-6
"""Least share of the second moments that a direction counts with in the metric."""
MAX_BITS = 8
PARTS = (8, 4, 2, 1)
"""Bits of the blocks of a code, in their order."""
GROUP = 8
"""Axes that get their bits together, so that every block has whole bytes."""


@dataclass(frozen=True)
class Residual:
    """A fitted residual binarizer and its reference implementation; `residual_graph.to_onnx` exports it."""

    bits: NDArray[np.uint8]
    """(axes,) uint8: bits of every axis that has any, most first."""
    encoder: Floats
    """M P (embedding_dims, axes) float32."""
    query_axes: Floats
    """M^-1 P (embedding_dims, axes) float32."""
    cells: Floats
    """(axes,) float32: width of a cell, where z has length one."""

    @cached_property
    def parts(self) -> tuple["Part", ...]:
        """The blocks of the code, in order."""
        return tuple(part for bits in PARTS if len((part := Part.of(self.bits, bits)).axes))

    @cached_property
    def spec(self) -> RescoreSpec:
        return RescoreSpec(tuple(Block(len(part.axes), part.bits) for part in self.parts))

    @property
    def embedding_dims(self) -> int:
        return len(self.encoder)

    @cached_property
    def axes(self) -> NDArray[np.int64]:
        """(dims,) int64: the axis that each dimension of the code is a part of."""
        return np.concatenate([part.axes for part in self.parts])

    @cached_property
    def shifts(self) -> NDArray[np.uint8]:
        """(dims,) uint8: how many bits of the axis lie below this part."""
        return np.concatenate([part.shifts for part in self.parts])

    @cached_property
    def masks(self) -> NDArray[np.uint8]:
        """(dims,) uint8: 2^bits - 1 of the part."""
        return self.spec.max_levels

    @cached_property
    def factors(self) -> Floats:
        """(dims,) float32: what a query's entry for the axis is multiplied by."""
        return self.cells[self.axes] * np.exp2(self.shifts.astype(np.float32) - 1)

    @cached_property
    def halves(self) -> Floats:
        """(axes,) float32: half the number of levels per axis."""
        return np.exp2(self.bits.astype(np.float32) - 1)

    def project(self, embeddings: Floats) -> Floats:
        """Queries (rows, embedding_dims) float32 -> (rows, dims) float32."""
        check_shape(embeddings, self.embedding_dims)
        return cast(Floats, (embeddings @ self.query_axes)[:, self.axes] * self.factors)

    def quantize(self, residuals: Floats) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """residuals (rows, embedding_dims) float32 -> levels (rows, dims) uint8, gains (rows,) float16."""
        check_shape(residuals, self.embedding_dims)
        z = residuals @ self.encoder
        lengths = np.maximum(np.linalg.norm(z, axis=1, keepdims=True), TINY)
        cells = np.floor(z / lengths * (1 / self.cells))
        cells = np.minimum(np.maximum(cells, -self.halves), self.halves - 1)
        middles = (cells + np.float32(0.5)) * self.cells
        gains = (middles * z).sum(axis=1) / (middles * middles).sum(axis=1)
        whole = (cells + self.halves).astype(np.uint8)
        return (whole[:, self.axes] >> self.shifts) & self.masks, gains.astype(np.float16)

    def encode(self, residuals: Floats) -> NDArray[np.uint8]:
        """residuals (rows, embedding_dims) float32 -> rescore records (rows, rescore_size_bytes) uint8."""
        levels, gains = self.quantize(residuals)
        return join_records(pack_levels(levels, self.spec), gains)

    def quantized_values(self, residuals: Floats) -> Floats:
        """residuals (rows, embedding_dims) float32 -> gain * grid values of the codes they get (rows, dims) float32."""
        levels, gains = self.quantize(residuals)
        grid = 2 * levels.astype(np.float32) - self.masks
        return cast(Floats, grid * gains.astype(np.float32)[:, None])

    def decode(self, values: Floats) -> Floats:
        """values (rows, dims) float32, as `quantized_values` -> the residuals (rows, embedding_dims) they represent."""
        decoder = self.query_axes[:, self.axes] * self.factors
        return cast(Floats, values @ decoder.T)


@dataclass(frozen=True)
class Part:
    """One block of a code: so many bits of each of some axes."""

    bits: int
    axes: NDArray[np.int64]
    shifts: NDArray[np.uint8]
    """How many bits of the axis lie below."""

    @classmethod
    def of(cls, bits_of_axes: NDArray[np.uint8], bits: int) -> "Part":
        axes = np.flatnonzero(bits_of_axes & bits)
        return cls(bits, axes, bits_of_axes[axes] & np.uint8(bits - 1))


def fit_residual(embeddings: Floats, residuals: Floats, size_bytes: int, known: Axes | None = None) -> Residual:
    """Unit embeddings and what their scan codes leave over, both (rows, embedding_dims) float32 -> their binarizer.

    known: the principal axes of the embeddings, where somebody has them. The code has `size_bytes`, or a few less where
    the embeddings' dims are no multiple of eight. Raises InvalidOption.
    """
    dims = embeddings.shape[1]
    check_rescore_size(size_bytes, dims)
    metric, inverse = _metric(principal_axes(embeddings) if known is None else known)
    weighted = residuals @ metric.astype(np.float32)
    variances, axes = principal_axes(weighted)
    bits = _bits_of_axes(variances, size_bytes)
    used = bits > 0
    axes = axes[:, used]
    z = weighted @ axes.astype(np.float32)
    z /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), TINY)
    spreads = np.maximum(np.sqrt((z * z).mean(axis=0, dtype=np.float64)), TINY)
    unit_cells = np.array([2 * UNIT_STEPS[int(count)] for count in bits[used]])
    return Residual(
        bits=bits[used],
        encoder=np.ascontiguousarray(metric @ axes, np.float32),
        query_axes=np.ascontiguousarray(inverse @ axes, np.float32),
        cells=(unit_cells * spreads).astype(np.float32),
    )


def check_rescore_size(size_bytes: int, embedding_dims: int) -> None:
    """Raise InvalidOption unless embeddings of these dims can have rescore codes of that size: at most 8 bits a dim."""
    if not 1 <= size_bytes <= embedding_dims:
        raise InvalidOption(
            f"a rescore code of embeddings of {embedding_dims} dims has 1 to {embedding_dims} bytes, got {size_bytes}",
            key="rescore_bytes",
        )


def _metric(known: Axes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """M (dims, dims), of mean square one, and its inverse, of the principal axes of embeddings."""
    moments, axes = known
    scales = (moments / moments.sum() + LEAST_SHARE) ** (WEIGHT / 2)
    scales /= np.sqrt((scales**2).mean())
    return (axes * scales) @ axes.T, (axes / scales) @ axes.T


def _bits_of_axes(variances: NDArray[np.float64], size_bytes: int) -> NDArray[np.uint8]:
    """(axes,) uint8: bits of every axis, most first. A bit for GROUP axes is one byte of the code."""
    errors = np.array([*UNIT_ERRORS, UNIT_ERRORS[-1]])  # a ninth bit removes nothing
    groups = np.array([variances[start : start + GROUP].sum() for start in range(0, len(variances), GROUP)])
    bits = np.zeros(len(groups), np.int64)
    for _ in range(size_bytes):
        removed = np.where(bits < MAX_BITS, groups * (errors[bits] - errors[bits + 1]), -1.0)
        bits[removed.argmax()] += 1
    return np.repeat(bits, GROUP)[: len(variances)].astype(np.uint8)
