"""The rows that a binarizer is fitted to: sampled, checked, scaled to length one, and their principal axes."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bebr.core.arrays import Floats
from bebr.core.codes import CodeSpec
from bebr.errors import DimensionMismatch, InvalidEmbeddings

Axes = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Variances (dims,), and principal axes (dims, dims) in columns; widest first."""
MAX_FIT_ROWS = 100_000
"""Most rows that a fit uses; of more a sample is taken."""


def sample_rows(embeddings: ArrayLike, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    """embeddings (rows, dims) of floats -> all rows, or MAX_FIT_ROWS of them in their order. Raises InvalidEmbeddings.

    Only the rows that are taken are read, so a file of any size may be mapped.
    """
    array = np.asanyarray(embeddings)
    if array.ndim != 2 or 0 in array.shape:
        raise InvalidEmbeddings(f"expected a 2-D array (rows, dims), got shape {array.shape}", shape=list(array.shape))
    if array.dtype.kind != "f":
        raise InvalidEmbeddings(f"expected an array of floats, got {array.dtype}", dtype=str(array.dtype))
    if len(array) <= MAX_FIT_ROWS:
        return array
    return array[np.sort(rng.choice(len(array), MAX_FIT_ROWS, replace=False))]


def unit_rows(rows: NDArray[np.floating[Any]]) -> Floats:
    """rows (rows, dims) of floats -> the same as float32, scaled to length one.

    Raises InvalidEmbeddings naming the first row that holds NaN or infinity, or is all zeros.
    """
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        row = int(finite.argmin())
        raise InvalidEmbeddings(f"row {row} holds NaN or infinity; {int((~finite).sum())} such rows in all", row=row)
    # The largest number of a row is taken out first, so that no square overflows or vanishes.
    peaks = np.abs(rows).max(axis=1)
    if not peaks.all():
        row = int(peaks.argmin())
        raise InvalidEmbeddings(f"row {row} is all zeros and has no direction", row=row)
    wide = rows.astype(np.promote_types(rows.dtype, np.float32), copy=False)
    unit: Floats = (wide / peaks[:, None]).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return unit


def principal_axes(deviations: Floats) -> Axes:
    """deviations (rows, dims) float32 -> their principal axes."""
    second_moments = (deviations.T @ deviations).astype(np.float64) / len(deviations)
    variances, axes = np.linalg.eigh(second_moments)
    return np.maximum(variances[::-1], 0), axes[:, ::-1]


def check_enough(rows: Floats, spec: CodeSpec | None = None) -> None:
    """Raises InvalidEmbeddings when a binarizer of that spec cannot be fitted to so few rows or dims."""
    row_count, dims = rows.shape
    if spec is not None and spec.dims > dims:
        raise InvalidEmbeddings(f"'{spec}' has {spec.dims} dims, but the embeddings only {dims}; choose a smaller code")
    if row_count < dims:
        raise InvalidEmbeddings(
            f"{row_count} rows are too few: expected at least as many as the embeddings have dims, {dims}",
            rows=row_count,
        )
    if np.abs(rows - rows[0]).max() < 1e-6:
        raise InvalidEmbeddings("all embeddings are the same; nothing can be told apart")


def check_shape(embeddings: Floats, embedding_dims: int) -> None:
    """Raise DimensionMismatch unless embeddings are of shape (rows, embedding_dims)."""
    if embeddings.shape[1:] != (embedding_dims,):  # one comparison, for every query passes here
        raise DimensionMismatch(f"expected embeddings of shape (rows, {embedding_dims}), got {embeddings.shape}")
