"""Rows of a fit: sampled, checked, scaled; their axes."""

import numpy as np
import pytest
from tests.encoding.quantization.embeddings import DIMS, text_like

from bebr.core.codes import CodeSpec
from bebr.encoding.quantization.rows import MAX_FIT_ROWS, check_enough, principal_axes, sample_rows, unit_rows
from bebr.errors import InvalidEmbeddings


def test_lengths_at_the_rim_of_float32_have_a_direction() -> None:
    rows = unit_rows(np.array([[1e38, -1e38], [1e-40, 0], [3, 4]], np.float32))
    np.testing.assert_allclose(rows, [[0.5**0.5, -(0.5**0.5)], [1, 0], [0.6, 0.8]], rtol=1e-4)


def test_of_very_many_rows_a_sample_is_read() -> None:
    rows = np.broadcast_to(np.float32(1), (3 * MAX_FIT_ROWS, 2))
    assert len(sample_rows(rows, np.random.default_rng(0))) == MAX_FIT_ROWS


def test_few_rows_are_all_read() -> None:
    rows = text_like(50)
    np.testing.assert_array_equal(sample_rows(rows, np.random.default_rng(0)), rows)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, np.nan]], "row 0 holds NaN"),
        ([[1, 2], [np.inf, 1], [np.nan, 1]], "row 1 .* 2 such"),
        ([[1, 2], [0, 0]], "row 1 is all zeros"),
    ],
)
def test_rows_without_a_direction_are_named(rows: list[list[float]], message: str) -> None:
    with pytest.raises(InvalidEmbeddings, match=message):
        unit_rows(np.array(rows, np.float32))


def test_axes_are_orthonormal_and_widest_first() -> None:
    rows = text_like(500)
    variances, axes = principal_axes(rows)
    assert (np.diff(variances) <= 0).all()
    np.testing.assert_allclose(axes.T @ axes, np.eye(DIMS), atol=1e-9)
    np.testing.assert_allclose(((rows.astype(np.float64) @ axes) ** 2).mean(axis=0), variances, atol=1e-6)


def test_what_a_fit_cannot_use_is_refused() -> None:
    with pytest.raises(InvalidEmbeddings, match="too few"):
        check_enough(text_like(DIMS - 1))
    with pytest.raises(InvalidEmbeddings, match="all embeddings are the same"):
        check_enough(np.repeat(text_like(1), DIMS, axis=0))
    with pytest.raises(InvalidEmbeddings, match="choose a smaller code"):
        check_enough(text_like(2 * DIMS), CodeSpec.parse(f"{DIMS + 8}x1"))
