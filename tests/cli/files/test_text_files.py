"""Files as what is sent: NDJSON as it is, rows of CSV, TSV and text as the lines that they have in the file."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from bebr.cli.files.columns import FileOptions, Target
from bebr.cli.files.json_files import json_objects
from bebr.cli.files.sources import Sources
from bebr.core.types import FieldType
from bebr.errors import InvalidOption, Malformed

FIELDS = {
    "year": FieldType.INTEGER,
    "price": FieldType.FLOAT,
    "draft": FieldType.BOOL,
    "tags": FieldType.KEYWORDS,
    "code": FieldType.KEYWORD,
}


def read(path: Path, keeps_texts: bool = False, **options: Any) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    """(points by line, errors by line)."""
    source = Sources([str(path)], FileOptions(**options))
    body = source.body(Target(FIELDS, "text" if keeps_texts else None))
    assert not isinstance(body, Path)
    lines = b"".join(body).split(b"\n")
    points = {number: json.loads(line) for number, line in enumerate(lines, 1) if line}
    return points, {error["line"]: f"{error['error']}: {error['detail']}" for error in source.rejected.errors}


def write(folder: Path, content: bytes | str, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_ndjson_is_sent_as_it_is(tmp_path: Path):
    for name in ("a.ndjson", "a.JSONL", "a.ndjson.gz"):
        path = write(tmp_path, b"{}", name)
        assert Sources([str(path)]).body(Target()) == path


@pytest.mark.parametrize("name", ["a.csv", "a.CSV.GZ", "a.csv.gz", "a.Csv"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_keep_the_lines_that_they_have_in_the_file(tmp_path: Path, name: str, end: str):
    rows = ["\ufeffid,text,lang", '7,"two', 'lines",en', "", '8,"a ""b"" c, d",', "9,plain\u2028\x85\x0c,de"]
    text = end.join(rows).encode()
    for content in (text, gzip.compress(text), gzip.compress(text[:9]) + gzip.compress(text[9:])):
        points, errors = read(write(tmp_path, content, name))
        assert errors == {}
        assert points == {
            2: {"id": "7", "text": f"two{end}lines", "metadata": {"lang": "en"}},
            5: {"id": "8", "text": 'a "b" c, d', "metadata": {}},
            6: {"id": "9", "text": "plain\u2028\x85\x0c", "metadata": {"lang": "de"}},
        }


def test_what_a_strict_reader_would_stumble_over_is_rejected_with_its_line(tmp_path: Path):
    rows = [
        b"id,text,lang",
        b"a,Hello, world,en",
        b"b,good,en",
        b"c,short",
        b'd,say "hi",en',
        b'e,"abc"x,en',
        b'f, "abc",en',
        b"g,caf\xe9,en",
        b"h,nu\0l,en",
        b"i,good,en",
    ]
    points, errors = read(write(tmp_path, b"\n".join(rows)))
    assert list(points) == [3, 10]
    assert "expected 3 cells (id, text, lang), got 4" in errors[2] and "got 2" in errors[4]
    assert all("a quote stands inside a cell" in errors[line] for line in (5, 6, 7))
    assert "not valid UTF-8: byte 0xe9" in errors[8] and "NUL" in errors[9]
    assert all(error.startswith("Malformed: ") for error in errors.values())


def test_after_a_quote_that_is_never_closed_nothing_is_guessed(tmp_path: Path):
    points, errors = read(write(tmp_path, 'id,text\na,one\nb,"two\nc,three\n'))
    assert list(points) == [2] and list(errors) == [3] and "a quote is opened and never closed" in errors[3]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("id,text,lang,lang\na,b,c,d\n", {}, "two columns are named 'lang'"),
        ("id,text,\na,b,c\n", {}, "column 3 of 3 has no name"),
        ("id,body\na,b\n", {}, "no column 'text', only id, body; name the column with --text-field"),
        ("key,text\na,b\n", {"id_field": "id"}, "no column 'id', only key, text"),
        ("", {}, "names of the columns"),
        ('id,"text\na,b\n', {}, "never closed"),
        (b"\xff\xfei\0d\0,\0", {}, "got UTF-16"),
        (b"id,text,caf\xe9\n", {}, "not valid UTF-8"),
        (b"PK\x03\x04abc", {}, "got zip"),
        (b"\x28\xb5\x2f\xfdabc", {}, "got zstd"),
        (b"\xfd7zXZ\0abc", {}, "got xz"),
        (b"PAR1\x15\x04", {}, "got Parquet"),
        (gzip.compress(b"id,text\n", mtime=0)[:5], {}, "the gzip data is cut short"),
        (gzip.compress(gzip.compress(b"id,text\na,b\n", mtime=0), mtime=0), {}, "got gzip inside gzip"),
    ],
)
def test_what_cannot_be_read_is_known_before_anything_is_sent(
    tmp_path: Path, content: bytes | str, options: dict[str, Any], message: str
):
    with pytest.raises((InvalidOption, Malformed), match=message) as caught:
        Sources([str(write(tmp_path, content))], FileOptions(**options))
    assert caught.value.detail.startswith("a.csv: ")


def test_gzip_that_is_cut_short_keeps_the_rows_before(tmp_path: Path):
    rows = b"id,text\n" + b"".join(b"%d,text %d\n" % (i, i * 7919 % 1000) for i in range(60_000))
    points, errors = read(write(tmp_path, gzip.compress(rows)[:-1000], "a.csv.gz"))
    assert len(points) > 30_000 and [*errors.values()] == [
        "Malformed: a.csv.gz: the gzip data is cut short; send all of it"
    ]


def test_cells_are_read_by_the_declared_type(tmp_path: Path):
    header = "id\ttext\tyear\tprice\tdraft\ttags\tcode\tother\n"
    rows = [
        'a\tx\t2024\t1.5\tTrue\t["sea", "food"]\t007\t12',
        "b\tx\t2024.0\t2\tfalse\t[]\t1e5\ttrue",
        "c\tx\t2_024\tnan\tyes\tsea;food\t\t",
        "d\tx\t007\t1e999\t1\t['sea']\t\t",
        "e\tx\t-5\t-1.5e-3\tFALSE\t\t\t",
    ]
    points, errors = read(
        write(tmp_path, (header + "\n".join(rows)).replace('["sea", "food"]', '"[""sea"", ""food""]"'), "a.tsv")
    )
    assert errors == {}
    assert [point["metadata"] for point in points.values()] == [
        {"year": 2024, "price": 1.5, "draft": True, "tags": ["sea", "food"], "code": "007", "other": "12"},
        {"year": 2024.0, "price": 2, "draft": False, "tags": [], "code": "1e5", "other": "true"},
        {"year": "2_024", "price": "nan", "draft": "yes", "tags": "sea;food"},  # the service refuses these
        {"year": "007", "price": "1e999", "draft": "1", "tags": "['sea']"},
        {"year": -5, "price": -0.0015, "draft": False},
    ]


def test_ids_come_from_a_column_or_count_the_rows(tmp_path: Path):
    assert [p["id"] for p in read(write(tmp_path, "text\na\n\nb\n"))[0].values()] == ["1", "2"]
    points, _ = read(write(tmp_path, "key,body\na,x\n,y\n"), id_field="key", text_fields=("body",))
    assert [p["id"] for p in points.values()] == ["a", ""]  # the service refuses the second


def test_a_cell_may_be_longer_than_other_readers_allow(tmp_path: Path):
    points, errors = read(write(tmp_path, f"id,text\na,{'x' * 200_000}\n"))
    assert len(points[2]["text"]) == 200_000 and errors == {}
    points, errors = read(write(tmp_path, f"id,text\nb,x\na,{'x' * (5 << 20)}\nc,y\n"))
    assert list(points) == [2] and errors[3].startswith("PayloadTooLarge")


def test_lines_of_text_become_points(tmp_path: Path):
    path = write(tmp_path, b"\xef\xbb\xbfone\n\n caf\xe9\nthree\xe2\x80\xa8four\r\n" + b"x" * 20_000, "a.txt")
    points, errors = read(path)
    assert [(line, p["id"], p["text"]) for line, p in points.items() if line < 5] == [
        (1, "1", "one"),
        (4, "4", "three\u2028four"),
    ]
    assert list(errors) == [3] and points[1]["metadata"] == {"text": "one"}
    assert len(points[5]["text"]) == 20_000 and len(points[5]["metadata"]["text"]) == 10_000
    assert read(path, keeps_texts=True)[0][1]["metadata"] == {}


@pytest.mark.parametrize("name", ["a.ndjson", "a.txt", "-"])
@pytest.mark.parametrize("option", ["id_field", "text_fields", "vector_field"])
def test_options_of_columns_apply_to_nothing_else(tmp_path: Path, name: str, option: str):
    write(tmp_path, "{}", "a.ndjson"), write(tmp_path, "x", "a.txt")
    file = name if name == "-" else str(tmp_path / name)
    flag = option.replace("_", "-").replace("fields", "field")
    with pytest.raises(InvalidOption, match=f"--{flag} applies to .csv and .tsv"):
        Sources([file], FileOptions(**{option: ("x",) if option == "text_fields" else "x"}))  # type: ignore[arg-type]


def test_other_files_are_refused(tmp_path: Path):
    with pytest.raises(InvalidOption, match=r"expected a \.ndjson"):
        Sources([str(write(tmp_path, b"", "a.pdf"))])
    with pytest.raises(InvalidOption, match="there is no file"):
        Sources([str(tmp_path / "b.csv")])


def test_objects_of_a_file_are_named_by_their_lines(tmp_path: Path):
    assert list(json_objects(write(tmp_path, b'\xef\xbb\xbf{"a":1}\r\n\r\n{"b":2}'))) == [{"a": 1}, {"b": 2}]
    for bad in (b"[]", b"{", b'{"a":"\\ud800"}'):
        with pytest.raises(Malformed, match=r"a\.csv: line 3 is not"):
            list(json_objects(write(tmp_path, b"{}\n\n" + bad)))


@pytest.mark.parametrize("delimiter", [";", "|", "]", "^", "\\", ".", "tab", "§"])
def test_any_delimiter(tmp_path: Path, delimiter: str):
    sign = "\t" if delimiter == "tab" else delimiter
    rows = [["id", "text", "lang"], ["a", f'"x{sign} ""y"""', "en"], ["b", "z", ""]]
    path = write(tmp_path, "\n".join(sign.join(row) for row in rows), "a.txt")
    points, errors = read(path, delimiter=delimiter)
    assert errors == {} and points[2] == {"id": "a", "text": f'x{sign} "y"', "metadata": {"lang": "en"}}


@pytest.mark.parametrize("delimiter", ["", "ab", '"', "\n"])
def test_what_is_no_delimiter(tmp_path: Path, delimiter: str):
    with pytest.raises(InvalidOption, match="--delimiter: expected one character"):
        Sources([str(write(tmp_path, "a\n"))], FileOptions(delimiter=delimiter or "  "))


def test_texts_of_several_columns_are_joined_and_kept(tmp_path: Path):
    path = write(tmp_path, "sku,title,description,year\n1,Lamp,Brass.,2020\n2,,Glove,\n3,,,\n")
    points, _ = read(path, id_field="sku", text_fields=("title", "description"))
    assert points[2] == {
        "id": "1",
        "text": "Lamp\nBrass.",
        "metadata": {"title": "Lamp", "description": "Brass.", "year": 2020},
    }
    assert points[3]["text"] == "Glove" and points[4]["text"] == ""  # the service refuses the last


def test_cells_of_vectors_are_arrays(tmp_path: Path):
    path = write(tmp_path, 'id,emb,note\na,"[1, 2.5]",x\nb,no,y\nc,"[""x""]",z\n')
    points, errors = read(path)
    assert points == {2: {"id": "a", "vector_b64": "AACAPwAAIEA=", "metadata": {"note": "x"}}}
    assert errors[3].startswith("InvalidVector") and errors[4].startswith("InvalidVector")
