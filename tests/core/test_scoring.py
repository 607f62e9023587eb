"""The reference scorers against the formulas written out in floating point."""

import numpy as np
import pytest

from bebr.core.codes import CodeSpec, grid_values, join_records, pack_levels, rescore_values
from bebr.core.scoring import (
    dot_scores,
    hamming_distances,
    hamming_scores,
    prepare_adc,
    prepare_hamming,
    prepare_rescore,
    prepare_sdc,
    rescore_scores,
)
from bebr.core.topk import rank_by_score_then_id, top_k, top_rows
from bebr.errors import InvalidCode

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


@pytest.mark.parametrize("code", ["8x1/384x2+256x1", "8x1/12x8+20x4+5x2+9x1", "8x1/384x8", "8x1/4096x8"])
def test_rescoring_adds_the_product_of_the_query_and_the_finer_value(code: str) -> None:
    spec, rng = CodeSpec.parse(code), np.random.default_rng(3)
    rescore = spec.rescore
    assert rescore is not None
    levels = rng.integers(0, rescore.max_levels.astype(int) + 1, (30, rescore.dims)).astype(np.uint8)
    levels[0], levels[1] = rescore.max_levels, 0  # the largest sums there are
    records = join_records(pack_levels(levels, rescore), rng.uniform(0.1, 2, 30).astype(np.float16))
    projected = rng.normal(size=(5, rescore.dims)).astype(np.float32)
    projected[0] = 1
    queries = prepare_rescore(projected, spec)
    sums = queries.values.astype(object) @ (2 * levels.astype(object) - rescore.max_levels.astype(object)).T
    assert np.abs(sums).max() < 2**31 and queries.values.dtype == np.int16 and queries.scales.dtype == np.float32
    scores = rescore_scores(queries, records, spec)
    assert scores.dtype == np.float32 and scores.shape == (5, 30)
    expected = projected.astype(float) @ rescore_values(records, spec).T.astype(float)
    assert np.abs(scores - expected).max() < 1e-3 * np.abs(expected).max()
    gains = records[:, -2:].copy().view("<f2").ravel().astype(np.float32)
    in_order = sums.astype(np.float64).astype(np.float32) * queries.scales[:, None] * gains
    assert np.array_equal(scores, in_order)


def test_a_query_of_zeros_or_a_gain_of_zero_adds_nothing() -> None:
    spec = CodeSpec.parse("8x1/8x2")
    records = np.array([[1, 2, 0, 60], [1, 2, 0, 0]], np.uint8)
    queries = prepare_rescore(np.array([[0] * 8, [1] * 8], np.float32), spec)
    scores = rescore_scores(queries, records, spec)
    assert scores[0].tolist() == [0, 0] and scores[1, 0] != 0 and scores[1, 1] == 0
    assert prepare_rescore(np.empty((0, 8), np.float32), spec).values.shape == (0, 8)
    with pytest.raises(InvalidCode, match=r"\(queries, 8\)"):
        prepare_rescore(np.zeros((1, 7), np.float32), spec)


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
