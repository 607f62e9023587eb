"""Embeddings that search in one call find what their projection, its rounding, a scan and the order by ids find."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kernel.test_equals_core import SETTINGS, Case, any_isa, cases
from tests.kernel.test_parts import Split

from bebr import kernel
from bebr.core.codes import CodeSpec
from bebr.errors import DimensionMismatch

__all__ = ["any_isa"]
SIZE = 24
"""Of embeddings."""


@pytest.mark.usefixtures("any_isa")
@given(cases(), st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
@SETTINGS
def test_nearest_is_all_steps_in_one(case: Case, seed: int, shares_columns: bool, adds: bool) -> None:
    split, rng, spec = Split(case, seed), np.random.default_rng(seed), case.spec
    columns = max(1, spec.dims // 2) if shares_columns else spec.dims
    matrix = rng.standard_normal((SIZE, columns)).astype(np.float32)
    of = rng.integers(0, columns, spec.dims) if shares_columns else None
    factors = np.exp2(rng.integers(-3, 3, spec.dims)).astype(np.float32)
    steps = rng.uniform(0.5, 2, len(spec.blocks)).astype(np.float32)
    embeddings = rng.standard_normal((rng.integers(1, 6), SIZE)).astype(np.float32)
    added = rng.standard_normal(len(embeddings)) if adds else None

    projection = kernel.Projection(spec, matrix, of, factors, steps)
    found = kernel.nearest(split.selection, projection, embeddings, case.k, added)

    projected = kernel.project(embeddings, matrix)
    if of is not None:
        projected = projected.take(of, axis=1) * factors
    scanned = kernel.dot_candidates(split.selection, kernel.quantize(projected, spec, steps), case.k)
    for q, (one, start, stop) in enumerate(zip(found, scanned.starts, scanned.starts[1:], strict=False)):
        scores = scanned.scores[start:stop] + (0.0 if added is None else added[q])
        assert one == split.parts.best(scores, scanned.places[start:stop], scanned.rows[start:stop], case.k)
    assert len(found) == len(embeddings)


def test_what_does_not_fit_is_refused() -> None:
    spec, parts = CodeSpec.parse("32x2"), kernel.Parts()
    parts.add_unsorted(
        kernel.allocate(kernel.blocked_size_bytes(spec, 1)), np.ones(1, np.float16), 1, spec, None, ["a"]
    )
    selection, steps = parts.select([0]), np.ones(1, np.float32)
    matrix, factors = np.ones((SIZE, 32), np.float32), np.ones(32, np.float32)
    projection = kernel.Projection(spec, matrix, None, factors, steps)
    one = np.ones((1, SIZE), np.float32)
    assert [found.ids for found in kernel.nearest(selection, projection, one, 3)] == [["a"]]
    with pytest.raises(DimensionMismatch, match="24 numbers"):
        kernel.nearest(selection, projection, one[:, 1:].copy(), 3)
    with pytest.raises(ValueError, match="at least 1"):
        kernel.nearest(selection, projection, one, 0)
    with pytest.raises(ValueError, match="added"):
        kernel.nearest(selection, projection, one, 1, np.zeros(0))
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
