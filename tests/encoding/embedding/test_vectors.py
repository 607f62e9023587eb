"""Embeddings from outside: every bad row is named, every good one comes back as a unit row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bebr.encoding.embedding.vectors import check_embeddings, split_embeddings, unit_of
from bebr.errors import DimensionMismatch, InvalidVector


def test_good_rows_become_unit_rows() -> None:
    rows = check_embeddings([[3, 4], [0, -2]], 2)
    assert rows.dtype == np.float32 and rows.flags.c_contiguous
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, -1]], rtol=1e-6)
    assert check_embeddings(np.zeros((0, 2), np.float32), 2).shape == (0, 2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint32])
def test_any_numbers_and_any_memory_order_will_do(dtype: type) -> None:
    values = np.asfortranarray(np.arange(1, 13).reshape(3, 4).astype(dtype))[::-1]
    expected = values.astype(np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(check_embeddings(values, 4), expected, rtol=1e-6)


def test_the_caller_keeps_its_array() -> None:
    values = np.array([[3.0, 4.0]], np.float32)
    check_embeddings(values, 2)
    assert values.tolist() == [[3.0, 4.0]]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([1.0, np.nan], r"row 1: number 1 of the embedding is nan"),
        ([np.inf, 1.0], r"row 1: number 0 of the embedding is inf"),
        ([-np.inf, np.nan], r"row 1: number 0 of the embedding is -inf"),
        ([0.0, 0.0], "row 1: the embedding is all zeros"),
    ],
)
def test_bad_rows_are_named(bad: list[float], message: str) -> None:
    with pytest.raises(InvalidVector, match=message) as raised:
        check_embeddings([[1.0, 0.0], bad, [0.0, 0.0]], 2)
    assert raised.value.fields == {"row": 1}


def test_all_bad_rows_are_found_at_once() -> None:
    rows, faults = split_embeddings([[0.0, 2.0], [0.0, 0.0], [5.0, 0.0], [np.nan, 1.0]], 2)
    assert sorted(faults) == [1, 3]
    assert rows[[0, 2]].tolist() == [[0.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize("values", [[1.0, 2.0], [[1.0, 2.0, 3.0]], [[[1.0, 2.0]]], [[1.0, 2.0], [1.0]], 1.0])
def test_wrong_shapes_are_refused(values: object) -> None:
    with pytest.raises(DimensionMismatch, match=r"\(rows, 2\)"):
        check_embeddings(values, 2)


@pytest.mark.parametrize("values", [[["a", "b"]], [[None, None]], [[1j, 2j]], [[True, False]]])
def test_what_is_no_number_is_refused(values: object) -> None:
    with pytest.raises(InvalidVector, match="of numbers"):
        check_embeddings(values, 2)


@given(hnp.arrays(np.float64, (3, 4), elements=st.floats(allow_nan=False, allow_infinity=False)))
@settings(max_examples=200, deadline=None)
def test_every_finite_row_that_is_not_zero_has_a_direction(values: np.ndarray) -> None:
    rows, faults = split_embeddings(values, 4)
    for row, (unit, value) in enumerate(zip(rows, values, strict=True)):
        if not value.any():
            assert row in faults
            continue
        assert row not in faults
        largest = np.abs(value).max()
        exact = (value / largest) / np.linalg.norm(value / largest)
        np.testing.assert_allclose(unit, exact, atol=1e-6)


@pytest.mark.parametrize("dims", [1, 2, 3, 5, 384, 1537])
def test_one_row_has_the_direction_that_exact_numbers_have(dims: int) -> None:
    rng = np.random.default_rng(dims)
    for scale in (1e-9, 1.0, 1e9):
        row = (rng.standard_normal(2 * dims) * scale / np.sqrt(dims)).astype(np.float32)
        for vector in (row[:dims], row[::2], row[::-2]):
            exact = vector.astype(np.float64) / np.linalg.norm(vector.astype(np.float64))
            unit = unit_of(vector)
            assert unit is not None and unit.shape == (1, dims) and unit.flags.c_contiguous
            np.testing.assert_allclose(unit[0], exact, rtol=2e-7)
            assert np.array_equal(unit, check_embeddings(vector[None], dims))


@pytest.mark.parametrize("number", [0.0, 1e-15, 1e15, np.inf, -np.inf, np.nan])
def test_odd_numbers_are_looked_at_closely(number: float) -> None:
    assert unit_of(np.array([number, 0.0, number], np.float32)) is None
    assert unit_of(np.empty(0, np.float32)) is None
