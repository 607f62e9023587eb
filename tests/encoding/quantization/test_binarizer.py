"""The exported graph against the numpy reference, and graphs that do not fit."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.encoding.quantization.embeddings import DIMS, text_like

from bebr import kernel
from bebr.core.codes import CodeSpec, split_records, unpack_levels
from bebr.encoding import Gain
from bebr.encoding.quantization.binarizer import BATCH_ROWS, Binarizer, distinct_columns
from bebr.encoding.quantization.closed_form import ClosedForm, fit
from bebr.encoding.quantization.closed_form_graph import to_onnx
from bebr.encoding.quantization.recurrent_fit import Effort, fit_recurrent
from bebr.encoding.quantization.recurrent_graph import to_onnx as recurrent_to_onnx
from bebr.errors import DamagedBundle, DimensionMismatch

ROWS = text_like(3000)
SPEC = CodeSpec.parse("16x4+24x2+16x1")


def exported(fitted: ClosedForm, folder: Path) -> Binarizer:
    path = folder / "binarizer.onnx"
    path.write_bytes(to_onnx(fitted))
    return Binarizer(path, fitted.spec, fitted.embedding_dims)


@pytest.mark.parametrize("gain", list(Gain))
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("code", ["64x1", "48x2", "64x4", "16x4+24x2+16x1", "3x4+5x2+7x1"])
def test_graph_equals_reference(code: str, center: bool, gain: Gain, tmp_path: Path) -> None:
    fitted = fit(ROWS, CodeSpec.parse(code), center=center, gain=gain)
    binarizer = exported(fitted, tmp_path)
    np.testing.assert_allclose(binarizer.project(ROWS), fitted.project(ROWS), atol=1e-6)
    codes, gains = split_records(binarizer.encode(ROWS), binarizer.spec)
    levels, expected_gains = fitted.quantize(ROWS)
    differing = np.flatnonzero((unpack_levels(codes, fitted.spec) != levels).any(axis=1))
    # Sums of another order move a value by 1e-7: over a boundary, or from one scale to another of equal closeness.
    assert len(differing) <= 5
    same = np.setdiff1d(np.arange(len(ROWS)), differing)
    np.testing.assert_allclose(gains[same], expected_gains[same], rtol=2e-3)
    for row in differing:
        assert equally_close(fitted, ROWS[row], unpack_levels(codes[row : row + 1], fitted.spec)[0], levels[row])


def equally_close(fitted: ClosedForm, row: np.ndarray, one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two codes of a row make the same angle with it."""
    z = (row / np.linalg.norm(row)) @ fitted.point_projection.astype(np.float64) - fitted.offset
    values = [(levels - (fitted.halves - 0.5)) * fitted.cells for levels in (one, other)]
    cosines = [v @ z / np.linalg.norm(v) / np.linalg.norm(z) for v in values]
    return abs(cosines[0] - cosines[1]) < 1e-5


def test_batches_do_not_show(tmp_path: Path) -> None:
    binarizer = exported(fit(ROWS, SPEC, center=False), tmp_path)
    whole = binarizer.encode(ROWS[: 2 * BATCH_ROWS + 3])
    parts = [binarizer.encode(ROWS[:1]), binarizer.encode(ROWS[1:BATCH_ROWS]), binarizer.encode(ROWS[BATCH_ROWS:])]
    differing = (np.vstack(parts)[: len(whole)] != whole).any(axis=1).sum()
    assert differing <= 3
    assert binarizer.encode(ROWS[:0]).shape == (0, SPEC.record_size_bytes)
    assert binarizer.project(ROWS[:0]).shape == (0, SPEC.dims)


def test_threads_share_a_binarizer(tmp_path: Path) -> None:
    binarizer = exported(fit(ROWS, SPEC, center=True), tmp_path)
    records, projected = binarizer.encode(ROWS[:300]), binarizer.project(ROWS[:3])
    with ThreadPoolExecutor(4) as pool:
        assert all((r == records).all() for r in pool.map(lambda _: binarizer.encode(ROWS[:300]), range(20)))
        assert all((p == projected).all() for p in pool.map(lambda _: binarizer.project(ROWS[:3]), range(50)))


def test_rows_without_direction_make_no_nan(tmp_path: Path) -> None:
    fitted = fit(ROWS, SPEC, center=False)
    binarizer = exported(fitted, tmp_path)
    zeros = np.zeros((2, DIMS), np.float32)
    assert (binarizer.project(zeros) == 0).all()
    assert (binarizer.encode(zeros) == fitted.encode(zeros)).all()


def test_the_same_fit_gives_the_same_bytes() -> None:
    assert to_onnx(fit(ROWS, SPEC, center=True)) == to_onnx(fit(ROWS, SPEC, center=True))


@pytest.mark.parametrize("center", [False, True])
def test_the_mean_is_read_from_the_graph(center: bool, tmp_path: Path) -> None:
    fitted = fit_recurrent(ROWS, SPEC, center=center, effort=Effort(2, 2))
    path = tmp_path / "recurrent.onnx"
    path.write_bytes(recurrent_to_onnx(fitted))
    assert (Binarizer(path, SPEC, DIMS).mean == fitted.mean).all()
    assert (exported(fit(ROWS, SPEC, center=center), tmp_path).mean == 0).all()


def test_points_and_queries_compute_only_what_they_need(tmp_path: Path) -> None:
    binarizer = exported(fit(ROWS, SPEC, center=True), tmp_path)
    assert [output.name for output in binarizer._session.get_outputs()] == ["levels", "gain"]
    assert [output.name for output in binarizer._query_session.get_outputs()] == ["projected"]


@pytest.mark.parametrize("shape", [(2, DIMS + 1), (DIMS,), (1, 1, DIMS)])
def test_other_shapes_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    binarizer = exported(fit(ROWS, SPEC, center=False), tmp_path)
    with pytest.raises(DimensionMismatch, match="expected embeddings of shape"):
        binarizer.encode(np.ones(shape, np.float32))
    with pytest.raises(DimensionMismatch, match="expected embeddings of shape"):
        binarizer.project(np.ones(shape, np.float32))


@pytest.mark.parametrize(("code", "dims"), [("56x2", DIMS + 1), ("55x2", DIMS)])
def test_a_graph_of_other_dims_is_damaged(code: str, dims: int, tmp_path: Path) -> None:
    path = tmp_path / "binarizer.onnx"
    path.write_bytes(to_onnx(fit(ROWS, CodeSpec.parse("56x2"), center=False)))
    with pytest.raises(DamagedBundle, match=r"binarizer\.onnx"):
        Binarizer(path, CodeSpec.parse(code), dims)


def test_levels_over_the_spec_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "binarizer.onnx"
    path.write_bytes(to_onnx(fit(ROWS, CodeSpec.parse("56x2"), center=False)))
    with pytest.raises(DamagedBundle, match="levels over those of '56x1'"):
        Binarizer(path, CodeSpec.parse("56x1"), DIMS).encode(ROWS[:10])


@pytest.mark.parametrize("output", ["levels", "gain", "projected"])
def test_a_graph_without_an_output_is_damaged(output: str, tmp_path: Path) -> None:
    path = tmp_path / "binarizer.onnx"
    model = onnx.load_from_string(to_onnx(fit(ROWS, SPEC, center=False)))
    kept = [value for value in model.graph.output if value.name != output]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DamagedBundle, match=output):
        Binarizer(path, SPEC, DIMS)


@pytest.mark.parametrize("content", [b"", b"not a graph", to_onnx(fit(ROWS, SPEC, center=False))[:2000]])
def test_a_file_that_is_no_graph_is_damaged(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "binarizer.onnx"
    path.write_bytes(content)
    with pytest.raises(DamagedBundle, match="not a graph"):
        Binarizer(path, SPEC, DIMS)


def test_columns_that_differ_by_a_power_of_two_are_multiplied_once() -> None:
    rng = np.random.default_rng(0)
    distinct = rng.normal(size=(40, 70)).astype(np.float32)
    of, powers = rng.integers(0, 70, 150), rng.integers(-9, 9, 150)
    matrix = np.ascontiguousarray(np.ldexp(distinct[:, of], powers))
    columns = distinct_columns(matrix)
    assert columns.of is not None and columns.matrix.shape == (40, len(set(of.tolist())))
    rows = rng.normal(size=(5, 40)).astype(np.float32)
    products = kernel.project(rows, columns.matrix)[:, columns.of] * columns.factors
    assert np.array_equal(products, kernel.project(rows, matrix))
    assert distinct_columns(distinct).of is None and distinct_columns(distinct).matrix is distinct
