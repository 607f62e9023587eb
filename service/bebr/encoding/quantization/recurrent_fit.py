"""Fits a recurrent binarizer to embeddings, in seconds and without gradients: least squares and search in turn.

It starts from the closed form (principal axes, turned at random in each block, cut into levels). Then it alternates:
given the codes, the decoder that maps them best onto the embeddings is a regression; given the decoder, codes are
searched anew. The warm rounds start from the codes of the round before and run one loop each, which is cheap. The full
rounds start from nothing, because that is how points will be encoded later; the one with the least squared error is
kept. This is local search quantization (Martinez et al., 2016) with grids as codebooks, so a scan needs no tables.

Embeddings that vary in fewer directions than the code has dims are no obstacle: several dims then share a direction.
"""

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from bebr.core.arrays import Floats
from bebr.core.codes import CodeSpec
from bebr.encoding.quantization.grid import UNIT_STEPS, grid_points, half_levels
from bebr.encoding.quantization.recurrent import INITIAL_RIDGE, Moves, Recurrent, couplings
from bebr.encoding.quantization.rows import Axes, check_enough, principal_axes, sample_rows, unit_rows

PRIOR_ROWS = 1 / 8
"""Weight of the closed form's decoder in the regression, in rows for every dim of the code. With as few rows as dims a
fit without it finds next to nothing; with many rows it makes no difference."""
FLAT = 1e-6
"""Directions with less than this share of the largest variance are left out of the start: nothing varies there."""
FELT, FELT_FLOOR = 0.25, 0.05
"""How much more wide directions count in the lengths that gains are made of, and what is added to every variance, as a
share of the mean. With 0 all count alike; with 1 as much as queries like the rows would feel an error there, which
gives too much to the widest (docs/benchmarks.md#lengths-that-queries-feel)."""
FIT_HARDNESS = (0.25, 0.5, 0.75, 1.0)
"""Loops of a search while fitting: fewer than the binarizer's own, for there are many searches."""


@dataclass(frozen=True)
class Effort:
    """How long to fit."""

    warm: int = 20
    """Rounds of one loop from the codes of the round before."""
    full: int = 12
    """Rounds of all loops, from nothing."""
    rows: int = 100_000
    """Most rows that are fitted to; of more a sample is taken."""


CHEAP = Effort(warm=10, full=2, rows=6_000)
"""To compare codes with each other, not to keep."""


def fit_recurrent(
    embeddings: ArrayLike,
    spec: CodeSpec,
    *,
    center: bool = False,
    weight: float = 0.0,
    nested: bool = False,
    effort: Effort | None = None,
    seed: int = 0,
) -> Recurrent:
    """Fit to embeddings (rows, embedding_dims) of floats. The same seed gives the same binarizer.

    The options are those of `fit_unit_rows`. Raises InvalidEmbeddings when the array is not 2-D or not of floats, holds
    NaN or infinity, has a row of zeros, or rows that are all the same, or fewer rows than dims.
    """
    rng = np.random.default_rng(seed)
    rows = unit_rows(sample_rows(embeddings, rng))
    return fit_unit_rows(rows, spec, center=center, weight=weight, nested=nested, effort=effort or Effort(), rng=rng)


def fit_unit_rows(
    rows: Floats,
    spec: CodeSpec,
    *,
    center: bool,
    weight: float,
    nested: bool,
    effort: Effort,
    rng: np.random.Generator,
    axes: Axes | None = None,
) -> Recurrent:
    """Fit to rows (rows, embedding_dims) float32 of length one, as `unit_rows` makes them.

    center: take the mean out of points first. weight: 0 counts errors in every direction alike; 1 counts them by how
    much queries like the rows would feel them, `e^T S e` with S the second moments of the rows; between, the exponent
    interpolates. nested: the first blocks alone are to be a good code too, whatever their number. axes: principal axes
    of rows like these, where they are known and nothing is centered.
    Raises InvalidEmbeddings when the rows are all the same, or fewer than dims.
    """
    if len(rows) > effort.rows:
        rows = rows[np.sort(rng.choice(len(rows), effort.rows, replace=False))]
    if axes is None:
        check_enough(rows)
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32) if center else np.zeros(rows.shape[1], np.float32)
    metric = _metric(rows, weight)
    shares = couplings(spec) if nested else np.ones((spec.dims, spec.dims), np.float32)
    deviations = rows - mean if center else rows
    if weight:
        deviations = deviations @ metric
    start = principal_axes(deviations) if axes is None or center or weight else axes
    decoder = _fit_decoder(deviations, spec, shares, start, effort=effort, rng=rng)
    fitted = assemble(spec, decoder, metric=metric, mean=mean, nested=nested)
    return fitted if center or weight else replace(fitted, felt=felt_directions(start, spec.dims))


def felt_directions(axes: Axes, count: int) -> Floats:
    """`Recurrent.felt` of embeddings with these principal axes: U (embedding_dims, at most count) float32.

    A direction counts by the FELT-th power of its variance; of those that are not among the `count` widest all count
    alike.
    """
    variances, directions = axes
    counts = (variances + FELT_FLOOR * variances.mean()) ** FELT
    count = min(count, len(counts) - 1)
    least = np.exp(np.log(counts[count:]).mean())
    more = np.maximum(counts[:count] / least - 1, 0)
    return np.ascontiguousarray(directions[:, :count] * np.sqrt(more), np.float32)


def _fit_decoder(
    deviations: Floats, spec: CodeSpec, shares: Floats, axes: Axes, *, effort: Effort, rng: np.random.Generator
) -> Floats:
    """deviations (rows, embedding_dims) and principal axes -> the decoder (dims, embedding_dims) float32 whose
    codes come closest."""
    halves, own = half_levels(spec), np.diag(shares)
    points, prior = _start(deviations, spec, axes, rng)
    for _ in range(effort.warm):
        decoder = _regress(points, deviations, prior, shares)
        gram, encoded = decoder @ decoder.T * shares, deviations @ decoder.T * own
        points = Moves.of(gram, halves).loops(encoded, points, (1.0,))
    if not effort.full:
        return _regress(points, deviations, prior, shares) if effort.warm else prior
    best, least = prior, np.inf
    for _ in range(effort.full):
        decoder = _regress(points, deviations, prior, shares)
        gram, encoded = decoder @ decoder.T * shares, deviations @ decoder.T * own
        points = Moves.of(gram, halves).search(encoded, initial_block(gram), FIT_HARDNESS)
        # |deviations - points decoder|^2, less what no decoder changes
        error = float(np.vdot(points, points @ gram - 2 * encoded))
        if error < least:
            best, least = decoder, error
    return best


def assemble(spec: CodeSpec, decoder: Floats, *, metric: Floats, mean: Floats, nested: bool = False) -> Recurrent:
    """The binarizer of a decoder (dims, embedding_dims) that works in the metric (embedding_dims, embedding_dims)."""
    gram = decoder @ decoder.T
    encoder = decoder.T if _is_identity(metric) else metric @ decoder.T
    if nested:
        shares = couplings(spec)
        gram, encoder = gram * shares, encoder * np.diag(shares)
    out = np.linalg.solve(metric.T, decoder.T).T if not _is_identity(metric) else decoder
    return Recurrent(
        spec,
        decoder=np.ascontiguousarray(out, np.float32),
        encoder=np.ascontiguousarray(encoder, np.float32),
        gram=gram,
        initial=initial_block(gram),
        mean=mean,
        nested=nested,
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


def _start(deviations: Floats, spec: CodeSpec, principal: Axes, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """The closed form: its codes as grid points (rows, dims), its decoder (dims, embedding_dims), both float32.

    A code of more dims than the embeddings vary in begins with the principal axes anew in its later blocks.
    """
    variances, axes = principal
    count = max(1, int((variances > FLAT * variances[0]).sum()))
    projections, first = [], 0
    for block in spec.blocks:
        chosen = [(first + i) % count for i in range(min(block.dims, count))]
        turned = np.linalg.qr(rng.normal(size=(max(block.dims, len(chosen)), len(chosen))))[0][: block.dims]
        projections.append(turned @ axes[:, chosen].T)
        first += block.dims
    projection = np.vstack(projections).astype(np.float32)
    z = deviations @ projection.T
    unit_cells = np.repeat([2 * UNIT_STEPS[block.bits] for block in spec.blocks], spec.block_dims)
    cells = (unit_cells * np.maximum(z.std(axis=0), 1e-6)).astype(np.float32)
    return grid_points(z / cells, half_levels(spec)), projection * cells[:, None]


def _regress(points: Floats, deviations: Floats, prior: Floats, shares: Floats) -> Floats:
    """The decoder (dims, embedding_dims) float32 of least squared error |deviations - points decoder|^2.

    With couplings as shares (dims, dims) the errors of all prefixes are added up; else shares are ones. The distance
    from the prior counts too, as if PRIOR_ROWS rows for every dim had been decoded by the prior.
    """
    moments = (points.T @ points).astype(np.float64) * shares
    weight = PRIOR_ROWS * len(moments) * np.diag(moments).mean() / len(points)
    moments[np.diag_indices_from(moments)] += weight
    products = (points.T @ deviations).astype(np.float64) * np.diag(shares)[:, None] + weight * prior
    decoder: Floats = np.linalg.solve(moments, products).astype(np.float32)
    return decoder
