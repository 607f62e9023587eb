"""Search by lists equals the rule of `core.lists` to the last bit, for every code, mask, floor and instruction set."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.kernel.test_equals_core import SETTINGS, Case, any_isa, cases

from bebr import kernel
from bebr.core import lists as core
from bebr.core.codes import CodeSpec, grid_values, unpack_levels
from bebr.core.scoring import DotQueries, dot_scores
from bebr.index.strings import StringTable, build_lookup, hash_strings

__all__ = ["any_isa"]
Rows = NDArray[np.int64]


def random_centroids(rng: np.random.Generator, spec: CodeSpec, lists: int, generation: int) -> core.Centroids:
    values = rng.integers(-127, 128, (lists, spec.dims)).astype(np.int8)
    scales = rng.uniform(0, 0.03, (lists, len(spec.blocks))).astype(np.float32)  # as high as rows score
    if rng.random() < 0.5:  # some that tie
        same = rng.integers(0, lists, lists)
        values, scales = values[same], scales[same]
    cells = random_cells(rng, spec, lists) if rng.random() < 0.6 else None
    return core.Centroids(1, generation, spec, values, scales, DotQueries(values, scales), cells=cells)


def random_cells(rng: np.random.Generator, spec: CodeSpec, lists: int) -> core.Cells:
    """Some of no list; and some that tie."""
    count = int(rng.choice([1, 2, 9, 40]))
    begin = np.concatenate([[0], np.sort(rng.integers(0, lists + 1, count - 1)), [lists]]).astype(np.uint32)
    values = rng.integers(-127, 128, (count, spec.dims)).astype(np.int8)
    scales = np.exp(rng.uniform(-5, -3, (count, len(spec.blocks)))).astype(np.float32)
    same = rng.integers(0, count, count) if rng.random() < 0.3 else np.arange(count)
    return core.Cells(begin, values[same], scales[same], DotQueries(values[same], scales[same]))


def table_of(spec: CodeSpec, centroids: core.Centroids) -> kernel.CentroidTable:
    generation, cells = centroids.generation, centroids.cells
    return kernel.CentroidTable(spec, centroids.values, centroids.scales, generation, cells=cells)


def stages_of(centroids: list[core.Centroids], query: DotQueries) -> list[NDArray[np.bool_]]:
    """The lists of all generations that a query scores at each stage."""
    every = [[core.lists_scored(one, query, stage) for one in centroids] for stage in range(8)]
    return [np.concatenate([np.empty(0, bool), *stage]) for stage in every]


class Listed:
    """The rows of a case in parts: of one generation of lists, of another, and in no list."""

    def __init__(self, case: Case, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.case = case
        self.centroids = [
            random_centroids(rng, case.spec, int(rng.choice([1, 3, 17, 60, 400])), generation)
            for generation in range(1, 1 + rng.integers(1, 3))
        ]
        self.tables = [table_of(case.spec, c) for c in self.centroids]
        cuts = np.sort(rng.integers(0, case.rows + 1, rng.integers(0, 5)))
        self.rows = np.split(np.arange(case.rows), cuts)
        self.of_part = rng.integers(-1, len(self.centroids), len(self.rows))
        self.begin = [self._begin(rng, len(rows), at) for rows, at in zip(self.rows, self.of_part, strict=True)]
        self.live = [None if rng.random() < 0.4 else _mask(rng, len(rows)) for rows in self.rows]
        self.masks = [[_mask(rng, len(rows)) for rows in self.rows] for _ in range(rng.integers(0, 3))]
        self.mask_of_query = rng.integers(-1, len(self.masks), len(case.dot)).astype(np.int32)
        self.places: list[int] = []
        self.parts = kernel.Parts()
        for p in rng.permutation(len(self.rows)) if rng.random() < 0.5 else range(len(self.rows)):
            self._add(int(p))
        self.selection = self.parts.select(range(len(self.rows)))
        self.scores = dot_scores(case.dot, case.codes, case.gains, case.spec) + np.float32(0)

    def _begin(self, rng: np.random.Generator, rows: int, generation: int) -> NDArray[np.uint32] | None:
        if generation < 0:
            return None
        inner = np.sort(rng.integers(0, rows + 1, len(self.centroids[generation]) - 1))
        if rng.random() < 0.3:
            inner[:] = inner[:1]  # almost all rows in one or two lists
        return np.concatenate([[0], inner, [rows]]).astype(np.uint32)

    def _add(self, p: int) -> None:
        case, rows = self.case, self.rows[p]
        blocked = kernel.allocate(kernel.blocked_size_bytes(case.spec, len(rows)))
        blocked[:] = 0xA5
        kernel.pack(case.codes[rows], case.spec, blocked, 0)
        names = [f"{row:04}" for row in rows]
        begin = self.begin[p]
        self.places.append(p)
        if begin is None:
            self.parts.add_unsorted(blocked, case.gains[rows], len(rows), case.spec, self.live[p], names)
            return
        ids = StringTable.build(names)
        table = ids.offsets, ids.blob, build_lookup(hash_strings(ids))
        lists = self.tables[self.of_part[p]], begin
        self.parts.add_sorted(blocked, case.gains[rows], len(rows), case.spec, self.live[p], table, lists=lists)

    def masks_by_place(self) -> list[list[NDArray[np.uint16]]]:
        return [[mask[p] for p in self.places] for mask in self.masks]

    def kept(self, p: int, q: int) -> Rows:
        """The rows of a part that a query wants, numbered in the case."""
        which = int(self.mask_of_query[q])
        mask = self.live[p] if which < 0 else self.masks[which][p]
        bits = np.ones(len(self.rows[p]), bool) if mask is None else _bits(mask, len(self.rows[p]))
        return self.rows[p][bits]

    def expected(
        self, q: int, floor: float, delta: float, stop_at: int, flat_rows: int
    ) -> tuple[list[tuple[float, int, int]], int, int]:
        """(score, place, row in its part) of all that is found, and how many lists and rows are read."""
        kept = [self.kept(p, q) for p in range(len(self.rows))]
        first = [kept[p] for p in range(len(kept)) if self.begin[p] is None]
        lists: list[Rows] = []
        for generation, centroids in enumerate(self.centroids):
            if generation not in self.of_part:
                continue
            for number in range(len(centroids)):
                members = [
                    kept[p][np.isin(kept[p], self.rows[p][begin[number] : begin[number + 1]])]
                    for p, begin in enumerate(self.begin)
                    if begin is not None and self.of_part[p] == generation
                ]
                lists.append(np.concatenate([np.empty(0, np.int64), *members]))
        first_rows = np.concatenate([np.empty(0, np.int64), *first])
        query = DotQueries(self.case.dot.values[q : q + 1], self.case.dot.scales[q : q + 1])
        used = [c for g, c in enumerate(self.centroids) if g in self.of_part]
        centroid_scores = np.concatenate([np.empty(0, np.float32), *(core.centroid_scores(c, query)[0] for c in used)])
        numbers, rows = core.lists_read(
            centroid_scores, lists, self.scores[q], first_rows, stop_at=stop_at, delta=delta, floor=floor,
            stages=stages_of(used, query),
        )  # fmt: skip
        seen = 0
        for place, number in enumerate(numbers):
            if seen > flat_rows:
                numbers, rows = numbers[:place], np.concatenate(kept)
                break
            seen += len(lists[number])
        found = [(float(self.scores[q, row]), *self.where(int(row))) for row in rows if self.scores[q, row] >= floor]
        found.sort(key=lambda one: (-one[0], one[1:]))
        k = self.case.k
        return [one for one in found if len(found) <= k or one[0] >= found[k - 1][0]], len(numbers), len(rows)

    def where(self, row: int) -> tuple[int, int]:
        p = next(p for p, rows in enumerate(self.rows) if row in rows)
        return self.places.index(p), row - int(self.rows[p][0])


def _mask(rng: np.random.Generator, rows: int) -> NDArray[np.uint16]:
    mask = rng.integers(0, 2**16, -(-rows // 16)).astype(np.uint16)
    mask[rng.random(len(mask)) < rng.choice([0, 0.5, 0.9])] = 0
    return mask


def _bits(mask: NDArray[np.uint16], rows: int) -> NDArray[np.bool_]:
    return np.unpackbits(mask.view(np.uint8), bitorder="little", count=rows).astype(bool)


@SETTINGS
@given(case=cases(), seed=st.integers(0, 2**32), lists=st.sampled_from([1, 5, 16, 33, 200]))
def test_centroid_scores(any_isa: str, case: Case, seed: int, lists: int) -> None:
    centroids = random_centroids(np.random.default_rng(seed), case.spec, lists, 1)
    table = table_of(case.spec, centroids)
    got = kernel.centroid_scores(table, case.dot)
    np.testing.assert_array_equal(got, core.centroid_scores(centroids, case.dot))


@SETTINGS
@given(
    case=cases(), seed=st.integers(0, 2**32), floor_rank=st.sampled_from([None, 0, 5]),
    spread=st.sampled_from([-0.5, 0.0, 0.3, 1.0, np.inf]), flat=st.sampled_from([None, 0, 20]),
)  # fmt: skip
def test_list_candidates(
    any_isa: str, case: Case, seed: int, floor_rank: int | None, spread: float, flat: int | None
) -> None:
    listed = Listed(case, seed)
    rng = np.random.default_rng(seed + 1)
    count = len(case.dot)
    floors = np.full(count, -np.inf, np.float32)
    if floor_rank is not None and case.rows > floor_rank:
        floors = np.sort(listed.scores, axis=1)[:, floor_rank].copy()
    deltas = ((listed.scores.std() + 0.1) * spread * rng.uniform(0.5, 2, count)).astype(np.float32)
    stop_at = rng.integers(1, case.k + 1, count).astype(np.int32)
    flat_rows = np.full(count, 2**40 if flat is None else flat, np.int64)
    got, lists, rows = kernel.list_candidates(
        listed.selection, case.dot, case.k, listed.masks_by_place(), listed.mask_of_query, floors,
        deltas=deltas, stop_at=stop_at, flat_rows=flat_rows,
    )  # fmt: skip
    for q in range(count):
        some = slice(int(got.starts[q]), int(got.starts[q + 1]))
        expected, lists_read, rows_read = listed.expected(
            q, float(floors[q]), float(deltas[q]), int(stop_at[q]), int(flat_rows[q])
        )
        found = list(zip(got.scores[some].tolist(), got.places[some].tolist(), got.rows[some].tolist(), strict=True))
        assert found == expected
        assert (int(lists[q]), int(rows[q])) == (lists_read, rows_read)


@SETTINGS
@given(case=cases(), seed=st.integers(0, 2**32))
def test_all_lists_find_what_an_exact_search_does(any_isa: str, case: Case, seed: int) -> None:
    listed = Listed(case, seed)
    count = len(case.dot)
    masks, of_query = listed.masks_by_place(), listed.mask_of_query
    exact = kernel.dot_candidates(listed.selection, case.dot, case.k, masks, of_query)
    stop_at = np.full(count, case.k, np.int32)
    got, _, rows = kernel.list_candidates(
        listed.selection, case.dot, case.k, masks, of_query, deltas=np.full(count, np.inf, np.float32), stop_at=stop_at
    )
    assert rows.tolist() == [sum(len(listed.kept(p, q)) for p in range(len(listed.rows))) for q in range(count)]
    for ours, theirs in zip(got, exact, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("in_cells", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_of_many_lists_the_best_are_read_in_their_order(any_isa: str, together: bool, in_cells: bool) -> None:
    """So many that a query keeps the scores of some, and scores centroids again where it wants more of them."""
    spec, rng, rows, count = CodeSpec.parse("16x2"), np.random.default_rng(4), 3_000, 2_500
    codes, gains = rng.integers(0, 256, (rows, 4)).astype(np.uint8), rng.uniform(0.5, 1, rows).astype(np.float16)
    centroids = replace(random_centroids(rng, spec, count, 1), cells=None)
    if in_cells:
        starts = np.array([0, *sorted(rng.integers(0, count + 1, 31).tolist()), count], np.uint32)
        values = rng.integers(-127, 128, (32, 16)).astype(np.int8)
        cells = core.Cells(starts, values, centroids.scales[:32], DotQueries(values, centroids.scales[:32]))
        centroids = replace(centroids, cells=cells)
    begin = np.concatenate([[0], np.sort(rng.integers(0, rows + 1, count - 1)), [rows]]).astype(np.uint32)
    parts, _ = _one_part(spec, rows, begin, codes, gains, centroids)
    queries = kernel.quantize(rng.standard_normal((8, 16)).astype(np.float32), spec, np.ones(1, np.float32))
    scores = dot_scores(queries, codes, gains, spec) + np.float32(0)
    centroid_scores = core.centroid_scores(centroids, queries)
    # deltas by which about so many lists are read
    wanted = np.array([1, 20, 440, 460, 900, 1_500, count, 0])
    kth = np.sort(scores, axis=1)[:, -5]
    ranked = np.sort(centroid_scores, axis=1)[:, ::-1]
    deltas = np.where(wanted < count, kth - ranked[np.arange(8), np.minimum(wanted, count - 1)], np.inf).astype(
        np.float32
    )
    stop_at, lists_of = np.full(8, 5, np.int32), [np.arange(a, b) for a, b in itertools.pairwise(begin.tolist())]
    for some in [slice(0, 8)] if together else [slice(q, q + 1) for q in range(8)]:
        one = DotQueries(queries.values[some], queries.scales[some])
        got, lists, _ = kernel.list_candidates(
            parts.select([0]), one, 5, deltas=deltas[some].copy(), stop_at=stop_at[some].copy()
        )
        for place, q in enumerate(range(8)[some]):
            numbers, read = core.lists_read(
                centroid_scores[q], lists_of, scores[q], np.empty(0, np.int64), stop_at=5, delta=float(deltas[q]),
                stages=stages_of([centroids], DotQueries(queries.values[q : q + 1], queries.scales[q : q + 1])),
            )  # fmt: skip
            found = slice(int(got.starts[place]), int(got.starts[place + 1]))
            best = read[np.lexsort((read, -scores[q, read]))]
            expected = [row for row in best.tolist() if len(best) <= 5 or scores[q, row] >= scores[q, best[4]]]
            assert (int(lists[place]), got.rows[found].tolist()) == (len(numbers), expected)


def test_an_exact_search_finds_all_that_tie_in_a_part_with_lists() -> None:
    spec, rows = CodeSpec.parse("16x2"), 300
    parts, query = _one_part(spec, rows, np.array([0, 100, 100, 300], np.uint32))
    found = kernel.dot_candidates(parts.select([0]), query, 5)
    assert found.rows.tolist() == list(range(rows))


def test_what_does_not_fit_is_refused() -> None:
    spec = CodeSpec.parse("16x2")
    for begin in ([0, 10, 5, 30], [1, 5, 10, 30], [0, 5, 10, 29], [0, 30], [0, 1, 2, 3, 30]):
        with pytest.raises(ValueError, match=r"lists|begin"):
            _one_part(spec, 30, np.array(begin, np.uint32))
    parts, query = _one_part(spec, 30, np.array([0, 10, 10, 30], np.uint32))
    for stop_at in (0, 4):
        with pytest.raises(ValueError, match="stop_at"):
            kernel.list_candidates(
                parts.select([0]), query, 3, deltas=np.ones(1, np.float32), stop_at=np.array([stop_at], np.int32)
            )
    with pytest.raises(ValueError, match="values and scales"):
        kernel.CentroidTable(spec, np.zeros((3, 15), np.int8), np.zeros((3, 1), np.float32))
    values, scales = np.zeros((3, 16), np.int8), np.zeros((3, 1), np.float32)
    for starts in ([0, 1], [0, 1, 2], [1, 1, 3], [0, 4, 3]):
        cells = core.Cells(np.array(starts, np.uint32), values[:2], scales[:2], DotQueries(values[:2], scales[:2]))
        with pytest.raises(ValueError, match="cells"):
            kernel.CentroidTable(spec, values, scales, cells=cells)


def _one_part(
    spec: CodeSpec,
    rows: int,
    begin: NDArray[np.uint32],
    codes: NDArray[np.uint8] | None = None,
    gains: NDArray[np.float16] | None = None,
    centroids: core.Centroids | None = None,
) -> tuple[kernel.Parts, DotQueries]:
    blocked = kernel.allocate(kernel.blocked_size_bytes(spec, rows))
    kernel.pack(np.zeros((rows, spec.code_size_bytes), np.uint8) if codes is None else codes, spec, blocked, 0)
    ids = StringTable.build([f"{row:04}" for row in range(rows)])
    table = ids.offsets, ids.blob, build_lookup(hash_strings(ids))
    values, scales = np.ones((3, 16), np.int8), np.ones((3, 1), np.float32)
    of_lists = kernel.CentroidTable(spec, values, scales) if centroids is None else table_of(spec, centroids)
    parts, lists = kernel.Parts(), (of_lists, begin)
    parts.add_sorted(
        blocked, np.ones(rows, np.float16) if gains is None else gains, rows, spec, None, table, lists=lists
    )
    return parts, kernel.quantize(np.ones((1, 16), np.float32), spec, np.ones(1, np.float32))


@SETTINGS
@given(case=cases())
def test_rows_are_assigned_to_the_first_of_their_best_queries(any_isa: str, case: Case) -> None:
    scores = dot_scores(case.dot, case.codes, np.ones(case.rows, np.float16), case.spec)
    numbers, best = kernel.assign(case.blocked, case.rows, case.spec, case.dot)
    np.testing.assert_array_equal(numbers, scores.argmax(axis=0))
    np.testing.assert_array_equal(best, scores.max(axis=0))


@SETTINGS
@given(case=cases(), k=st.integers(1, 4))
def test_the_best_queries_of_each_row(any_isa: str, case: Case, k: int) -> None:
    scores = dot_scores(case.dot, case.codes, np.ones(case.rows, np.float16), case.spec)
    found = kernel.best_queries(case.blocked, case.rows, case.spec, case.dot, k)
    np.testing.assert_array_equal(found, np.argsort(-scores, axis=0, kind="stable")[:k].T)


@SETTINGS
@given(case=cases(), seed=st.integers(0, 2**32), lists=st.integers(1, 20))
def test_rows_of_each_list_are_summed(case: Case, seed: int, lists: int) -> None:
    numbers = np.random.default_rng(seed).integers(0, lists, case.rows).astype(np.int32)
    sums, counts = kernel.accumulate(case.blocked, case.gains, case.rows, case.spec, numbers, lists)
    expected = np.zeros((lists, case.spec.dims))
    grid = grid_values(unpack_levels(case.codes, case.spec), case.spec)
    np.add.at(expected, numbers, case.gains.astype(np.float64)[:, None] * grid)
    np.testing.assert_array_equal(sums, expected)
    np.testing.assert_array_equal(counts, np.bincount(numbers, minlength=lists))


def test_rows_of_no_list_are_refused() -> None:
    spec = CodeSpec.parse("16x2")
    blocked = kernel.allocate(kernel.blocked_size_bytes(spec, 2))
    for number in (-1, 3):
        with pytest.raises(ValueError, match="numbers"):
            kernel.accumulate(blocked, np.ones(2, np.float16), 2, spec, np.array([0, number], np.int32), 3)
    with pytest.raises(ValueError, match="at least one"):
        kernel.assign(blocked, 2, spec, DotQueries(np.empty((0, 16), np.int8), np.empty((0, 1), np.float32)))
