"""The table of `bebr search`: which metadata it shows, and how wide."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tests.cli.test_commands import run

from bebr.cli.points.search import descriptive_fields, hits_table
from bebr.client import Hit


def test_a_table_shows_what_tells_most():
    metadata = {
        "name": "json.loads",
        "kind": "function",
        "module": "a.very.long.module",
        "n": 1,
        "m": 2,
        "title": "T" * 90,
    }
    hits = [Hit("json.loads", 0.9, "m@1", metadata), Hit("x", 0.8, "m@1", {**metadata, "name": "x"})]
    assert descriptive_fields(hits) == ["kind", "n", "title"]
    assert descriptive_fields([Hit("a", 1.0, "m@1", None)]) == []
    assert descriptive_fields([Hit("a", 1.0, "m@1", json.loads('{"x": [1, 2]}'))]) == ["x"]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_wide_field_leaves_room_for_those_beside_it(width: int):
    hits = [Hit(f"module.Class{i}", 0.5, "m@1", {"summary": "words " * 40, "signature": "(object)"}) for i in range(3)]
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(hits_table(hits, ["summary", "signature"], width))
    for i, line in enumerate(console.export_text().splitlines()[1:]):
        assert line.startswith(f"0.500  module.Class{i}  words ") and line.rstrip().endswith("…  (object)")


@pytest.mark.parametrize("content", ["nothing", "no array", "several", "rows", "one number", "texts", "objects"])
def test_a_file_that_is_no_vector_is_refused(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "query.npy"
    arrays = {"rows": np.ones((2, 3)), "one number": np.float32(1), "texts": np.array(["a"]), "objects": np.array([{}])}
    if content == "several":
        with path.open("wb") as file:
            np.savez(file, a=np.ones(3), b=np.ones(3))
    elif content in arrays:
        np.save(path, arrays[content], allow_pickle=True)
    else:
        path.write_bytes(b"" if content == "nothing" else b"0.1, 0.2")
    assert run("search", "--vector", str(path), "--url", "http://127.0.0.1:9") == 1
    assert "--vector: expected a .npy file with one vector" in capsys.readouterr().err
