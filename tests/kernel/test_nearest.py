"""Embeddings that search in one call find what their projection, its rounding, a scan and the order by ids find, where
they read lists, too."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.kernel.test_equals_core import SETTINGS, Case, any_isa, cases
from tests.kernel.test_lists import Listed
from tests.kernel.test_parts import Split

from bebr import kernel
from bebr.core.codes import CodeSpec
from bebr.core.scoring import DotQueries, RescoreQueries
from bebr.errors import DimensionMismatch
from bebr.kernel import rescore

__all__ = ["any_isa"]
SIZE = 24
"""Of embeddings."""


class Embedded:
    """Embeddings for the codes of a case, and how they become queries."""

    def __init__(self, case: Case, rng: np.random.Generator, shares_columns: bool) -> None:
        spec = case.spec
        columns = max(1, spec.dims // 2) if shares_columns else spec.dims
        self.matrix = rng.standard_normal((SIZE, columns)).astype(np.float32)
        self.of = rng.integers(0, columns, spec.dims) if shares_columns else None
        self.factors = np.exp2(rng.integers(-3, 3, spec.dims)).astype(np.float32)
        self.steps = rng.uniform(0.5, 2, len(spec.blocks)).astype(np.float32)
        self.embeddings = rng.standard_normal((rng.integers(1, 6), SIZE)).astype(np.float32)
        self.projection = kernel.Projection(spec, self.matrix, self.of, self.factors, self.steps)

    def queries(self, spec: CodeSpec) -> DotQueries:
        """One step after the other."""
        projected = kernel.project(self.embeddings, self.matrix)
        if self.of is not None:
            projected = projected.take(self.of, axis=1) * self.factors
        return kernel.quantize(projected, spec, self.steps)


def check_found(
    parts: kernel.Parts,
    found: list[kernel.Nearest],
    scanned: kernel.Candidates,
    k: int,
    added: NDArray[np.float64] | None,
) -> None:
    for q, (one, start, stop) in enumerate(zip(found, scanned.starts, scanned.starts[1:], strict=False)):
        scores = scanned.scores[start:stop] + (0.0 if added is None else added[q])
        assert one == parts.best(scores, scanned.places[start:stop], scanned.rows[start:stop], k)
    assert len(found) == len(scanned.starts) - 1


@pytest.mark.usefixtures("any_isa")
@given(cases(), st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
@SETTINGS
def test_nearest_is_all_steps_in_one(case: Case, seed: int, shares_columns: bool, adds: bool) -> None:
    split, rng = Split(case, seed), np.random.default_rng(seed)
    some = Embedded(case, rng, shares_columns)
    added = rng.standard_normal(len(some.embeddings)) if adds else None
    answer = kernel.nearest(split.selection, some.projection, some.embeddings, case.k, added, keeps=adds)
    queries = some.queries(case.spec)
    check_found(split.parts, answer.found, kernel.dot_candidates(split.selection, queries, case.k), case.k, added)
    assert answer.lists is None and answer.rows is None and (answer.queries is not None) == adds
    if answer.queries is not None:
        np.testing.assert_array_equal(answer.queries.values, queries.values)
        np.testing.assert_array_equal(answer.queries.scales, queries.scales)


@pytest.mark.usefixtures("any_isa")
@given(
    cases(), st.integers(0, 2**32 - 1), st.sampled_from([-0.5, 0.0, 0.3, 1.0, np.inf]), st.sampled_from([2**40, 0, 20])
)
@SETTINGS
def test_nearest_reads_lists(case: Case, seed: int, spread: float, flat: int) -> None:
    listed, rng = Listed(case, seed), np.random.default_rng(seed)
    some = Embedded(case, rng, shares_columns=False)
    queries, count = some.queries(case.spec), len(some.embeddings)
    deltas = (rng.uniform(0, 20, count) * spread).astype(np.float32)
    stop_at = rng.integers(1, case.k + 1, count).astype(np.int32)
    flat_rows = np.full(count, flat, np.int64)
    reading = kernel.Reading(deltas, stop_at, flat_rows)
    answer = kernel.nearest(listed.selection, some.projection, some.embeddings, case.k, None, reading)
    scanned, lists, rows = kernel.list_candidates(
        listed.selection, queries, case.k, deltas=deltas, stop_at=stop_at, flat_rows=flat_rows
    )
    check_found(listed.parts, answer.found, scanned, case.k, None)
    assert answer.queries is None and answer.lists is not None and answer.rows is not None
    np.testing.assert_array_equal(answer.lists, lists)
    np.testing.assert_array_equal(answer.rows, rows)
    exact = kernel.nearest(listed.selection, some.projection, some.embeddings, case.k)
    if spread == np.inf:
        assert exact.found == answer.found
    check_found(listed.parts, exact.found, kernel.dot_candidates(listed.selection, queries, case.k), case.k, None)


RESCORE = CodeSpec.parse("8x1/12x4")


class Finer:
    """Rescore records of the rows of a split case: in files, in memory, and none."""

    def __init__(self, split: Split, folder: Path, rng: np.random.Generator, queries: int) -> None:
        files: list[rescore.RowFile] = []
        arrays: list[NDArray[np.uint8]] = []
        self.source_at: list[int] = []
        for number, rows in enumerate(split.rows):
            records = rng.integers(0, 256, (max(1, len(rows)), RESCORE.rescore_size_bytes), dtype=np.uint8)
            records[:, -1] &= 0x3F  # gains are numbers
            self.source_at.append(rescore.NO_SOURCE)
            if (kind := rng.integers(0, 3)) == 0:
                path = folder / f"{number}-{rng.integers(2**60)}"
                path.write_bytes(b"0123456789abcdef" + rescore.with_checksums(records).tobytes())
                self.source_at[-1] = len(files)
                files.append(rescore.open_rows(path, b"0123456789abcdef", 16, RESCORE.rescore_size_bytes + 4))
            elif kind == 1:
                self.source_at[-1] = rescore.in_array(len(arrays))
                arrays.append(records)
        self.sources = rescore.Sources(RESCORE, files, arrays, self.source_at)
        self.queries = rescore.quantize(rng.standard_normal((queries, 12)).astype(np.float32), RESCORE)


@pytest.mark.usefixtures("any_isa")
@given(cases(), st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
@SETTINGS
def test_nearest_scores_again(
    tmp_path_factory: pytest.TempPathFactory, case: Case, seed: int, adds: bool, masked: bool
) -> None:
    split, rng = Split(case, seed), np.random.default_rng(seed)
    some = Embedded(case, rng, shares_columns=False)
    count = len(some.embeddings)
    finer = Finer(split, tmp_path_factory.mktemp("rows"), rng, count)
    added = rng.standard_normal(count) if adds else None
    filtering = kernel.ALL_ROWS
    if masked and split.masks:
        of_query = rng.integers(-1, len(split.masks), count).astype(np.int32)
        filtering = kernel.Filtering(split.masks, of_query, np.full(count, -1.0, np.float32))
    most, limit = rng.integers(1, case.k + 1, count), int(rng.integers(1, case.k + 1))
    answer = kernel.nearest(
        split.selection, some.projection, some.embeddings, case.k, added, None, filtering,
        kernel.Finer(finer.sources, finer.queries, most, waits=True), limit=limit, measures=True,
    )  # fmt: skip
    assert answer.seconds > 0
    scanned = kernel.dot_candidates(split.selection, some.queries(case.spec), case.k, *filtering)
    for q, (one, start, stop) in enumerate(zip(answer.found, scanned.starts, scanned.starts[1:], strict=False)):
        places, rows = scanned.places[start:stop], scanned.rows[start:stop]
        scores = scanned.scores[start:stop] + (0.0 if added is None else added[q])
        ids = split.parts.ids(places, rows)
        kept = np.array(sorted(range(len(ids)), key=lambda n: (-scores[n], ids[n]))[: int(most[q])], np.int64)
        scores, places, rows = scores[kept], places[kept], rows[kept]
        asked = RescoreQueries(finer.queries.values[q : q + 1], finer.queries.scales[q : q + 1])
        finer.sources.add_scores(asked, places, rows, None, scores, np.zeros(1, np.int64))
        assert one == split.parts.best(scores, places, rows, limit)


def test_rows_that_cannot_be_scored_again_are_told(tmp_path: Path) -> None:
    spec, parts = CodeSpec.parse("32x2"), kernel.Parts()
    blocked = kernel.allocate(kernel.blocked_size_bytes(spec, 3))
    parts.add_unsorted(blocked, np.ones(3, np.float16), 3, spec, None, ["a", "b", "c"])
    projection = kernel.Projection(
        spec, np.ones((SIZE, 32), np.float32), None, np.ones(32, np.float32), np.ones(1, np.float32)
    )
    rows = rescore.with_checksums(np.zeros((3, RESCORE.rescore_size_bytes), np.uint8))
    path = tmp_path / "rows"
    path.write_bytes(b"0123456789abcdef" + rows.tobytes())
    file = rescore.open_rows(path, b"0123456789abcdef", 16, rows.shape[1])
    sources = rescore.Sources(RESCORE, [file], [], [0])
    queries = rescore.quantize(np.ones((1, 12), np.float32), RESCORE)

    def find(queries: RescoreQueries = queries, most: int = 3) -> list[str]:
        finer = kernel.Finer(sources, queries, np.array([most]))
        selection, one = parts.select([0]), np.ones((1, SIZE), np.float32)
        return kernel.nearest(selection, projection, one, 3, finer=finer).found[0].ids

    assert find() == ["a", "b", "c"] and find(most=2) == ["a", "b"]
    with pytest.raises(DimensionMismatch, match="1 queries of 12 dims"):
        find(rescore.quantize(np.ones((2, 12), np.float32), RESCORE))
    damaged = bytearray(path.read_bytes())
    damaged[16 + rows.shape[1]] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(rescore.DamagedRow):
        find()
    assert find(most=1) == ["a"]


def test_what_does_not_fit_is_refused() -> None:
    spec, parts = CodeSpec.parse("32x2"), kernel.Parts()
    parts.add_unsorted(
        kernel.allocate(kernel.blocked_size_bytes(spec, 1)), np.ones(1, np.float16), 1, spec, None, ["a"]
    )
    selection, steps = parts.select([0]), np.ones(1, np.float32)
    matrix, factors = np.ones((SIZE, 32), np.float32), np.ones(32, np.float32)
    projection = kernel.Projection(spec, matrix, None, factors, steps)
    one = np.ones((1, SIZE), np.float32)
    assert [found.ids for found in kernel.nearest(selection, projection, one, 3).found] == [["a"]]
    with pytest.raises(DimensionMismatch, match="24 numbers"):
        kernel.nearest(selection, projection, one[:, 1:].copy(), 3)
    with pytest.raises(ValueError, match="at least 1"):
        kernel.nearest(selection, projection, one, 0)
    with pytest.raises(ValueError, match="added"):
        kernel.nearest(selection, projection, one, 1, np.zeros(0))
    for reading, match in [
        (kernel.Reading(np.ones(0, np.float32), np.ones(1, np.int32), np.ones(1, np.int64)), "deltas"),
        (kernel.Reading(np.ones(1, np.float32), np.ones(0, np.int32), np.ones(1, np.int64)), "stop_at"),
        (kernel.Reading(np.ones(1, np.float32), np.ones(1, np.int32), np.ones(0, np.int64)), "flat_rows"),
        (kernel.Reading(np.ones(1, np.float32), np.zeros(1, np.int32), np.ones(1, np.int64)), "stop_at"),
        (kernel.Reading(np.ones(1, np.float32), np.full(1, 4, np.int32), np.ones(1, np.int64)), "stop_at"),
    ]:
        with pytest.raises(ValueError, match=match):
            kernel.nearest(selection, projection, one, 3, None, reading)
    with pytest.raises(ValueError, match="C-contiguous"):
        kernel.nearest(selection, projection, one.astype(np.float64), 1)  # type: ignore[arg-type]
    with pytest.raises(DimensionMismatch, match="a matrix"):
        kernel.Projection(spec, matrix[:, 1:].copy(), None, factors, steps)
    with pytest.raises(ValueError, match="between 0 and 31"):
        kernel.Projection(spec, matrix, np.full(32, 32), factors, steps)
    other = CodeSpec.parse("64x1")
    with pytest.raises(DimensionMismatch, match="64x1"):
        kernel.nearest(
            selection, kernel.Projection(other, np.ones((SIZE, 64), np.float32), None, factors, steps), one, 1
        )
