"""manifest.json is read strictly."""

import json
from pathlib import Path

import pytest
from tests.encoding.bundles.tiny import write_full

from bebr.encoding import Bundle
from bebr.encoding.bundles.manifest import canonical_sha256
from bebr.errors import DamagedBundle


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
        ({"binarizer": {"graph": "x", "code": "8x2/8x2", "steps": [1.0], "gain": "cosine"}}, "'rescore' is missing"),
        (
            {"binarizer": {"graph": "x", "code": "8x2", "steps": [1.0], "gain": "cosine", "rescore": "y"}},
            "unknown field 'rescore'",
        ),
        (
            {"binarizer": {"graph": "x", "code": "8x2/8x2", "steps": [1.0], "gain": "cosine", "rescore": "../y"}},
            "'rescore' must match",
        ),
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
