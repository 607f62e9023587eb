"""The comparison with indexes of others, on a few made embeddings; those that are not installed are left out."""

from pathlib import Path

import numpy as np
import pytest
from tests.encoding.quantization.embeddings import text_like

from bench import peers


def test_each_index_finds_enough_and_has_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data" / "made"
    folder.mkdir(parents=True)
    for name, rows in (("docs", text_like(1500, dims=384)), ("queries", text_like(8, seed=9, dims=384))):
        scale = np.abs(rows).max(axis=1) / 127
        np.save(folder / f"{name}.new.scale.npy", scale.astype(np.float32))
        np.save(folder / f"{name}.new.i8.npy", np.rint(rows / scale[:, None]).astype(np.int8))
    options = ["--recall", "0.3", "--rounds", "1", "--only", "minilm@2,hnswlib,faiss HNSW,IVF-PQ"]
    monkeypatch.setattr("sys.argv", ["peers", str(folder.parent), *options])
    peers.main()
    shown = capsys.readouterr().out
    for name in ("bebr, minilm@2", "faiss HNSW", "faiss IVF-PQ FastScan + refine"):
        (row,) = [line.split(" | ") for line in shown.splitlines() if line.startswith(f"| {name} | ")]
        assert 0.3 <= float(row[2]) <= 1
        assert float(row[6]) > 0
    assert ("| hnswlib |" in shown) != ("hnswlib is not installed" in shown)
