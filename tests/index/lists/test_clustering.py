"""Centroids are where the rows are: on planted clusters, in the metric of what codes represent, and always the same."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.codes import CodeSpec, join_records, pack_levels
from bebr.core.lists import unit_centroids
from bebr.core.scoring import dot_scores
from bebr.index.lists import clustering
from bebr.index.lists.assigning import Stopped, assign
from bebr.index.lists.clustering import CodeSpace, cluster, lists_for

SPEC = CodeSpec.parse("24x4+20x1")
STEPS = np.array([0.1, 0.3], np.float32)
SPACE = CodeSpace(SPEC, STEPS, None)


def planted(rng: np.random.Generator, clusters: int, rows: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Records around some centers, and which of them each belongs to."""
    centers = rng.integers(0, 256, (clusters, SPEC.dims)) & SPEC.max_levels
    of = rng.integers(0, clusters, rows)
    noise = np.where(rng.random((rows, SPEC.dims)) < 0.08, rng.integers(0, 256, (rows, SPEC.dims)), centers[of])
    codes = pack_levels((noise & SPEC.max_levels).astype(np.uint8), SPEC)
    return join_records(codes, rng.choice([0.5, 1.0], rows).astype(np.float16)), of


def assigned(
    records: NDArray[np.uint8], centroids: clustering.Centroids
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    blocked = kernel.allocate(kernel.blocked_size_bytes(SPEC, len(records)))
    kernel.pack(np.ascontiguousarray(records[:, :-2]), SPEC, blocked, 0)
    return assign(blocked, len(records), SPEC, centroids.assigning)


def test_rows_of_one_cluster_are_in_few_lists() -> None:
    records, of = planted(np.random.default_rng(0), 12, 3000)
    centroids = cluster(records, SPACE, 32, version=3, generation=7, rows=9000)
    numbers, scores = assigned(records, centroids)
    assert (centroids.version, centroids.generation, centroids.rows, len(centroids)) == (3, 7, 9000, 32)
    assert np.bincount(numbers, minlength=32).min() > 0
    most = [np.bincount(of[numbers == number]).max() for number in range(32)]
    assert sum(most) > 0.98 * len(records)
    gains = records[:, -2:].copy().view(np.float16)[:, 0].astype(np.float32)
    assert centroids.mean_score == pytest.approx((scores * gains).mean(), rel=0.05)


def test_the_same_sample_makes_the_same_centroids() -> None:
    records, _ = planted(np.random.default_rng(2), 6, 800)
    one, again = (cluster(records, SPACE, 16, version=0, generation=1, rows=800) for _ in range(2))
    assert np.array_equal(one.values, again.values) and np.array_equal(one.scales, again.scales)
    assert np.array_equal(one.assigning.values, again.assigning.values) and one.mean_score == again.mean_score


def test_a_metric_says_what_is_near() -> None:
    """Where only the first dimensions count, the others do not part rows."""
    rng = np.random.default_rng(3)
    records, _ = planted(rng, 40, 2000)
    metric = np.diag(np.r_[np.ones(6), np.zeros(SPEC.dims - 6)]).astype(np.float32)
    space = replace(SPACE, metric=metric)
    centroids = cluster(records, space, 8, version=0, generation=1, rows=2000)
    assert not centroids.assigning.values[:, 6:24].any()
    units = centroids.values * np.repeat(centroids.scales, SPEC.block_dims, axis=1) * np.repeat(STEPS, SPEC.block_dims)
    lengths = np.sqrt(((units @ metric) * units).sum(axis=1))
    np.testing.assert_allclose(lengths, 1, atol=0.1)
    assert np.allclose(unit_centroids(units, metric), units, atol=0.1)


def test_as_few_rows_as_lists_are_enough() -> None:
    records, _ = planted(np.random.default_rng(4), 6, 20)
    assert len(cluster(records, SPACE, 20, version=0, generation=1, rows=20)) == 20


def test_the_list_of_a_row_is_that_of_its_best_centroid() -> None:
    records, _ = planted(np.random.default_rng(5), 300, 4000)
    centroids = cluster(records, SPACE, 256, version=0, generation=1, rows=4000, rounds=2)
    numbers, scores = assigned(records, centroids)
    exact = dot_scores(centroids.assigning, np.ascontiguousarray(records[:, :-2]), np.ones(4000, np.float16), SPEC)
    assert np.array_equal(numbers, exact.argmax(axis=0)) and np.array_equal(scores, exact.max(axis=0))


def test_centroids_that_nobody_wants_are_not_made() -> None:
    records, _ = planted(np.random.default_rng(6), 6, 800)
    with pytest.raises(Stopped):
        cluster(records, SPACE, 16, version=0, generation=1, rows=800, is_wanted=lambda: False)


@pytest.mark.parametrize(
    ("rows", "lists"), [(0, 2), (1000, 8), (50_000, 512), (441_756, 4096), (10**6, 8192), (10**8, 16384)]
)
def test_lists_have_about_as_many_rows_whatever_the_size(rows: int, lists: int) -> None:
    assert lists_for(rows) == lists
