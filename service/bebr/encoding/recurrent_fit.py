"""Fits a recurrent binarizer to embeddings, in seconds and without gradients: least squares and search in turn.

It starts from the closed form (principal axes, turned at random in each block, cut into levels). Then it alternates:
given the codes, the decoder that maps them best onto the embeddings is a ridge regression; given the decoder, codes are
searched anew. First from the codes of the last round, one loop each (cheap, and far from the start soon); then from
nothing with all loops of the binarizer, because that is how points will be encoded later. This is local search
quantization (Martinez et al., 2016) with codebooks that are grids, so that the code needs no tables to be scanned.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bebr.core.codes import CodeSpec
from bebr.encoding.closed_form import UNIT_STEPS, check_room, principal_axes, sample_rows, unit_rows
from bebr.encoding.recurrent import INITIAL_RIDGE, Moves, Recurrent, grid_points, half_levels

Floats = NDArray[np.float32]

RIDGE = 1e-4
"""Ridge of the decoder's regression, as a share of the mean diagonal."""
FIT_HARDNESS = (0.25, 0.5, 0.75, 1.0)
"""Loops of a search while fitting: fewer than the binarizer's own, for there are many searches."""


@dataclass(frozen=True)
class Effort:
    """How long to fit. warm: rounds of one loop from the last codes. full: rounds of all loops. rows: used at most."""

    warm: int = 20
    full: int = 12
    rows: int = 100_000


CHEAP = Effort(warm=10, full=2, rows=6_000)
"""To compare codes with each other, not to keep."""


def fit_recurrent(
    embeddings: ArrayLike,
    spec: CodeSpec,
    *,
    centre: bool = False,
    weight: float = 0.0,
    effort: Effort | None = None,
    seed: int = 0,
) -> Recurrent:
    """Fit to embeddings (rows, embedding_dims) of floats. The same seed gives the same binarizer.

    weight: 0 counts errors in every direction alike; 1 counts them by how much queries like the rows would feel them,
    `e^T S e` with S the second moments of the rows; the exponents between interpolate.
    Raises InvalidEmbeddings when the array is not 2-D or not of floats, holds NaN or infinity, has a row of zeros, or
    rows that are all the same, or fewer rows than dims.
    """
    effort = effort or Effort()
    rng = np.random.default_rng(seed)
    rows = unit_rows(sample_rows(embeddings, rng))
    if len(rows) > effort.rows:
        rows = rows[np.sort(rng.choice(len(rows), effort.rows, replace=False))]
    check_room(rows)
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32) if centre else np.zeros(rows.shape[1], np.float32)
    metric = _metric(rows, weight)
    deviations = (rows - mean) @ metric
    halves = half_levels(spec)
    points = _start(deviations, spec, rng)
    for _ in range(effort.warm):
        decoder = _regress(points, deviations)
        points = Moves.of(decoder @ decoder.T, halves).loops(deviations @ decoder.T, points, (1.0,))
    for _ in range(effort.full):
        decoder = _regress(points, deviations)
        gram = decoder @ decoder.T
        points = Moves.of(gram, halves).search(deviations @ decoder.T, initial_block(gram), FIT_HARDNESS)
    decoder = _regress(points, deviations)
    return assemble(spec, decoder, metric, mean)


def assemble(spec: CodeSpec, decoder: Floats, metric: Floats, mean: Floats) -> Recurrent:
    """The binarizer of a decoder (dims, embedding_dims) that works in the metric (embedding_dims, embedding_dims)."""
    gram = decoder @ decoder.T
    out = np.linalg.solve(metric.T, decoder.T).T if not _is_identity(metric) else decoder
    return Recurrent(
        spec,
        decoder=np.ascontiguousarray(out, np.float32),
        encoder=np.ascontiguousarray(metric @ decoder.T, np.float32),
        gram=gram,
        initial=initial_block(gram),
        mean=mean,
    )


def initial_block(gram: Floats) -> Floats:
    """(G + ridge)^-1 (dims, dims) float32."""
    ridge = INITIAL_RIDGE * np.diag(gram).mean() * np.eye(len(gram))
    return cast(Floats, np.linalg.inv(gram + ridge).astype(np.float32))


def _metric(rows: Floats, weight: float) -> Floats:
    """The symmetric (dims, dims) matrix whose square weighs the errors, of mean square one."""
    if weight == 0:
        return np.eye(rows.shape[1], dtype=np.float32)
    variances, axes = principal_axes(rows)
    scales = (variances / variances.sum() + 1e-6) ** (weight / 2)
    metric: Floats = ((axes * (scales / np.sqrt((scales**2).mean()))) @ axes.T).astype(np.float32)
    return metric


def _is_identity(matrix: Floats) -> bool:
    return bool((matrix == np.eye(len(matrix))).all())


def _start(deviations: Floats, spec: CodeSpec, rng: np.random.Generator) -> Floats:
    """The codes of the closed form: grid points (rows, dims) float32.

    A code of more dims than the embeddings begins with the principal axes anew in its later blocks.
    """
    axes = principal_axes(deviations)[1]
    count = len(axes)
    projections, first = [], 0
    for block in spec.blocks:
        chosen = [(first + i) % count for i in range(min(block.dims, count))]
        turned = np.linalg.qr(rng.normal(size=(max(block.dims, len(chosen)), len(chosen))))[0][: block.dims]
        projections.append(turned @ axes[:, chosen].T)
        first += block.dims
    z = deviations @ np.vstack(projections).T.astype(np.float32)
    bits = np.repeat([block.bits for block in spec.blocks], spec.block_dims)
    cells = 2 * np.array([UNIT_STEPS[int(b)] for b in bits]) * np.maximum(z.std(axis=0), 1e-6)
    return grid_points((z / cells).astype(np.float32), half_levels(spec))


def _regress(points: Floats, deviations: Floats) -> Floats:
    """The decoder (dims, embedding_dims) float32 with the least squared error |deviations - points decoder|^2."""
    moments = (points.T @ points).astype(np.float64)
    moments[np.diag_indices_from(moments)] += RIDGE * np.diag(moments).mean()
    decoder: Floats = np.linalg.solve(moments, (points.T @ deviations).astype(np.float64)).astype(np.float32)
    return decoder
