"""The bundles on hand: listed, found by fingerprint, damaged ones named."""

from pathlib import Path

import pytest
from tests.encoding.bundles.tiny import BINARIZER, write_full

from bebr.encoding import Bundle, BundleRegistry, shipped_bundles, write_bundle
from bebr.errors import BundleNotFound, DamagedBundle, Incompatible


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
