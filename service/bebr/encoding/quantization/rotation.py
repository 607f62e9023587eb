"""A rotation of any number of dimensions that looks random and is the same for ever, on every machine.

Three rounds of: an order and signs drawn from a hash of the dims, then Hadamard transforms of the first and of the last
2^k dims, with 2^k the largest power of two within. All of it is additions, so a row turns the same alone and among
others, and codes that were stored by one release can be read by every later one.
"""

from functools import lru_cache
from hashlib import shake_256

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats

ROUNDS = 3
BATCH_ROWS = 256
"""Rows that are turned at once: they then stay in the cache."""


class Rotation:
    """An orthogonal matrix (dims, dims) that is never written down. Threads may share it."""

    def __init__(self, dims: int) -> None:
        self.dims = dims
        self._power = 1 << (dims.bit_length() - 1)
        self._orders = [_order(dims, number) for number in range(ROUNDS)]
        self._inverse_orders = [np.argsort(order) for order in self._orders]
        self._signs = [_signs(dims, number)[:, None] for number in range(2 * ROUNDS)]

    def turn(self, rows: Floats) -> Floats:
        """rows (rows, dims or fewer) float32, zeros behind -> turned (rows, dims) float32."""
        turned = np.empty((len(rows), self.dims), np.float32)
        for start in range(0, len(rows), BATCH_ROWS):
            batch = slice(start, start + BATCH_ROWS)
            turned[batch] = self._turn(rows[batch])
        return turned

    def back(self, rows: Floats) -> Floats:
        """The inverse of `turn`: rows (rows, dims or fewer) float32, zeros behind -> (rows, dims) float32."""
        turned = np.empty((len(rows), self.dims), np.float32)
        for start in range(0, len(rows), BATCH_ROWS):
            batch = slice(start, start + BATCH_ROWS)
            turned[batch] = self._back(rows[batch])
        return turned

    def _turn(self, rows: Floats) -> Floats:
        columns = self._columns(rows)
        for number, order in enumerate(self._orders):
            columns = columns[order]
            columns *= self._signs[2 * number]
            _hadamard(columns[: self._power])
            columns *= self._signs[2 * number + 1]
            if self._power < self.dims:
                _hadamard(columns[self.dims - self._power :])
        return columns.T

    def _back(self, rows: Floats) -> Floats:
        columns = self._columns(rows)
        for number in reversed(range(ROUNDS)):
            if self._power < self.dims:
                _hadamard(columns[self.dims - self._power :])
            columns *= self._signs[2 * number + 1]
            _hadamard(columns[: self._power])
            columns *= self._signs[2 * number]
            columns = columns[self._inverse_orders[number]]
        return columns.T

    def _columns(self, rows: Floats) -> Floats:
        """(dims, rows) float32: each step then works on whole rows of memory."""
        columns = np.zeros((self.dims, len(rows)), np.float32)
        columns[: rows.shape[1]] = rows.T
        return columns


@lru_cache(maxsize=64)
def rotation(dims: int) -> Rotation:
    """The rotation of so many dims."""
    return Rotation(dims)


def _hadamard(columns: Floats) -> None:
    """The orthonormal Hadamard transform of columns (2^k, rows), in place."""
    size, rows = columns.shape
    half = 1
    while half < size:
        pairs = columns.reshape(size // (2 * half), 2, half, rows)
        first, second = pairs[:, 0], pairs[:, 1]
        sums = first + second
        np.subtract(first, second, out=second)
        first[...] = sums
        half *= 2
    columns *= np.float32(size**-0.5)


def _order(dims: int, number: int) -> NDArray[np.int64]:
    drawn = np.frombuffer(shake_256(f"order {number} of {dims}".encode()).digest(8 * dims), "<u8")
    order: NDArray[np.int64] = np.argsort(drawn, kind="stable")
    return order


def _signs(dims: int, number: int) -> Floats:
    drawn = np.frombuffer(shake_256(f"signs {number} of {dims}".encode()).digest(dims), np.uint8)
    return 1 - 2 * (drawn & 1).astype(np.float32)
