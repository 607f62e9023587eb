"""Checkpoint folders: the graph equals the reference forward pass; what cannot be imported is named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.numpy import load_file, save_file
from tests.encoding.importing.checkpoints import DIMS, POSITIONS, reference_embedding, write_checkpoint, write_json

from bebr.encoding import Pooling, Precision, TextKind
from bebr.encoding.importing.checkpoint import import_checkpoint
from bebr.encoding.importing.options import ImportOptions
from bebr.errors import InvalidCheckpoint, InvalidOption

IDS = [[2, 5, 9, 3], [2, 4, 6, 7, 8, 10, 11, 12, 13, 3], [2, 3]]


def run_graph(graph: bytes, rows: list[list[int]]) -> np.ndarray:
    """Run all rows as one padded batch; padding gets an id that would show if it were not masked."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    longest = max(map(len, rows))
    ids = np.array([row + [17] * (longest - len(row)) for row in rows])
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})[0]


def references(folder: Path, rows: list[list[int]], pooling: str = "mean") -> np.ndarray:
    config, weights = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    return np.array([reference_embedding(row, weights, config, pooling) for row in rows])


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_graph_equals_the_reference(tmp_path: Path, family: str, pooling: str) -> None:
    write_checkpoint(tmp_path, family=family, pooling=pooling)
    model = import_checkpoint(tmp_path)
    assert (model.dims, model.files.settings.pooling, model.files.settings.max_length) == (DIMS, pooling, 24)
    onnx.checker.check_model(onnx.load_from_string(model.files.graph))
    np.testing.assert_allclose(run_graph(model.files.graph, IDS), references(tmp_path, IDS, pooling), atol=2e-6)


def test_int8_is_close_and_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    graph = import_checkpoint(tmp_path, ImportOptions(precision=Precision.INT8)).files.graph
    together = run_graph(graph, IDS)
    assert ((together * references(tmp_path, IDS)).sum(axis=1) > 0.99).all()
    for row, ids in enumerate(IDS):
        np.testing.assert_allclose(run_graph(graph, [ids])[0], together[row], atol=2e-6)


def test_the_longest_text_is_as_long_as_there_are_positions(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, family="roberta")
    (tmp_path / "sentence_bert_config.json").unlink()
    model = import_checkpoint(tmp_path)
    assert model.files.settings.max_length == POSITIONS - 2, "RoBERTa leaves the first two positions unused"
    full = [[2] + [5] * (POSITIONS - 4) + [3]]
    np.testing.assert_allclose(run_graph(model.files.graph, full), references(tmp_path, full), atol=2e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_weights_are_widened(tmp_path: Path, dtype: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    write_checkpoint(tmp_path)
    kind = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    weights = {name: array.astype(kind) for name, array in load_file(tmp_path / "model.safetensors").items()}
    save_file(weights, tmp_path / "model.safetensors")
    widened = {name: array.astype(np.float32) for name, array in weights.items()}
    config = json.loads((tmp_path / "config.json").read_text())
    expected = np.array([reference_embedding(row, widened, config) for row in IDS])
    np.testing.assert_allclose(run_graph(import_checkpoint(tmp_path).files.graph, IDS), expected, atol=2e-6)


def test_prefixed_and_old_tensor_names_are_understood(tmp_path: Path) -> None:
    expected = run_graph(import_checkpoint(write_checkpoint(tmp_path)).files.graph, IDS)
    weights = load_file(tmp_path / "model.safetensors")
    renamed = {
        "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
        for name, array in weights.items()
    }
    save_file({**renamed, "cls.predictions.bias": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    np.testing.assert_array_equal(run_graph(import_checkpoint(tmp_path).files.graph, IDS), expected)


def test_what_the_folder_does_not_say_has_a_default(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    for name in ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json"):
        (tmp_path / name).unlink()
    settings = import_checkpoint(tmp_path).files.settings
    assert (settings.pooling, settings.max_length) == (Pooling.MEAN, POSITIONS)
    assert settings.prefixes == {TextKind.QUERY: "", TextKind.PASSAGE: ""}
    write_json(tmp_path / "tokenizer_config.json", {"model_max_length": 30})
    assert import_checkpoint(tmp_path).files.settings.max_length == 30
    write_json(tmp_path / "tokenizer_config.json", {"model_max_length": 1e30})
    assert import_checkpoint(tmp_path).files.settings.max_length == POSITIONS


def test_options_go_before_what_the_folder_says(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    write_json(tmp_path / "config_sentence_transformers.json", {"prompts": {"query": "ask: ", "document": "read: "}})
    said = import_checkpoint(tmp_path).files.settings
    assert said.prefixes == {TextKind.QUERY: "ask: ", TextKind.PASSAGE: "read: "}
    options = ImportOptions(pooling=Pooling.CLS, max_length=16, prefixes={TextKind.QUERY: "q: "})
    asked = import_checkpoint(tmp_path, options).files.settings
    assert (asked.pooling, asked.max_length) == (Pooling.CLS, 16)
    assert asked.prefixes == {TextKind.QUERY: "q: ", TextKind.PASSAGE: "read: "}
    with pytest.raises(InvalidOption, match=f"max_length must be 3 .. {POSITIONS}"):
        import_checkpoint(tmp_path, ImportOptions(max_length=POSITIONS + 1))


def test_the_source_hashes_name_the_model(tmp_path: Path) -> None:
    first = import_checkpoint(write_checkpoint(tmp_path / "a")).files.settings.source
    again = import_checkpoint(write_checkpoint(tmp_path / "b", transformers_version="9")).files.settings.source
    assert first == again, "config fields that change nothing do not count"
    weights = import_checkpoint(write_checkpoint(tmp_path / "c", seed=1)).files.settings.source
    assert weights.weights != first.weights and weights.config == first.config
    heads = import_checkpoint(write_checkpoint(tmp_path / "d", num_attention_heads=2)).files.settings.source
    assert heads.config != first.config


def test_progress_ends_where_it_said(tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    import_checkpoint(write_checkpoint(tmp_path), progress=lambda *call: calls.append(call))
    assert [done for done, _, _ in calls] == sorted(done for done, _, _ in calls)
    assert calls[-1][0] == calls[-1][1]


def change(path: Path, **changes: Any) -> None:
    write_json(path, {**json.loads(path.read_text()), **changes})


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"])
def test_a_missing_or_broken_file_is_named(tmp_path: Path, name: str) -> None:
    path = write_checkpoint(tmp_path) / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidCheckpoint, match=path.name):
        import_checkpoint(tmp_path)
    path.unlink()
    with pytest.raises(InvalidCheckpoint, match=f"has no {name}"):
        import_checkpoint(tmp_path)


def test_pickled_weights_are_refused_with_a_hint(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(InvalidCheckpoint, match="convert them to safetensors"):
        import_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "t5"}, "model_type 't5' is not supported; supported are bert, roberta"),
        ({"model_type": None}, "model_type 'None' is not supported"),
        ({"hidden_act": "relu"}, "hidden_act 'relu' is not supported, only 'gelu' is"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
        ({"num_attention_heads": 5}, "not a multiple"),
        ({"num_hidden_layers": 3}, "no tensor 'encoder.layer.2.attention.self.query.weight'"),
        ({"intermediate_size": 63}, r"'encoder.layer.0.intermediate.dense.weight' has shape \(64, 32\)"),
        ({"hidden_size": "big"}, "hidden_size must be a positive integer"),
        ({"vocab_size": 10}, "word_embeddings"),
    ],
)
def test_configs_that_cannot_be_imported_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    change(write_checkpoint(tmp_path) / "config.json", **changes)
    with pytest.raises(InvalidCheckpoint, match=message):
        import_checkpoint(tmp_path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["encoder.layer.1.output.dense.bias"][3] = np.nan
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(InvalidCheckpoint, match=r"'encoder.layer.1.output.dense.bias' holds NaN"):
        import_checkpoint(tmp_path)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["surplus"] = 5000
    write_json(tmp_path / "tokenizer.json", tokenizer)
    with pytest.raises(InvalidCheckpoint, match="token id 5000"):
        import_checkpoint(tmp_path)


def test_modules_and_pooling_that_cannot_be_imported_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    pooling = tmp_path / "1_Pooling" / "config.json"
    for changes in ({"pooling_mode_max_tokens": True}, {"pooling_mode_mean_tokens": False}, {"include_prompt": False}):
        sound = pooling.read_text()
        change(pooling, **changes)
        with pytest.raises(InvalidCheckpoint, match="pooling"):
            import_checkpoint(tmp_path)
        pooling.write_text(sound)
    modules = json.loads((tmp_path / "modules.json").read_text())
    dense = {"idx": 2, "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    for bad in ([*modules[:2], dense], modules[:1], [{**modules[0], "path": "0_Transformer"}, *modules[1:]], {}, [1]):
        write_json(tmp_path / "modules.json", bad)
        with pytest.raises(InvalidCheckpoint, match=r"modules\.json"):
            import_checkpoint(tmp_path)
