"""Files as points: NDJSON, CSV, text and stdin."""

import gzip
import io
from pathlib import Path

import pytest

from bebr.cli.points.sources import open_source
from bebr.errors import InvalidOption, Malformed


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
