"""The kernel equals bebr.core.scoring to the last bit, for every code, mask, bound, k and instruction set."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.codes import Block, CodeSpec, pack_levels
from bebr.core.scoring import DotQueries, HammingQueries, dot_scores, hamming_distances
from bebr.kernel import _kernel

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
INT32_MAX = 2**31 - 1


@pytest.fixture(params=["avx512", "avx2", "portable"])
def any_isa(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param not in _kernel.supported_isas():
        pytest.skip(f"this machine has no {request.param}")
    before = kernel.isa()
    assert _kernel.use_isa(request.param)
    yield request.param
    _kernel.use_isa(before)


@dataclass
class Case:
    """Random codes, queries and wishes, drawn small but awkward."""

    spec: CodeSpec
    codes: NDArray[np.uint8]
    gains: NDArray[np.float16]
    dot: DotQueries
    hamming: HammingQueries
    k: int
    masks: list[NDArray[np.uint16]] | None
    mask_of_query: NDArray[np.int32] | None

    @property
    def rows(self) -> int:
        return len(self.codes)

    @property
    def blocked(self) -> NDArray[np.uint8]:
        blocked = kernel.allocate(kernel.blocked_size_bytes(self.spec, self.rows))
        blocked[:] = 0xA5  # what lies past the last row must not matter
        kernel.pack(self.codes, self.spec, blocked, 0)
        return blocked

    def allowed(self) -> NDArray[np.bool_]:
        """(queries, rows): what the masks allow."""
        allowed = np.ones((len(self.dot), self.rows), bool)
        for q in range(len(self.dot)):
            which = 0 if self.mask_of_query is None else self.mask_of_query[q]
            if self.masks and which >= 0:
                bits = np.unpackbits(self.masks[which].view(np.uint8), bitorder="little")
                allowed[q] = bits[: self.rows].astype(bool)
        return allowed


@st.composite
def cases(draw: st.DrawFn) -> Case:
    bits = sorted(draw(st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=4)), reverse=True)
    spec = CodeSpec(tuple(Block(draw(st.integers(1, 150)), b) for b in bits))
    rows, queries = draw(st.integers(1, 120)), draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    # Few distinct codes make ties; few distinct gains keep them.
    distinct = draw(st.sampled_from([2, 1000]))
    levels = (rng.integers(0, 256, (distinct, spec.dims)) & spec.max_levels).astype(np.uint8)
    levels = levels[rng.integers(0, distinct, rows)]
    gains = rng.choice(np.array([0, 6e-8, 0.5, 1, 3], np.float16), rows)
    if distinct > 2:
        gains = rng.uniform(0.01, 2, rows).astype(np.float16)
    dot = DotQueries(
        rng.integers(-128, 128, (queries, spec.dims)).astype(np.int8),
        rng.uniform(0, 1, (queries, len(spec.blocks))).astype(np.float32),
    )
    query_levels = (rng.integers(0, 256, (queries, spec.dims)) & spec.max_levels).astype(np.uint8)
    masks, mask_of_query = _draw_masks(draw, rng, rows, queries)
    return Case(
        spec, pack_levels(levels, spec), gains, dot, HammingQueries(pack_levels(query_levels, spec)),
        draw(st.sampled_from([1, 3, 10, 50, 200])), masks, mask_of_query,
    )  # fmt: skip


def _draw_masks(
    draw: st.DrawFn, rng: np.random.Generator, rows: int, queries: int
) -> tuple[list[NDArray[np.uint16]] | None, NDArray[np.int32] | None]:
    kind = draw(st.sampled_from(["none", "one", "several"]))
    if kind == "none":
        return None, None
    groups = -(-rows // 16)
    count = 1 if kind == "one" else 3
    # Sparse masks leave many groups without any row.
    masks = [rng.integers(0, 2**16, groups).astype(np.uint16) for _ in range(count)]
    for mask in masks:
        mask[rng.random(groups) < draw(st.sampled_from([0.0, 0.7, 1.0]))] = 0
    return masks, None if kind == "one" else rng.integers(-1, count, queries).astype(np.int32)


def expected_top_k(
    keys: NDArray[np.generic], wanted: NDArray[np.bool_], k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """keys (queries, rows), lower is better -> rows (queries, k), padded with -1, and how many are not padding."""
    rows = np.full((len(keys), k), -1, np.int64)
    found = np.zeros(len(keys), np.int64)
    for q in range(len(keys)):
        candidates = np.flatnonzero(wanted[q])
        best = candidates[np.argsort(keys[q, candidates], kind="stable")[:k]]
        rows[q, : len(best)], found[q] = best, len(best)
    return rows, found


@SETTINGS
@given(case=cases(), floor_rank=st.sampled_from([None, 0, 5]))
def test_dot(any_isa: str, case: Case, floor_rank: int | None) -> None:
    scores = dot_scores(case.dot, case.codes, case.gains, case.spec)
    floors = None
    wanted = case.allowed()
    if floor_rank is not None and case.rows > floor_rank:
        floors = np.sort(scores, axis=1)[:, floor_rank].copy()
        wanted &= scores >= floors[:, None]

    got_scores, got_rows = kernel.dot_top_k(
        case.blocked, case.gains, case.rows, case.spec, case.dot, case.k, case.masks, case.mask_of_query, floors
    )

    rows, found = expected_top_k(-scores, wanted, case.k)
    np.testing.assert_array_equal(got_rows, rows)
    for q, count in enumerate(found):
        np.testing.assert_array_equal(got_scores[q, :count], scores[q, rows[q, :count]])
        assert (got_scores[q, count:] == -np.inf).all()


@SETTINGS
@given(case=cases(), ceiling_rank=st.sampled_from([None, 0, 5]))
def test_hamming(any_isa: str, case: Case, ceiling_rank: int | None) -> None:
    distances = hamming_distances(case.hamming, case.codes, case.spec)
    ceilings = None
    wanted = case.allowed()
    if ceiling_rank is not None and case.rows > ceiling_rank:
        ceilings = np.sort(distances, axis=1)[:, ceiling_rank].copy()
        wanted &= distances <= ceilings[:, None]

    got_distances, got_rows = kernel.hamming_top_k(
        case.blocked, case.rows, case.spec, case.hamming, case.k, case.masks, case.mask_of_query, ceilings
    )

    rows, found = expected_top_k(distances, wanted, case.k)
    np.testing.assert_array_equal(got_rows, rows)
    for q, count in enumerate(found):
        np.testing.assert_array_equal(got_distances[q, :count], distances[q, rows[q, :count]])
        assert (got_distances[q, count:] == INT32_MAX).all()


@SETTINGS
@given(case=cases(), first_row=st.integers(0, 40))
def test_unpack_returns_what_pack_wrote_and_nothing_else_changed(case: Case, first_row: int) -> None:
    total = first_row + case.rows + 20
    before = np.random.default_rng(0).integers(0, 256, (total, case.spec.code_size_bytes), dtype=np.uint8)
    blocked = kernel.allocate(kernel.blocked_size_bytes(case.spec, total))
    kernel.pack(before, case.spec, blocked, 0)

    kernel.pack(case.codes, case.spec, blocked, first_row)

    after = before.copy()
    after[first_row : first_row + case.rows] = case.codes
    order = np.random.default_rng(1).permutation(total).astype(np.int64)
    np.testing.assert_array_equal(kernel.unpack(blocked, case.spec, order), after[order])


@pytest.mark.parametrize(
    "text", ["4096x4", "4096x1", "8192x4+8192x4", "16384x1", "1x1", "2000x4+2000x2+96x1", "512x1", "7x4+5x4+3x2+1x1"]
)
def test_extreme_specs(any_isa: str, text: str) -> None:
    """The largest sums: every level at its maximum against queries of -128 and 127."""
    spec = CodeSpec.parse(text)
    levels = np.tile(spec.max_levels, (33, 1))
    levels[1::2] = 0
    codes = pack_levels(levels, spec)
    gains = np.ones(33, np.float16)
    values = np.full((5, spec.dims), -128, np.int8)
    values[1::2] = 127
    queries = DotQueries(values, np.ones((5, len(spec.blocks)), np.float32))
    blocked = kernel.allocate(kernel.blocked_size_bytes(spec, 33))
    kernel.pack(codes, spec, blocked, 0)

    scores, rows = kernel.dot_top_k(blocked, gains, 33, spec, queries, 33)
    distances, near = kernel.hamming_top_k(blocked, 33, spec, HammingQueries(codes[:5].copy()), 33)

    reference = dot_scores(queries, codes, gains, spec)
    np.testing.assert_array_equal(scores, np.take_along_axis(reference, rows, 1))
    np.testing.assert_array_equal(rows, np.argsort(-reference, axis=1, kind="stable"))
    reference_distances = hamming_distances(HammingQueries(codes[:5]), codes, spec)
    np.testing.assert_array_equal(distances, np.take_along_axis(reference_distances, near, 1))


def test_every_half_becomes_the_float_numpy_makes_of_it(any_isa: str) -> None:
    spec = CodeSpec.parse("1x1")
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    gains = halves[~np.isnan(halves)]
    blocked = kernel.allocate(kernel.blocked_size_bytes(spec, len(gains)))
    kernel.pack(np.ones((len(gains), 1), np.uint8), spec, blocked, 0)
    queries = DotQueries(np.ones((1, 1), np.int8), np.ones((1, 1), np.float32))

    scores, rows = kernel.dot_top_k(blocked, gains, len(gains), spec, queries, len(gains))

    assert sorted(rows[0]) == list(range(len(gains)))
    np.testing.assert_array_equal(scores[0], gains.astype(np.float32)[rows[0]])


def test_nan_scores_are_never_returned(any_isa: str) -> None:
    spec = CodeSpec.parse("8x1")
    gains = np.array([1, np.nan, 2, np.inf], np.float16)
    blocked = kernel.allocate(kernel.blocked_size_bytes(spec, 4))
    kernel.pack(np.full((4, 1), 255, np.uint8), spec, blocked, 0)
    queries = DotQueries(np.ones((1, 8), np.int8), np.ones((1, 1), np.float32))
    scores, rows = kernel.dot_top_k(blocked, gains, 4, spec, queries, 4)
    assert rows.tolist() == [[3, 2, 0, -1]]
    assert scores.tolist() == [[np.inf, 16.0, 8.0, -np.inf]]


def test_no_rows(any_isa: str) -> None:
    spec = CodeSpec.parse("128x4")
    queries = DotQueries(np.ones((3, 128), np.int8), np.ones((3, 1), np.float32))
    scores, rows = kernel.dot_top_k(kernel.allocate(0), np.empty(0, np.float16), 0, spec, queries, 2)
    assert (rows == -1).all()
    assert (scores == -np.inf).all()


# -- the best rows of each label ---------------------------------------------------------------------------------------


def some_labels(
    rng: np.random.Generator, rows: int, ragged: bool
) -> tuple[NDArray[np.int32], NDArray[np.int64] | None]:
    """Labels 0 to 4 and none; ragged: up to three of a row, the same one perhaps twice."""
    if not ragged:
        return rng.integers(-1, 5, rows).astype(np.int32), None
    starts = np.concatenate([[0], np.cumsum(rng.integers(0, 4, rows))]).astype(np.int64)
    return rng.integers(-1, 5, int(starts[-1])).astype(np.int32), starts


def expected_of_labels(
    keys: NDArray[np.generic],
    wanted: NDArray[np.bool_],
    codes: NDArray[np.int32],
    starts: NDArray[np.int64] | None,
    k: int,
    ranks: NDArray[np.uint32] | None,
) -> list[list[int]]:
    """keys (rows,), lower is better -> the k best items of each label."""
    ranks = np.arange(len(keys), dtype=np.uint32) if ranks is None else ranks
    starts = np.arange(len(keys) + 1) if starts is None else starts
    found: list[list[int]] = [[] for _ in range(5)]
    for row in sorted(np.flatnonzero(wanted).tolist(), key=lambda row: (keys[row], ranks[row])):
        first: dict[int, int] = {}
        for item in range(int(starts[row]), int(starts[row + 1])):
            first.setdefault(int(codes[item]), item)
        for label, item in first.items():
            if label >= 0 and len(found[label]) < k:
                found[label].append(item)
    return found


@SETTINGS
@given(
    case=cases(), ragged=st.booleans(), ranked=st.booleans(), k=st.sampled_from([1, 2, 7]),
    floor_rank=st.sampled_from([None, 5]),
)  # fmt: skip
def test_best_rows_of_labels(
    any_isa: str, case: Case, ragged: bool, ranked: bool, k: int, floor_rank: int | None
) -> None:
    codes, starts = some_labels(np.random.default_rng(case.rows), case.rows, ragged)
    mask = None if not case.masks or case.mask_of_query is not None else case.masks[0]
    allowed = case.allowed()[0] if mask is not None else np.ones(case.rows, bool)
    ranks = np.random.default_rng(case.rows).permutation(case.rows).astype(np.uint32) if ranked else None
    options = {"codes": codes, "starts": starts, "labels": 5, "wanted": 5, "ranks": ranks}
    scores = dot_scores(case.dot, case.codes, case.gains, case.spec)[0]
    floor = -np.inf if floor_rank is None or case.rows <= floor_rank else float(np.sort(scores)[floor_rank])
    dot = DotQueries(case.dot.values[:1], case.dot.scales[:1])
    got_scores, items = kernel.dot_top_labels(
        case.blocked, case.gains, case.rows, case.spec, dot, k, mask, floor, **options
    )
    expected = expected_of_labels(-scores, allowed & (scores >= floor), codes, starts, k, ranks)
    assert [[item for item in line if item >= 0] for line in items.tolist()] == expected
    rows = np.arange(case.rows) if starts is None else np.repeat(np.arange(case.rows), np.diff(starts))
    np.testing.assert_array_equal(got_scores[items >= 0], scores[rows[items[items >= 0]]])

    distances = hamming_distances(case.hamming, case.codes, case.spec)[0]
    got, items = kernel.hamming_top_labels(
        case.blocked, case.rows, case.spec, HammingQueries(case.hamming.codes[:1]), k, mask, 2**24, **options
    )
    expected = expected_of_labels(distances, allowed, codes, starts, k, ranks)
    assert [[item for item in line if item >= 0] for line in items.tolist()] == expected
    np.testing.assert_array_equal(got[items >= 0], distances[rows[items[items >= 0]]])


def test_labels_that_are_not_wanted_may_be_left_out(any_isa: str) -> None:
    """Over many chunks the scan raises its floor; what is wanted stays exact."""
    rng, rows, spec = np.random.default_rng(0), 300_000, CodeSpec.parse("8x4")
    codes = pack_levels(rng.integers(0, 16, (rows, 8)).astype(np.uint8), spec)
    blocked = kernel.allocate(kernel.blocked_size_bytes(spec, rows))
    kernel.pack(codes, spec, blocked, 0)
    gains = np.ones(rows, np.float16)
    query = DotQueries(rng.integers(-128, 128, (1, 8)).astype(np.int8), np.ones((1, 1), np.float32))
    scores = dot_scores(query, codes, gains, spec)[0]
    labels = rng.integers(0, 1000, rows).astype(np.int32)
    order = np.lexsort((np.arange(rows), -scores))
    firsts = dict(zip(labels[order][::-1].tolist(), order[::-1].tolist(), strict=True))
    best = sorted(firsts.values(), key=lambda row: (-scores[row], row))
    for k, wanted in ((1, 10), (1, 1000), (3, 1000)):
        found, items = kernel.dot_top_labels(
            blocked, gains, rows, spec, query, k, None, -np.inf, codes=labels, starts=None, labels=1000, wanted=wanted
        )
        rank = np.lexsort((items[:, 0], -found[:, 0]))[:wanted]
        assert items[rank, 0].tolist() == best[:wanted]
    per_label = [order[labels[order] == label][:3].tolist() for label in range(0, 1000, 97)]
    assert items[::97].tolist() == per_label
