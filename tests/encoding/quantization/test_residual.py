"""Rescore codes: what a scan code leaves over of an embedding, in as many bytes as requested."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.encoding.quantization.embeddings import DIMS, nearest, recall, text_like

from bebr.core.codes import CodeSpec, rescore_values, split_records, unpack_levels
from bebr.encoding.quantization.binarizer import Binarizer
from bebr.encoding.quantization.recurrent import Recurrent
from bebr.encoding.quantization.recurrent_fit import Effort, fit_recurrent
from bebr.encoding.quantization.rescored import measure_rescored
from bebr.encoding.quantization.residual import Residual, fit_residual
from bebr.encoding.quantization.residual_graph import to_onnx
from bebr.errors import InvalidOption

ROWS, QUERIES = text_like(1500), text_like(100, seed=1)
SCAN = "32x2"


@pytest.fixture(scope="module")
def scan() -> Recurrent:
    return fit_recurrent(ROWS, CodeSpec.parse(SCAN), effort=Effort(warm=5, full=2, rows=1500))


def spec_of(residual: Residual) -> CodeSpec:
    return replace(CodeSpec.parse(SCAN), rescore=residual.spec)


@pytest.mark.parametrize("size", [1, 3, 7, 8, 16, 21, 33, 40, 50, 63, 64])
def test_a_code_has_the_requested_size_and_its_graph_equals_the_reference(
    scan: Recurrent, tmp_path: Path, size: int
) -> None:
    left = scan.left_over(ROWS)
    residual = fit_residual(ROWS, left, size)
    assert residual.spec.code_size_bytes == size
    path = tmp_path / "rescore.onnx"
    path.write_bytes(to_onnx(residual))
    opened = Binarizer(path, residual.spec, DIMS)
    assert opened.is_linear
    np.testing.assert_allclose(opened.project(QUERIES), residual.project(QUERIES), atol=1e-6)
    records, expected = opened.encode(left), residual.encode(left)
    assert (records != expected).any(axis=1).mean() < 0.01  # a value may lie on the border of two cells
    values = rescore_values(expected, spec_of(residual))
    np.testing.assert_allclose(values, residual.quantized_values(left), atol=1e-6)
    np.testing.assert_allclose(opened.decode(values), residual.decode(values), atol=1e-5)
    np.testing.assert_allclose(QUERIES @ residual.decode(values).T, residual.project(QUERIES) @ values.T, atol=1e-5)


def test_more_bytes_leave_less_and_find_more(scan: Recurrent) -> None:
    left, truth = scan.left_over(ROWS), nearest(QUERIES, ROWS)
    errors, found = [], [recall(nearest(QUERIES, ROWS - left), truth)]
    for size in (8, 16, 24, 40, 64):
        residual = fit_residual(ROWS, left, size)
        finer = residual.decode(residual.quantized_values(left))
        errors.append(((left - finer) ** 2).sum() / (left**2).sum())
        found.append(recall(nearest(QUERIES, ROWS - left + finer), truth))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-3
    assert found == sorted(found) and found[-1] > 0.98 and found[1] > found[0] + 0.03


def test_the_parts_of_an_axis_make_its_level(scan: Recurrent) -> None:
    left = scan.left_over(ROWS)
    for size in (20, 45, 60):
        residual = fit_residual(ROWS, left, size)
        codes, gains = split_records(residual.encode(left), residual.spec)
        levels = unpack_levels(codes, residual.spec).astype(int)
        whole = np.zeros((len(left), len(residual.bits)), int)
        np.add.at(whole, (slice(None), residual.axes), levels << residual.shifts)
        assert (whole.max(axis=0) <= 2 ** residual.bits.astype(int) - 1).all()
        middles = (whole - (2 ** residual.bits.astype(int) - 1) / 2) * residual.cells * gains.astype(float)[:, None]
        np.testing.assert_allclose(
            residual.decode(residual.quantized_values(left)), middles @ residual.query_axes.T, atol=1e-5
        )


def test_what_has_no_direction_gets_the_gain_zero(scan: Recurrent) -> None:
    residual = fit_residual(ROWS, scan.left_over(ROWS), 16)
    levels, gains = residual.quantize(np.zeros((2, DIMS), np.float32))
    assert gains.tolist() == [0, 0] and levels.shape == (2, residual.spec.dims)


def test_embeddings_may_have_odd_dims_or_vary_in_few_directions() -> None:
    rows = text_like(500, dims=30)
    left = rows * np.float32(0.3)
    for size in (1, 9, 29, 30):
        residual = fit_residual(rows, left, size)
        assert size - 3 <= residual.spec.code_size_bytes <= size
        assert np.isfinite(residual.quantized_values(left)).all()
    flat = rows.copy()
    flat[:, 5:] = 0
    residual = fit_residual(flat, flat * np.float32(0.3), 8)
    finer = residual.decode(residual.quantized_values(flat * np.float32(0.3)))
    assert np.abs(finer - flat * 0.3).max() < 0.01
    nothing = fit_residual(rows, np.zeros_like(rows), 8)
    assert (nothing.quantized_values(np.zeros_like(rows)) == 0).all()


@pytest.mark.parametrize("size", [0, -1, DIMS + 1])
def test_a_code_has_at_most_eight_bits_per_dim(size: int) -> None:
    with pytest.raises(InvalidOption, match=f"1 to {DIMS} bytes, got {size}") as raised:
        fit_residual(ROWS, ROWS, size)
    assert raised.value.fields["key"] == "rescore_bytes"


def test_a_record_holds_both_codes(scan: Recurrent) -> None:
    whole = replace(scan, residual=fit_residual(ROWS, scan.left_over(ROWS), 24))
    assert str(whole.record_spec).startswith(f"{SCAN}/") and whole.prefix(1).residual is None
    records = whole.encode(ROWS)
    assert records.shape == (len(ROWS), whole.record_spec.record_size_bytes) and whole.record_spec.scan == scan.spec
    assert np.array_equal(records[:, : scan.spec.record_size_bytes], scan.encode(ROWS))


def test_the_fewest_candidates_that_cover_enough_are_chosen(scan: Recurrent) -> None:
    left, truth = scan.left_over(ROWS), nearest(QUERIES, ROWS)
    residual = fit_residual(ROWS, left, 64)
    finer = residual.decode(residual.quantized_values(left))
    rescored = measure_rescored(QUERIES, ROWS - left, finer, truth)
    shares = {one.candidates: one.share for one in rescored.coverage}
    assert list(shares) == [10, 20, 30, 50, 100, 200, 500]
    assert list(shares.values()) == sorted(shares.values()) and shares[500] > 0.99
    assert shares[10] == pytest.approx(recall(nearest(QUERIES, ROWS - left), truth), abs=1e-3)
    enough = [count for count, share in shares.items() if share >= 0.998]
    assert rescored.candidates == (enough or [500])[0]
    assert abs(rescored.recall - recall(nearest(QUERIES, ROWS - left + finer), truth)) < 0.01
