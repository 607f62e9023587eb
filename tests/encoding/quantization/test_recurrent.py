"""The recurrent binarizer: the graph against the numpy reference, what the fit gains, what it bears and refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.encoding.quantization.embeddings import DIMS, UNFIT, nearest, recall, text_like

from bebr.core.codes import CodeSpec, grid_values, split_records, unpack_levels
from bebr.core.scoring import dot_scores, prepare_adc
from bebr.encoding.quantization.binarizer import Binarizer
from bebr.encoding.quantization.closed_form import ClosedForm, Rotation, fit
from bebr.encoding.quantization.grid import grid_points
from bebr.encoding.quantization.recurrent import BATCH_ROWS, Recurrent, couplings
from bebr.encoding.quantization.recurrent_fit import Effort, fit_recurrent
from bebr.encoding.quantization.recurrent_graph import to_onnx
from bebr.errors import DimensionMismatch, InvalidEmbeddings

ROWS = text_like(3000)
QUERIES = text_like(200, seed=1)
TRUTH = nearest(QUERIES, ROWS)
SPEC = CodeSpec.parse("16x4+24x2+16x1")
SHORT = Effort(warm=5, full=3)
NEAR_BOUNDARY = 1e-5
"""Sums of another order move a value by less than this."""


def recall_of(binarizer: Recurrent | ClosedForm) -> float:
    return recall(nearest(binarizer.project(QUERIES), binarizer.quantized_values(ROWS)), TRUTH)


def squared_error(binarizer: Recurrent | ClosedForm, rows: np.ndarray) -> float:
    """Mean squared distance of unit rows from what their codes represent, each at the best length."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    if isinstance(binarizer, Recurrent):
        deviations, decoded = unit - binarizer.mean, binarizer.quantized_values(rows) @ binarizer.decoder
    else:
        deviations, decoded = unit, binarizer.quantized_values(rows) @ binarizer.query_projection.T
    along = (decoded * deviations).sum(axis=1) / np.maximum((decoded**2).sum(axis=1), 1e-9)
    return float(((deviations - along[:, None] * decoded) ** 2).sum(axis=1).mean())


def lie_near_a_boundary(binarizer: Recurrent, rows: np.ndarray) -> np.ndarray:
    """(rows,) bool: whether some value of some loop lay so near to a boundary of the grid that rounding decides."""
    moves, unit = binarizer.moves, rows / np.linalg.norm(rows, axis=1, keepdims=True)
    residuals = unit @ binarizer.encoder - binarizer.offset
    points, targets = residuals @ binarizer.initial, residuals * moves.to_targets
    near = np.zeros(len(rows), bool)
    for hardness in binarizer.hardness:
        for block, pull in zip(moves.blocks, moves.pulls, strict=True):
            aims, halves = targets[:, block] - points @ pull, moves.halves[block]
            boundaries = np.clip(np.rint(aims), 1 - halves, halves - 1)
            near |= (np.abs(aims - boundaries) < NEAR_BOUNDARY).any(axis=1)
            grid, soft = grid_points(aims, halves), np.clip(aims, 0.5 - halves, halves - 0.5)
            points[:, block] = grid if hardness == 1 else soft + np.float32(hardness) * (grid - soft)
    return near


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("shrink", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("code", ["64x1", "64x2", "32x4", "16x4+24x2+16x1", "3x4+5x2+7x1", "1x1"])
def test_graph_equals_reference(code: str, shrink: float, center: bool, tmp_path: Path) -> None:
    fitted = fit_recurrent(ROWS, CodeSpec.parse(code), center=center, weight=0.5 * center, effort=SHORT)
    fitted = replace(fitted, shrink=shrink)
    path = tmp_path / "binarizer.onnx"
    path.write_bytes(to_onnx(fitted))
    binarizer = Binarizer(path, fitted.spec, DIMS)
    np.testing.assert_allclose(binarizer.project(ROWS), fitted.project(ROWS), atol=1e-6)
    codes, gains = split_records(binarizer.encode(ROWS), binarizer.spec)
    levels, expected_gains = fitted.quantize(ROWS)
    differing = (unpack_levels(codes, fitted.spec) != levels).any(axis=1)
    near = lie_near_a_boundary(fitted, ROWS)
    assert not (differing & ~near).any()
    assert differing.sum() <= 15 and near.mean() < 0.05
    np.testing.assert_allclose(gains[~differing], expected_gains[~differing], rtol=2e-3)


@pytest.mark.parametrize("center", [False, True])
def test_prefixes_of_a_nested_code_are_codes_too(center: bool, tmp_path: Path) -> None:
    spec = CodeSpec.parse("24x2+16x2+24x1")
    nested, plain = (fit_recurrent(ROWS, spec, center=center, nested=n, effort=SHORT) for n in (True, False))
    levels = nested.quantize(ROWS)[0]
    for blocks, dims in ((1, 24), (2, 40)):
        prefix = nested.prefix(blocks)
        path = tmp_path / f"{blocks}.onnx"
        path.write_bytes(to_onnx(prefix))
        binarizer = Binarizer(path, prefix.spec, DIMS)
        codes, gains = split_records(binarizer.encode(ROWS), binarizer.spec)
        own, expected_gains = prefix.quantize(ROWS)
        np.testing.assert_array_equal(own, levels[:, :dims])
        same = (unpack_levels(codes, prefix.spec) == own).all(axis=1)
        assert same.mean() > 0.99
        np.testing.assert_allclose(gains[same], expected_gains[same], rtol=2e-3)
        np.testing.assert_allclose(binarizer.project(ROWS), nested.project(ROWS)[:, :dims], atol=1e-6)
    alone = fit_recurrent(ROWS, CodeSpec.parse("24x2"), center=center, effort=SHORT)
    assert recall_of(nested.prefix(1)) > recall_of(plain.prefix(1)) + 0.02
    assert recall_of(nested.prefix(1)) > recall_of(alone) - 0.02
    assert recall_of(nested) > recall_of(plain) - 0.04


def test_couplings_count_prefixes_that_hold_both() -> None:
    spec = CodeSpec.parse("1x4+2x2+1x1")
    ends = np.cumsum(spec.block_dims)
    expected = sum(np.outer(np.arange(4) < end, np.arange(4) < end).astype(int) for end in ends)
    np.testing.assert_array_equal(couplings(spec), expected)


def test_dims_move_together_only_where_that_converges(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [len(fit_recurrent(ROWS, CodeSpec.parse(code), effort=SHORT).moves.blocks) for code in ("16x4", "64x1")]
    assert blocks[0] == 1 < blocks[1]
    errors = []
    for overshoot in (1.9, np.inf):
        monkeypatch.setattr("bebr.encoding.quantization.recurrent.MAX_OVERSHOOT", overshoot)
        fitted = [fit_recurrent(ROWS, CodeSpec.parse(code)) for code in ("64x2", "64x1")]
        errors.append([squared_error(binarizer, ROWS) for binarizer in fitted])
    assert errors[0][0] < 0.065 < errors[1][0]
    assert errors[0][1] < 0.2 < errors[1][1]


@pytest.mark.parametrize("code", ["64x1", "64x2", "32x1", "16x4+24x2+16x1"])
def test_it_beats_the_closed_form(code: str) -> None:
    spec = CodeSpec.parse(code)
    fitted, plain = fit_recurrent(ROWS, spec), fit(ROWS, spec, center=False, rotation=Rotation.ITQ)
    assert squared_error(fitted, ROWS) < (0.99 if len(spec.blocks) > 1 else 0.9) * squared_error(plain, ROWS)
    assert recall_of(fitted) > recall_of(plain) + (0 if len(spec.blocks) > 1 else 0.04)
    held_out = text_like(1000, seed=5)
    assert squared_error(fitted, held_out) < 1.2 * squared_error(fitted, ROWS)


@pytest.mark.parametrize(("rows", "code"), [(64, "64x2"), (64, "64x1"), (64, "32x4"), (100, "64x2"), (300, "64x1")])
def test_few_rows_give_no_worse_than_the_closed_form(rows: int, code: str) -> None:
    few, spec = text_like(rows, seed=7), CodeSpec.parse(code)
    fitted, plain = fit_recurrent(few, spec), fit(few, spec, center=False)
    assert recall_of(fitted) > recall_of(plain) - 0.02


def test_a_strong_common_mean_does_not_cap_recall() -> None:
    rows, queries = text_like(3000, common_mean=3), text_like(200, seed=1, common_mean=3)
    truth, spec = nearest(queries, rows), CodeSpec.parse("64x2")

    def found(binarizer: Recurrent | ClosedForm) -> float:
        return recall(nearest(binarizer.project(queries), binarizer.quantized_values(rows)), truth)

    centered = fit_recurrent(rows, spec, center=True, weight=0.5)
    assert centered.centered and np.linalg.norm(centered.mean) > 0.9
    assert found(centered) > found(fit(rows, spec, center=True)) + 0.02
    assert found(centered) > found(fit_recurrent(rows, spec)) + 0.02


@pytest.mark.parametrize("center", [False, True])
def test_scores_are_estimates_of_the_cosine(center: bool) -> None:
    rows, queries = text_like(2000, common_mean=0.5), text_like(100, seed=1, common_mean=0.5)
    fitted = fit_recurrent(rows, CodeSpec.parse("64x2"), center=center, weight=0.5 * center)
    codes, gains = split_records(fitted.encode(rows), fitted.spec)
    scores = dot_scores(prepare_adc(fitted.project(queries), fitted.spec, fitted.steps), codes, gains, fitted.spec)
    np.testing.assert_allclose(scores, fitted.project(queries) @ fitted.quantized_values(rows).T, atol=0.02)
    exact, scores = queries @ rows.T, scores + (queries @ fitted.mean)[:, None]
    assert np.abs(scores - exact).mean() < 0.03
    top = nearest(queries, rows)
    assert np.take_along_axis(scores - exact, top, axis=1).mean() == pytest.approx(0, abs=0.02)


def test_records_hold_levels_gains_and_values() -> None:
    fitted = fit_recurrent(ROWS, SPEC, effort=SHORT)
    levels, gains = fitted.quantize(ROWS[:50])
    codes, kept = split_records(fitted.encode(ROWS[:50]), SPEC)
    assert (unpack_levels(codes, SPEC) == levels).all() and (gains == kept).all()
    values = np.repeat(fitted.steps, SPEC.block_dims) * grid_values(levels, SPEC) * gains.astype(np.float32)[:, None]
    np.testing.assert_allclose(fitted.quantized_values(ROWS[:50]), values, rtol=1e-6)
    many = np.tile(ROWS, (2, 1))
    assert (
        len(many) > BATCH_ROWS and (fitted.encode(many)[:3000] == fitted.encode(many)[3000:]).all(axis=1).mean() > 0.99
    )


def test_shrinking_makes_codes_shorter_the_farther_they_are() -> None:
    fitted = replace(fit_recurrent(ROWS, CodeSpec.parse("32x1"), effort=SHORT), felt=None)
    shrunk = replace(fitted, shrink=1.0)
    decoded = [binarizer.quantized_values(ROWS) @ binarizer.decoder for binarizer in (fitted, shrunk)]
    np.testing.assert_allclose(np.linalg.norm(decoded[0], axis=1), 1, rtol=2e-3)
    cosines = (decoded[0] * ROWS).sum(axis=1)
    np.testing.assert_allclose(np.linalg.norm(decoded[1], axis=1), np.maximum(cosines, 0), atol=2e-3)
    error = ((decoded[1] - ROWS) ** 2).sum(axis=1).mean()
    assert error == pytest.approx(squared_error(fitted, ROWS), rel=0.01)


@pytest.mark.parametrize("code", ["16x1", "64x1", "16x4+24x2+16x1"])
def test_gains_compare_lengths_in_which_directions_count_by_their_variance(code: str) -> None:
    fitted = fit_recurrent(ROWS, CodeSpec.parse(code), effort=SHORT)
    variances, axes = np.linalg.eigh(ROWS.T.astype(np.float64) @ ROWS / len(ROWS))
    counts = (variances + 0.05 * variances.mean()) ** 0.25
    others = slice(0, max(1, DIMS - fitted.spec.dims))
    counts[others] = np.exp(np.log(counts[others]).mean())
    levels, gains = fitted.quantize(ROWS[:40])
    for row, own, gain in zip(ROWS[:40].astype(np.float64), levels, gains, strict=True):
        stands_for = sum(
            (level - half + 0.5) * line for level, half, line in zip(own, fitted.halves, fitted.decoder, strict=True)
        )
        lengths = [
            np.sqrt(sum(count * (axis @ vector) ** 2 for count, axis in zip(counts, axes.T, strict=True)))
            for vector in (row, stands_for)
        ]
        assert gain == pytest.approx(lengths[0] / lengths[1], rel=2e-3)


def test_what_no_query_feels_makes_no_code_longer() -> None:
    """Half the rows hold much of what lies in directions that the others lack; queries have none of it."""
    rng = np.random.default_rng(3)
    wide, narrow = np.split(np.linalg.qr(rng.normal(size=(DIMS, DIMS)))[0], [16])
    inner = text_like(4200, seed=5, dims=16) @ wide
    alike = inner[:4000] + (np.arange(4000)[:, None] % 2) * (rng.normal(size=(4000, 48)) @ narrow) * 0.12
    rows = (alike / np.linalg.norm(alike, axis=1, keepdims=True)).astype(np.float32)
    queries = inner[4000:].astype(np.float32)
    fitted = fit_recurrent(rows, CodeSpec.parse("8x4+8x1"), effort=SHORT)
    truth = nearest(queries, rows)
    felt, plain = (
        recall(nearest(one.project(queries), one.quantized_values(rows)), truth)
        for one in (fitted, replace(fitted, felt=None))
    )
    assert felt > plain + 0.02


def test_the_seed_decides() -> None:
    one, same, other = (to_onnx(fit_recurrent(ROWS, SPEC, effort=SHORT, seed=seed)) for seed in (3, 3, 4))
    assert one == same != other


def test_embeddings_count_by_direction_only() -> None:
    lengths = 2.0 ** np.random.default_rng(0).integers(-8, 8, (len(ROWS), 1))  # so that no digit is lost
    mixed = np.where(np.arange(len(ROWS))[:, None] % 2, ROWS, ROWS * lengths.astype(np.float32))
    one, other = (fit_recurrent(rows, SPEC, center=True, effort=SHORT) for rows in (ROWS, mixed))
    np.testing.assert_allclose(other.decoder, one.decoder, atol=1e-5)
    uneven = fit_recurrent((ROWS * np.linspace(0.1, 1000, len(ROWS))[:, None]).astype(np.float64), SPEC, effort=SHORT)
    assert recall_of(uneven) == pytest.approx(recall_of(fit_recurrent(ROWS, SPEC, effort=SHORT)), abs=0.03)
    assert (one.encode(ROWS * 8) == one.encode(ROWS)).all()
    np.testing.assert_allclose(one.project(QUERIES * 8), one.project(QUERIES), atol=1e-6)


def test_later_rounds_never_make_it_worse() -> None:
    errors = [
        squared_error(fit_recurrent(ROWS[:500], SPEC, effort=Effort(warm=2, full=full)), ROWS) for full in (1, 20)
    ]
    assert errors[1] < errors[0] * 1.01


def hard_cases() -> dict[str, np.ndarray]:
    flat = np.zeros((500, DIMS), np.float32)
    flat[:, :8] = text_like(500, dims=8)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(DIMS, DIMS)))[0]
    constant, empty = ROWS[:1000].copy(), ROWS[:1000].copy()
    constant[:, 5], empty[:, 5] = 0.3, 0
    return {
        "8 directions": flat,
        "8 directions, turned": (flat @ turn).astype(np.float32),
        "a constant column": constant,
        "a column of zeros": empty,
        "half are copies": np.vstack([ROWS[:500], np.repeat(ROWS[:1], 500, axis=0)]),
        "every row twenty times": np.repeat(ROWS[:70], 20, axis=0),
        "three rows": np.repeat(ROWS[:3], 100, axis=0),
        "as many rows as dims": ROWS[:DIMS],
    }


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("code", ["64x1", "64x2", "64x4", "16x4+24x2+16x1"])
@pytest.mark.parametrize("case", list(hard_cases()))
def test_hard_embeddings_are_fitted_soundly(case: str, code: str, center: bool) -> None:
    rows = hard_cases()[case]
    fitted = fit_recurrent(rows, CodeSpec.parse(code), center=center, weight=0.5 * center)
    for array in (fitted.decoder, fitted.encoder, fitted.initial, *fitted.moves.pulls, fitted.quantized_values(rows)):
        assert np.isfinite(array).all()
    assert squared_error(fitted, rows) < (0.25 if code == "64x1" else 0.1)


def test_short_embeddings_and_codes_longer_than_they() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    assert squared_error(fit_recurrent(rows, CodeSpec.parse("3x4")), rows) < 0.05
    assert squared_error(fit_recurrent(rows, CodeSpec.parse("12x1")), rows) < 0.05
    line = fit_recurrent(rows[:, :1], CodeSpec.parse("1x1"))
    np.testing.assert_allclose(line.quantized_values(rows[:, :1]) @ line.decoder, np.sign(rows[:, :1]), atol=0.01)


def test_rows_without_direction_make_no_nan() -> None:
    for center in (False, True):
        levels, gains = fit_recurrent(ROWS, SPEC, center=center, effort=SHORT).quantize(np.zeros((2, DIMS), np.float32))
        assert np.isfinite(gains).all() and levels.shape == (2, SPEC.dims)
    assert fit_recurrent(ROWS, SPEC, effort=SHORT).encode(ROWS[:0]).shape == (0, SPEC.record_size_bytes)


@pytest.mark.parametrize(("rows", "message"), UNFIT)
def test_unfit_embeddings_are_refused(rows: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidEmbeddings, match=message):
        fit_recurrent(rows, SPEC)


@pytest.mark.parametrize("shape", [(2, DIMS + 1), (DIMS,), (1, 1, DIMS)])
def test_other_dims_are_refused(shape: tuple[int, ...]) -> None:
    fitted = fit_recurrent(ROWS, SPEC, effort=SHORT)
    for method in (fitted.encode, fitted.project):
        with pytest.raises(DimensionMismatch, match="expected embeddings of shape"):
            method(np.ones(shape, np.float32))
