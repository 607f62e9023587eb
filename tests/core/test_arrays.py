"""Unit rows: length one, the same direction, float32, and no NaN for zeros."""

import numpy as np

from bebr.core.arrays import unit


def test_rows_keep_their_direction_and_get_length_one() -> None:
    rows = np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32) * np.float32(30)
    scaled = unit(rows)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(scaled, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose((scaled * rows).sum(axis=1), np.linalg.norm(rows, axis=1), rtol=1e-5)


def test_a_row_of_zeros_stays_zero() -> None:
    np.testing.assert_array_equal(unit(np.zeros((2, 3), np.float32)), np.zeros((2, 3), np.float32))
