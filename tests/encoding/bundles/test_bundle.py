"""Bundles on disk: written whole, read strictly, every changed byte noticed."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from bebr.core.codes import CodeSpec
from bebr.encoding import (
    BinarizerFiles,
    Bundle,
    BundleRegistry,
    EmbeddingFiles,
    Pooling,
    Precision,
    TextKind,
    shipped_bundles,
    write_bundle,
)
from bebr.encoding.bundles.manifest import EmbeddingSettings, SourceHashes, canonical_sha256
from bebr.errors import AlreadyExists, BundleNotFound, DamagedBundle, Incompatible, InvalidOption, Unavailable

SPEC = CodeSpec.parse("16x4+16x1")
BINARIZER = BinarizerFiles(b"not really a graph", SPEC, np.array([0.1, 0.7], np.float32))
SETTINGS = EmbeddingSettings(
    pooling=Pooling.MEAN,
    max_length=128,
    precision=Precision.FP32,
    source=SourceHashes("1" * 64, "2" * 64, "3" * 64),
    builder=1,
    prefixes={TextKind.QUERY: "query: ", TextKind.PASSAGE: "passage: "},
)
EMBEDDING = EmbeddingFiles(b"graph", b"{}", SETTINGS)


def write_full(folder: Path, **options: object) -> Bundle:
    return write_bundle(folder, "tiny", "1", embedding_dims=32, binarizer=BINARIZER, embedding=EMBEDDING, **options)


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


def test_a_truncated_manifest_is_damage(tmp_path: Path) -> None:
    path = write_full(tmp_path).path / "manifest.json"
    text = path.read_bytes()
    for size_bytes in (0, 1, 100, len(text) - 3):
        path.write_bytes(text[:size_bytes])
        with pytest.raises(DamagedBundle, match="not valid JSON"):
            Bundle.load(path.parent)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2 is not known"),
        ({"format": True}, "'format' must be int"),
        ({"name": "../evil"}, "'name' must match"),
        ({"embedding_dims": 0}, "'embedding_dims' must be at least 1"),
        ({"embedding_dims": None}, "'embedding_dims' must be int"),
        ({"surprise": 1}, "unknown field 'surprise'"),
        ({"binarizer": {"graph": "binarizer.onnx"}}, "'binarizer': field 'code' is missing"),
        ({"binarizer": {"graph": "../x", "code": "8x1", "steps": [1.0], "gain": "cosine"}}, "'graph' must match"),
        ({"binarizer": {"graph": "x", "code": "8x3", "steps": [1.0], "gain": "cosine"}}, "bits 1, 2 or 4"),
        ({"binarizer": {"graph": "x", "code": "8x2", "steps": [0.0], "gain": "cosine"}}, "'steps' must be"),
        ({"binarizer": {"graph": "x", "code": "8x2", "steps": [1.0], "gain": "loud"}}, "one of unbiased, cosine"),
        ({"binarizer": None}, "'files' lists"),
        ({"embedding": []}, "'embedding' must be dict"),
        ({"figures": {"edited": 1}}, "checksum does not match"),
    ],
)
def test_a_manifest_is_read_strictly(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write_full(tmp_path).path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DamagedBundle, match=message):
        Bundle.load(path.parent)


def test_a_manifest_whose_fingerprint_is_wrong_is_damage(tmp_path: Path) -> None:
    path = write_full(tmp_path).path / "manifest.json"
    content = {**json.loads(path.read_text()), "fingerprint": "0" * 64}
    del content["checksum"]
    path.write_text(json.dumps({**content, "checksum": canonical_sha256(content)}))
    with pytest.raises(DamagedBundle, match="fingerprint does not match"):
        Bundle.load(path.parent)


def test_a_bundle_is_never_overwritten_by_accident(tmp_path: Path) -> None:
    first = write_full(tmp_path)
    with pytest.raises(AlreadyExists):
        write_bundle(tmp_path, "tiny", "1", embedding_dims=16, binarizer=BINARIZER)
    assert Bundle.load(first.path).fingerprint == first.fingerprint
    second = write_bundle(tmp_path, "tiny", "1", embedding_dims=16, binarizer=BINARIZER, replace=True)
    assert sorted(path.name for path in second.path.iterdir()) == ["binarizer.onnx", "manifest.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["tiny@1"], "no scratch folder is left behind"


@pytest.mark.parametrize(("name", "version"), [("", "1"), ("Tiny", "1"), ("a/b", "1"), ("..", "1"), ("a", "1@2")])
def test_bad_names_are_refused(tmp_path: Path, name: str, version: str) -> None:
    with pytest.raises(InvalidOption, match="must match"):
        write_bundle(tmp_path, name, version, embedding_dims=32, binarizer=BINARIZER)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unavailable, match="cannot be written"):
        write_full(tmp_path / "file")


def test_of_many_writers_one_wins(tmp_path: Path) -> None:
    def write(_: int) -> bool:
        try:
            write_full(tmp_path)
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(8) as writers:
        assert sum(writers.map(write, range(24))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["tiny@1"]
    Bundle.load(tmp_path / "tiny@1")


def test_a_bundle_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="needs a binarizer"):
        write_bundle(tmp_path, "empty", "1", embedding_dims=32)


def test_the_catalog_lists_sound_bundles_and_names_damaged_ones(tmp_path: Path) -> None:
    first, second = tmp_path / "pulled", tmp_path / "shipped"
    mine = write_full(first)
    write_bundle(second, "tiny", "1", embedding_dims=32, binarizer=BINARIZER)
    write_bundle(second, "other", "1", embedding_dims=32, binarizer=BINARIZER)
    write_bundle(second, "broken", "1", embedding_dims=32, binarizer=BINARIZER)
    (second / "broken@1" / "binarizer.onnx").write_bytes(b"")
    (second / "other@1").rename(second / "renamed@1")
    (second / "notes.txt").write_text("not a bundle")
    (second / ".tiny@1.half").mkdir()
    catalog = BundleRegistry([first, second, tmp_path / "missing"])
    assert [bundle.id for bundle in catalog.list()] == ["tiny@1"]
    assert catalog.get("tiny@1").fingerprint == mine.fingerprint, "the first folder wins"
    assert sorted(catalog.damaged()) == ["broken@1", "renamed@1"]
    with pytest.raises(DamagedBundle, match=r"binarizer\.onnx"):
        catalog.get("broken@1")
    with pytest.raises(DamagedBundle, match=r"holds bundle 'other@1'"):
        catalog.get("renamed@1")
    for unknown in ("tiny", "../tiny@1", "", "tiny@2"):
        with pytest.raises(BundleNotFound, match=r"on hand: 'broken@1', 'renamed@1', 'tiny@1'"):
            catalog.get(unknown)


def test_a_fingerprint_finds_the_bundle_that_made_the_codes(tmp_path: Path) -> None:
    """A pulled bundle stands before the shipped one that it was made from; codes of either find theirs."""
    pulled, shipped = tmp_path / "pulled", tmp_path / "shipped"
    full = write_full(pulled)
    bare = write_bundle(shipped, "tiny", "1", embedding_dims=32, binarizer=BINARIZER)
    catalog = BundleRegistry([pulled, shipped])
    assert catalog.get("tiny@1") == full
    assert catalog.get("tiny@1", bare.fingerprint) == bare and catalog.get("tiny@1", full.fingerprint) == full
    with pytest.raises(Incompatible, match="put the original back"):
        catalog.get("tiny@1", "0" * 64)


def test_an_empty_catalog_says_so(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match="on hand: none"):
        BundleRegistry([tmp_path]).get("minilm@1")
    with pytest.raises(BundleNotFound, match=r"no manifest\.json"):
        Bundle.load(tmp_path / "nothing")


def test_the_shipped_bundles_are_sound() -> None:
    catalog = BundleRegistry([shipped_bundles()])
    assert shipped_bundles().name == "bundles"
    assert catalog.damaged() == {}
