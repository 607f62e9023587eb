"""nDCG and recall of one ranking, by hand and against slow and obvious loops."""

import math

import numpy as np
import pytest

from bebr.core.metrics import ndcg, recall

RNG = np.random.default_rng(0)


def test_an_example_by_hand():
    # Grades 3, 2, 0 and 1 at ranks 1 to 4; a fifth document of grade 2 is not found.
    found, grades = [7, 5, 9, 1, *range(20, 26)], {7: 3.0, 5: 2.0, 1: 1.0, 4: 2.0}
    gained = 3 + 2 / math.log2(3) + 1 / math.log2(5)
    ideal = 3 + 2 / math.log2(3) + 2 / 2 + 1 / math.log2(5)
    assert ndcg(found, grades) == pytest.approx(gained / ideal)
    assert recall(found, grades) == 3 / 4


@pytest.mark.parametrize("k", [1, 5, 10, 20])
def test_random_rankings_equal_a_naive_loop(k: int):
    for _ in range(50):
        found = RNG.permutation(30)[:15].tolist()
        grades = {int(row): float(RNG.integers(0, 4)) for row in RNG.permutation(30)[: RNG.integers(0, 14)]}
        gained = sum(grades.get(row, 0) / math.log2(rank + 2) for rank, row in enumerate(found[:k]))
        ideal = sum(grade / math.log2(rank + 2) for rank, grade in enumerate(sorted(grades.values())[::-1][:k]))
        assert ndcg(found, grades, k) == pytest.approx(gained / ideal if ideal else 0)
        relevant = [row for row, grade in grades.items() if grade > 0]
        hits = sum(row in relevant for row in found[:k])
        assert recall(found, grades, k) == (hits / min(k, len(relevant)) if relevant else 0)


def test_grades_of_zero_and_less_are_not_relevant():
    assert ndcg([1, 2], {1: -1.0, 2: 0.0}) == recall([1, 2], {1: -1.0, 2: 0.0}) == 0
    assert ndcg([3, 1], {1: -5.0, 3: 1.0}) == recall([3, 1], {1: -5.0, 3: 1.0}) == 1
    assert ndcg([], {3: 1.0}) == recall([], {3: 1.0}) == 0
