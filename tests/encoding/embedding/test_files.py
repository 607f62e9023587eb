"""Rows of floats come out of a file as they went in, and a file that is not of its kind is named."""

from pathlib import Path

import numpy as np
import pytest

from bebr.encoding.embedding.files import read_rows
from bebr.errors import InvalidEmbeddings

ROWS = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)


def test_every_kind_of_file_gives_the_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    heads = np.full((len(ROWS), 1), ROWS.shape[1], "<i4")
    np.hstack([heads, ROWS.view("<i4")]).tofile(tmp_path / "a.fvecs")
    for name in ("a.npy", "a.fvecs"):
        np.testing.assert_array_equal(read_rows(tmp_path / name), ROWS)
    assert isinstance(read_rows(tmp_path / "a.npy"), np.memmap), "a file may be larger than memory"


def test_integers_are_scaled_row_by_row(tmp_path: Path) -> None:
    scales = np.abs(ROWS).max(axis=1) / 127
    np.save(tmp_path / "a.i8.npy", np.rint(ROWS / scales[:, None]).astype(np.int8))
    np.save(tmp_path / "a.scale.npy", scales)
    np.testing.assert_allclose(read_rows(tmp_path / "a.i8.npy"), ROWS, atol=float(scales.max()))
    np.save(tmp_path / "a.scale.npy", scales[:-1])
    with pytest.raises(InvalidEmbeddings, match="one scale for each row"):
        read_rows(tmp_path / "a.i8.npy")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"no array", "not a .npy file"),
        ("a.fvecs", b"12345", "not an .fvecs file"),
        ("a.fvecs", np.array([1, 0, 2, 0], "<i4").tobytes(), "differ in length"),
    ],
)
def test_a_file_that_is_not_of_its_kind_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidEmbeddings, match=message):
        read_rows(tmp_path / name)
    with pytest.raises(InvalidEmbeddings, match="there is no file"):
        read_rows(tmp_path / f"missing-{name}")
