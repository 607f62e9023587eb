"""`bebr ingest` with what `bebr encode` wrote: the service stores what it stores of the same texts, and refuses what
another bundle made."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.bulk.encoding import rows_of, text_of, write_csv, write_ndjson, write_parquet
from tests.cli.test_commands import run
from tests.client.running import running_service, tiny_text_bundle
from tests.engine.two_models import text_bundle

from bebr.client import Client
from bebr.encoding import Bundle

Printed = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    text_bundle(folder / "bundles", "other@2", seed=1)
    return tiny_text_bundle(folder / "bundles", folder / "checkpoint")


@pytest.fixture(scope="module")
def service(folder: Path, bundle: Bundle) -> Iterator[Client]:
    with (
        running_service(folder / "service", bundles_dir=folder / "bundles") as running,
        Client(running.url) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, service: Client) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("BEBR_URL", str(service._http.base_url))


def encode(bundle: Bundle, output: Path, *files: Path, more: tuple[str, ...] = ()) -> None:
    assert run("encode", *map(str, files), "--bundle", str(bundle.path), "-o", str(output), *more) == 0


def stored(service: Client, name: str) -> dict[str, Any]:
    """(code, metadata) by id."""
    ids = [point.id for point in service.scroll(name)]
    return {point.id: (point.code, point.metadata) for point in service.get(name, ids, with_code=True).points}


@pytest.mark.parametrize("write", [write_parquet, write_csv, write_ndjson])
def test_the_service_stores_what_it_stores_of_the_same_texts(
    service: Client, bundle: Bundle, tmp_path: Path, write: Any
) -> None:
    """The oracle is `bebr ingest` of the files themselves, where the service encodes."""
    kind = write.__name__.removeprefix("write_")
    file = write(tmp_path / f"in.{kind}", rows_of(500))
    options = ("--keep-text", "body", "--filterable", "year=integer", "--bundle", "minilm@1")
    assert run("ingest", str(file), "-c", f"{kind}-itself", *options) == 0
    encode(bundle, tmp_path / "out", file, more=("--parts", "3", "--keep-text", "body"))
    for _ in range(2):  # the same command again changes nothing
        assert run("ingest", str(tmp_path / "out"), "-c", f"{kind}-records", *options) == 0
        assert stored(service, f"{kind}-records") == stored(service, f"{kind}-itself")
    filter = {"must": [{"key": "year", "match": {"value": 2007}}]}
    assert service.count(f"{kind}-records", filter) == service.count(f"{kind}-itself", filter) > 0
    hits = [service.search(f"{kind}-{which}", text_of(3), limit=5).hits for which in ("records", "itself")]
    assert hits[0] == hits[1]


def test_a_new_collection_gets_the_bundle_of_the_files(
    service: Client, bundle: Bundle, tmp_path: Path, capsys: Printed
) -> None:
    file = write_parquet(tmp_path / "in.parquet", rows_of(20))
    encode(bundle, tmp_path / "out", file)
    capsys.readouterr()
    assert run("ingest", str(tmp_path / "out"), "-c", "new", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["state"], report["applied"], report["rejected"], report["errors"]) == ("succeeded", 20, 0, [])
    assert service.describe_collection("new")["bundle"] == "minilm@1"
    assert run("ingest", str(tmp_path / "out"), "-c", "new", "--mode", "insert_only", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["rejected"] == 20 and {error["error"] for error in report["errors"]} == {"AlreadyExists"}
    assert (report["errors"][3]["line"], report["errors"][3]["file"]) == (4, "part-00000-of-00001.parquet")


def test_what_another_bundle_made_is_refused(service: Client, bundle: Bundle, tmp_path: Path, capsys: Printed) -> None:
    file = write_parquet(tmp_path / "in.parquet", rows_of(20))
    encode(Bundle.load(bundle.path.parent / "other@2"), tmp_path / "out", file)
    service.create_collection("mine", bundle="minilm@1")
    capsys.readouterr()
    assert run("ingest", str(tmp_path / "out"), "-c", "mine") == 1
    said = capsys.readouterr().err
    assert bundle.fingerprint[:16] in said and "'minilm@1'" in said and service.count("mine") == 0
    assert run("ingest", str(tmp_path / "out"), "-c", "mine2", "--bundle", "minilm@1") == 1
    assert "encoded by other@2, got minilm@1" in capsys.readouterr().err
    encode(text_bundle(tmp_path / "bundles", "gone@1", seed=2), tmp_path / "gone", file)
    assert run("ingest", str(tmp_path / "gone"), "-c", "mine2") == 1
    assert "gone@1" in capsys.readouterr().err and "mine2" not in [c["name"] for c in service.list_collections()]


def test_folders_that_lack_parts_and_mixed_files_are_refused(
    service: Client, bundle: Bundle, tmp_path: Path, capsys: Printed
) -> None:
    file = write_parquet(tmp_path / "in.parquet", rows_of(600))
    out = tmp_path / "out"
    encode(bundle, out, file, more=("--parts", "3"))
    other = tmp_path / "mixed"
    encode(Bundle.load(bundle.path.parent / "other@2"), other, file)
    part = str(out / "part-00002-of-00003.parquet")
    cases: list[tuple[tuple[str, ...], str]] = [
        ((part, str(file)), "is encoded already, and"),
        ((str(out), str(other)), "ingest those of one bundle"),
        ((str(out), "--text-field", "text"), "--text-field does not apply: these files are encoded already"),
        ((str(out), "--flat"), "--flat does not apply"),
        ((str(out), "--detach"), "--detach does not apply"),
    ]
    for arguments, message in cases:
        assert run("ingest", *arguments, "-c", "parts") == 1
        assert message in capsys.readouterr().err
    (out / "part-00001-of-00003.parquet").unlink()
    assert run("ingest", str(out), "-c", "parts") == 1
    assert "lacks 1 of 3 parts (1)" in capsys.readouterr().err
    assert run("ingest", part, "-c", "parts", "--bundle", "minilm@1") == 0
    assert 0 < service.count("parts") < 600


def test_of_repeated_ids_the_last_counts(service: Client, bundle: Bundle, tmp_path: Path) -> None:
    rows = [{**row, "id": f"p{n % 7}"} for n, row in enumerate(rows_of(60))]
    file = write_parquet(tmp_path / "in.parquet", rows)
    encode(bundle, tmp_path / "out", file)
    assert run("ingest", str(tmp_path / "out"), "-c", "twice") == 0
    assert run("ingest", str(file), "-c", "twice-itself", "--bundle", "minilm@1") == 0
    assert stored(service, "twice") == stored(service, "twice-itself")


def test_a_damaged_file_is_named_and_what_came_before_is_kept(
    service: Client, bundle: Bundle, tmp_path: Path, capsys: Printed
) -> None:
    file = write_parquet(tmp_path / "in.parquet", rows_of(600))
    encode(bundle, tmp_path / "out", file, more=("--parts", "2"))
    damaged = tmp_path / "out" / "part-00001-of-00002.parquet"
    data = bytearray(damaged.read_bytes())
    data[len(data) // 4] ^= 0xFF
    damaged.write_bytes(data)
    assert run("ingest", str(tmp_path / "out"), "-c", "damaged") == 1
    said = capsys.readouterr().err
    assert damaged.name in said and "encode it again" in said and 0 < service.count("damaged") < 600
    shutil.rmtree(tmp_path / "out")
