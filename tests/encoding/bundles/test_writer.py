"""Bundles are written whole or not at all, and never over another by accident."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.encoding.bundles.tiny import BINARIZER, write_full

from bebr.encoding import Bundle, write_bundle
from bebr.errors import AlreadyExists, InvalidOption, Unavailable


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
