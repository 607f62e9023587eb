"""The documents of a collection with their mean and principal axes, computed once and shared by all that need them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Documents:
    """rows (rows, dims) float32, of length one. Baselines are trained on them and store them: their best case."""

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
    def centred(self) -> Floats:
        """(rows, dims) float32, mean zero."""
        return self.rows - self.mean

    @cached_property
    def _principal(self) -> tuple[NDArray[np.float64], Floats]:
        variances, axes = np.linalg.eigh((self.centred.T @ self.centred).astype(np.float64) / len(self.rows))
        return np.maximum(variances[::-1], 0), np.ascontiguousarray(axes[:, ::-1], np.float32)

    @property
    def variances(self) -> NDArray[np.float64]:
        """(dims,) float64: variance along each principal axis, widest first."""
        return self._principal[0]

    @property
    def axes(self) -> Floats:
        """(dims, dims) float32: the principal axes in columns, widest first."""
        return self._principal[1]

    @property
    def rank(self) -> int:
        """How many principal axes the documents vary along, but for what float32 makes of none."""
        return int((self.variances > max(1e-10, 1e-9 * self.variances[0])).sum())

    def sample(self, rows: int, seed: int) -> Floats:
        """At most `rows` of the rows, drawn without replacement."""
        if len(self.rows) <= rows:
            return self.rows
        return self.rows[np.sort(np.random.default_rng(seed).choice(len(self.rows), rows, replace=False))]


def tight_frame(dims: int, directions: int, rng: np.random.Generator) -> Floats:
    """(dims, directions) float32: a random rotation, cut or expanded to that many unit columns.

    With fewer directions than dims the columns are orthonormal; with more, the rows are (times a constant), which for
    the same number of columns keeps more of a vector than independent random directions do.
    """
    wide = max(dims, directions)
    q, r = np.linalg.qr(rng.normal(size=(wide, wide)))
    frame = (q * np.sign(np.diag(r)))[:dims, :directions]
    unit: Floats = (frame / np.linalg.norm(frame, axis=0)).astype(np.float32)
    return unit


def closest_orthonormal(matrix: Floats) -> Floats:
    """matrix (n, m) with n <= m -> the (n, m) float32 with orthonormal rows closest to it: its polar factor.

    Through the eigenvectors of matrix matrix^T, which is many times faster than a singular value decomposition; that
    is left for matrices that are not of full rank.
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
