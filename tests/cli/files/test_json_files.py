"""NDJSON, JSON arrays and BEIR folders as points."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.files.reading import points_of

from bebr.cli.files.columns import FileOptions, Target
from bebr.cli.files.sources import Sources
from bebr.core.types import FieldType
from bebr.errors import InvalidOption, Malformed

PRODUCTS = [
    {"id": 7, "title": "Harbour lamp", "description": "Brass.", "price": 12.5, "tags": ["a"], "none": None},
    {"id": 8, "title": "Oven glove", "price": 4, "deep": {"er": [1]}},
]


def written(folder: Path, name: str, content: Any, as_lines: bool = False) -> Path:
    path = folder / name
    text = "\n".join(map(json.dumps, content)) if as_lines else json.dumps(content, indent=1)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "as_lines"), [("a.ndjson", True), ("a.json", True), ("a.json", False), ("a.json.gz", False)]
)
def test_keys_of_flat_objects_become_metadata(tmp_path: Path, name: str, as_lines: bool):
    path = written(tmp_path, name, PRODUCTS, as_lines)
    points, rejected = points_of(path, flat=True, text_fields=("title", "description"))
    assert rejected == [] and list(points.values()) == [
        {
            "id": "7",
            "text": "Harbour lamp\nBrass.",
            "metadata": {"title": "Harbour lamp", "description": "Brass.", "price": 12.5, "tags": ["a"]},
        },
        {"id": "8", "text": "Oven glove", "metadata": {"title": "Oven glove", "price": 4, "deep": {"er": [1]}}},
    ]
    points, _ = points_of(path, flat=True, text_fields=("title",), id_field="title")
    assert points[1]["metadata"].keys() == {"id", "description", "price", "tags"} and points[1]["id"] == "Harbour lamp"


def test_points_in_an_array_are_sent_as_they_are(tmp_path: Path):
    given = [{"id": "a", "text": "x", "metadata": {"é": [1, None]}}, {"id": "b", "vector": [0.5, 1]}]
    assert points_of(written(tmp_path, "a.json", given))[0][1] == given[0]
    assert points_of(written(tmp_path, "b.json", given))[0][2]["id"] == "b"


def test_ids_of_a_file_are_all_numbers_or_all_strings(tmp_path: Path):
    rows = [
        {"id": 7, "text": "a"},
        {"id": "7", "text": "b"},
        {"id": 8, "text": "c"},
        {"text": "d"},
        {"id": True, "text": ""},
    ]
    points, rejected = points_of(written(tmp_path, "a.jsonl", rows, as_lines=True), flat=True)
    assert [point["id"] for point in points.values()] == ["7", "8", None]
    assert [(e["line"], e["error"]) for e in rejected] == [(2, "InvalidId"), (5, "InvalidId")]


@pytest.mark.parametrize(
    ("text", "message", "whole"),
    [
        ('[{"id": "a", "text": "x"}', "expected , or ] after object 1", 1),
        ('[{"id": "a", "text": "x"}, {"id": "b", ', "object 2 cannot be read", 1),
        ('[{"id": "a", "text": "x"} {"id": "b"}]', "expected , or ] after object 1", 1),
        ('[{"id": "a", "text": "x"}, 7, {"id": "b", "text": "y"}]', "it is not a JSON object", 2),
        ('[{"id": "a", "text": NaN}]', "NaN is no JSON number", 0),
    ],
)
def test_a_damaged_array_keeps_what_came_before(tmp_path: Path, text: str, message: str, whole: int):
    path = tmp_path / "a.json"
    path.write_text(text)
    points, rejected = points_of(path)
    assert len(points) == whole and len(rejected) == 1 and message in rejected[0]["detail"]


def test_an_array_longer_than_a_piece_is_read_whole(tmp_path: Path):
    rows = [{"id": str(n), "text": "ü" * 700 + f'"{n}' + "\\"} for n in range(1000)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    assert list(points_of(path)[0].values()) == rows


def test_a_folder_of_beir(tmp_path: Path):
    rows = [
        {"_id": "d1", "title": "Harbours", "text": "They freeze.", "metadata": {"year": 2021}},
        {"_id": "d2", "title": "", "text": "Trains are late."},
    ]
    written(tmp_path, "corpus.jsonl", rows, as_lines=True)
    points, _ = points_of(tmp_path)
    assert points[1] == {
        "id": "d1",
        "text": "Harbours\nThey freeze.",
        "metadata": {"year": 2021, "title": "Harbours", "text": "They freeze."},
    }
    assert points[2]["text"] == "Trains are late."
    with pytest.raises(InvalidOption, match="--id-field applies to"):
        Sources([str(tmp_path)], FileOptions(id_field="x"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidOption, match=r"no corpus\.jsonl"):
        Sources([str(tmp_path / "empty")])


def test_several_files_and_patterns_are_one_body(tmp_path: Path):
    written(tmp_path, "a1.ndjson", [{"id": "a", "text": "x"}, {"id": "b", "text": "y"}], as_lines=True)
    written(tmp_path, "a2.ndjson.gz", [{"id": "c", "text": "z"}], as_lines=True)
    (tmp_path / "b.csv").write_text("text,n\nsix,1\n,2\nsev,x,y\n")
    (tmp_path / "c.csv").write_text("text\neight\n")
    sources = Sources([f"{tmp_path}/a*", f"{tmp_path}/b.csv", f"{tmp_path}/c.csv"])
    lines = b"".join(sources.body(Target({"n": FieldType.INTEGER}))).split(b"\n")  # type: ignore[arg-type]
    found = {number: json.loads(line) for number, line in enumerate(lines, 1) if line}
    assert [point["id"] for point in found.values()] == ["a", "b", "c", "4", "5", "7"]
    assert [sources.place(line) for line in found] == [
        {"line": 1, "file": "a1.ndjson"},
        {"line": 2, "file": "a1.ndjson"},
        {"line": 1, "file": "a2.ndjson.gz"},
        {"line": 2, "file": "b.csv"},
        {"line": 3, "file": "b.csv"},
        {"line": 2, "file": "c.csv"},
    ]
    assert [(e["file"], e["line"]) for e in sources.rejected.errors] == [("b.csv", 4)]
    with pytest.raises(InvalidOption, match="no file matches"):
        Sources([f"{tmp_path}/*.parquet"])


@pytest.mark.parametrize(("name", "content"), [("a.json", b"{}x"), ("a.json", b"PAR1\x15"), ("a.json", b"\xff\xfe[\0")])
def test_what_is_no_json_is_refused(tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    with pytest.raises((InvalidOption, Malformed)):
        Sources([str(tmp_path / name)], FileOptions(flat=True))
