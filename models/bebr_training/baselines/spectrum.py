"""The documents of a collection with their mean and principal axes, each computed once."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats


@dataclass(frozen=True)
class Documents:
    """Documents: rows (rows, dims) float32 of length one. Baselines are trained on them and store them."""

    rows: Floats

    @property
    def dims(self) -> int:
        return int(self.rows.shape[1])

    @cached_property
    def mean(self) -> Floats:
        """(dims,) float32."""
        mean: Floats = self.rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean

    @cached_property
    def centered(self) -> Floats:
        """(rows, dims) float32, mean zero."""
        return self.rows - self.mean

    @cached_property
    def _principal(self) -> tuple[NDArray[np.float64], Floats]:
        variances, axes = np.linalg.eigh((self.centered.T @ self.centered).astype(np.float64) / len(self.rows))
        return np.maximum(variances[::-1], 0), np.ascontiguousarray(axes[:, ::-1], np.float32)

    @property
    def variances(self) -> NDArray[np.float64]:
        """(dims,) float64: the variance along each principal axis, largest first."""
        return self._principal[0]

    @property
    def axes(self) -> Floats:
        """(dims, dims) float32: the principal axes as columns, largest variance first."""
        return self._principal[1]

    @property
    def rank(self) -> int:
        """The number of principal axes along which the documents vary, apart from rounding errors of float32."""
        return int((self.variances > max(1e-10, 1e-9 * self.variances[0])).sum())

    def sample(self, rows: int, seed: int) -> Floats:
        """A random sample of at most `rows` rows, without replacement."""
        if len(self.rows) <= rows:
            return self.rows
        return self.rows[np.sort(np.random.default_rng(seed).choice(len(self.rows), rows, replace=False))]


def tight_frame(dims: int, directions: int, rng: np.random.Generator) -> Floats:
    """(dims, directions) float32: a random rotation, cut or expanded to that many unit columns.

    With fewer directions than dims the columns are orthonormal. With more, the rows are, up to a constant; such columns
    preserve more of a vector than as many independent random directions.
    """
    wide = max(dims, directions)
    q, r = np.linalg.qr(rng.normal(size=(wide, wide)))
    frame = (q * np.sign(np.diag(r)))[:dims, :directions]
    unit: Floats = (frame / np.linalg.norm(frame, axis=0)).astype(np.float32)
    return unit


def closest_orthonormal(matrix: Floats) -> Floats:
    """matrix (n, m) with n <= m -> the closest (n, m) float32 with orthonormal rows: its polar factor.

    It is computed from the eigenvectors of matrix matrix^T, which is much faster than a singular value decomposition.
    The latter is only used for matrices without full rank.
    """
    wide = matrix.astype(np.float64)
    squares, vectors = np.linalg.eigh(wide @ wide.T)
    if squares[0] > 1e-12 * squares[-1]:
        polar = (vectors / np.sqrt(squares)) @ vectors.T @ wide
    else:
        left, _, right = np.linalg.svd(wide, full_matrices=False)
        polar = left @ right
    closest: Floats = polar.astype(np.float32)
    return closest
