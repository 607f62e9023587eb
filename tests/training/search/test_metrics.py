"""Recall, nDCG, rankings and intervals against slow and obvious ones."""

import math

import numpy as np
import pytest

from bebr_training.search.metrics import Bootstrap, ndcg_per_query, recall_per_query
from bebr_training.search.ranking import dot_search, search_by

RNG = np.random.default_rng(0)


def rankings(queries: int, rows: int, depth: int) -> np.ndarray:
    return np.array([RNG.permutation(rows)[:depth] for _ in range(queries)])


@pytest.mark.parametrize("k", [1, 10, 20])
def test_recall_is_the_share_of_the_truth_that_was_found(k: int):
    found, truth = rankings(50, 40, 20), rankings(50, 40, 20)
    expected = [len(set(f[:k].tolist()) & set(t[:k].tolist())) / k for f, t in zip(found, truth, strict=True)]
    np.testing.assert_allclose(recall_per_query(found, truth, k), expected)


def test_rows_that_are_missing_are_never_found():
    found = np.array([[3, -1, -1, -1]])
    assert recall_per_query(found, np.array([[3, 4, -1, -1]]), 4) == [0.25]


def test_ndcg_of_an_example_by_hand():
    # Grades 3, 2, 0 and 1 at ranks 1 to 4; a fifth judged document of grade 2 is not found.
    found = np.array([[7, 5, 9, 1, *range(20, 26)]])
    judgments = {0: {7: 3.0, 5: 2.0, 1: 1.0, 4: 2.0}}
    gained = 3 + 2 / math.log2(3) + 1 / math.log2(5)
    ideal = 3 + 2 / math.log2(3) + 2 / 2 + 1 / math.log2(5)
    values, judged = ndcg_per_query(found, judgments)
    assert judged.tolist() == [0]
    assert values[0] == pytest.approx(gained / ideal)


def test_ndcg_equals_a_naive_loop():
    found = rankings(60, 30, 15)
    judgments = {
        int(q): {int(d): float(RNG.integers(0, 4)) for d in RNG.permutation(30)[: RNG.integers(0, 14)]}
        for q in RNG.permutation(60)[:40]
    }
    values, judged = ndcg_per_query(found, judgments)
    assert judged.tolist() == sorted(judgments)
    for value, query in zip(values, judged, strict=True):
        grades = judgments[int(query)]
        gained = sum(grades.get(int(row), 0) / math.log2(rank + 2) for rank, row in enumerate(found[query][:10]))
        best = sorted(grades.values(), reverse=True)[:10]
        ideal = sum(grade / math.log2(rank + 2) for rank, grade in enumerate(best))
        assert value == pytest.approx(gained / ideal if ideal else 0)


def test_intervals_hold_the_true_mean_as_often_as_they_say():
    bootstrap = Bootstrap(100, resamples=500)
    draws = RNG.beta(5, 2, size=(400, 100))
    held = [one.low <= 5 / 7 <= one.high for one in map(bootstrap.mean, draws)]
    assert 0.90 <= np.mean(held) <= 0.985  # 95 %, give or take what 400 draws and 100 queries leave to chance


def test_an_interval_is_that_of_resampling_one_query_after_another():
    values = RNG.random(50)
    ours = Bootstrap(50, resamples=4000).mean(values)
    means = [values[RNG.integers(0, 50, 50)].mean() for _ in range(4000)]
    low, high = np.quantile(means, [0.025, 0.975])
    assert (ours.mean, ours.low, ours.high) == pytest.approx((values.mean(), low, high), abs=0.01)
    assert Bootstrap(50, resamples=4000).mean(values) == ours


def test_a_paired_difference_is_far_sharper_than_two_intervals():
    hard = RNG.random(200)
    better, worse = hard + 0.02 + 0.01 * RNG.standard_normal(200), hard
    bootstrap = Bootstrap(200)
    difference = bootstrap.difference(better, worse)
    assert difference.low > 0.015
    assert bootstrap.mean(better).low < bootstrap.mean(worse).high
    ratio = bootstrap.ratio(better, worse)
    assert ratio.low < better.mean() / worse.mean() < ratio.high
    assert math.isnan(bootstrap.ratio(better, np.zeros(200)).mean)


def test_chunks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch):
    queries, values = RNG.normal(size=(23, 8)).astype(np.float32), RNG.normal(size=(90, 8)).astype(np.float32)
    whole = dot_search(values)(queries, 10)
    monkeypatch.setattr("bebr_training.search.ranking.CHUNK_SCORES", 400)
    assert (dot_search(values)(queries, 10) == whole).all()
    assert (search_by(lambda q: -(q @ values.T), 90)(-queries, 10) == whole).all()
