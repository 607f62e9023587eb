"""The matrix of an upgrade against a slow, obvious loop: judged and not, with ties, never a query's own point."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from bebr.core.arrays import unit
from bebr.encoding import AdapterEntry, AdapterKind
from bebr.encoding.adapters.adapter import Adapter, Reference
from bebr.encoding.adapters.evaluation import (
    BATCH,
    SHARES,
    Judgments,
    K,
    Pool,
    Queries,
    measure,
    nearest,
)
from bebr.encoding.adapters.quality import Quality, UpgradeMatrix
from bebr.encoding.onnx.graph import Graph

NEW_DIMS, OLD_DIMS, POINTS, QUERIES = 8, 6, 60, BATCH + 7
SCALES = {AdapterKind.COMPATIBLE: 1.1, AdapterKind.LINEAR: 1.4, AdapterKind.DUAL: 0.9, AdapterKind.WEIGHTED: 1.2}
Score = Callable[[int, int], float]
"""(query, point) -> score"""


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def rows(rng: np.random.Generator, count: int, dims: int) -> np.ndarray:
    return unit(rng.standard_normal((count, dims)).astype(np.float32))


@pytest.fixture
def adapter(tmp_path: Path, rng: np.random.Generator) -> Adapter:
    graph = Graph()
    for name in ("compatible", "adapter"):
        graph.constant(f"{name}_matrix", rng.standard_normal((NEW_DIMS, OLD_DIMS)).astype(np.float32))
        graph.node("MatMul", ["embedding", f"{name}_matrix"], name)
    outputs = dict.fromkeys(("compatible", "adapter"), (np.float32, ("n", OLD_DIMS)))
    path = tmp_path / "adapter.onnx"
    path.write_bytes(graph.serialize("adapter", {"embedding": (np.float32, ("n", NEW_DIMS))}, outputs))
    reference = Reference(rows(rng, 40, NEW_DIMS), rows(rng, 40, OLD_DIMS))
    return Adapter(path, AdapterEntry(path.name, SCALES, AdapterKind.WEIGHTED, 0.5), reference)


@pytest.fixture
def pool(rng: np.random.Generator) -> Pool:
    return Pool(rows(rng, POINTS, OLD_DIMS), rows(rng, POINTS, NEW_DIMS))


@pytest.fixture
def queries(rng: np.random.Generator) -> Queries:
    itself = np.where(np.arange(QUERIES) % 3 == 0, np.arange(QUERIES) % POINTS, -1)
    return Queries(rows(rng, QUERIES, OLD_DIMS), rows(rng, QUERIES, NEW_DIMS), itself)


@pytest.fixture
def judgements(rng: np.random.Generator) -> Judgments:
    """Grades from -1 to 2 of a few points, one of them the query's own; the last query has nothing relevant."""
    given = [
        {int(point): float(rng.integers(-1, 3)) for point in rng.choice(POINTS, int(rng.integers(1, 15)), False)}
        for _ in range(QUERIES)
    ]
    return [*given[:-1], {3: 0.0, 5: -1.0}]


def slow_quality(score: Score, itself: np.ndarray, judgements: Judgments) -> tuple[list[float], list[float]]:
    """nDCG@10 and recall@10 of every query, point by point."""
    ndcg, recall = [], []
    for query, grades in enumerate(judgements):
        able = [point for point in range(POINTS) if point != itself[query]]
        ranked = sorted(able, key=lambda point, query=query: (-score(query, point), point))[:K]
        relevant = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
        gained = sum(max(grades.get(point, 0), 0) / math.log2(rank + 2) for rank, point in enumerate(ranked))
        ideal = sum(grade / math.log2(rank + 2) for rank, grade in enumerate(relevant[:K]))
        ndcg.append(gained / ideal if ideal else 0.0)
        hits = sum(grades.get(point, 0) > 0 for point in ranked)
        recall.append(hits / min(K, len(relevant)) if relevant else 0.0)
    return ndcg, recall


def assert_quality(found: Quality | None, score: Score, queries: Queries, judgements: Judgments) -> None:
    assert found is not None
    ndcg, recall = slow_quality(score, queries.source_row, judgements)
    np.testing.assert_allclose(found.ndcg, ndcg, atol=1e-9)
    np.testing.assert_allclose(found.recall, recall, atol=1e-9)


def test_all_cells_equal_a_slow_loop(adapter: Adapter, pool: Pool, queries: Queries, judgements: Judgments) -> None:
    assert queries.old is not None and pool.new is not None
    old, new = queries.old @ pool.old.T, queries.new @ pool.new.T
    matrix = measure(adapter, pool, queries, judgements, judged=True)
    assert_quality(matrix.old_to_old, lambda query, point: old[query, point], queries, judgements)
    assert_quality(matrix.new_to_new, lambda query, point: new[query, point], queries, judgements)
    assert list(matrix.new_to_old) == list(AdapterKind)
    for kind, quality in matrix.new_to_old.items():
        crossed = adapter.map(kind, queries.new, queries.old) @ pool.old.T
        assert_quality(quality, lambda query, point, c=crossed: c[query, point], queries, judgements)
    means = {kind: quality.ndcg.mean() for kind, quality in matrix.new_to_old.items()}
    assert matrix.kind is max(means, key=lambda kind: means[kind]), "the best of those measured"


def test_mixed_points_have_one_scale(adapter: Adapter, pool: Pool, queries: Queries, judgements: Judgments) -> None:
    assert pool.new is not None
    matrix = measure(adapter, pool, queries, judgements, judged=True, kind=AdapterKind.LINEAR, seed=3)
    crossed = adapter.map(AdapterKind.LINEAR, queries.new, None)
    offsets = adapter.offsets(AdapterKind.LINEAR, queries.new, crossed)
    there = np.float32(SCALES[AdapterKind.LINEAR]) * (crossed @ pool.old.T) + offsets[:, None].astype(np.float32)
    here = queries.new @ pool.new.T
    order = np.random.default_rng(3).permutation(POINTS)
    for share in SHARES:
        is_new = order < share / 100 * POINTS
        assert abs(is_new.mean() - share / 100) < 0.02
        assert_quality(
            matrix.mixed[share],
            lambda query, point, new=is_new: (here if new[point] else there)[query, point],
            queries,
            judgements,
        )


def test_without_judgements_the_float_neighbors_count(adapter: Adapter, pool: Pool, queries: Queries) -> None:
    assert pool.new is not None
    truth = nearest(queries.new, pool.new, queries.source_row)
    for query, grades in enumerate(truth):
        scores = {point: float(queries.new[query] @ pool.new[point]) for point in range(POINTS)}
        scores.pop(int(queries.source_row[query]), None)
        assert set(grades) == set(sorted(scores, key=lambda point: -scores[point])[:K])
    matrix = measure(adapter, pool, queries, truth, judged=False)
    assert matrix.new_to_new is not None and matrix.new_to_new.recall.tolist() == [1.0] * QUERIES
    summary = matrix.summary()
    assert (summary.measure, summary.judged) == ("recall_at_10", False) and summary.gain is not None
    assert summary.gain.mean == pytest.approx(summary.new_to_old.recall_at_10 - old_recall(matrix), abs=2e-4)


def old_recall(matrix: UpgradeMatrix) -> float:
    assert matrix.old_to_old is not None
    return float(matrix.old_to_old.recall.mean())


def test_equal_scores_rank_by_row(adapter: Adapter, queries: Queries) -> None:
    same = Pool(np.ones((POINTS, OLD_DIMS), np.float32), np.ones((POINTS, NEW_DIMS), np.float32))
    judgements: list[Mapping[int, float]] = [{10: 1.0} for _ in range(QUERIES)]
    matrix = measure(adapter, same, queries, judgements, judged=True, kinds=[AdapterKind.LINEAR])
    has_room = (queries.source_row >= 0) & (queries.source_row < 10)
    assert matrix.old_to_old is not None
    np.testing.assert_array_equal(matrix.old_to_old.recall > 0, has_room)


def test_what_cannot_be_measured_is_left_out(
    adapter: Adapter, pool: Pool, queries: Queries, judgements: Judgments
) -> None:
    blind = Queries(None, queries.new, queries.source_row)
    matrix = measure(adapter, Pool(pool.old, None), blind, judgements, judged=True)
    assert list(matrix.new_to_old) == [AdapterKind.COMPATIBLE, AdapterKind.LINEAR]
    assert (matrix.old_to_old, matrix.new_to_new, matrix.mixed, matrix.gain) == (None, None, {}, None)
    summary = matrix.summary()
    assert (summary.gain, summary.update_gain, summary.negative_flips, summary.old_to_old) == (None,) * 4
    assert summary.adapters[AdapterKind.LINEAR].gain is None and summary.mixed == {}


def test_a_pool_of_few_points_is_no_trouble(adapter: Adapter, pool: Pool, queries: Queries) -> None:
    few = Pool(pool.old[:4], None)
    alone = Queries(queries.old, queries.new, np.full(QUERIES, -1))
    matrix = measure(adapter, few, alone, [{0: 1.0, 1: 1.0}] * QUERIES, judged=True, kinds=[AdapterKind.DUAL])
    assert matrix.new_to_old[AdapterKind.DUAL].recall.tolist() == [1.0] * QUERIES and matrix.kind is AdapterKind.DUAL
