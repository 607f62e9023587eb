"""Candidates of several parts equal what numpy finds in all their rows; what is made of queries equals `core`."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.kernel.test_equals_core import SETTINGS, Case, any_isa, cases

from bebr import kernel
from bebr.core.codes import CodeSpec
from bebr.core.scoring import dot_scores, hamming_distances, prepare_adc
from bebr.errors import DimensionMismatch
from bebr.index.strings import StringTable, build_lookup, hash_strings

__all__ = ["any_isa"]
Rows = NDArray[np.int64]


class Split:
    """The rows of a case in several parts, with what is alive in each and masks for each."""

    def __init__(self, case: Case, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.case = case
        cuts = np.sort(rng.integers(0, case.rows + 1, rng.integers(0, 4)))
        self.rows = np.split(np.arange(case.rows), cuts)
        self.sorted = rng.random(len(self.rows)) < 0.5
        self.live = [None if rng.random() < 0.4 else _mask(rng, len(rows)) for rows in self.rows]
        self.masks = [[_mask(rng, len(rows)) for rows in self.rows] for _ in range(rng.integers(0, 3))]
        self.mask_of_query = rng.integers(-1, len(self.masks), len(case.dot)).astype(np.int32)
        self.parts = kernel.Parts()
        for rows, is_sorted, live in zip(self.rows, self.sorted, self.live, strict=True):
            self._add(rows, bool(is_sorted), live)
        self.selection = self.parts.select(range(len(self.rows)))

    def _add(self, rows: Rows, is_sorted: bool, live: NDArray[np.uint16] | None) -> None:
        case = self.case
        blocked = kernel.allocate(kernel.blocked_size_bytes(case.spec, len(rows)))
        kernel.pack(case.codes[rows], case.spec, blocked, 0)
        names = [f"{row:04}" for row in rows]
        if not is_sorted:
            self.parts.add_unsorted(blocked, case.gains[rows], len(rows), case.spec, live, names)
            return
        ids = StringTable.build(names)
        table = ids.offsets, ids.blob, build_lookup(hash_strings(ids))
        self.parts.add_sorted(blocked, case.gains[rows], len(rows), case.spec, live, table)

    def expected(self, keys: NDArray[np.generic], bounds: NDArray[np.generic] | None, q: int) -> list[tuple[int, int]]:
        """(place, row in the part) of all that one query finds. keys (queries, rows): lower is better."""
        found: list[tuple[float, int, int]] = []
        for place, rows in enumerate(self.rows):
            which = int(self.mask_of_query[q])
            mask = self.live[place] if which < 0 else self.masks[which][place]
            kept = np.arange(len(rows)) if mask is None else np.flatnonzero(_bits(mask, len(rows)))
            if bounds is not None:
                kept = kept[keys[q, rows[kept]] <= bounds[q]]
            best = sorted((float(keys[q, rows[row]]), place, int(row)) for row in kept)
            found += best[: self.case.k] if self.sorted[place] else _with_ties(best, self.case.k)
        return [(place, row) for _, place, row in _with_ties(sorted(found), self.case.k)]

    def check(self, got: kernel.Candidates, keys: NDArray[np.generic], bounds: NDArray[np.generic] | None) -> None:
        for q in range(len(self.case.dot)):
            some = slice(int(got.starts[q]), int(got.starts[q + 1]))
            where = list(zip(got.places[some].tolist(), got.rows[some].tolist(), strict=True))
            assert where == self.expected(keys, bounds, q)
            at = [self.rows[place][row] for place, row in where]
            np.testing.assert_array_equal(got.scores[some], -keys[q, at].astype(np.float64))
        names = [f"{self.rows[p][r]:04}" for p, r in zip(got.places.tolist(), got.rows.tolist(), strict=True)]
        assert self.parts.ids(got.places, got.rows) == names


def _mask(rng: np.random.Generator, rows: int) -> NDArray[np.uint16]:
    return rng.integers(0, 2**16, -(-rows // 16)).astype(np.uint16)


def _bits(mask: NDArray[np.uint16], rows: int) -> NDArray[np.bool_]:
    return np.unpackbits(mask.view(np.uint8), bitorder="little", count=rows).astype(bool)


def _with_ties(best: list[tuple[float, int, int]], k: int) -> list[tuple[float, int, int]]:
    return best if len(best) <= k else [one for one in best if one[0] <= best[k - 1][0]]


@SETTINGS
@given(case=cases(), seed=st.integers(0, 2**32), floor_rank=st.sampled_from([None, 0, 5]))
def test_dot_candidates(any_isa: str, case: Case, seed: int, floor_rank: int | None) -> None:
    split = Split(case, seed)
    scores = dot_scores(case.dot, case.codes, case.gains, case.spec) + np.float32(0)
    floors = None
    if floor_rank is not None and case.rows > floor_rank:
        floors = np.sort(scores, axis=1)[:, floor_rank].copy()
    masks, of_query = split.masks, split.mask_of_query
    got = kernel.dot_candidates(split.selection, case.dot, case.k, masks, of_query, floors)
    split.check(got, -scores, None if floors is None else -floors)


@SETTINGS
@given(case=cases(), seed=st.integers(0, 2**32), ceiling_rank=st.sampled_from([None, 0, 5]))
def test_hamming_candidates(any_isa: str, case: Case, seed: int, ceiling_rank: int | None) -> None:
    split = Split(case, seed)
    distances = hamming_distances(case.hamming, case.codes, case.spec)
    ceilings = None
    if ceiling_rank is not None and case.rows > ceiling_rank:
        ceilings = np.sort(distances, axis=1)[:, ceiling_rank].copy()
    masks, of_query = split.masks, split.mask_of_query
    got = kernel.hamming_candidates(split.selection, case.hamming, case.k, masks, of_query, ceilings)
    split.check(got, distances, ceilings)


def test_many_ties_in_a_part_without_order_are_all_found() -> None:
    spec = CodeSpec.parse("16x2")
    codes, rows = np.zeros((3000, spec.code_size_bytes), np.uint8), 3000
    blocked = kernel.allocate(kernel.blocked_size_bytes(spec, rows))
    kernel.pack(codes, spec, blocked, 0)
    parts = kernel.Parts()
    parts.add_unsorted(blocked, np.ones(rows, np.float16), rows, spec, None, [str(n) for n in range(rows)])
    query = kernel.quantize(np.ones((1, 16), np.float32), spec, np.ones(1, np.float32))
    found = kernel.dot_candidates(parts.select([0]), query, 5)
    assert found.rows.tolist() == list(range(rows))


@pytest.mark.parametrize("limit", [1, 3, 10, 40, 100])
def test_the_best_rows_are_those_of_the_best_scores_then_of_the_lowest_ids(limit: int) -> None:
    rng, spec, parts = np.random.default_rng(limit), CodeSpec.parse("8x1"), kernel.Parts()
    names = [sorted(f"{c}{n}" for n in rng.permutation(99)[:20]) for c in ("\U0001f600", "é", "b")]
    rng.shuffle(names[1])  # a part whose rows are in no order
    for n, ids in enumerate(names):
        table = StringTable.build(ids)
        arrays = kernel.allocate(kernel.blocked_size_bytes(spec, 20)), np.ones(20, np.float16), 20, spec, None
        if n == 1:
            parts.add_unsorted(*arrays, ids)
        else:
            parts.add_sorted(*arrays, (table.offsets, table.blob, build_lookup(hash_strings(table))))
    order = rng.permutation(60)
    places, rows = (order // 20).astype(np.int32), order % 20
    scores = rng.integers(-3, 3, 60).astype(np.float64)
    wanted = sorted(
        zip((-scores).tolist(), (names[p][r] for p, r in zip(places, rows, strict=True)), places.tolist(), strict=True)
    )
    found = parts.best(scores, places, rows, limit)
    assert list(zip(*found[:3], strict=True)) == [(-score, i, p) for score, i, p in wanted[:limit]] and found[3] == -1
    scores[5] = np.nan  # comes last, and disturbs no other one
    assert parts.best(scores, places, rows, 59)[0] == sorted(np.delete(scores, 5), reverse=True)


def test_a_wrong_id_among_the_best_rows_is_named() -> None:
    spec, parts, table = CodeSpec.parse("8x1"), kernel.Parts(), StringTable.build(["a", "b", "c"])
    lookup, blob = build_lookup(hash_strings(table)), np.frombuffer(b"axc", np.uint8)
    arrays = kernel.allocate(kernel.blocked_size_bytes(spec, 3)), np.ones(3, np.float16)
    parts.add_sorted(*arrays, 3, spec, None, (table.offsets, blob, lookup))
    places, rows, scores = np.zeros(3, np.int32), np.array([2, 1, 0]), np.array([3.0, 2.0, 1.0])
    assert parts.best(scores, places, rows, 1)[1:] == (["c"], [0], -1)
    assert parts.best(scores, places, rows, 2)[3] == 1


@SETTINGS
@given(seed=st.integers(0, 2**32), rows=st.integers(0, 9))
def test_queries_are_quantized_as_core_does(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    spec = CodeSpec.parse(str(rng.choice(["256x2", "48x4+128x2+64x1", "3x4+1x1"])))
    projected = rng.standard_normal((rows, spec.dims)).astype(np.float32) * np.float32(rng.choice([1e-30, 1, 1e30]))
    projected[rng.random(projected.shape) < rng.choice([0, 0.5, 1])] = 0
    steps = rng.uniform(0.01, 2, len(spec.blocks)).astype(np.float32)
    ours, theirs = kernel.quantize(projected, spec, steps), prepare_adc(projected, spec, steps)
    np.testing.assert_array_equal(ours.values, theirs.values)
    np.testing.assert_array_equal(ours.scales, theirs.scales)


@SETTINGS
@given(seed=st.integers(0, 2**32), rows=st.integers(0, 9), size=st.integers(1, 70), dims=st.integers(1, 200))
def test_a_row_has_one_product_alone_and_among_others(any_isa: str, seed: int, rows: int, size: int, dims: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((rows, size)).astype(np.float32)
    matrix = rng.standard_normal((size, dims)).astype(np.float32)
    together = kernel.project(vectors, matrix)
    in_order = np.zeros((rows, dims), np.float32)
    for i in range(size):
        in_order += vectors[:, i, None] * matrix[i]
    np.testing.assert_array_equal(together, in_order)
    for n in range(rows):
        np.testing.assert_array_equal(kernel.project(vectors[n : n + 1], matrix)[0], together[n])


def test_what_does_not_fit_is_refused() -> None:
    spec, other = CodeSpec.parse("16x2"), CodeSpec.parse("16x1")
    with pytest.raises(DimensionMismatch):
        kernel.project(np.zeros((1, 3), np.float32), np.zeros((4, 2), np.float32))
    with pytest.raises(DimensionMismatch):
        kernel.quantize(np.zeros((1, 3), np.float32), spec, np.ones(1, np.float32))
    parts = kernel.Parts()
    for one in (spec, other):
        parts.add_unsorted(kernel.allocate(0), np.empty(0, np.float16), 0, one, None, [])
    with pytest.raises(ValueError, match="one CodeSpec"):
        parts.select([0, 1])
    query = kernel.quantize(np.ones((1, 16), np.float32), spec, np.ones(1, np.float32))
    short = kernel.quantize(np.ones((1, 8), np.float32), CodeSpec.parse("8x1"), np.ones(1, np.float32))
    with pytest.raises(DimensionMismatch):
        kernel.dot_candidates(parts.select([1]), short, 3)
    with pytest.raises(ValueError, match="k must"):
        kernel.dot_candidates(parts.select([0]), query, 0)
    with pytest.raises(ValueError, match="mask"):
        kernel.dot_candidates(parts.select([0]), query, 1, [[np.zeros(1, np.uint16)]], np.array([1], np.int32))
    with pytest.raises(ValueError, match="ids"):
        parts.add_unsorted(kernel.allocate(64), np.ones(16, np.float16), 16, spec, None, [])
