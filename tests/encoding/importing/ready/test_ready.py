"""Ready graphs as repositories hold them: which file, what its inputs and outputs mean, and what is refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic
from safetensors.numpy import save_file
from tests.encoding.importing.checkpoints import tiny_tokenizer, write_json
from tests.encoding.importing.hub_server import serve_hub
from tests.encoding.importing.ready import exports
from tests.encoding.importing.ready.exports import DIMS, make_model, pooled, reference, unit, write_folder

from bebr.encoding import Bundle, Pooling, Precision, TextKind
from bebr.encoding.embedding.model import EmbeddingModel
from bebr.encoding.importing.options import ImportOptions
from bebr.encoding.importing.pull import PullOptions, pull, pull_noted
from bebr.encoding.importing.ready import ready as ready_module
from bebr.errors import BebrError, InvalidCheckpoint, InvalidOption

TEXTS = ["a", "the quick brown fox", "parse the date time string of a binary search", ""]


@pytest.fixture(scope="module")
def bert() -> Any:
    return make_model("bert")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, bert: Any) -> Path:
    """A repository with one ready graph and no weights; tests copy it before they change it."""
    return write_folder(tmp_path_factory.mktemp("ready") / "Tiny_Model", bert, "bert")


@pytest.fixture
def folder(tmp_path: Path, source: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "Tiny_Model"))


def bundle_of(source: Path, **options: Any) -> Bundle:
    return pull(str(source), source.parent / "bundles", PullOptions(model=ImportOptions(**options), replace=True))


def embed(bundle: Bundle, texts: list[str] = TEXTS) -> np.ndarray:
    return EmbeddingModel(bundle).embed(texts, TextKind.PASSAGE)


def refused(source: Path, match: str, kind: type[BebrError] = InvalidCheckpoint, **options: Any) -> None:
    with pytest.raises(kind, match=match):
        bundle_of(source, **options)
    assert not list((source.parent / "bundles").glob("*@*"))


def graph_of(folder: Path) -> onnx.ModelProto:
    return onnx.load(folder / "onnx" / "model.onnx")


def changed(folder: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = graph_of(folder)
    change(model)
    onnx.save(model, folder / "onnx" / "model.onnx")
    return folder


def hidden_states(model: Any, texts: list[str] = TEXTS) -> list[np.ndarray]:
    import torch

    with torch.no_grad():
        return [model(torch.tensor([ids])).last_hidden_state[0].numpy() for ids in exports.token_rows(texts)]


def test_a_graph_is_named_by_its_folder_and_says_what_was_taken(folder: Path, bert: Any) -> None:
    made = pull_noted(str(folder), folder.parent / "bundles")
    assert made.bundle.id == "tiny-model@1"
    settings = made.bundle.embedding.settings
    assert (settings.pooling, settings.max_length, settings.precision) == (Pooling.MEAN, 64, Precision.FP32)
    assert any("onnx/model.onnx" in note for note in made.notes)
    assert any("--pooling" in note for note in made.notes), "nothing in the folder says how to pool"
    assert pull(str(folder), folder.parent / "bundles").fingerprint == made.bundle.fingerprint


@pytest.mark.parametrize("place", ["model.onnx", "onnx/model.onnx"])
def test_the_file_itself_may_be_named(folder: Path, bert: Any, place: str) -> None:
    if place == "model.onnx":
        (folder / "onnx" / "model.onnx").rename(folder / place)
    np.testing.assert_allclose(embed(bundle_of(folder / place)), reference(bert, TEXTS), atol=1e-5)


def test_an_export_whose_files_lie_beside_the_graph(folder: Path, bert: Any) -> None:
    for name in ("tokenizer.json", "config.json"):
        (folder / name).rename(folder / "onnx" / name)
    for path in (folder, folder / "onnx", folder / "onnx" / "model.onnx"):
        np.testing.assert_allclose(embed(bundle_of(path)), reference(bert, TEXTS), atol=1e-5)


def test_variants_are_chosen_by_precision_or_file(folder: Path) -> None:
    graph = folder / "onnx" / "model.onnx"
    for name in ("model_fp16", "model_quantized", "model_O3", "model_q4"):
        shutil.copy(graph, folder / "onnx" / f"{name}.onnx")
    for options, file, version in (
        ({}, "onnx/model.onnx", "1"),
        ({"precision": Precision.FP16}, "onnx/model_fp16.onnx", "1-fp16"),
        ({"precision": Precision.INT8}, "onnx/model_quantized.onnx", "1-int8"),
        ({"precision": Precision.Q4}, "onnx/model_q4.onnx", "1-q4"),
        ({"file": "onnx/model_O3.onnx"}, "onnx/model_O3.onnx", "1"),
    ):
        made = pull_noted(
            str(folder), folder.parent / "bundles", PullOptions(model=ImportOptions(**options), replace=True)
        )
        assert file in made.notes[0] and made.bundle.version == version
    shutil.rmtree(folder.parent / "bundles")
    refused(folder, "no ONNX file has a usual name for precision uint8", InvalidOption, precision=Precision.UINT8)
    refused(folder, "there is no ONNX file 'onnx/model_O9.onnx'", InvalidOption, file="onnx/model_O9.onnx")
    refused(folder, "there is no ONNX file '../model.onnx'", InvalidOption, file="../model.onnx")
    graph.unlink()
    refused(folder, "Name one with --file", InvalidOption)


def test_weights_go_before_a_ready_graph_unless_it_is_asked_for(folder: Path, bert: Any) -> None:
    bert.save_pretrained(folder)
    built = bundle_of(folder)
    ready = bundle_of(folder, file="onnx/model.onnx")
    assert built.fingerprint != ready.fingerprint
    np.testing.assert_allclose(embed(built), embed(ready), atol=1e-5)


def test_a_model_that_bebr_does_not_build_is_taken_from_its_graph(tmp_path: Path) -> None:
    model = make_model("electra")
    folder = write_folder(tmp_path / "model", model, "electra")
    model.save_pretrained(folder)
    np.testing.assert_allclose(embed(bundle_of(folder)), reference(model, TEXTS), atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last", "weighted-mean"])
def test_every_pooling(folder: Path, bert: Any, pooling: str) -> None:
    expected = reference(bert, TEXTS, pooling)
    np.testing.assert_allclose(embed(bundle_of(folder, pooling=Pooling(pooling))), expected, atol=1e-5)
    modes = {"max": "max_tokens", "last": "lasttoken", "cls": "cls_token", "weighted-mean": "weightedmean_tokens"}
    write_modules(folder, {f"pooling_mode_{modes.get(pooling, 'mean_tokens')}": True})
    np.testing.assert_allclose(embed(bundle_of(folder)), expected, atol=1e-5)


@pytest.mark.parametrize("built", [True, False])
def test_dense_layers_and_fewer_dims(folder: Path, bert: Any, built: bool) -> None:
    if built:
        bert.save_pretrained(folder)
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((24, DIMS)).astype(np.float32), rng.standard_normal(24).astype(np.float32)
    write_modules(folder, {"word_embedding_dimension": DIMS, "pooling_mode_mean_tokens": True}, "Dense")
    dense = {
        "in_features": DIMS,
        "out_features": 24,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    write_json(folder / "2_Dense" / "config.json", dense)
    save_file({"linear.weight": weight, "linear.bias": bias}, folder / "2_Dense" / "model.safetensors")
    means = np.array([pooled(hidden, "mean") for hidden in hidden_states(bert)])
    whole = np.tanh(means @ weight.T + bias)
    np.testing.assert_allclose(embed(bundle_of(folder)), unit(whole), atol=1e-5)
    short = bundle_of(folder, dims=8)
    assert (short.embedding_dims, short.version) == (8, "1-dims8")
    np.testing.assert_allclose(embed(short), unit(whole[:, :8]), atol=1e-5)
    shutil.rmtree(folder.parent / "bundles")
    refused(folder, "dims must be 1 .. 24", InvalidOption, dims=25)
    write_json(folder / "2_Dense" / "config.json", {**dense, "activation_function": "torch.nn.SELU"})
    refused(folder, "activation_function must be one of")


def test_prompts_case_and_length_are_taken_over(folder: Path) -> None:
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": {"query": "a ", "document": "the "}, "truncate_dim": 16},
    )
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 9, "do_lower_case": True})
    bundle = bundle_of(folder)
    settings = bundle.embedding.settings
    assert (settings.prefixes, settings.max_length) == ({TextKind.QUERY: "a ", TextKind.PASSAGE: "the "}, 9)
    assert bundle.embedding_dims == 16
    asked = bundle_of(folder, max_length=7, prefixes={TextKind.QUERY: "ask: "}).embedding.settings
    assert (asked.prefixes[TextKind.QUERY], asked.max_length) == ("ask: ", 7)
    refused_length = pytest.raises(InvalidOption, match=r"max_length must be 3 \.\. 64")
    with refused_length:
        bundle_of(folder, max_length=65)


def test_an_embedding_among_the_outputs_is_taken(tmp_path: Path, bert: Any) -> None:
    folder = write_folder(tmp_path / "model", bert, "bert")
    exports.export(
        bert,
        folder / "onnx" / "model.onnx",
        exports.ARCHITECTURES["bert"].inputs,
        lambda answer: (answer.last_hidden_state, answer.last_hidden_state[:, 0] * 2, answer.pooler_output),
        ("token_embeddings", "sentence_embedding", "pooler_output"),
        (3, 2, 2),
    )
    whole = bundle_of(folder)
    assert whole.embedding.settings.pooling is Pooling.GRAPH
    np.testing.assert_allclose(embed(whole), reference(bert, TEXTS, "cls"), atol=1e-5)
    np.testing.assert_allclose(embed(bundle_of(folder, pooling=Pooling.MAX)), reference(bert, TEXTS, "max"), atol=1e-5)


def test_inputs_are_found_by_other_names_and_types(folder: Path, bert: Any) -> None:
    expected = reference(bert, TEXTS)
    names = {
        "input_ids": "input_word_ids:0",
        "attention_mask": "serving_default_input_mask:0",
        "token_type_ids": "segment_ids",
    }

    def rename(model: onnx.ModelProto) -> None:
        wide = []
        for value in model.graph.input:
            value.type.tensor_type.elem_type = TensorProto.INT32
            wide.append(helper.make_node("Cast", [names[value.name]], [value.name], to=TensorProto.INT64))
            value.name = names[value.name]
        nodes = [*wide, *model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    np.testing.assert_allclose(embed(bundle_of(changed(folder, rename))), expected, atol=1e-5)


def test_what_bebr_cannot_feed_is_refused_by_name(folder: Path) -> None:
    model = graph_of(folder)
    end = model.graph.output[0].name

    def needs_pixels(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.output[:] = ["before" if name == end else name for name in node.output]
        model.graph.input.append(helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["b", 3, 8, 8]))
        model.graph.node.append(helper.make_node("ReduceMean", ["pixel_values"], ["pixels"], keepdims=0))
        model.graph.node.append(helper.make_node("Add", ["before", "pixels"], [end]))

    refused(changed(folder, needs_pixels), "needs the input 'pixel_values'")


@pytest.mark.parametrize(("axis", "size"), [(0, 1), (1, 16)])
def test_fixed_sizes_are_refused(folder: Path, axis: int, size: int) -> None:
    def fix(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size

    refused(changed(folder, fix), f"'input_ids' has an axis of fixed size {size}")


def test_outputs_that_are_no_embedding_are_refused(folder: Path) -> None:
    def logits(model: onnx.ModelProto) -> None:
        end = model.graph.output[0]
        model.graph.node.append(helper.make_node("ReduceMean", [end.name], ["logits"], axes=[1], keepdims=0))
        end.CopyFrom(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", DIMS]))

    refused(changed(folder, logits), "no output that is an embedding.*'logits'")
    refused(folder, "pooling 'mean' needs an output with a vector for each token", InvalidOption, pooling=Pooling.MEAN)


def test_a_graph_that_ignores_the_mask_is_refused(folder: Path) -> None:
    def ignore(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.input[:] = ["ones" if name == "attention_mask" else name for name in node.input]
        ones = helper.make_node("Equal", ["input_ids", "input_ids"], ["same"])
        cast = helper.make_node("Cast", ["same"], ["ones"], to=TensorProto.INT64)
        nodes = [ones, cast, *model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    refused(changed(folder, ignore), "depends on the texts that share its batch")


def test_embeddings_that_are_no_numbers_are_refused(folder: Path) -> None:
    def spoil(model: onnx.ModelProto) -> None:
        weight = next(tensor for tensor in model.graph.initializer if "word_embeddings" in tensor.name)
        array = numpy_helper.to_array(weight).copy()
        array[2] = np.nan
        weight.CopyFrom(numpy_helper.from_array(array, weight.name))

    refused(changed(folder, spoil), "not finite")


def test_a_tokenizer_with_more_words_than_the_model_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {key: value for key, value in config.items() if key != "vocab_size"})
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["surplus"] = 5000
    write_json(folder / "tokenizer.json", tokenizer)
    refused(folder, "fails on 1 texts")


@pytest.mark.parametrize("padded", ["right", "left"])
def test_a_decoder_that_pools_its_last_place_gets_padding_on_the_left(tmp_path: Path, padded: str) -> None:
    """The graph of many decoders takes the last place of a row, whatever stands there."""
    model = make_model("qwen3")
    folder = write_folder(tmp_path / "model", model, "qwen3")
    if padded == "left":
        last = lambda answer: answer.last_hidden_state[:, -1]  # noqa: E731
        exports.export(
            model,
            folder / "onnx" / "model.onnx",
            exports.ARCHITECTURES["qwen3"].inputs,
            last,
            ("sentence_embedding",),
            (2,),
        )
    found = embed(bundle_of(folder))
    assert ((found * reference(model, TEXTS, "last")).sum(axis=1) > 0.9999).all()


def test_keys_and_values_of_earlier_tokens_are_left_empty(folder: Path, bert: Any) -> None:
    expected = embed(bundle_of(folder))

    def cached(model: onnx.ModelProto) -> None:
        shape = ["batch", 4, "past", 8]
        model.graph.input.append(helper.make_tensor_value_info("past_key_values.0.key", TensorProto.FLOAT, shape))
        axes = numpy_helper.from_array(np.array([1, 2, 3]), "all_axes")
        model.graph.initializer.append(axes)
        end = model.graph.output[0].name
        for node in model.graph.node:
            node.output[:] = ["before" if name == end else name for name in node.output]
        model.graph.node.append(helper.make_node("ReduceSum", ["past_key_values.0.key", "all_axes"], ["nothing"]))
        model.graph.node.append(helper.make_node("Squeeze", ["nothing", "last_axis"], ["less"]))
        model.graph.initializer.append(numpy_helper.from_array(np.array([3]), "last_axis"))
        model.graph.node.append(helper.make_node("Add", ["before", "less"], [end]))

    np.testing.assert_allclose(embed(bundle_of(changed(folder, cached))), expected, atol=1e-6)
    shutil.rmtree(folder.parent / "bundles")

    def fixed(model: onnx.ModelProto) -> None:
        model.graph.input[-1].type.tensor_type.shape.dim[2].dim_value = 4

    refused(changed(folder, fixed), r"past_key_values\.0\.key")


def test_dynamically_quantized_graphs_embed_each_text_by_itself(folder: Path, bert: Any) -> None:
    quantize_dynamic(folder / "onnx" / "model.onnx", folder / "onnx" / "model_quantized.onnx")
    bundle = bundle_of(folder, precision=Precision.INT8)
    assert bundle.embedding.settings.alone and bundle.version == "1-int8"
    together = embed(bundle)
    assert ((together * reference(bert, TEXTS)).sum(axis=1) > 0.95).all()
    for text, row in zip(TEXTS, together, strict=True):
        np.testing.assert_array_equal(embed(bundle, [text])[0], row)
    assert Bundle.load(bundle.path).embedding.settings == bundle.embedding.settings


def test_float16_graphs(folder: Path, bert: Any) -> None:
    def halve(model: onnx.ModelProto) -> None:
        cast = []
        for tensor in model.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1:
                name = tensor.name
                tensor.CopyFrom(
                    numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), name + "_half")
                )
                cast.append(helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT))
        nodes = [*cast, *model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        end = model.graph.output[0]
        for node in model.graph.node:
            node.output[:] = ["wide" if name == end.name else name for name in node.output]
        model.graph.node.append(helper.make_node("Cast", ["wide"], [end.name], to=TensorProto.FLOAT16))
        end.type.tensor_type.elem_type = TensorProto.FLOAT16

    bundle = bundle_of(changed(folder, halve))
    assert bundle.embedding.settings.precision is Precision.FP16 and bundle.version == "1-fp16"
    assert ((embed(bundle) * reference(bert, TEXTS)).sum(axis=1) > 0.999).all()


@pytest.mark.parametrize("name", ["bert", "modernbert", "qwen3"])
def test_a_graph_may_end_after_a_layer(tmp_path: Path, name: str) -> None:
    model = make_model(name)
    folder = write_folder(tmp_path / "model", model, name)
    early = bundle_of(folder, layers=1)
    assert early.version == "1-layers1"
    owner = getattr(model, "encoder", model)
    field = "layer" if hasattr(owner, "layer") else "layers"
    setattr(owner, field, getattr(owner, field)[:1])
    expected = reference(model, TEXTS, "last" if name == "qwen3" else "mean")
    np.testing.assert_allclose(embed(early), expected, atol=1e-5)
    shutil.rmtree(folder.parent / "bundles")
    refused(folder, r"layers must be 1 \.\. 2", InvalidOption, layers=3)

    def unnamed(graph: onnx.ModelProto) -> None:
        for number, node in enumerate(graph.graph.node):
            node.name = f"{node.op_type}_{number}"

    refused(changed(folder, unnamed), "cannot end after a layer", InvalidOption, layers=1)


def outside(folder: Path, **options: Any) -> onnx.ModelProto:
    """Save the graph with its weights in another file."""
    model = graph_of(folder)
    onnx.save(
        model, folder / "onnx" / "model.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=64
    )
    return onnx.load(folder / "onnx" / "model.onnx", load_external_data=False)


def test_weights_in_another_file_are_taken_in_and_hashed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = embed(bundle_of(folder))
    outside(folder)
    data = folder / "onnx" / "model.onnx_data"
    first = bundle_of(folder)
    np.testing.assert_array_equal(embed(first), expected)
    monkeypatch.setattr(ready_module, "MAX_GRAPH_BYTES", 1000)
    apart = bundle_of(folder)
    assert apart.fingerprint == first.fingerprint and "embedding.data" in apart.manifest.files
    np.testing.assert_array_equal(embed(apart), expected)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    assert bundle_of(folder).fingerprint != first.fingerprint
    (apart.path / "embedding.data").write_bytes(b"x")
    with pytest.raises(BebrError, match=r"embedding\.data"):
        Bundle.load(apart.path)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../../secret", "link", "..\\secret", "missing"])
def test_weights_outside_the_folder_are_refused(folder: Path, location: str) -> None:
    model = outside(folder)
    secret = folder.parent / "secret"
    shutil.copy(folder / "onnx" / "model.onnx_data", secret)
    (folder / "onnx" / "link").symlink_to(secret)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    (folder / "onnx" / "model.onnx").write_bytes(model.SerializeToString())
    refused(folder, "has no onnx/missing" if location == "missing" else "outside the folder")


def test_the_hubs_own_cache_may_be_imported(folder: Path, bert: Any) -> None:
    """It keeps files as links to blobs beside it."""
    outside(folder)
    cache = folder.parent / "models--org--tiny"
    snapshot = cache / "snapshots" / "0123"
    for number, path in enumerate(path for path in sorted(folder.rglob("*")) if path.is_file()):
        blob, link = cache / "blobs" / str(number), snapshot / path.relative_to(folder)
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blob)
        link.symlink_to(blob)
    np.testing.assert_allclose(embed(bundle_of(snapshot)), reference(bert, TEXTS), atol=1e-5)


def test_weights_beyond_the_end_of_their_file_are_refused(folder: Path) -> None:
    outside(folder)
    data = folder / "onnx" / "model.onnx_data"
    data.write_bytes(data.read_bytes()[:-100])
    refused(folder, "is said to be bytes")


@pytest.mark.parametrize(
    ("operator", "domain"),
    [("Loop", ""), ("RandomNormalLike", ""), ("Own", "com.example"), ("PyOp", "com.microsoft"), ("Inner", "")],
)
def test_operators_that_are_not_allowed_are_refused(folder: Path, operator: str, domain: str) -> None:
    def add(model: onnx.ModelProto) -> None:
        node = helper.make_node("Loop" if operator == "Inner" else operator, ["input_ids"], ["odd"], domain=domain)
        if operator == "Inner":
            then = helper.make_graph(
                [node], "then", [], [helper.make_tensor_value_info("odd", TensorProto.INT64, None)]
            )
            node = helper.make_node("If", ["yes"], ["odd"], then_branch=then, else_branch=then)
        model.graph.node.insert(0, node)

    refused(changed(folder, add), "Loop is not allowed" if operator == "Inner" else f"{operator} is not allowed")


def test_functions_of_a_graph_are_written_out(folder: Path, bert: Any) -> None:
    def add(model: onnx.ModelProto) -> None:
        end = model.graph.output[0].name
        for node in model.graph.node:
            node.output[:] = ["before" if name == end else name for name in node.output]
        body = [
            helper.make_node("Mul", ["x", "two"], ["y"]),
        ]
        two = helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.array(2, np.float32)))
        opset = helper.make_opsetid("", 17)
        model.functions.append(helper.make_function("pkg.own", "Twice", ["x"], ["y"], [two, *body], [opset]))
        model.graph.node.append(helper.make_node("Twice", ["before"], [end], domain="pkg.own"))
        model.opset_import.append(helper.make_opsetid("pkg.own", 1))

    np.testing.assert_allclose(embed(bundle_of(changed(folder, add))), reference(bert, TEXTS), atol=1e-5)


@pytest.mark.parametrize("content", [b"", b"not a graph", bytes(64)])
def test_a_file_that_is_no_graph_is_refused(folder: Path, content: bytes) -> None:
    (folder / "onnx" / "model.onnx").write_bytes(content)
    refused(folder, r"model\.onnx")


def test_the_hub_gives_the_graph_that_is_meant_and_its_weights(folder: Path, bert: Any) -> None:
    shutil.copy(folder / "onnx" / "model.onnx", folder / "onnx" / "model_O3.onnx")
    outside(folder)
    (folder / "model.safetensors").write_bytes(b"not fetched, as electra is not built")
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, "model_type": "electra"})
    with serve_hub(folder, "org/tiny") as hub:
        bundle = pull("org/tiny", folder.parent / "bundles", PullOptions(endpoint=hub.endpoint))
        np.testing.assert_allclose(embed(bundle), reference(bert, TEXTS), atol=1e-5)
        assert set(hub.downloads()) == {"config.json", "tokenizer.json", "onnx/model.onnx", "onnx/model.onnx_data"}
        options = PullOptions(endpoint=hub.endpoint, model=ImportOptions(file="onnx/model_O3.onnx"), name="other")
        np.testing.assert_array_equal(embed(pull("org/tiny", folder.parent / "bundles", options)), embed(bundle))


def write_modules(folder: Path, pooling: dict[str, Any], *more: str) -> None:
    names = ["Transformer", "Pooling", *more, "Normalize"]
    modules = [
        {"idx": number, "path": f"{number}_{name}" if number else "", "type": f"sentence_transformers.models.{name}"}
        for number, name in enumerate(names)
    ]
    for name in names[1:]:
        (folder / f"{names.index(name)}_{name}").mkdir(exist_ok=True)
    write_json(folder / "modules.json", modules)
    write_json(folder / "1_Pooling" / "config.json", pooling)


def test_a_tokenizer_is_needed(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    refused(folder, r"has no tokenizer\.json")
    with pytest.raises(InvalidCheckpoint, match=r"no tokenizer\.json beside"):
        bundle_of(folder / "onnx" / "model.onnx")
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "config.json").unlink()
    refused(folder, "max_length")
    assert bundle_of(folder, max_length=64).embedding.settings.max_length == 64


@pytest.mark.parametrize("key", ["model_type", "vocab_size", "pad_token_id", "max_position_embeddings", "text_config"])
def test_no_value_of_a_config_is_a_traceback(folder: Path, key: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    for odd in (None, -1, 0, 2.5, 10**40, True, "x", [1], {"a": 1}, "\ud800"):
        write_json(folder / "config.json", {**config, key: odd})
        try:
            bundle_of(folder)
        except (InvalidCheckpoint, InvalidOption) as error:
            assert "Traceback" not in error.detail


def test_names_that_are_no_text_are_refused(folder: Path) -> None:
    graph = folder / "onnx" / "model.onnx"
    content = graph.read_bytes()
    for name in (b"last_hidden_state", b"attention_mask", b"LayerNormalization"):
        graph.write_bytes(content.replace(name, b"\xff" + name[1:]))
        refused(folder, "not UTF-8")
    graph.write_bytes(content[: len(content) // 2])
    refused(folder, r"model\.onnx")


def test_layers_are_known_by_what_torch_writes_down_of_each_node(folder: Path) -> None:
    """Its newer exporter gives nodes other names, and keeps the modules in the metadata."""
    expected = embed(bundle_of(folder, layers=1))

    def describe(model: onnx.ModelProto) -> None:
        for number, node in enumerate(model.graph.node):
            parts = node.name.strip("/").split("/")[:-1]
            scopes = ["", *(".".join(parts[: end + 1]) for end in range(len(parts))), f"linear_{number}"]
            entry = node.metadata_props.add()
            entry.key, entry.value = "pkg.torch.onnx.name_scopes", repr(scopes)
            node.name = f"node_{number}"

    np.testing.assert_array_equal(embed(bundle_of(changed(folder, describe), layers=1)), expected)

    def spoil(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.metadata_props[0].value = "[" * 5000

    shutil.rmtree(folder.parent / "bundles")
    refused(changed(folder, spoil), "cannot end after a layer", InvalidOption, layers=1)
