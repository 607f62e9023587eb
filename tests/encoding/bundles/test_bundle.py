"""Bundles on disk: written whole, read strictly, every changed byte noticed."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from tests.encoding.bundles.tiny import BINARIZER, EMBEDDING, SETTINGS, SPEC, write_full

from bebr.core.codes import CodeSpec
from bebr.encoding import (
    BinarizerFiles,
    Bundle,
    EmbeddingFiles,
    Pooling,
    Precision,
    TextKind,
    write_bundle,
)
from bebr.encoding.bundles.manifest import EmbeddingSettings, SourceHashes
from bebr.errors import DamagedBundle, InvalidOption


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_full(tmp_path, figures={"recall@10": 0.8})
    bundle = Bundle.load(tmp_path / "tiny@1")
    assert (bundle.id, bundle.embedding_dims, str(bundle.spec)) == ("tiny@1", 32, "16x4+16x1")
    assert bundle.steps.dtype == np.float32 and (bundle.steps == BINARIZER.steps).all()
    assert bundle.embedding.settings == SETTINGS
    assert bundle.gain == "unbiased"
    assert bundle.figures == {"recall@10": 0.8}
    read = bundle.read_binarizer()
    assert read is not None and read.graph == BINARIZER.graph
    assert bundle.read_embedding() == EMBEDDING
    assert asdict(bundle.summary()) == {
        "name": "tiny",
        "version": "1",
        "id": "tiny@1",
        "code": "16x4+16x1",
        "code_bytes": 10,
        "rescore_bytes": 0,
        "embedding_dims": 32,
        "text": True,
        "fingerprint": bundle.fingerprint,
        "compatible_with": [],
    }


def test_parts_that_a_bundle_lacks_are_named(tmp_path: Path) -> None:
    vectors_only = write_bundle(tmp_path, "vectors", "1", embedding_dims=32, binarizer=BINARIZER)
    texts_only = write_bundle(tmp_path, "texts", "1", embedding_dims=32, embedding=EMBEDDING)
    assert (vectors_only.has_binarizer, vectors_only.has_embedding_model) == (True, False)
    assert (texts_only.has_binarizer, texts_only.has_embedding_model) == (False, True)
    assert asdict(texts_only.summary())["code"] is None
    assert texts_only.read_binarizer() is None and vectors_only.read_embedding() is None
    with pytest.raises(InvalidOption, match="no binarizer"):
        _ = texts_only.spec
    with pytest.raises(InvalidOption, match="no embedding model"):
        _ = vectors_only.embedding


def test_the_fingerprint_names_what_determines_the_codes(tmp_path: Path) -> None:
    base = write_full(tmp_path / "a").fingerprint
    assert write_full(tmp_path / "b", figures={"measured": 1}).fingerprint == base
    other_graph = EmbeddingFiles(b"the same model, built by another onnx release", b"{}", SETTINGS)
    rebuilt = write_bundle(tmp_path / "c", "other", "2", embedding_dims=32, binarizer=BINARIZER, embedding=other_graph)
    assert rebuilt.fingerprint == base, "neither the name nor the bytes of a locally built graph may count"
    for number, change in enumerate(
        [
            {"max_length": 64},
            {"precision": Precision.INT8},
            {"pooling": Pooling.CLS},
            {"builder": 2},
            {"source": SourceHashes("4" * 64, "2" * 64, "3" * 64)},
            {"prefixes": {TextKind.QUERY: "", TextKind.PASSAGE: ""}},
        ]
    ):
        settings = EmbeddingSettings(**{**vars(SETTINGS), **change})
        changed = EmbeddingFiles(EMBEDDING.graph, EMBEDDING.tokenizer, settings)
        bundle = write_bundle(
            tmp_path / f"d{number}", "tiny", "1", embedding_dims=32, binarizer=BINARIZER, embedding=changed
        )
        assert bundle.fingerprint != base, change
    other_steps = BinarizerFiles(BINARIZER.graph, SPEC, np.array([0.1, 0.8], np.float32))
    bundle = write_bundle(tmp_path / "e", "tiny", "1", embedding_dims=32, binarizer=other_steps, embedding=EMBEDDING)
    assert bundle.fingerprint != base


def test_a_rescore_code_has_a_graph_of_its_own_that_the_fingerprint_covers(tmp_path: Path) -> None:
    spec = CodeSpec.parse(f"{SPEC}/32x2")
    bundles = []
    for name, graph in (("a", b"finer"), ("b", b"finer still")):
        files = BinarizerFiles(BINARIZER.graph, spec, BINARIZER.steps, BINARIZER.gain, graph)
        write_bundle(tmp_path, name, "1", embedding_dims=32, binarizer=files)
        bundles.append(Bundle.load(tmp_path / f"{name}@1"))
        read = bundles[-1].read_binarizer()
        assert read is not None and (read.graph, read.rescore, read.spec) == (files.graph, graph, spec)
        summary = bundles[-1].summary()
        assert (summary.code, summary.code_bytes, summary.rescore_bytes) == (str(spec), 10, 8)
    alone = write_bundle(tmp_path, "c", "1", embedding_dims=32, binarizer=BINARIZER)
    assert len({bundle.fingerprint for bundle in (*bundles, alone)}) == 3
    (tmp_path / "a@1" / "rescore.onnx").write_bytes(b"finex")
    with pytest.raises(DamagedBundle, match=r"rescore\.onnx"):
        Bundle.load(tmp_path / "a@1")
    (tmp_path / "a@1" / "rescore.onnx").unlink()
    with pytest.raises(DamagedBundle, match=r"rescore\.onnx is missing"):
        Bundle.load(tmp_path / "a@1", verify=False)
    for wrong in (
        BinarizerFiles(BINARIZER.graph, spec, BINARIZER.steps),
        BinarizerFiles(BINARIZER.graph, SPEC, BINARIZER.steps, rescore=b"finer"),
    ):
        with pytest.raises(DamagedBundle, match="rescore"):
            write_bundle(tmp_path, "d", "1", embedding_dims=32, binarizer=wrong)


@pytest.mark.parametrize("name", ["binarizer.onnx", "embedding.onnx", "tokenizer.json", "manifest.json"])
def test_every_flipped_bit_is_noticed(tmp_path: Path, name: str) -> None:
    bundle = write_full(tmp_path)
    path = bundle.path / name
    sound = path.read_bytes()
    for position in range(0, len(sound), max(1, len(sound) // 200)):
        flipped = bytearray(sound)
        flipped[position] ^= 1 << (position % 8)
        path.write_bytes(flipped)
        with pytest.raises(DamagedBundle, match=name) as raised:
            Bundle.load(bundle.path)
        assert raised.value.fields["file"] == name
    path.write_bytes(sound)
    assert Bundle.load(bundle.path).fingerprint == bundle.fingerprint


@pytest.mark.parametrize("name", ["binarizer.onnx", "embedding.onnx", "tokenizer.json"])
def test_a_missing_or_short_file_is_named(tmp_path: Path, name: str) -> None:
    path = write_full(tmp_path).path / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedBundle, match=f"{name} has .* bytes, expected"):
        Bundle.load(tmp_path / "tiny@1", verify=False)
    path.unlink()
    with pytest.raises(DamagedBundle, match=f"{name} is missing"):
        Bundle.load(tmp_path / "tiny@1")
