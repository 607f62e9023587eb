"""The reference scorers against the formulas written out in floating point."""

import numpy as np
import pytest

from bebr.core.codes import CodeSpec, grid_values, pack_levels
from bebr.core.scoring import (
    dot_scores,
    hamming_distances,
    hamming_scores,
    prepare_adc,
    prepare_hamming,
    prepare_sdc,
)
from bebr.core.topk import rank_by_score_then_id, top_k, top_rows

SPEC = CodeSpec.parse("12x4+20x2+9x1")
STEPS = np.array([0.3, 0.5, 0.9], np.float32)
WIDTHS = [12, 20, 9]


def make(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """levels, codes, gains"""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, SPEC.max_levels.astype(int) + 1, (rows, SPEC.dims)).astype(np.uint8)
    return levels, pack_levels(levels, SPEC), rng.uniform(0.1, 2, rows).astype(np.float16)


def values(levels: np.ndarray) -> np.ndarray:
    return grid_values(levels, SPEC) * np.repeat(STEPS, WIDTHS).astype(np.float64)


def test_sdc_is_the_product_of_values_and_gains() -> None:
    query_levels, query_codes, query_gains = make(4, 1)
    levels, codes, gains = make(30, 2)
    scores = dot_scores(prepare_sdc(query_codes, query_gains, SPEC, STEPS), codes, gains, SPEC)
    expected = values(query_levels) @ values(levels).T
    expected *= query_gains.astype(float)[:, None] * gains.astype(float)
    assert np.allclose(scores, expected, rtol=1e-5, atol=1e-5)
    assert scores.dtype == np.float32


def test_adc_is_close_to_the_float_query() -> None:
    rng = np.random.default_rng(3)
    projected = rng.normal(size=(4, SPEC.dims)).astype(np.float32) * np.repeat([10, 1, 0.01], WIDTHS).astype(np.float32)
    levels, codes, gains = make(30, 2)
    scores = dot_scores(prepare_adc(projected, SPEC, STEPS), codes, gains, SPEC)
    expected = (projected @ values(levels).T) * gains.astype(float)
    assert np.abs(scores - expected).max() < 0.02 * np.abs(expected).max()


def test_adc_of_a_zero_block_is_zero() -> None:
    prepared = prepare_adc(np.zeros((1, SPEC.dims), np.float32), SPEC, STEPS)
    _, codes, gains = make(3, 2)
    assert dot_scores(prepared, codes, gains, SPEC).tolist() == [[0, 0, 0]]


def test_hamming_counts_differing_signs() -> None:
    levels, codes, _ = make(30, 2)
    signs = values(levels) > 0
    distances = hamming_distances(prepare_hamming(codes[:3]), codes, SPEC)
    assert np.array_equal(distances, (signs[:3, None] != signs[None]).sum(axis=2))
    assert hamming_scores(distances, SPEC.dims)[0, 0] == 1
    assert hamming_scores(np.array([SPEC.dims], np.int32), SPEC.dims)[0] == -1


def test_ties_are_broken_by_position_and_by_id() -> None:
    scores = np.array([1, 3, 2, 3, 1], np.float32)
    assert top_k(scores, 4).tolist() == [1, 3, 2, 0]
    assert top_k(scores, 99).tolist() == [1, 3, 2, 0, 4]
    assert rank_by_score_then_id(scores, ["e", "d", "c", "b", "a"], 4) == [3, 1, 2, 4]


@pytest.mark.parametrize("k", [1, 7, 50, 60, 70])
def test_the_best_rows_of_many_queries_are_those_of_each_also_where_scores_tie(k: int) -> None:
    scores = np.random.default_rng(0).integers(0, 6, size=(30, 60)).astype(np.float32)
    found = top_rows(scores, k)
    for line, rows in zip(scores, found, strict=True):
        assert rows.tolist() == top_k(line, k).tolist()
