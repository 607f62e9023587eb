"""The closed-form binarizer: what its codes represent, how well they find neighbors, what it refuses."""

import numpy as np
import pytest
from tests.encoding.quantization.embeddings import DIMS, UNFIT, nearest, recall, text_like

from bebr.core.codes import CodeSpec, cosine_gains, grid_values, split_records, unpack_levels
from bebr.core.scoring import dot_scores, prepare_adc
from bebr.encoding import Gain
from bebr.encoding.quantization.closed_form import ClosedForm, Rotation, fit
from bebr.errors import DimensionMismatch, InvalidEmbeddings

ROWS = text_like(3000)
QUERIES = text_like(200, seed=1)
TRUTH = nearest(QUERIES, ROWS)
SPEC = CodeSpec.parse("16x4+24x2+16x1")


def recall_of(binarizer: ClosedForm) -> float:
    return recall(nearest(binarizer.project(QUERIES), binarizer.quantized_values(ROWS)), TRUTH)


@pytest.mark.parametrize("code", ["64x4", "64x2", "64x1", "16x4+24x2+16x1", "7x4+5x1"])
def test_records_hold_codes_and_gains_of_the_spec(code: str) -> None:
    spec = CodeSpec.parse(code)
    binarizer = fit(ROWS, spec, center=True)
    records = binarizer.encode(ROWS[:50])
    assert records.shape == (50, spec.record_size_bytes)
    codes, gains = split_records(records, spec)
    levels, expected_gains = binarizer.quantize(ROWS[:50])
    assert (unpack_levels(codes, spec) == levels).all() and (gains == expected_gains).all()
    steps = np.repeat(binarizer.steps, [block.dims for block in spec.blocks])
    values = steps * grid_values(levels, spec) * gains.astype(np.float32)[:, None]
    np.testing.assert_allclose(binarizer.quantized_values(ROWS[:50]), values, rtol=1e-5)


@pytest.mark.parametrize("rotation", list(Rotation))
@pytest.mark.parametrize("center", [False, True])
def test_adc_estimates_the_cosine_without_bias(center: bool, rotation: Rotation) -> None:
    spec = CodeSpec.parse("64x2")  # All dims are kept, so nothing but the grid can bend the scores.
    binarizer = fit(ROWS, spec, center=center, rotation=rotation)
    scores = binarizer.project(QUERIES) @ binarizer.quantized_values(ROWS).T
    exact = QUERIES @ ROWS.T
    constant = exact.mean(axis=1) - scores.mean(axis=1)  # Centring leaves out <query, mean>, the same for every row.
    if not center:
        assert abs(constant).max() < 0.01
    slope = ((scores + constant[:, None]) * exact).sum() / (exact * exact).sum()
    assert slope == pytest.approx(1, abs=0.02)
    # Also for the nearest rows, where a plain cosine of codes would be too small by the cosine of code and row.
    top = np.take_along_axis(scores + constant[:, None], TRUTH, axis=1)
    assert top.mean() == pytest.approx(np.take_along_axis(exact, TRUTH, axis=1).mean(), abs=0.02)


def test_the_reference_scorer_agrees_with_decode() -> None:
    binarizer = fit(ROWS, SPEC, center=False)
    codes, gains = split_records(binarizer.encode(ROWS[:100]), SPEC)
    queries = prepare_adc(binarizer.project(QUERIES), SPEC, binarizer.steps)
    scores = dot_scores(queries, codes, gains, SPEC)
    np.testing.assert_allclose(scores, binarizer.project(QUERIES) @ binarizer.quantized_values(ROWS[:100]).T, atol=0.02)


def test_cosine_gains_are_those_of_core() -> None:
    binarizer = fit(ROWS, SPEC, center=False, gain=Gain.COSINE)
    levels, gains = binarizer.quantize(ROWS[:100])
    np.testing.assert_allclose(gains, cosine_gains(levels, SPEC, binarizer.steps), rtol=2e-3)


def test_more_bits_and_itq_find_more_neighbors() -> None:
    signs = fit(ROWS, CodeSpec.parse("64x1"), center=True, rotation=Rotation.RANDOM)
    blocks = fit(ROWS, CodeSpec.parse("8x4+16x2"), center=True, rotation=Rotation.RANDOM)
    assert blocks.spec.code_size_bytes == signs.spec.code_size_bytes == 8
    assert recall_of(blocks) > recall_of(signs) + 0.05
    two_bit = [fit(ROWS, CodeSpec.parse("64x2"), center=True, rotation=rotation) for rotation in Rotation]
    assert recall_of(two_bit[1]) > recall_of(two_bit[0]) > recall_of(signs) + 0.1
    assert recall_of(fit(ROWS, CodeSpec.parse("64x4"), center=True)) > 0.9


def test_a_prefix_of_blocks_is_a_coarser_code() -> None:
    binarizer = fit(ROWS, SPEC, center=False)
    found = []
    for blocks in (1, 2, 3):
        dims = SPEC.prefix(blocks).dims
        scores = binarizer.project(QUERIES)[:, :dims], binarizer.quantized_values(ROWS)[:, :dims]
        found.append(recall(nearest(*scores), TRUTH))
    assert found == sorted(found) and found[0] > 0.3


def test_a_strong_common_mean_does_not_cap_recall() -> None:
    rows, queries = text_like(3000, common_mean=3), text_like(200, seed=1, common_mean=3)
    assert np.mean(rows[:500] @ rows[500:1000].T) > 0.85
    truth = nearest(queries, rows)
    spec = CodeSpec.parse("64x2")

    def found(binarizer: ClosedForm) -> float:
        return recall(nearest(binarizer.project(queries), binarizer.quantized_values(rows)), truth)

    centered = fit(rows, spec, center=True)
    # As good as where there is no common mean, and far better than what does not know of it.
    assert found(centered) > recall_of(fit(ROWS, spec, center=True)) - 0.03
    assert found(centered) > found(fit(rows, spec, center=False)) + 0.2
    # The trap: without its length, a centered code represents another cosine than the one that was requested. The finer
    # the code, the more of what it could reach is lost.
    fine = CodeSpec.parse("64x4")
    assert found(fit(rows, fine, center=True)) > found(fit(rows, fine, center=True, gain=Gain.COSINE)) + 0.04


def test_embeddings_count_by_direction_only() -> None:
    binarizer = fit(ROWS, SPEC, center=True)
    longer = fit((ROWS * np.linspace(0.1, 1000, len(ROWS))[:, None]).astype(np.float64), SPEC, center=True)
    np.testing.assert_allclose(longer.steps, binarizer.steps, rtol=1e-3)
    np.testing.assert_allclose(binarizer.project(QUERIES * 8), binarizer.project(QUERIES), atol=1e-6)
    assert (binarizer.encode(ROWS * 8) == binarizer.encode(ROWS)).all()


def test_the_mean_itself_scores_zero() -> None:
    rows = np.vstack([ROWS[:500], -ROWS[:500]])
    binarizer = fit(rows, SPEC, center=False)
    levels, gains = binarizer.quantize(np.zeros((1, DIMS), np.float32))
    assert gains[0] == 0 and levels.shape == (1, SPEC.dims)


def test_the_seed_decides() -> None:
    one, same, other = (fit(ROWS, SPEC, center=True, seed=seed) for seed in (3, 3, 4))
    assert (
        one.point_projection.tobytes() == same.point_projection.tobytes()
        and one.steps.tobytes() == same.steps.tobytes()
    )
    assert one.point_projection.tobytes() != other.point_projection.tobytes()


@pytest.mark.parametrize("rotation", list(Rotation))
@pytest.mark.parametrize("center", [False, True])
def test_the_query_side_undoes_what_the_point_side_stretches(center: bool, rotation: Rotation) -> None:
    binarizer = fit(text_like(1000, common_mean=1), SPEC, center=center, rotation=rotation)
    product = binarizer.query_projection.T @ binarizer.point_projection
    np.testing.assert_allclose(product, np.eye(SPEC.dims), atol=1e-4)
    assert (binarizer.query_projection == binarizer.point_projection).all() == (not center)


def test_half_and_double_precision_fit_alike() -> None:
    steps = [fit(ROWS.astype(dtype), SPEC, center=False).steps for dtype in ("<f2", "<f4", "<f8")]
    np.testing.assert_allclose(steps[0], steps[1], rtol=0.01)
    np.testing.assert_allclose(steps[2], steps[1], rtol=0.001)


@pytest.mark.parametrize(
    ("rows", "message"),
    [*UNFIT, (ROWS[:, :32], "'16x4\\+24x2\\+16x1' has 56 dims, but the embeddings only 32")],
)
def test_unfit_embeddings_are_refused(rows: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidEmbeddings, match=message):
        fit(rows, SPEC, center=True)


def test_too_few_directions_are_refused() -> None:
    flat = np.zeros((500, DIMS), np.float32)
    flat[:, :8] = text_like(500, dims=8)
    with pytest.raises(InvalidEmbeddings, match="vary in fewer directions"):
        fit(flat, SPEC, center=False)


def test_other_dims_are_refused() -> None:
    with pytest.raises(DimensionMismatch, match="expected embeddings of shape"):
        fit(ROWS, SPEC, center=False).encode(ROWS[:, :32])
