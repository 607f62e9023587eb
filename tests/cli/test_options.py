"""Filters, addresses, files and tables of the command line."""

import gzip
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from bebr.cli.options import parse_filter, service_url, settings_from
from bebr.cli.points.search import descriptive_fields, hits_table
from bebr.cli.points.sources import open_source
from bebr.client import Hit
from bebr.config import Settings
from bebr.errors import InvalidOption, Malformed


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ([], None),
        (["lang=en"], {"must": [{"key": "lang", "match": {"value": "en"}}]}),
        (["year=2020"], {"must": [{"key": "year", "match": {"value": 2020}}]}),
        (['year="2020"'], {"must": [{"key": "year", "match": {"value": "2020"}}]}),
        (["draft=false"], {"must": [{"key": "draft", "match": {"value": False}}]}),
        (["a=b=c"], {"must": [{"key": "a", "match": {"value": "b=c"}}]}),
        (["a=[1]"], {"must": [{"key": "a", "match": {"value": "[1]"}}]}),
        (['{"should": []}'], {"should": []}),
        (["a=b", '{"should": []}'], {"must": [{"key": "a", "match": {"value": "b"}}, {"should": []}]}),
    ],
)
def test_filters_may_be_short_or_json(given: list[str], meant: object):
    assert parse_filter(given) == meant


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("db.example", "http://db.example:8000"),
    ],
)
def test_a_client_on_the_same_machine_finds_the_service(host: str, url: str):
    assert service_url(Settings(host=host)) == url


def test_other_settings_are_set_by_name():
    settings = settings_from(None, {"port": None}, ["max_queue=5", "BEBR_BATCHING=off"])
    assert (settings.max_queue, settings.batching, settings.port) == (5, False, 8000)


def test_ndjson_is_sent_as_it_is(tmp_path: Path):
    for name in ("a.ndjson", "a.jsonl", "a.ndjson.gz"):
        (tmp_path / name).write_bytes(b"")
        assert open_source(str(tmp_path / name)) == tmp_path / name


def test_csv_rows_become_points(tmp_path: Path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress('\ufeffid,text,lang\n7,"two\nlines",en\n,plain,\n'.encode()))
    assert list(open_source(str(path))) == [
        {"id": "7", "text": "two\nlines", "metadata": {"lang": "en"}},
        {"id": "2", "text": "plain", "metadata": {}},
    ]
    with pytest.raises(InvalidOption, match="no column 'body', only id, text, lang"):
        list(open_source(str(path), text_field="body"))


def test_lines_of_text_become_points(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("one\n\nthree\n", "utf-8")
    assert [(point["id"], point["text"]) for point in open_source(str(path))] == [("1", "one"), ("3", "three")]


def test_stdin_is_ndjson(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.StringIO('{"id": "a"}\n\n{"id": "b"}\n[]\n'))
    points = iter(open_source("-"))
    assert [next(points), next(points)] == [{"id": "a"}, {"id": "b"}]
    with pytest.raises(Malformed, match="line 4 is not a JSON object"):
        next(points)


def test_other_files_are_refused(tmp_path: Path):
    (tmp_path / "a.pdf").write_bytes(b"")
    with pytest.raises(InvalidOption, match=r"expected a \.ndjson"):
        open_source(str(tmp_path / "a.pdf"))


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
