"""Centroids are where the rows are: on planted clusters, in the metric of what codes represent, and always the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.index.lists.made import list_scores

from bebr import kernel
from bebr.core.codes import CodeSpec, join_records, pack_levels
from bebr.core.lists import Cells, Centroids, dot_sums, unit_centroids
from bebr.core.scoring import DotQueries, dot_scores
from bebr.index.lists import assigning, centroid_files
from bebr.index.lists.assigning import CELLS_COMPARED, Stopped, assign_lists
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


def assigned(records: NDArray[np.uint8], centroids: Centroids) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    blocked = kernel.allocate(kernel.blocked_size_bytes(SPEC, len(records)))
    kernel.pack(np.ascontiguousarray(records[:, :-2]), SPEC, blocked, 0)
    return assign_lists(blocked, len(records), centroids)


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


def in_cells(rng: np.random.Generator, lists: int = 64, rounds: int = 3) -> tuple[NDArray[np.uint8], Centroids]:
    records, _ = planted(rng, 300, 6000)
    return records, cluster(records, SPACE, lists, version=2, generation=5, rows=6000, rounds=rounds, cells_above=10)


def test_many_lists_lie_in_cells_near_which_they_are() -> None:
    records, centroids = in_cells(np.random.default_rng(7))
    cells = centroids.cells
    assert cells is not None and len(cells) == 8 and len(centroids) == 64
    assert (cells.begin[0], cells.begin[-1]) == (0, 64) and (np.diff(cells.begin.astype(int)) >= 0).all()
    cell_of = np.repeat(np.arange(8), np.diff(cells.begin.astype(int)))
    nearest = dot_sums(cells.assigning, centroids.values, centroids.scales, SPEC).argmax(axis=0)
    assert (nearest == cell_of).mean() > 0.9  # all but those that rounding moved
    _, scores = assigned(records, centroids)
    flat = dot_scores(centroids.assigning, np.ascontiguousarray(records[:, :-2]), np.ones(6000, np.float16), SPEC)
    assert scores.mean() > 0.97 * flat.max(axis=0).mean()
    one_level = cluster(records, SPACE, 64, version=2, generation=5, rows=6000, rounds=3)
    assert centroids.mean_score > 0.95 * one_level.mean_score


def test_the_list_of_a_row_is_the_best_of_its_best_cells() -> None:
    """As numpy finds it, of all rows at once; an assignment by parts of the rows is the same."""
    records, centroids = in_cells(np.random.default_rng(8), lists=1024, rounds=1)
    cells = centroids.cells
    assert cells is not None and len(cells) == 32 > CELLS_COMPARED
    of_lists = list_scores(centroids, np.ascontiguousarray(records[:, :-2]))
    numbers, scores = assigned(records, centroids)
    assert np.array_equal(numbers, of_lists.argmax(axis=0)) and np.array_equal(scores, of_lists.max(axis=0))


def test_centroids_in_cells_are_written_and_read(tmp_path: Path) -> None:
    _, centroids = in_cells(np.random.default_rng(9))
    data = centroid_files.pack(centroids)
    centroid_files.save(tmp_path / "one.centroids", data)
    read = centroid_files.load(tmp_path / "one.centroids")
    assert read.cells is not None and centroids.cells is not None
    for ours, theirs in ((read, centroids), (read.cells, centroids.cells)):
        assert np.array_equal(ours.values, theirs.values) and np.array_equal(ours.scales, theirs.scales)
        assert np.array_equal(ours.assigning.values, theirs.assigning.values)
        assert np.array_equal(ours.assigning.scales, theirs.assigning.scales)
    assert np.array_equal(read.cells.begin, centroids.cells.begin) and read.checksum == centroids.checksum
    assert b'"format": 2' in data and b'"format": 1' in centroid_files.pack(replace(centroids, cells=None))


@pytest.mark.parametrize("begin", [[0, 70, 64], [1, 2, 64], [0, 2, 63]])
def test_cells_that_are_no_ranges_of_lists_are_refused(begin: list[int]) -> None:
    _, centroids = in_cells(np.random.default_rng(9))
    assert centroids.cells is not None
    queries = DotQueries(centroids.cells.assigning.values[:2], centroids.cells.assigning.scales[:2])
    cells = Cells(np.array(begin, np.uint32), centroids.cells.values[:2], centroids.cells.scales[:2], queries)
    with pytest.raises(ValueError, match="expected cells that ascend from list 0 to list 64"):
        centroid_files.unpack(np.frombuffer(centroid_files.pack(replace(centroids, cells=cells)), np.uint8))


def test_centroids_that_nobody_wants_are_not_made() -> None:
    records, _ = planted(np.random.default_rng(6), 6, 800)
    for cells_above in (8, 16):
        with pytest.raises(Stopped):
            cluster(
                records, SPACE, 16, version=0, generation=1, rows=800, cells_above=cells_above, is_wanted=lambda: False
            )


@pytest.mark.parametrize(
    ("rows", "lists"),
    [(0, 2), (1000, 8), (50_000, 512), (441_756, 4096), (10**6, 8192), (10**7, 65536), (10**8, 131072)],
)
def test_lists_have_about_as_many_rows_whatever_the_size(rows: int, lists: int) -> None:
    assert lists_for(rows) == lists


@pytest.mark.parametrize("cells_above", [8, 64])
def test_progress_grows_evenly_and_changes_nothing(monkeypatch: pytest.MonkeyPatch, cells_above: int) -> None:
    monkeypatch.setattr(assigning, "CHUNK_ROWS", 256)
    records, _ = planted(np.random.default_rng(10), 20, 1600)
    shares: list[float] = []
    told, silent = (
        cluster(
            records, SPACE, 64, version=0, generation=1, rows=1600, rounds=4, cells_above=cells_above, advanced=advanced
        )
        for advanced in (shares.append, lambda share: None)
    )
    chunks = 4 * 5  # of the 1,200 rows that are not held out
    assert shares == [number / chunks for number in range(chunks)]
    assert (told.cells is not None) == (cells_above < 64) and np.array_equal(told.values, silent.values)
