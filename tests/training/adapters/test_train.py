"""Compatible training: better than closed forms, both kinds, read back whole, equal to its graph, the same by seed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.encoding.quantization.embeddings import DIMS, nearest, recall, text_like
from tests.training.two_spaces import OLD_DIMS, OLD_SPEC, SPEC, two_spaces, vector_bundle

from bebr.core.arrays import unit
from bebr.core.codes import CodeSpec
from bebr.encoding import AdapterKind, Bundle, write_bundle
from bebr.encoding.adapters.adapter import OUTPUTS, Adapter, open_adapters
from bebr.encoding.quantization.recurrent_fit import Effort, fit_recurrent
from bebr.errors import InvalidEmbeddings
from bebr_training.adapters.graph import adapter_to_onnx
from bebr_training.adapters.maps import EmbeddingMap, Method, procrustes, ridge
from bebr_training.adapters.train import DEFAULT_WEIGHTS, ModelData, TrainedAdapter, TrainedAdapters, train_adapters
from bebr_training.binarizer.presets import Preset
from bebr_training.data.pairs import Pairs
from bebr_training.reports.adapter import COLUMNS, backward_summary, cells, verdict, with_section
from bebr_training.search.coded import Candidate

ROWS, OLD_ROWS = two_spaces(2000)
QUICK = Preset(steps=80, seeds=24, neighbors=7)
HASTY = replace(QUICK, steps=4)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    return vector_bundle(folder, "new@1", ROWS, SPEC), vector_bundle(folder, "old@1", OLD_ROWS, OLD_SPEC)


@pytest.fixture(scope="module")
def versions(bundles: tuple[Bundle, Bundle]) -> tuple[ModelData, ModelData]:
    new, old = (Candidate.of_bundle(bundle, bundle.embedding_dims) for bundle in bundles)
    return ModelData(ROWS, new.stands_for, True), ModelData(OLD_ROWS, old.stands_for, True)


@pytest.fixture(scope="module")
def trained(versions: tuple[ModelData, ModelData]) -> TrainedAdapters:
    return train_adapters(*versions, QUICK)


def directions(trained: TrainedAdapters) -> tuple[TrainedAdapter, TrainedAdapter]:
    return trained.forward, trained.backward


def pairs() -> tuple[Pairs, Pairs]:
    """Queries that the new model knows best: relevant is what is nearest by it."""
    asked, documents = two_spaces(120, seed=1), two_spaces(600, seed=2)
    relevant = nearest(asked[0], documents[0], 3)
    judgments = {query: dict.fromkeys(rows.tolist(), 1.0) for query, rows in enumerate(relevant)}
    return Pairs(asked[0], documents[0], judgments), Pairs(asked[1], documents[1], judgments)


def test_what_is_learned_beats_the_closed_forms(trained: TrainedAdapters) -> None:
    for direction in directions(trained):
        found = direction.held_out
        assert max(found[Method.LINEAR], found[Method.RESIDUAL]) > found[Method.PROCRUSTES] + 0.01
        assert found[Method.PROCRUSTES] > found[Method.RIDGE]
        assert direction.method is max(found, key=lambda method: found[method])


def test_what_does_not_help_is_not_shipped(
    versions: tuple[ModelData, ModelData], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bebr_training.adapters.maps.RATE", 100.0)
    for direction in directions(train_adapters(*versions, HASTY)):
        found = direction.held_out
        assert direction.method is Method.PROCRUSTES and found[Method.LINEAR] < found[Method.PROCRUSTES] - 0.05
        np.testing.assert_array_equal(direction.linear.matrix, direction.basis)


def test_the_basis_is_orthonormal_between_other_dims(trained: TrainedAdapters) -> None:
    forward, backward = (direction.basis for direction in directions(trained))
    assert forward.shape == (DIMS, OLD_DIMS) and backward.shape == (OLD_DIMS, DIMS)
    np.testing.assert_allclose(forward.T @ forward, np.eye(OLD_DIMS), atol=1e-5)
    np.testing.assert_allclose(backward @ backward.T, np.eye(OLD_DIMS), atol=1e-5)


def test_closed_forms_find_the_turn_that_was_made() -> None:
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(DIMS, DIMS)))[0].astype(np.float32)
    np.testing.assert_allclose(procrustes(ROWS, ROWS @ turn), turn, atol=1e-4)
    np.testing.assert_allclose(ridge(ROWS, 5 * ROWS @ turn, 1e-6), turn, atol=1e-3)


def test_new_queries_find_more_and_the_more_points_are_new(trained: TrainedAdapters) -> None:
    """The two inequalities of backward compatibility, and a curve that rises from none re-encoded to all."""
    matrix = trained.forward.matrix
    assert matrix.old_to_old is not None and matrix.new_to_new is not None and matrix.gain is not None
    assert matrix.gain.low > 0 and matrix.kind is trained.forward.files.default is AdapterKind.WEIGHTED
    steps = [matrix.new_to_old[matrix.kind], *matrix.mixed.values(), matrix.new_to_new]
    values = [float(quality.recall.mean()) for quality in steps]
    assert values == sorted(values)
    line = np.linspace(values[0], values[-1], 5)
    assert (np.array(values) > line - 0.05).all()


def test_a_bundle_holds_both_adapters(trained: TrainedAdapters, bundles: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    new, old = bundles
    files = trained.files(old, {"seconds": 1.5})
    written = write_bundle(
        tmp_path, "new", "1", embedding_dims=DIMS, binarizer=new.read_binarizer(), compatible_with=[files]
    )
    assert written.fingerprint == new.fingerprint, "adapters change no code"
    (entry,) = Bundle.load(written.path).manifest.compatible_with
    assert (entry.bundle, entry.fingerprint, entry.embedding_dims) == (old.id, old.fingerprint, OLD_DIMS)
    assert entry.figures["seconds"] == 1.5 and entry.figures["forward"] == trained.forward.to_json()
    forward, backward = open_adapters(written, entry)
    assert forward.reference.here.shape == (512, DIMS) and backward.reference.here.shape == (512, OLD_DIMS)
    assert_equals_graph(forward, trained.forward, ROWS[:50], OLD_ROWS[:50])
    assert_equals_graph(backward, trained.backward, OLD_ROWS[:50], ROWS[:50])


def assert_equals_graph(adapter: Adapter, direction: TrainedAdapter, rows: np.ndarray, dual: np.ndarray) -> None:
    expected = {AdapterKind.COMPATIBLE: unit(rows @ direction.basis), AdapterKind.LINEAR: unit(direction.linear(rows))}
    for kind in OUTPUTS:
        np.testing.assert_allclose(adapter.map(kind, rows, None), expected[kind], atol=1e-5)
    assert dict(adapter.scales) == direction.files.scales and adapter.default is direction.files.default
    weighted = adapter.weight * expected[AdapterKind.LINEAR] + (1 - adapter.weight) * dual
    np.testing.assert_allclose(adapter.map(AdapterKind.WEIGHTED, rows, dual), unit(weighted), atol=1e-5)


def test_every_kind_of_adapter_has_a_graph(trained: TrainedAdapters) -> None:
    linear = adapter_to_onnx(trained.forward.basis, EmbeddingMap(trained.forward.basis))
    assert linear == adapter_to_onnx(trained.forward.basis, EmbeddingMap(trained.forward.basis)) != b""
    assert len(linear) < len(trained.forward.files.graph) or trained.forward.linear.residual is None


def test_the_seed_decides(versions: tuple[ModelData, ModelData]) -> None:
    one, same, other = (train_adapters(*versions, replace(HASTY, seed=seed)) for seed in (1, 1, 2))
    assert one.forward.files == same.forward.files and one.backward.files == same.backward.files
    assert one.reference.to_bytes() == same.reference.to_bytes()
    assert one.forward.to_json() == same.forward.to_json()
    assert one.forward.files.graph != other.forward.files.graph


def test_weights_and_defaults_without_judgments(versions: tuple[ModelData, ModelData]) -> None:
    """Without judgments the sum; where the other model embeds no text, what needs none."""
    new, old = versions
    found = train_adapters(new, replace(old, embeds=False), HASTY)
    assert found.forward.files.default in OUTPUTS and found.backward.files.default is AdapterKind.WEIGHTED
    assert (found.forward.files.weight, found.backward.files.weight) == (
        DEFAULT_WEIGHTS["forward"],
        DEFAULT_WEIGHTS["backward"],
    )
    assert found.forward.judged is None and found.forward.to_json()["judged"] is None


def test_judgments_choose_weight_and_default(versions: tuple[ModelData, ModelData]) -> None:
    new, old = (replace(version, pairs=judged) for version, judged in zip(versions, pairs(), strict=True))
    found = train_adapters(new, old, HASTY)
    for direction in directions(found):
        assert direction.judged is not None and direction.judged.judged
        qualities = {kind: float(q.ndcg.mean()) for kind, q in direction.judged.new_to_old.items()}
        assert direction.files.default is max(qualities, key=lambda kind: qualities[kind])
        assert direction.judged.kind is direction.matrix.kind is direction.files.default
    assert found.backward.files.default is AdapterKind.DUAL, "relevant is what the new model finds"
    assert found.forward.files.weight == 0.7 and verdict(found.forward).startswith("New queries find more")
    assert found.backward.judged.gain is not None and "find about as much" in verdict(found.backward)


def test_progress_counts_every_step(versions: tuple[ModelData, ModelData]) -> None:
    seen: list[tuple[int, int]] = []
    train_adapters(*versions, HASTY, lambda done, total, what: seen.append((done, total)))
    assert seen == [(step, 16) for step in range(1, 17)]


def test_too_few_rows_are_refused(versions: tuple[ModelData, ModelData]) -> None:
    few = [replace(version, rows=version.rows[:60]) for version in versions]
    with pytest.raises(InvalidEmbeddings, match="60 rows are too few"):
        train_adapters(few[0], few[1], HASTY)


def test_a_fit_does_not_depend_on_the_basis() -> None:
    """Why a compatible binarizer loses nothing: fitted to f Q it finds what one fitted to f finds."""
    turn = np.linalg.qr(np.random.default_rng(4).normal(size=(DIMS, DIMS)))[0].astype(np.float32)
    queries, effort = text_like(200, seed=1), Effort(warm=8, full=3)
    truth = nearest(queries, ROWS)
    found = []
    for basis in (np.eye(DIMS, dtype=np.float32), turn):
        fitted = fit_recurrent(ROWS @ basis, CodeSpec.parse("64x2"), effort=effort)
        found.append(recall(nearest(fitted.project(queries @ basis), fitted.quantized_values(ROWS @ basis)), truth))
    assert found[0] == pytest.approx(found[1], abs=0.015) and min(found) > 0.75


def test_the_words_say_what_was_measured(trained: TrainedAdapters) -> None:
    row = cells(trained.forward, AdapterKind.WEIGHTED)
    assert len(row) == len(COLUMNS) and row[0] == "weighted 0.5" and row[1] == "yes" and row[4:] == ["", ""]
    assert "weighted 0.3" in backward_summary(trained.backward) and "held-out recall@10" in backward_summary(
        trained.backward
    )
    assert "no relevance judgments" in verdict(trained.forward)
    card = with_section("# new@1\n\nWords.\n", "old@1", trained)
    assert with_section(card, "old@1", trained) == card and card.startswith("# new@1\n\nWords.\n\n## Compatible with")
    both = with_section(card, "older@1", trained)
    assert with_section(both, "old@1", trained).count("## Compatible with") == 2
