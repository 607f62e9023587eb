"""`bebr ingest`, `bebr inspect` and a failing `bebr search` against the real service."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.test_commands import run
from tests.client.running import running_service

from bebr.client import Client
from bebr.core.codes import CodeSpec, pack_levels

SPEC = CodeSpec.parse("24x2")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_service(tmp_path_factory.mktemp("service")) as service, Client(service.url) as client:
        client.create_collection("docs", code=str(SPEC), filterable={"lang": "keyword"})
        yield service.url


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, url: str):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("BEBR_URL", url)


def lines(count: int) -> list[str]:
    codes = pack_levels(np.zeros((count, SPEC.dims), np.uint8), SPEC)
    made: list[dict[str, Any]] = [
        {"id": f"p{i}", "code_b64": base64.b64encode(code.tobytes()).decode(), "metadata": {"lang": "en"}}
        for i, code in enumerate(codes)
    ]
    return [json.dumps(point) for point in made]


def test_ingest_tells_what_was_applied(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "points.ndjson"
    file.write_text("\n".join(lines(100)))
    assert run("ingest", str(file), "-c", "docs") == 0
    assert "succeeded: 100 applied, 0 rejected" in capsys.readouterr().out


def test_ingest_names_rejected_lines_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "points.ndjson"
    file.write_text("\n".join([*lines(3), "{", '{"id": "x"}', *["[]"] * 20]))
    assert run("ingest", str(file), "-c", "docs") == 1
    printed = capsys.readouterr()
    assert "3 applied, 22 rejected" in printed.out
    assert "line 4: Malformed" in printed.err
    assert "line 5: InvalidOption" in printed.err
    assert "and 12 more" in printed.err
    assert run("ingest", str(file), "-c", "docs", "--json") == 1
    shown = json.loads(capsys.readouterr().out)
    assert (shown["state"], shown["applied"], len(shown["errors"])) == ("succeeded", 3, 22)


def test_ingest_into_nothing_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "points.ndjson"
    file.write_text("\n".join(lines(1)))
    assert run("ingest", str(file), "-c", "none") == 1
    assert "'none'; create it with --bundle" in capsys.readouterr().err


def test_inspect_shows_collections(capsys: pytest.CaptureFixture[str]):
    assert run("inspect") == 0
    table = capsys.readouterr().out
    assert "docs" in table
    assert "24x2" in table
    assert run("inspect", "docs") == 0
    assert "filterable" in capsys.readouterr().out
    assert run("inspect", "docs", "--json") == 0
    assert json.loads(capsys.readouterr().out)["code"] == "24x2"
    assert run("inspect", "none") == 1


def test_search_that_cannot_be_answered_is_one_line(capsys: pytest.CaptureFixture[str]):
    assert run("search", "words", "-c", "docs") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
