"""Encoder: both halves of a bundle behind one border."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.encoding.importing.checkpoints import write_checkpoint
from tests.encoding.quantization.embeddings import nearest, recall, text_like

from bebr.core.codes import CodeSpec, check_padding, rescore_records, split_records
from bebr.core.scoring import dot_scores, prepare_adc, prepare_rescore, prepare_sdc, rescore_scores
from bebr.encoding import BinarizerFiles, Bundle, TextKind, write_bundle
from bebr.encoding.encoder import Encoder
from bebr.encoding.importing.checkpoint import import_checkpoint
from bebr.encoding.quantization.closed_form import fit
from bebr.encoding.quantization.closed_form_graph import to_onnx
from bebr.encoding.quantization.recurrent import Recurrent
from bebr.encoding.quantization.recurrent_fit import Effort, fit_recurrent
from bebr.encoding.quantization.recurrent_graph import files_of
from bebr.encoding.quantization.recurrent_graph import to_onnx as recurrent_to_onnx
from bebr.encoding.quantization.residual import fit_residual
from bebr.encoding.quantization.residual_graph import to_onnx as residual_to_onnx
from bebr.errors import DamagedBundle, DimensionMismatch, Incompatible, InvalidCode, InvalidOption, InvalidVector

SPEC = CodeSpec.parse("8x4+16x1")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("full")
    embeddings = np.random.default_rng(0).standard_normal((400, 32)).astype(np.float32)
    fitted = fit(embeddings, SPEC, center=True, seed=0)
    files = BinarizerFiles(to_onnx(fitted), SPEC, fitted.steps)
    model = import_checkpoint(write_checkpoint(folder / "checkpoint"))
    return write_bundle(folder, "tiny", "1", embedding_dims=32, binarizer=files, embedding=model.files)


def test_texts_become_records_and_queries(full: Bundle) -> None:
    encoder = Encoder(full, threads=2)
    encoder.warm_up()
    embeddings = encoder.embed(["the fox", "a dog", "the fox"], TextKind.PASSAGE)
    records = encoder.encode(embeddings)
    assert records.shape == (3, SPEC.record_size_bytes) and records.dtype == np.uint8
    assert (records[0] == records[2]).all() and (records[0] != records[1]).any()
    codes, gains = split_records(records, encoder.spec)
    assert check_padding(codes, SPEC).all() and (gains > 0).all()
    assert encoder.project(embeddings).shape == (3, SPEC.dims)
    assert encoder.spec == SPEC and (encoder.steps == full.steps).all()
    encoder.close()


def test_the_length_of_a_vector_does_not_count(full: Bundle) -> None:
    encoder = Encoder(full)
    embeddings = encoder.embed(["the fox", "a dog"], TextKind.PASSAGE)
    scaled = encoder.check_embeddings((embeddings * [[7.5], [0.01]]).tolist())
    np.testing.assert_allclose(scaled, embeddings, atol=1e-6)


def test_bad_embeddings_are_named(full: Bundle) -> None:
    encoder = Encoder(full)
    with pytest.raises(DimensionMismatch, match=r"\(rows, 32\), got \(1, 31\)"):
        encoder.check_embeddings([[1.0] * 31])
    with pytest.raises(InvalidVector, match="row 1"):
        encoder.check_embeddings([[1.0] * 32, [0.0] * 32])


@pytest.mark.parametrize("center", [False, True])
def test_what_a_code_stands_for_scores_as_the_code(tmp_path: Path, center: bool) -> None:
    rows, queries = text_like(600, common_mean=0.5), text_like(40, seed=1, common_mean=0.5)
    fitted = fit(rows, SPEC, center=center)
    files = BinarizerFiles(to_onnx(fitted), SPEC, fitted.steps)
    encoder = Encoder(write_bundle(tmp_path, "own", "1", embedding_dims=64, binarizer=files))
    records = encoder.encode(rows)
    scores = dot_scores(
        prepare_adc(encoder.project(queries), SPEC, encoder.steps), *split_records(records, encoder.spec), SPEC
    )
    np.testing.assert_allclose(queries @ encoder.decode(records).T, scores, atol=0.01)


@pytest.fixture(params=[False, True], ids=["plain", "centered"])
def recurrent(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Encoder, Recurrent]:
    """A bundle whose decoder is not orthogonal, and what was fitted."""
    rows = text_like(600, common_mean=0.5)
    spec = CodeSpec.parse("8x4+48x1")
    fitted = fit_recurrent(rows, spec, center=request.param, weight=0.5 * request.param, effort=Effort(5, 3))
    files = BinarizerFiles(recurrent_to_onnx(fitted), spec, fitted.steps, fitted.gain)
    return Encoder(write_bundle(tmp_path, "own", "1", embedding_dims=64, binarizer=files)), fitted


def test_a_code_stands_for_an_embedding_around_the_mean(recurrent: tuple[Encoder, Recurrent]) -> None:
    encoder, fitted = recurrent
    rows, queries = text_like(300, seed=2, common_mean=0.5), text_like(40, seed=1, common_mean=0.5)
    records = encoder.encode(rows)
    decoded = encoder.decode(records)
    adc = dot_scores(
        prepare_adc(encoder.project(queries), encoder.spec, encoder.steps),
        *split_records(records, encoder.spec),
        encoder.spec,
    )
    np.testing.assert_allclose(queries @ decoded.T, adc + (queries @ fitted.mean)[:, None], atol=0.01)
    cosines = (decoded * rows).sum(axis=1) / np.linalg.norm(decoded, axis=1)
    assert cosines.mean() > 0.85


def test_codes_are_compared_by_what_they_stand_for(recurrent: tuple[Encoder, Recurrent]) -> None:
    encoder, fitted = recurrent
    records = encoder.encode(text_like(100, seed=2, common_mean=0.5))
    asked, held = encoder.code_query(records[:20]), encoder.decode(records)
    sdc = dot_scores(
        prepare_adc(asked, encoder.spec, encoder.steps), *split_records(records, encoder.spec), encoder.spec
    )
    constants = encoder.decode(records[:20]) @ fitted.mean  # the same for every code that is searched
    np.testing.assert_allclose(sdc, encoder.decode(records[:20]) @ held.T - constants[:, None], atol=0.01)
    grid = dot_scores(
        prepare_sdc(*split_records(records[:20], encoder.spec), encoder.spec, encoder.steps),
        *split_records(records, encoder.spec),
        encoder.spec,
    )
    assert np.corrcoef(grid.ravel(), sdc.ravel())[0, 1] < 0.97  # grids alone say something else


@pytest.fixture(params=[False, True], ids=["plain", "centered"])
def rescored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Encoder, Recurrent]:
    """A bundle with a rescore code, and what was fitted."""
    rows = text_like(600, common_mean=0.5)
    spec = CodeSpec.parse("8x4+16x1")
    scan = fit_recurrent(rows, spec, center=request.param, weight=0.5 * request.param, effort=Effort(5, 3))
    fitted = replace(scan, residual=fit_residual(rows, scan.left_over(rows), 40))
    return Encoder(write_bundle(tmp_path, "own", "1", embedding_dims=64, binarizer=files_of(fitted))), fitted


def test_the_score_of_the_scan_and_of_the_rescore_code_is_what_both_stand_for(
    rescored: tuple[Encoder, Recurrent],
) -> None:
    encoder, fitted = rescored
    encoder.warm_up()
    spec = encoder.spec
    assert spec == fitted.record_spec and spec.rescore is not None and spec.rescore.code_size_bytes == 40
    rows, queries = text_like(600, seed=2, common_mean=0.5), text_like(40, seed=1, common_mean=0.5)
    records = encoder.encode(rows)
    assert records.shape == (600, spec.record_size_bytes)
    assert (records != fitted.encode(rows)).any(axis=1).mean() < 0.01
    adc = dot_scores(prepare_adc(encoder.project(queries), spec, encoder.steps), *split_records(records, spec), spec)
    finer = rescore_scores(
        prepare_rescore(encoder.project_rescore(queries), spec), rescore_records(records, spec), spec
    )
    known = queries @ encoder.decode(records).T - (queries @ encoder.mean)[:, None]
    np.testing.assert_allclose(adc + finer, known, atol=0.01)
    truth = nearest(queries, rows)
    assert recall(nearest(queries, encoder.decode(records)), truth) > recall_of(adc, truth) + 0.2
    assert np.abs(encoder.decode(records) - rows).max() < 0.1
    assert encoder.code_query(records).shape == (600, spec.dims)
    assert encoder.encode(rows[:0]).shape == (0, spec.record_size_bytes)


def recall_of(scores: np.ndarray, truth: np.ndarray) -> float:
    return recall(np.argpartition(-scores, 10, axis=1)[:, :10], truth)


def test_codes_without_a_rescore_code_have_no_query_for_one(full: Bundle) -> None:
    with pytest.raises(InvalidCode, match="no rescore code"):
        Encoder(full).project_rescore(np.eye(32, dtype=np.float32))


def test_a_rescore_code_needs_scan_codes_that_stand_for_embeddings(full: Bundle, tmp_path: Path) -> None:
    rows = text_like(200, dims=32)
    residual = fit_residual(rows, rows, 8)
    spec = replace(SPEC, rescore=residual.spec)
    files = bent(full)
    both = BinarizerFiles(files.graph, spec, files.steps, rescore=residual_to_onnx(residual))
    with pytest.raises(DamagedBundle, match="represent no embedding"):
        Encoder(write_bundle(tmp_path, "bent", "1", embedding_dims=32, binarizer=both))
    sound = full.read_binarizer()
    assert sound is not None
    wrong = CodeSpec.parse(f"{SPEC}/{residual.spec.dims + 1}x1")
    swapped = BinarizerFiles(sound.graph, wrong, files.steps, rescore=residual_to_onnx(residual))
    with pytest.raises(DamagedBundle, match=r"rescore\.onnx"):
        Encoder(write_bundle(tmp_path, "swapped", "1", embedding_dims=32, binarizer=swapped))


def bent(full: Bundle) -> BinarizerFiles:
    """The binarizer of a bundle with a projection that is not linear."""
    files = full.read_binarizer()
    assert files is not None
    graph = onnx.load_model_from_string(files.graph)
    for node in graph.graph.node:
        for names in (node.input, node.output):
            names[:] = ["linear" if name == "projected" else name for name in names]
    graph.graph.node.append(onnx.helper.make_node("Abs", ["linear"], ["projected"]))
    return BinarizerFiles(graph.SerializeToString(), SPEC, files.steps)


def test_codes_of_a_projection_that_is_not_linear_stand_for_nothing(full: Bundle, tmp_path: Path) -> None:
    encoder = Encoder(write_bundle(tmp_path, "bent", "1", embedding_dims=32, binarizer=bent(full)))
    with pytest.raises(Incompatible, match="not linear"):
        encoder.decode(encoder.encode(encoder.check_embeddings(np.eye(32))))
    records = encoder.encode(encoder.check_embeddings(np.random.default_rng(1).standard_normal((20, 32))))
    asked, stored = prepare_adc(encoder.code_query(records), SPEC, encoder.steps), split_records(records, encoder.spec)
    published = dot_scores(prepare_sdc(*stored, SPEC, encoder.steps), *stored, SPEC)
    np.testing.assert_allclose(dot_scores(asked, *stored, SPEC), published, atol=0.02 * published.max())


def test_half_a_bundle_does_half_the_work(full: Bundle, tmp_path: Path) -> None:
    vectors = Encoder(write_bundle(tmp_path, "vectors", "1", embedding_dims=32, binarizer=full.read_binarizer()))
    vectors.warm_up()
    assert vectors.encode(vectors.check_embeddings(np.eye(32))).shape == (32, SPEC.record_size_bytes)
    with pytest.raises(InvalidOption, match="no embedding model"):
        vectors.embed(["text"], TextKind.QUERY)
    texts = Encoder(write_bundle(tmp_path, "texts", "1", embedding_dims=32, embedding=full.read_embedding()))
    texts.warm_up()
    embeddings = texts.embed(["text"], TextKind.QUERY)
    for half in (texts.encode, texts.project):
        with pytest.raises(InvalidOption, match="no binarizer"):
            half(embeddings)


def test_a_binarizer_of_other_dims_is_damage(full: Bundle, tmp_path: Path) -> None:
    files = full.read_binarizer()
    assert files is not None
    with pytest.raises(DamagedBundle, match=r"binarizer\.onnx"):
        Encoder(write_bundle(tmp_path, "inputs", "1", embedding_dims=48, binarizer=files))
    wider = BinarizerFiles(files.graph, CodeSpec.parse("8x4+24x1"), files.steps)
    with pytest.raises(DamagedBundle, match=r"binarizer\.onnx"):
        Encoder(write_bundle(tmp_path, "outputs", "1", embedding_dims=32, binarizer=wider))
