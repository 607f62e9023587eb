"""The table of `bebr search`: which metadata it shows, and how wide."""

import io
import json

import pytest
from rich.console import Console

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
