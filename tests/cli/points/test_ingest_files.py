"""`bebr ingest` with files of other programs against the real service: what it rejects, and that nothing is made of a
file that cannot be read."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_commands import run
from tests.client.running import running_service, tiny_text_bundle

from bebr.client import Client

Printed = pytest.CaptureFixture[str]
FIELDS = {"year": "integer", "price": "float", "draft": "bool", "tags": "keyword[]", "lang": "keyword"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    bundles = tmp_path_factory.mktemp("bundles")
    for version in ("1", "2"):
        tiny_text_bundle(bundles, tmp_path_factory.mktemp("checkpoint"), version=version)
    with (
        running_service(tmp_path_factory.mktemp("service"), bundles_dir=bundles) as running,
        Client(running.url) as client,
    ):
        client.create_collection("docs", bundle="minilm@1", filterable=FIELDS)
        client.create_collection("texts", bundle="minilm@1", text_field="text")
        yield client


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, service: Client):
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("BEBR_URL", str(service._http.base_url))


def ingest(capsys: Printed, file: Path, *options: str, collection: str = "docs") -> dict[str, Any]:
    capsys.readouterr()
    code = run("ingest", str(file), "-c", collection, "--json", *options)
    job: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == (1 if job["rejected"] else 0) and job["state"] == "succeeded"
    return job


def test_rows_are_typed_and_rejected_with_the_line_of_the_file(service: Client, tmp_path: Path, capsys: Printed):
    file = tmp_path / "data.csv"
    rows = [
        "\ufeffid,text,lang,year,price,draft,tags",
        'a,"two\nlines",en,2024.0,1.5,TRUE,"[""sea""]"',
        "b,Hello, world,en,2024,1,false,",
        "c,text,en,soon,1,false,",
        "d,text,en,2024,1,1,",
        "e,text,en,2024,1,false,sea;food",
        "f,text,de,9223372036854775808,1,false,",
        ",text,de,2024,1,false,",
        "g,,de,2024,1,false,",
        "h,text,de,-1,1e3,False,[]",
    ]
    file.write_text("\n".join(rows), "utf-8")
    service.create_collection("rows", bundle="minilm@1", filterable=FIELDS)
    job = ingest(capsys, file, collection="rows")
    assert [(error["line"], error["error"]) for error in job["errors"]] == [
        (4, "Malformed"),
        *((line, "InvalidMetadata") for line in (5, 6, 7, 8)),
        (9, "InvalidId"),
        (10, "InvalidText"),
    ]
    assert (job["applied"], job["rejected"], job["received"]) == (2, 7, 9)
    found = {point.id: point.metadata for point in service.scroll("rows")}
    assert found == {
        "a": {"lang": "en", "year": 2024.0, "price": 1.5, "draft": True, "tags": ["sea"]},
        "h": {"lang": "de", "year": -1, "price": 1000.0, "draft": False, "tags": []},
    }
    assert service.count("rows", {"must": [{"key": "year", "match": {"value": 2024}}]}) == 1
    assert run("ingest", str(file), "-c", "rows") == 1
    shown = capsys.readouterr()
    assert "2 applied, 7 rejected" in shown.out and "line 4: Malformed: expected 7 cells" in shown.err


def test_a_long_cell_and_a_file_that_is_cut_are_one_line_each(tmp_path: Path, capsys: Printed):
    file = tmp_path / "data.csv"
    file.write_text(f"id,text,note\nx,text,{'y' * 140_000}\nz,{'y' * 140_000},\n")
    assert [(e["line"], e["error"]) for e in ingest(capsys, file)["errors"]] == [
        (2, "InvalidMetadata"),
        (3, "InvalidText"),
    ]
    for name in ("cut.csv.gz", "cut.txt.gz", "CUT.NDJSON.GZ"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(b"id,text\n" + b"x,y\n" * 100)[:-4])
        assert run("ingest", str(path), "-c", "docs") == 1
        shown = capsys.readouterr().err
        assert "gzip data is cut short" in shown and name in shown and "Aborted" not in shown


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("missing.csv", None, (), "there is no file"),
        ("a.pdf", b"%PDF", (), "expected a .ndjson"),
        ("a.csv", b"id,body\na,b\n", (), "no column 'text'"),
        ("a.csv", b"id,text,text\na,b,c\n", (), "two columns are named 'text'"),
        ("a.csv", b"", (), "names of the columns"),
        ("a.csv.gz", b"\x1f\x8b\x08", (), "cut short"),
        ("a.ndjson", "{}".encode("utf-16"), (), "UTF-16"),
        ("a.ndjson", b"PAR1\x15", (), "Parquet"),
        ("a.ndjson", b"{}", ("--id-field", "id"), "--id-field applies to"),
        ("a.txt", b"x", ("--text-field", "text"), "--text-field applies to"),
        ("a.csv", b"id,text\na,b\n", ("--mode", "sideways"), "--mode: expected one of"),
    ],
)
def test_no_collection_is_created_for_what_cannot_be_read(
    service: Client,
    tmp_path: Path,
    capsys: Printed,
    name: str,
    content: bytes | None,
    options: tuple[str, ...],
    message: str,
):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    assert run("ingest", str(file), "-c", "new", "--bundle", "minilm@1", *options) == 1
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1 and shown.out == ""
    assert "new" not in [collection["name"] for collection in service.list_collections()]


def test_a_bundle_that_the_collection_does_not_have_is_an_error(tmp_path: Path, capsys: Printed):
    file = tmp_path / "a.txt"
    file.write_text("a text\n")
    assert run("ingest", str(file), "-c", "texts", "--bundle", "minilm@2") == 1
    assert "so --bundle 'minilm@2' does not apply" in capsys.readouterr().err
    assert run("ingest", str(file), "-c", "texts", "--bundle", "minilm@1", "--keep-text", "text") == 0


def test_a_collection_that_keeps_texts_gets_whole_ones(service: Client, tmp_path: Path, capsys: Printed):
    file = tmp_path / "a.txt"
    file.write_text("a short one\n" + "long " * 6000 + "\n")
    assert ingest(capsys, file, collection="texts")["applied"] == 2
    assert len((service.get_point("texts", "2").metadata or {})["text"]) == 6000 * 5 - 1


def test_options_of_a_service_do_not_apply_to_a_folder(tmp_path: Path, capsys: Printed):
    (tmp_path / "file").write_text("x")
    assert run("inspect", f"{tmp_path}/") == 0
    for option in ("--url", "--api-key"):
        assert run("inspect", f"{tmp_path}/", option, "x") == 1
        assert f"{option} is of a service" in capsys.readouterr().err
