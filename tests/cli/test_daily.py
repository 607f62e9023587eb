"""`bebr collection`, `points`, `alias` and `jobs` against the real service."""

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

Printed = pytest.CaptureFixture[str]
SPEC = CodeSpec.parse("24x2")


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    with running_service(tmp_path / "data") as service, Client(service.url) as client:
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setenv("BEBR_URL", service.url)
        yield client


def fill(client: Client, name: str = "docs", count: int = 30) -> None:
    code = pack_levels(np.ones((1, SPEC.dims), np.uint8), SPEC)[0].tobytes()
    client.upsert(name, [{"id": f"p{n:02}", "code": code, "metadata": {"n": n}} for n in range(count)])


def test_collections_from_their_beginning_to_their_end(client: Client, capsys: Printed):
    def shown(*arguments: str, code: int = 0) -> Any:
        assert run(*arguments, "--json") == code
        return json.loads(capsys.readouterr().out)

    fields = ("--filterable", "n=integer,tag=keyword", "--filterable", "tags=keyword[]")
    made = shown("collection", "create", "docs", "--code", "24x2", *fields, "--shards", "3", "--recall", "none")
    assert made["filterable"] == {"n": "integer", "tag": "keyword", "tags": "keyword[]"}
    assert len(made["shards"]) == 3 and made["recall"] is None
    assert shown("collection", "create", "own", "--fit", '{"bytes": 4, "dims": 24}', "--text-field", "body")["fit"]
    assert run("collection", "list") == 0
    table = capsys.readouterr().out
    assert "docs" in table and "own" in table
    assert [c["name"] for c in shown("collection", "list")["collections"]] == ["docs", "own"]
    assert shown("collection", "set", "docs", "--recall", "0.9")["recall"] == 0.9
    assert run("collection", "set", "docs", "--recall", "none") == 0
    assert "'docs': recall none, filterable fields: n integer, tag keyword" in capsys.readouterr().out
    fill(client)
    assert shown("collection", "set", "docs", "--filterable", "more=float,tag=none")["filterable"] == {
        "n": "integer",
        "tags": "keyword[]",
        "more": "float",
    }
    assert run("collection", "set", "docs") == 1 and "nothing to change" in capsys.readouterr().err
    assert shown("collection", "create", "dims", "--dims", "100", "--fit", "false", "--filterable", "auto")[
        "auto_filterable"
    ]
    assert shown("collection", "show", "docs")["points"] == 30
    assert run("collection", "show", "docs") == 0 and "filterable" in capsys.readouterr().out
    assert run("collection", "delete", "docs") == 1
    assert "this would delete 'docs' with 30 points; give --yes" in capsys.readouterr().err
    assert shown("collection", "delete", "docs", "--yes") == {"deleted": "docs", "points": 30}
    assert run("collection", "show", "docs") == 1


def test_points_are_read_counted_and_deleted(client: Client, capsys: Printed):
    client.create_collection("docs", code=str(SPEC), filterable={"n": "integer"})
    fill(client)
    capsys.readouterr()

    def lines(*arguments: str, code: int = 0) -> list[Any]:
        assert run("points", *arguments) == code
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert lines("get", "docs", "p03", "p01") == [
        {"id": "p03", "version": "24x2", "metadata": {"n": 3}},
        {"id": "p01", "version": "24x2", "metadata": {"n": 1}},
    ]
    assert lines("get", "docs", "p03", "--with-code")[0]["code_b64"]
    (found,) = lines("get", "docs", "p03", "nope", "--json", code=1)
    assert found["missing"] == ["nope"] and len(found["points"]) == 1
    assert [point["id"] for point in lines("scroll", "docs", "-n", "3")] == ["p00", "p01", "p02"]
    some = '{"must": [{"key": "n", "range": {"gte": 28}}]}'
    assert [point["metadata"] for point in lines("scroll", "docs", "-f", some, "--show", "x")] == [{}, {}]
    assert lines("count", "docs") == [30] and lines("count", "docs", "-f", "n=4", "--json") == [{"count": 1}]
    assert lines("delete", "docs", "p00", "p01", "nope", "--json") == [{"deleted": 2}]
    assert lines("delete", "docs", "-f", some, "--dry-run", "--json") == [{"would_delete": 2}]
    assert run("points", "delete", "docs", "-f", some) == 1
    assert "this would delete 2 points of 'docs'" in capsys.readouterr().err
    assert lines("delete", "docs", "-f", some, "-y", "--json") == [{"deleted": 2}] and client.count("docs") == 26
    for wrong in ((), ("p03", "-f", some)):
        assert run("points", "delete", "docs", *wrong) == 1
        assert "give either ids or --filter" in capsys.readouterr().err


@pytest.fixture(autouse=True)
def _json_document_in_a_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bebr.cli.output.print_json", lambda value: print(json.dumps(value, default=str)))


def test_aliases_are_set_moved_and_deleted(client: Client, capsys: Printed):
    for name in ("a", "b"):
        client.create_collection(name, code=str(SPEC))
    assert run("alias", "list") == 0 and "no aliases yet" in capsys.readouterr().out
    assert run("alias", "set", "prod", "a") == 0 and run("alias", "set", "prod", "b") == 0
    capsys.readouterr()
    assert run("alias", "list") == 0 and "prod   b" in capsys.readouterr().out
    assert run("alias", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"aliases": {"prod": "b"}}
    assert run("alias", "set", "prod", "none") == 1 and run("alias", "set", "a", "b") == 1
    assert run("alias", "delete", "prod") == 0 and client.list_aliases() == {}
    assert run("alias", "delete", "prod") == 1


def test_jobs_are_listed_shown_waited_for_and_cancelled(client: Client, tmp_path: Path, capsys: Printed):
    client.create_collection("docs", code=str(SPEC))
    assert run("jobs", "list") == 0 and "no jobs yet" in capsys.readouterr().out
    file = tmp_path / "a.ndjson"
    file.write_text('{"id": "x"}\n{"id": "y"}\n')
    assert run("ingest", str(file), "-c", "docs", "--detach", "--json") == 0
    job = json.loads(capsys.readouterr().out)["job"]
    assert run("jobs", "wait", job) == 0
    assert f"job {job} succeeded: 0 applied, 2 rejected" in capsys.readouterr().out
    assert run("jobs", "show", job, "--errors") == 0
    first, *errors = capsys.readouterr().out.splitlines()
    assert "succeeded" in first and [json.loads(error)["line"] for error in errors] == [1, 2]
    assert run("jobs", "show", job, "--errors", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["errors"]) == 2
    assert run("jobs", "list") == 0
    table = capsys.readouterr().out
    assert job in table and "ingest" in table and "docs" in table
    assert run("jobs", "list", "--json") == 0
    assert [found["job"] for found in json.loads(capsys.readouterr().out)["jobs"]] == [job]
    assert run("jobs", "cancel", job) == 0  # it has ended: nothing changes
    for command in ("show", "wait", "cancel"):
        assert run("jobs", command, "none") == 1
