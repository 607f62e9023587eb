"""Centroids and the rule by which lists are read: what they mean, on small examples and against exact sums."""

import numpy as np
import pytest

from bebr.core.codes import CodeSpec
from bebr.core.lists import Centroids, centroid_scores, lists_read, rounded, unit_centroids
from bebr.core.scoring import prepare_adc

SPEC = CodeSpec.parse("16x4+24x2+8x1")


def test_scores_of_centroids_estimate_products_in_code_space() -> None:
    random = np.random.default_rng(1)
    steps = np.array([0.1, 0.4, 0.9], np.float32)
    centroids = unit_centroids(random.normal(size=(30, SPEC.dims)), None)
    projected = random.normal(size=(5, SPEC.dims)).astype(np.float32)
    queries = prepare_adc(projected, SPEC, steps)
    values, scales = rounded(centroids, SPEC, steps)
    found = centroid_scores(Centroids(0, 1, SPEC, values, scales, queries), queries)
    np.testing.assert_allclose(found, projected @ centroids.T, atol=0.03)


def test_unit_centroids_are_of_length_one_in_what_codes_represent() -> None:
    random = np.random.default_rng(2)
    decoder = random.normal(size=(SPEC.dims, 60))
    metric = (decoder @ decoder.T).astype(np.float32)
    sums = random.normal(size=(7, SPEC.dims))
    sums[3] = 0
    lengths = np.linalg.norm(unit_centroids(sums, metric) @ decoder, axis=1)
    np.testing.assert_allclose(lengths, [1, 1, 1, 0, 1, 1, 1], atol=1e-5)


@pytest.mark.parametrize(
    ("delta", "floor", "expected"),
    [
        (np.inf, -np.inf, [2, 0, 3]),
        (0.0, -np.inf, [2]),
        (0.15, -np.inf, [2, 0]),
        (np.inf, 0.9, [2, 0, 3]),
        (0.1, 0.95, []),
    ],
)
def test_lists_are_read_while_they_may_have_a_hit(delta: float, floor: float, expected: list[int]) -> None:
    """List 1 has no rows that count; row 9 is in no list."""
    scores = np.array([0.7, 0.9, 0.8, 0.1], np.float32)
    rows = [np.array(some, np.int64) for some in ([0, 1], [], [2, 3], [4])]
    row_scores = np.array([0.75, 0.2, 0.83, 0.82, 0.3, 0, 0, 0, 0, 0.1], np.float32)
    read, found = lists_read(scores, rows, row_scores, np.array([9]), stop_at=2, delta=delta, floor=floor)
    assert read == expected
    assert sorted(found.tolist()) == sorted([9, *(row for number in expected for row in rows[number].tolist())])
