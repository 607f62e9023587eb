"""The border for embeddings that come from outside: shape, numbers, length."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bebr import kernel
from bebr.core.arrays import Floats
from bebr.errors import DimensionMismatch, InvalidVector

_SAFE_SQUARES = (1e-20, 1e20)
"""Squared lengths that float32 computes to full precision; others are computed again in float64."""


def check_embeddings(values: ArrayLike, dims: int) -> Floats:
    """Anything array-like of shape (rows, dims) -> the same directions as unit rows, float32, contiguous.

    Raises DimensionMismatch, or InvalidVector naming the first row that is NaN, infinite or all zeros.
    """
    rows, faults = split_embeddings(values, dims)
    if faults:
        raise faults[min(faults)]
    return rows


def split_embeddings(values: ArrayLike, dims: int) -> tuple[Floats, dict[int, InvalidVector]]:
    """Like `check_embeddings`, but returns the error of each bad row, whose numbers are then meaningless.

    Raises DimensionMismatch when the array as a whole has another shape than (rows, dims).
    """
    array = _as_matrix(values, dims)
    if len(array) == 1 and array.dtype == np.float32 and (unit := unit_of(array[0])) is not None:
        return unit, {}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        rows = np.ascontiguousarray(array, np.float32)
        squares = np.einsum("ij,ij->i", rows, rows)
        # A NaN fails every comparison, so one test finds NaN, infinity, zero and lengths at the rim of float32.
        odd = np.flatnonzero(~((squares > _SAFE_SQUARES[0]) & (squares < _SAFE_SQUARES[1])))
        rows = rows / np.sqrt(squares)[:, None]
    faults = {}
    for row in odd.tolist():
        with np.errstate(invalid="ignore"):  # of a signaling NaN
            exact = array[row].astype(np.float64)
        if not np.isfinite(exact).all():
            column = int(np.flatnonzero(~np.isfinite(exact))[0])
            faults[row] = InvalidVector(f"row {row}: number {column} of the embedding is {exact[column]}", row=row)
        elif not exact.any():
            faults[row] = InvalidVector(f"row {row}: the embedding is all zeros, it has no direction", row=row)
        else:
            exact = exact / np.abs(exact).max()
            rows[row] = exact / np.linalg.norm(exact)
    return rows, faults


def unit_of(vector: Floats) -> Floats | None:
    """vector (dims,) float32 -> the unit row (1, dims); None: it needs a closer look. What `split_embeddings` makes of
    one row, in a tenth of the time."""
    return kernel.normalize(vector, *_SAFE_SQUARES)


def base64_bytes(text: str) -> bytes | None:
    """The bytes that base64 stands for; None: something is odd about it."""
    return kernel.decode_base64(text)


def _as_matrix(values: ArrayLike, dims: int) -> NDArray[np.number]:
    try:
        array = np.asarray(values)
    except ValueError as error:  # Rows of different length.
        raise DimensionMismatch(f"expected embeddings of shape (rows, {dims}): {error}", expected=dims) from error
    if array.dtype.kind not in "fiu":
        raise InvalidVector(f"expected embeddings of numbers, got an array of {array.dtype}")
    if array.ndim != 2 or array.shape[1] != dims:
        raise DimensionMismatch(f"expected embeddings of shape (rows, {dims}), got {array.shape}", expected=dims)
    return array
