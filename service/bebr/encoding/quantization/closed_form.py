"""The closed-form binarizer: fitted to an array of embeddings in seconds, nothing learned. The plain baseline.

Embeddings count by direction only: every row is scaled to length one first, in `fit`, `project` and `encode` alike, so
scores estimate the cosine. Then, with P orthonormal columns (the widest directions of the embeddings, in the block of
most bits first), `offset` the projected mean (zero where the fit was not centered) and T a stretch (see below):

    y = P^T T^-1 f                  query side, never centered: the mean only adds a constant per query
    z = P^T T f - offset            what the code represents
    v = the point step * grid value closest in angle to z
    gain = |z| / (|v| cos(v, z))    unbiased: E <y, gain v> = <y, z> when the error of v is evenly spread

A plain cosine of centered codes would cap recall, because the cosine of centered vectors is not the cosine that queries
ask for; the unbiased gain brings back the length of z. But y still holds the mean, which may be longer than what tells
queries apart and multiplies the error of v. So T stretches the direction of the mean before the grid is laid, which
makes the error there small, and the query side undoes it (see `_stretch`).

Closest in angle: for a fixed length the best grid point is the nearest one to `t z` for some t, so it is enough to try
a few t (`scales`) per vector and to keep the best: the encoder of Extended RaBitQ (arXiv:2409.09913) with fewer t.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bebr.core.arrays import TINY, Floats
from bebr.core.codes import CodeSpec, join_records, pack_levels
from bebr.encoding.bundles.manifest import Gain
from bebr.encoding.quantization.grid import UNIT_STEPS, grid_points, half_levels
from bebr.encoding.quantization.rows import check_enough, check_shape, principal_axes, sample_rows, unit_rows
from bebr.errors import InvalidEmbeddings

SCALES = np.linspace(0.7, 1.4, 8, dtype=np.float32)
"""Scales tried per vector. One loses recall; more than these gain nothing (docs/benchmarks.md#the-closed-form)."""
ITQ_ROWS = 20_000
ITQ_ROUNDS = 20
MIN_MEAN_LENGTH = 1e-3
"""A shorter mean is no mean: of unit rows in balance, chance leaves one of this length."""


class Rotation(StrEnum):
    """How the axes of a block are turned before they are cut into levels."""

    RANDOM = "random"
    ITQ = "itq"


@dataclass(frozen=True)
class ClosedForm:
    """A fitted binarizer and its reference implementation; `closed_form_graph.to_onnx` exports it."""

    spec: CodeSpec
    gain: Gain
    query_projection: Floats
    """T^-1 P (embedding_dims, dims) float32."""
    point_projection: Floats
    """T P (embedding_dims, dims) float32."""
    offset: Floats
    """(dims,) float32: the projected mean; zeros where the fit was not centered."""
    steps: Floats
    """(blocks,) float32: value = step * grid value."""
    typical_norm: float
    """Root mean square length of z."""
    scales: Floats
    """(scales,) float32: tried per vector."""

    @property
    def embedding_dims(self) -> int:
        return len(self.query_projection)

    @property
    def centered(self) -> bool:
        return bool(self.offset.any())

    @property
    def cells(self) -> Floats:
        """(dims,) float32: distance of neighboring grid points, two steps, per dimension."""
        return np.repeat(np.float32(2) * self.steps, [block.dims for block in self.spec.blocks])

    @property
    def halves(self) -> Floats:
        """(dims,) float32: half the number of levels per dimension."""
        return half_levels(self.spec)

    def project(self, embeddings: Floats) -> Floats:
        """embeddings (rows, embedding_dims) float32 -> y (rows, dims) float32, the query side of adc."""
        return self._unit_product(embeddings, self.query_projection)

    def quantize(self, embeddings: Floats) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """embeddings (rows, embedding_dims) float32 -> levels (rows, dims) uint8, gains (rows,) float16.

        A row equal to the mean, whose z is zero, gets the gain zero and so scores zero.
        """
        z = self._unit_product(embeddings, self.point_projection) - self.offset
        points = self._closest_points(z)
        levels = (points + (self.halves - np.float32(0.5))).astype(np.uint8)
        values = points * self.cells
        if self.gain is Gain.COSINE:
            gains = 1 / np.linalg.norm(values, axis=1)
        else:
            gains = (z * z).sum(axis=1) / np.maximum((values * z).sum(axis=1), TINY)
        return levels, gains.astype(np.float16)

    def encode(self, embeddings: Floats) -> NDArray[np.uint8]:
        """embeddings (rows, embedding_dims) float32 -> records (rows, record_size_bytes) uint8."""
        levels, gains = self.quantize(embeddings)
        return join_records(pack_levels(levels, self.spec), gains)

    def quantized_values(self, embeddings: Floats) -> Floats:
        """embeddings (rows, embedding_dims) float32 -> gain * values of the codes they get (rows, dims) float32.

        `project(queries) @ quantized_values(embeddings).T` is adc, but for the rounding of queries to 8 bits.
        """
        levels, gains = self.quantize(embeddings)
        values = (levels - (self.halves - np.float32(0.5))) * self.cells
        return cast(Floats, values * gains.astype(np.float32)[:, None])

    def closest_values(self, z: Floats) -> Floats:
        """z (rows, dims) float32 -> the multiple of each row's code that lies closest to it (rows, dims) float32."""
        values = self._closest_points(z) * self.cells
        along = (values * z).sum(axis=1, keepdims=True) / (values * values).sum(axis=1, keepdims=True)
        return cast(Floats, along * values)

    def _unit_product(self, embeddings: Floats, matrix: Floats) -> Floats:
        """The rows of `embeddings`, scaled to length one, times `matrix`. Raises DimensionMismatch."""
        check_shape(embeddings, self.embedding_dims)
        norms = np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), TINY)
        return cast(Floats, embeddings @ matrix / norms)

    def _closest_points(self, z: Floats) -> Floats:
        """z (rows, dims) float32 -> the grid points closest in angle, in units of cells: half the grid values.

        The order of float operations is that of the ONNX graph, so that both choose alike.
        """
        cells, halves = self.cells, self.halves
        norms = np.maximum(np.sqrt((z * z).sum(axis=1, keepdims=True)), TINY)
        unit = z * (np.float32(self.typical_norm) / norms) * (1 / cells)
        weights = cells * cells
        weighted = unit * weights
        closeness = np.empty((len(z), len(self.scales)), np.float32)
        for s, scale in enumerate(self.scales):
            points = grid_points(unit * (1 / scale), halves)
            closeness[:, s] = (points * weighted).sum(axis=1) / np.sqrt((points * points) @ weights)
        best = self.scales[closeness.argmax(axis=1)]
        return grid_points(unit * (1 / best)[:, None], halves)


def fit(
    embeddings: ArrayLike,
    spec: CodeSpec,
    *,
    center: bool,
    rotation: Rotation = Rotation.ITQ,
    seed: int = 0,
    gain: Gain = Gain.UNBIASED,
) -> ClosedForm:
    """Fit a binarizer to embeddings (rows, embedding_dims) of floats. The same seed gives the same binarizer.

    Raises InvalidEmbeddings when the array is not 2-D or not of floats, holds NaN or infinity, has a row of zeros, has
    fewer rows than dims, fewer dims than `spec`, or does not vary in as many directions as `spec` has blocks for.
    """
    rng = np.random.default_rng(seed)
    rows = unit_rows(sample_rows(embeddings, rng))
    check_enough(rows, spec)
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32) if center else np.zeros(rows.shape[1], np.float32)
    stretch = _stretch(rows, mean)
    deviations = (rows - mean) @ stretch
    axes = principal_axes(deviations)[1][:, : spec.dims]
    projection = np.hstack([axes[:, dims] @ _random_rotation(dims.stop - dims.start, rng) for dims in spec.dim_slices])
    binarizer = _with_projection(deviations, spec, gain, projection.astype(np.float32))
    if rotation is Rotation.ITQ:
        sample = deviations[rng.permutation(len(deviations))[:ITQ_ROWS]]
        binarizer = _turn_to_grid(binarizer, sample)
    query_side = np.linalg.solve(stretch, binarizer.query_projection).astype(np.float32)
    point_side = stretch @ binarizer.point_projection
    return replace(binarizer, query_projection=query_side, point_projection=point_side, offset=mean @ point_side)


def _stretch(rows: Floats, mean: Floats) -> Floats:
    """T (dims, dims) float32: the identity, but `factor` times as long in the direction of the mean.

    A grid spreads its error evenly, with a variance in proportion to tr(T S T), S the covariance; a score errs by
    tr(T^-1 (S + m m^T) T^-1) times that, for the query holds the mean m. The stretch along m with the least product has
    factor^4 = (s + |m|^2) / s, s the variance along m. The longer the mean, the more recall this gains
    (docs/benchmarks.md#the-closed-form).
    """
    stretch: Floats = np.eye(len(mean), dtype=np.float32)
    length = float(np.linalg.norm(mean))
    if length < MIN_MEAN_LENGTH:
        return stretch
    axis = mean / length
    variance = max(float(np.var(rows @ axis, dtype=np.float64)), MIN_MEAN_LENGTH**2)
    factor = ((variance + length**2) / variance) ** 0.25
    stretch += np.float32(factor - 1) * np.outer(axis, axis)
    return stretch


def _with_projection(deviations: Floats, spec: CodeSpec, gain: Gain, projection: Floats) -> ClosedForm:
    """A binarizer without offset and stretch whose steps and typical norm fit the projected deviations."""
    z = deviations @ projection
    spreads = [float(np.sqrt((z[:, dims] ** 2).mean())) for dims in spec.dim_slices]
    if min(spreads) < 1e-6:
        raise InvalidEmbeddings(
            f"the embeddings vary in fewer directions than '{spec}' has dims; choose a smaller code"
        )
    steps = np.array([spread * UNIT_STEPS[block.bits] for spread, block in zip(spreads, spec.blocks, strict=True)])
    typical_norm = float(np.sqrt((z * z).sum(axis=1).mean()))
    offset = np.zeros(spec.dims, np.float32)
    return ClosedForm(
        spec=spec,
        gain=gain,
        query_projection=projection,
        point_projection=projection,
        offset=offset,
        steps=steps.astype(np.float32),
        typical_norm=typical_norm,
        scales=SCALES,
    )


def _turn_to_grid(start: ClosedForm, deviations: Floats) -> ClosedForm:
    """Turn the projection so that codes come closer to the embeddings: ITQ (Gong and Lazebnik, 2011) for any bits.

    Alternates between the codes of the sample and the orthonormal projection that maps it best onto them (Procrustes).
    All blocks turn together, so directions may also move between blocks, or in from those that PCA left out.
    """
    turned = replace(start, scales=np.ones(1, np.float32))
    for _ in range(ITQ_ROUNDS):
        targets = turned.closest_values(deviations @ turned.query_projection)
        left, _, right = np.linalg.svd(deviations.T @ targets, full_matrices=False)
        turned = replace(turned, query_projection=(left @ right).astype(np.float32))
    return _with_projection(deviations, start.spec, start.gain, turned.query_projection)


def _random_rotation(dims: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(dims, dims) float64, uniformly random; the signs make QR unique."""
    q, r = np.linalg.qr(rng.normal(size=(dims, dims)))
    rotation: NDArray[np.float64] = q * np.sign(np.diag(r))
    return rotation
