"""Calibration: deltas by recall, on constructed needs and against the rule as `core.lists` reads it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from bebr.core.list_calibration import (
    FEW,
    LIKENESS,
    LIKENESS_OF_FEW,
    RECALLS,
    Calibration,
    Measured,
    calibration_of,
    cost,
    deep_deltas,
    deltas_to_measure,
    needs_of,
    recall_as_queries,
    recall_of,
    sure_recall,
)
from bebr.core.lists import lists_read

MEASURED = (Measured(0.1, 0.5, 0.01), Measured(0.2, 0.9, 0.02), Measured(0.3, 0.99, 0.05), Measured(0.5, 1.0, 0.3))


def test_a_recall_that_was_measured_has_its_delta_and_others_lie_between() -> None:
    calibration = Calibration(MEASURED)
    for one in MEASURED:
        assert calibration.at(one.recall) == one
    assert calibration.delta(0.1) == 0.1 and calibration.at(0.2).recall == 0.5
    deltas = [calibration.delta(recall) for recall in np.linspace(0.5, 1, 101)]
    assert deltas == sorted(deltas) and len(set(deltas)) == 101
    assert calibration.delta(1 - 0.1 * 0.1**0.5) == pytest.approx(0.25)
    assert Calibration(MEASURED[:2]).at(0.999) == MEASURED[1]


def test_a_calibration_is_the_same_after_it_was_stored() -> None:
    calibration = Calibration(MEASURED)
    assert Calibration.from_document(calibration.to_document()) == calibration


def test_deep_hits_need_what_the_depth_with_the_largest_needs_does() -> None:
    """Against needs of each depth, as `needs_of` finds them of the first hits."""
    random = np.random.default_rng(0)
    hits, expected = [], np.full(len(RECALLS), -np.inf)
    for _ in range(2):
        of_kind = []
        for _ in range(30):
            scores = np.sort(random.normal(size=100))[::-1]
            centroids = (scores - random.normal(size=100) ** 2).astype(np.float32)
            of_kind.append((scores, centroids))
        for depth in (10, 20, 40, 80):
            needs = np.sort(np.concatenate([needs_of(one[:depth], of_lists[:depth]) for one, of_lists in of_kind]))
            places = [int(np.ceil(recall * len(needs))) - 1 for recall in RECALLS]
            expected = np.maximum(expected, needs[places])
        hits.append([(scores, needs_of(scores, centroids)) for scores, centroids in of_kind])
    found = deep_deltas(hits)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert deep_deltas([]) == deep_deltas([[(np.zeros(9), np.zeros(9, np.float32))]]) == ()
    calibration = calibration_of(
        np.array([0.1, 4.0], np.float32), [{"points": 0.9}, {"points": 1.0}], [0.1, 1.0], found
    )
    assert Calibration.from_document(calibration.to_document()) == calibration
    for n, recall in enumerate(RECALLS):
        at, deep = calibration.at(recall), calibration.deep_at(recall)
        assert deep.delta == max(at.delta, found[n]) and deep.share >= at.share
    older = calibration.to_document() | {"deep": []}
    assert Calibration.from_document(older).deep_at(0.98) == calibration.at(0.98)


def test_the_kind_that_finds_least_counts_and_nothing_falls() -> None:
    recalls = [{"points": 0.9, "searches": 0.8}, {"points": 0.97, "searches": 0.79}, {"points": 0.99, "searches": 1.0}]
    found = calibration_of(np.array([0.1, 0.2, 0.3], np.float32), recalls, [0.1, 0.05, 0.2])
    assert [one.recall for one in found.measured] == [0.8, 0.8, 0.99]
    assert [one.share for one in found.measured] == [0.1, 0.1, 0.2]
    assert found.delta(0.8) == pytest.approx(0.1)


def test_needs_say_which_deltas_find_how_many_hits() -> None:
    needs = np.arange(1000, dtype=np.float32) / 1000
    deltas = deltas_to_measure([needs])
    assert [round(float((needs <= delta).mean()), 3) for delta in deltas] == [*RECALLS, 1.0]
    both = deltas_to_measure([needs, needs + 0.5])
    assert [round(float((needs + 0.5 <= delta).mean()), 3) for delta in both] == [*RECALLS, 1.0]
    in_no_list = np.full(1000, -np.inf, np.float32)
    assert deltas_to_measure([in_no_list, np.empty(0, np.float32)]).tolist() == [0.0]
    mixed = np.concatenate([in_no_list, needs])
    assert float((mixed <= deltas_to_measure([mixed])[-1]).mean()) == 1.0
    assert len(deltas_to_measure([])) == 1


def test_a_hit_in_no_list_needs_nothing_and_needs_are_against_the_last_hit() -> None:
    scores = np.array([0.9, 0.8, 0.5])
    found = needs_of(scores, np.array([0.7, np.inf, 0.1], np.float32))
    np.testing.assert_allclose(found, [-0.2, -np.inf, 0.4], atol=1e-6)
    assert len(needs_of(np.empty(0), np.empty(0, np.float32))) == 0


def test_what_few_queries_found_counts_one_standard_error_less() -> None:
    random = np.random.default_rng(0)
    for count, of in ((50, 10), (400, 10), (400, 3)):
        found = random.binomial(of, 0.9, count)
        expected = found.mean() / of - found.std() / of / count**0.5
        assert sure_recall(found.tolist(), [of] * count) == pytest.approx(expected)
    # as drawing the queries again and again spreads the share that is found, where they want unequal numbers of hits
    wanted = random.integers(1, 30, 300)
    found = random.binomial(wanted, random.uniform(0.8, 1, 300))
    again = random.integers(300, size=(4000, 300))
    spread = (found[again].sum(axis=1) / wanted[again].sum(axis=1)).std()
    assert found.sum() / wanted.sum() - sure_recall(found.tolist(), wanted.tolist()) == pytest.approx(spread, rel=0.05)
    assert sure_recall([10, 10, 0], [10, 10, 0]) == sure_recall([], []) == sure_recall([0], [0]) == 1.0
    assert sure_recall([0, 10], [10, 10]) >= 0


def test_points_stand_in_for_queries_that_find_less() -> None:
    for points, likeness in ((FEW, LIKENESS), (FEW - 1, LIKENESS_OF_FEW), (1, LIKENESS_OF_FEW)):
        assert recall_as_queries(1.0, points) == 1.0
        assert 1 - recall_as_queries(0.98, points) == pytest.approx(0.02 / likeness)
        assert recall_as_queries(0.1, points) == 0.0


def clustered(seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32], list[NDArray[np.int64]]]:
    """-> scores of rows (queries, rows) and centroids (queries, lists), and the rows of each list; 50 are in none."""
    random = np.random.default_rng(seed)
    centers = random.normal(size=(40, 16))
    rows = np.repeat(centers, 50, axis=0) + 0.7 * random.normal(size=(2000, 16))
    rows = np.concatenate([rows, random.normal(size=(50, 16))])
    queries = centers[random.integers(40, size=60)] + 0.9 * random.normal(size=(60, 16))
    for some in (rows, centers, queries):
        some /= np.linalg.norm(some, axis=1, keepdims=True)
    nearest = (rows[:2000] @ centers.T).argmax(axis=1)
    lists = [np.flatnonzero(nearest == number) for number in range(40)]
    return (queries @ rows.T).astype(np.float32), (queries @ centers.T).astype(np.float32), lists


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [1, 10])
def test_deltas_find_what_they_were_measured_for(seed: int, k: int) -> None:
    """By the rule itself: with the delta of a recall that share is found, and with the largest need every hit."""
    scores, centroid_scores, lists = clustered(seed)
    list_of = np.full(scores.shape[1], -1)
    for number, rows in enumerate(lists):
        list_of[rows] = number
    exact = [np.argsort(-row, kind="stable")[:k] for row in scores]
    needs = []
    for hits, row, of_centroids in zip(exact, scores, centroid_scores, strict=True):
        of_hits = np.where(list_of[hits] < 0, np.float32(np.inf), of_centroids[list_of[hits]])
        needs.append(needs_of(row[hits].astype(np.float64), of_hits))

    def found(delta: float) -> tuple[list[list[int]], float]:
        hits, share = [], 0.0
        for row, of_centroids in zip(scores, centroid_scores, strict=True):
            rows = lists_read(of_centroids, lists, row, np.arange(2000, 2050), stop_at=k, delta=delta)[1]
            hits.append(rows[np.argsort(-row[rows], kind="stable")[:k]].tolist())
            share += len(rows) / scores.size
        return hits, share

    deltas = deltas_to_measure([np.concatenate(needs)])
    measured = [found(delta) for delta in deltas.tolist()]
    recalls = [recall_of(hits, [hits.tolist() for hits in exact]) for hits, _ in measured]
    assert recalls[-1] == 1.0
    expected = [float((np.concatenate(needs) <= delta).mean()) for delta in deltas]
    assert all(recall >= least for recall, least in zip(recalls, expected, strict=True))
    calibration = calibration_of(deltas, [{"points": recall} for recall in recalls], [share for _, share in measured])
    for recall in (0.8, 0.9, 0.95, 0.98):
        hits, share = found(calibration.delta(recall))
        assert abs(recall_of(hits, [hits.tolist() for hits in exact]) - max(recall, recalls[0])) < 0.03
        assert share <= calibration.at(1.0).share


@pytest.mark.parametrize(
    ("lists", "rows", "of", "expected"),
    [
        (0, 0, 1, True),
        (1_024, 100_000, 100_000, False),  # everything is read: vectors without structure
        (1_024, 43_000, 100_000, True),
        (1_024, 43_200, 100_000, False),
        (4_096, 170_000, 400_000, True),
        (100, 0, 500, False),  # the centroids alone cost as much
        (100, 0, 501, True),
    ],
)
def test_lists_pay_where_few_rows_of_them_are_read(lists: int, rows: float, of: float, expected: bool) -> None:
    assert (cost(lists, rows) < of) is expected
