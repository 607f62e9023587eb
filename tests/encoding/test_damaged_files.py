"""Files that another program wrote, or a disk changed: an error that names them, and never a traceback."""

import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.encoding.bundles.tiny import write_full

from bebr.encoding import Bundle, BundleRegistry
from bebr.encoding.adapters.adapter import Reference
from bebr.encoding.bundles.manifest_json import MANIFEST
from bebr.encoding.embedding.files import read_rows
from bebr.encoding.onnx.session import open_session, read_graph
from bebr.errors import DamagedBundle, InvalidEmbeddings

Array = np.ndarray


def damaged(content: bytes, seed: int) -> bytes:
    """The content cut short, or with some bytes changed."""
    rng = np.random.default_rng(seed)
    if seed % 3 == 0:
        return content[: int(rng.integers(len(content)))]
    changed = np.frombuffer(content, np.uint8).copy()
    places = rng.integers(min(len(changed), 200 if seed % 3 == 1 else len(changed)), size=1 + seed % 4)
    changed[places] = rng.integers(256, size=len(places))
    return changed.tobytes()


def saved(save: Callable[[io.BytesIO], None]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def fvecs(rows: Array) -> bytes:
    return np.hstack([np.full((len(rows), 1), rows.shape[1], "<i4").view("<f4"), rows.astype("<f4")]).tobytes()


def parquet(rows: Array) -> bytes:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    return saved(lambda file: parquet.write_table(arrow.table({"v": rows.tolist()}), file))


ROWS = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)
EMBEDDINGS = {
    "a.npy": lambda: saved(lambda file: np.save(file, ROWS)),
    "a.fvecs": lambda: fvecs(ROWS),
    "a.parquet": lambda: parquet(ROWS),
}


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_damaged_embeddings_are_named(tmp_path: Path, name: str) -> None:
    content, refused = EMBEDDINGS[name](), 0
    for seed in range(150):
        (tmp_path / name).write_bytes(damaged(content, seed))
        try:
            rows = read_rows(tmp_path / name)
        except InvalidEmbeddings as error:
            refused += name in error.detail
        else:
            assert rows.ndim == 2 and rows.dtype.kind in "fiu"
    assert refused > 40


@pytest.mark.parametrize(
    "array",
    [
        np.array([["a", "b"]]), np.array([[1j, 2]]), np.array([[True, False]]), np.zeros(3), np.zeros((0, 4)),
        np.zeros((2, 2), "datetime64[s]"), np.zeros(2, [("x", "f4")]), np.float32(3),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.npy", "a.i8.npy"])
def test_arrays_that_are_no_embeddings_are_named(tmp_path: Path, array: Array, name: str) -> None:
    np.save(tmp_path / name, array)
    np.save(tmp_path / "a.scale.npy", np.ones(len(array) if array.ndim else 1))
    with pytest.raises(InvalidEmbeddings, match="a\\."):
        read_rows(tmp_path / name)


def test_a_damaged_reference_is_named(tmp_path: Path) -> None:
    path, sound = tmp_path / "reference-0.npz", Reference(ROWS, ROWS).to_bytes()
    refused = 0
    for seed in range(150):
        path.write_bytes(damaged(sound, seed))
        try:
            Reference.load(path)
        except DamagedBundle as error:
            refused += path.name in error.detail
    assert refused > 40
    path.write_bytes(Reference(ROWS * np.inf, ROWS).to_bytes())
    with pytest.raises(DamagedBundle, match="NaN or infinity"):
        Reference.load(path)
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_LZMA) as file:
        file.writestr("here.npy", b"no array")
    with pytest.raises(DamagedBundle):
        Reference.load(path)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 200_000,
        b'{"format":1,"checksum":"x","figures":' + b"[" * 200_000,
        b'{"format":1,"checksum":"x","figures":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"format":' + b"9" * 10_000 + b"}",
        b'{"format":1,"checksum":"\\ud800"}',
        b"\xff",
        b"",
        b"null",
    ],
    ids=range(8),
)
def test_a_manifest_of_any_content_is_damage_and_hides_no_other_bundle(tmp_path: Path, content: bytes) -> None:
    write_full(tmp_path)
    (tmp_path / "odd@1").mkdir()
    (tmp_path / "odd@1" / MANIFEST).write_bytes(content)
    registry = BundleRegistry([tmp_path])
    assert [bundle.id for bundle in registry.list()] == ["tiny@1"]
    assert set(registry.damaged()) == {"odd@1"}
    with pytest.raises(DamagedBundle, match="odd@1"):
        Bundle.load(tmp_path / "odd@1")


def test_a_manifest_of_any_size_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_full(tmp_path)
    with (bundle.path / MANIFEST).open("r+b") as file:
        file.truncate(20 * 2**20)
    with pytest.raises(DamagedBundle, match="more than"):
        Bundle.load(bundle.path)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions")
def test_a_manifest_that_is_a_folder_or_a_loop_hides_no_other_bundle(tmp_path: Path) -> None:
    write_full(tmp_path)
    (tmp_path / "loop@1").mkdir()
    (tmp_path / "loop@1" / MANIFEST).symlink_to(MANIFEST)
    (tmp_path / "folder@1" / MANIFEST).mkdir(parents=True)
    assert [bundle.id for bundle in BundleRegistry([tmp_path]).list()] == ["tiny@1"]


def graph(*nodes: onnx.NodeProto, initializers: tuple[onnx.TensorProto, ...] = ()) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 4])]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
    made = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def endless() -> onnx.ModelProto:
    """A loop that counts to 2^63 - 1 while the graph is loaded, because all it needs is constant."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["still"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [4]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [4]),
        ],
    )
    constants = (
        numpy_helper.from_array(np.array(2**63 - 1), "times"),
        numpy_helper.from_array(np.array(True), "true"),
        numpy_helper.from_array(np.zeros(4, np.float32), "zero"),
    )
    loop = helper.make_node("Loop", ["times", "true", "zero"], ["sum"], body=body)
    return graph(loop, helper.make_node("Add", ["embedding", "sum"], ["out"]), initializers=constants)


def test_a_graph_that_may_never_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "binarizer.onnx"
    onnx.save(endless(), path)
    with pytest.raises(DamagedBundle, match=r"binarizer\.onnx has the operator Loop"):
        open_session(path)


def test_weights_outside_the_graphs_file_are_refused(tmp_path: Path) -> None:
    """The manifest has a checksum for the graph's file and for no other."""
    path = tmp_path / "binarizer.onnx"
    weights = numpy_helper.from_array(np.ones((4, 4), np.float32), "weights")
    onnx.save(
        graph(helper.make_node("MatMul", ["embedding", "weights"], ["out"]), initializers=(weights,)),
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    assert (tmp_path / "weights.bin").exists()
    with pytest.raises(DamagedBundle, match="weights in another file"):
        open_session(path)


def test_a_damaged_graph_is_named(tmp_path: Path) -> None:
    path = tmp_path / "embedding.onnx"
    weights = numpy_helper.from_array(np.ones((4, 4), np.float32), "weights")
    sound = graph(helper.make_node("MatMul", ["embedding", "weights"], ["out"]), initializers=(weights,))
    for seed in range(100):
        path.write_bytes(damaged(sound.SerializeToString(), seed))
        try:
            read_graph(path)
            open_session(path)
        except DamagedBundle as error:
            assert path.name in error.detail


def test_a_qrels_file_with_odd_lines_is_read_by_its_tabs(tmp_path: Path) -> None:
    from bebr_training.data.collections import read_texts

    path = tmp_path / "corpus.jsonl"
    lines = [{"_id": "a", "text": "one\u2028two"}, {"_id": 7, "title": "t", "text": "x\x85y"}]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(json.dumps(one, ensure_ascii=False) for one in lines).encode())
    assert read_texts(path) == (["a", "7"], ["one\u2028two", "t. x\x85y"])
