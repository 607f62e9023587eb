"""The recurrent binarizer: codes found by loops of reconstruction and residual. Pure numpy; the reference of the graph.

Embeddings count by direction only: every row is scaled to length one first. A code is a vector p of half-odd grid
points, and represents the embedding `mean + gain * p D`, with D the decoder (dims, embedding_dims). D need not be
orthogonal, nor have fewer dims than the embedding: it is an additive quantizer whose codebooks are the grids of the
dimensions. So a query needs no more than `y = D f`, and the score is `gain * <y, p>`, as with any code.

Finding p is a search (least squares on a grid). The recurrence of BEBR (KDD 2023) is kept and made to do it: an
initial block gives a first p, then every loop decodes it (reconstruction block) and corrects it by what is still
missing (residual block), one block of dimensions after the other. With B = f E, E the encoder side, and G the Gram
matrix of the decoder in the metric of the error:

    p   = (B - B_0) (G + ridge)^-1                       initial block: the best point without a grid
    t   = p + (B - B_0 - p G) / diag G                   one residual step, in one block of dimensions
    p   = (1 - hardness) clip(t) + hardness grid(t)      the last loops have hardness one, so p ends on the grid

Hardness grows from loop to loop: p settles where it matters before it must commit itself. This is block coordinate
descent with annealing; it errs less than rounding p at once, and less than as many loops of hardness one
(docs/benchmarks.md#the-recurrent-binarizer).

A nested code is one whose first blocks are a code too (Matryoshka representations, Kusupati et al., 2022): the errors
of all prefixes of blocks are added up, which multiplies G and B by `couplings`. Nothing else changes. The whole code
then finds a little less, its first blocks more (docs/benchmarks.md#nested-codes).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import TINY, Floats, unit
from bebr.core.codes import CodeSpec, join_records, pack_levels
from bebr.encoding.bundles.manifest import Gain
from bebr.encoding.quantization.grid import grid_points, half_levels
from bebr.encoding.quantization.residual import Residual
from bebr.encoding.quantization.rows import check_shape

STEP = 0.5
"""Step of every block: the value of a level is then the grid point itself. Scales of dimensions are in the decoder."""
INITIAL_RIDGE = 0.1
"""Ridge of the initial block, as a share of the mean of diag G."""
HARDNESS = (1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1.0, 1.0)
"""Hardness of each loop. More loops cost more time and find next to nothing
(docs/benchmarks.md#the-recurrent-binarizer)."""
RESCORED_HARDNESS = (0.3, 0.6, 1.0, 1.0)
"""The same where a rescore code follows: it makes up for what fewer loops miss, and takes time itself
(docs/benchmarks.md#rescoring)."""
MAX_BLOCK_DIMS, MIN_BLOCK_DIMS = 64, 4
"""Dimensions that move together: as many as the decoder allows. Fewer in a block are no better, only slower."""
MAX_OVERSHOOT = 1.9
"""Largest eigenvalue of G / diag G within a block. From 2 on, dimensions that move together overshoot ever farther."""
BATCH_ROWS = 4096
"""Rows that are quantized at once."""


@dataclass(frozen=True)
class Recurrent:
    """A fitted binarizer and its reference implementation; `recurrent_graph.to_onnx` exports it."""

    spec: CodeSpec
    decoder: Floats
    """D (dims, embedding_dims) float32."""
    encoder: Floats
    """E (embedding_dims, dims) float32."""
    gram: Floats
    """G (dims, dims) float32."""
    initial: Floats
    """(G + ridge)^-1 (dims, dims) float32."""
    mean: Floats
    """(embedding_dims,) float32; zeros where the fit was not centered."""
    hardness: tuple[float, ...] = HARDNESS
    """One number for each loop; the last is 1."""
    shrink: float = 0.0
    """How much less a code counts that is far from its embedding, see `gains`."""
    felt: Floats | None = None
    """U (embedding_dims, directions) float32, by which gains measure lengths; None: every direction counts alike."""
    gain: Gain = Gain.COSINE
    nested: bool = False
    """Whether encoder, gram and initial hold the couplings."""
    whole: CodeSpec | None = None
    """The code that is searched for, where `spec` is only its first blocks; encoder, gram and initial have its dims."""
    residual: Residual | None = None
    """Makes a rescore code of what the code leaves over."""

    @property
    def embedding_dims(self) -> int:
        return int(self.decoder.shape[1])

    @property
    def centered(self) -> bool:
        return bool(self.mean.any())

    @property
    def record_spec(self) -> CodeSpec:
        """The spec with that of the rescore code."""
        return self.spec if self.residual is None else replace(self.spec, rescore=self.residual.spec)

    @property
    def steps(self) -> Floats:
        """(blocks,) float32: value = step * grid value."""
        return np.full(len(self.spec.blocks), STEP, np.float32)

    @cached_property
    def halves(self) -> Floats:
        """(dims,) float32: half the number of levels per dimension."""
        return half_levels(self.spec)

    @cached_property
    def offset(self) -> Floats:
        """(dims,) float32: B_0, what the mean alone gives."""
        return cast(Floats, self.mean @ self.encoder)

    @cached_property
    def moves(self) -> "Moves":
        return Moves.of(self.gram, half_levels(self.whole or self.spec))

    def prefix(self, blocks: int) -> "Recurrent":
        """The binarizer whose codes are the first blocks of this one's, with gains of their own."""
        spec = self.spec.prefix(blocks)
        return replace(self, spec=spec, decoder=self.decoder[: spec.dims], whole=self.whole or self.spec, residual=None)

    def project(self, embeddings: Floats) -> Floats:
        """embeddings (rows, embedding_dims) float32 -> y (rows, dims) float32, the query side of adc."""
        return cast(Floats, self._unit(embeddings) @ self.decoder.T)

    def quantize(self, embeddings: Floats) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """embeddings (rows, embedding_dims) float32 -> levels (rows, dims) uint8, gains (rows,) float16."""
        levels = np.empty((len(embeddings), self.spec.dims), np.uint8)
        gains = np.empty(len(embeddings), np.float16)
        for start in range(0, len(embeddings), BATCH_ROWS):
            batch = slice(start, start + BATCH_ROWS)
            rows = self._unit(embeddings[batch])
            points = self.moves.search(rows @ self.encoder - self.offset, self.initial, self.hardness)
            points = points[:, : self.spec.dims]
            levels[batch] = points + (self.halves - np.float32(0.5))
            gains[batch] = self.gains(rows, points)
        return levels, gains

    def encode(self, embeddings: Floats) -> NDArray[np.uint8]:
        """embeddings (rows, embedding_dims) float32 -> records (rows, record_size_bytes) uint8."""
        levels, gains = self.quantize(embeddings)
        rescore = None
        if self.residual is not None:
            rescore = self.residual.encode(self._unit(embeddings) - self._decode(self._values(levels, gains)))
        return join_records(pack_levels(levels, self.spec), gains, rescore)

    def left_over(self, embeddings: Floats) -> Floats:
        """embeddings (rows, embedding_dims) float32, of length one -> the same less what their codes represent."""
        return cast(Floats, embeddings - self._decode(self.quantized_values(embeddings)))

    def quantized_values(self, embeddings: Floats) -> Floats:
        """embeddings (rows, embedding_dims) float32 -> gain * values of the codes they get (rows, dims) float32.

        `project(queries) @ quantized_values(embeddings).T` is adc, but for the rounding of queries to 8 bits.
        """
        return self._values(*self.quantize(embeddings))

    def _values(self, levels: NDArray[np.uint8], gains: NDArray[np.float16]) -> Floats:
        points = levels - (self.halves - np.float32(0.5))
        return cast(Floats, points * gains.astype(np.float32)[:, None])

    def _decode(self, values: Floats) -> Floats:
        """values (rows, dims) float32 -> the embeddings (rows, embedding_dims) that they represent."""
        return cast(Floats, self.mean + values @ self.decoder)

    def gains(self, rows: Floats, points: Floats) -> Floats:
        """rows (rows, embedding_dims) of length one, and their grid points (rows, dims) -> (rows,) float32.

        The length of the row less the mean, over the length of what the point represents, times cos^shrink with cos the
        cosine of the two. With shrink 0 a code is as long as its embedding; with 1 its squared error is least. Fits
        measure which finds more. Lengths are those that queries feel, see `felt_length`.
        """
        deviations, stands_for = rows - self.mean, points @ self.decoder
        gains = self.felt_length(deviations) / self.felt_length(stands_for)
        if self.shrink:
            cosines = (deviations * stands_for).sum(axis=1) / (length(deviations) * length(stands_for))
            gains = gains * np.maximum(cosines, TINY) ** np.float32(self.shrink)
        return cast(Floats, gains)

    def felt_length(self, rows: Floats) -> Floats:
        """rows (rows, embedding_dims) -> (rows,) float32: sqrt(|f|^2 + |f U|^2).

        What lies in directions in which embeddings hardly differ makes an embedding longer, but changes no score. Codes
        leave it out, and gains that made up for it would rank high what has much of it
        (docs/benchmarks.md#lengths-that-queries-feel).
        """
        if self.felt is None:
            return length(rows)
        felt = rows @ self.felt
        squares = np.einsum("ij,ij->i", rows, rows) + np.einsum("ij,ij->i", felt, felt)
        return cast(Floats, np.maximum(np.sqrt(squares), TINY))

    def shrink_factors(self, rows: Floats, values: Floats, shrink: float) -> Floats:
        """rows (rows, embedding_dims) of length one and the values of their codes (rows, dims), of a binarizer that
        does not shrink -> (rows,) float32: what gains are multiplied by with that shrink."""
        deviations, stands_for = rows - self.mean, values @ self.decoder
        lengths = np.linalg.norm(deviations, axis=1) * np.linalg.norm(stands_for, axis=1)
        cosines = np.einsum("ij,ij->i", deviations, stands_for) / np.maximum(lengths, TINY)
        return cast(Floats, np.maximum(cosines, TINY) ** np.float32(shrink))

    def _unit(self, embeddings: Floats) -> Floats:
        """The rows scaled to length one. Raises DimensionMismatch."""
        check_shape(embeddings, self.embedding_dims)
        return unit(embeddings)


def length(rows: Floats) -> Floats:
    """rows (rows, dims) -> (rows,) float32."""
    return cast(Floats, np.maximum(np.linalg.norm(rows, axis=1), TINY))


@dataclass(frozen=True)
class Moves:
    """Residual steps on one Gram matrix. The blocks follow one another, so that each sees what the last one did."""

    blocks: tuple[slice, ...]
    """The dimensions that move together."""
    to_targets: Floats
    """1 / diag G (dims,) float32."""
    pulls: tuple[Floats, ...]
    """For each block G / diag G less the identity (dims, block dims) float32, so that t = targets - p pull."""
    halves: Floats
    """(dims,) float32: half the number of levels per dimension."""

    @classmethod
    def of(cls, gram: Floats, halves: Floats) -> "Moves":
        dims = len(gram)
        count = -(-dims // MAX_BLOCK_DIMS)
        blocks = _equal_parts(dims, count)
        while dims // count > MIN_BLOCK_DIMS and max(_overshoot(gram[b, b]) for b in blocks) > MAX_OVERSHOOT:
            count *= 2
            blocks = _equal_parts(dims, count)
        inverse = cast(Floats, 1 / np.maximum(np.diag(gram), TINY))
        pull: Floats = gram * inverse - np.eye(dims, dtype=np.float32)
        return cls(blocks, inverse, tuple(np.ascontiguousarray(pull[:, block]) for block in blocks), halves)

    def search(self, residuals: Floats, initial: Floats, hardness: tuple[float, ...]) -> Floats:
        """residuals (rows, dims) float32, B - B_0 -> grid points (rows, dims) float32."""
        return self.loops(residuals, residuals @ initial, hardness)

    def loops(self, residuals: Floats, points: Floats, hardness: tuple[float, ...]) -> Floats:
        """Run one loop for each hardness, from these points (rows, dims); they are changed in place."""
        targets = residuals * self.to_targets
        for hard in hardness:
            for block, pull in zip(self.blocks, self.pulls, strict=True):
                points[:, block] = self.step(targets[:, block] - points @ pull, self.halves[block], np.float32(hard))
        return points

    @staticmethod
    def step(aims: Floats, halves: Floats, hardness: np.float32) -> Floats:
        grid = grid_points(aims, halves)
        if hardness == 1:
            return grid
        soft = np.minimum(np.maximum(aims, np.float32(0.5) - halves), halves - np.float32(0.5))
        return cast(Floats, soft + hardness * (grid - soft))


def _equal_parts(dims: int, count: int) -> tuple[slice, ...]:
    ends = [dims * (part + 1) // count for part in range(count)]
    return tuple(slice(start, end) for start, end in zip([0, *ends], ends, strict=False))


def _overshoot(gram: Floats) -> float:
    """The largest eigenvalue of a block's Gram matrix with its diagonal scaled to one."""
    scales = 1 / np.sqrt(np.maximum(np.diag(gram), TINY))
    return float(np.linalg.eigvalsh(gram * scales * scales[:, None])[-1])


def couplings(spec: CodeSpec) -> Floats:
    """(dims, dims) float32: how many prefixes of blocks, the whole code among them, hold both dims."""
    count = len(spec.blocks)
    held = np.repeat(np.arange(count, 0, -1, dtype=np.float32), spec.block_dims)
    return np.minimum(held, held[:, None])
