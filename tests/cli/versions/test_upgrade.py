"""`bebr upgrade` against the real service: every command, the gate, and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.test_commands import run
from tests.client.running import service_of_two_models
from tests.engine.two_models import texts

from bebr.client import Client

TEXTS = texts(60)
Printed = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with service_of_two_models(tmp_path_factory.mktemp("two")) as service:
        yield service.url


@pytest.fixture(autouse=True)
def docs(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """The collection 'docs' by old@1, and a client of the service, which the environment names."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("BEBR_URL", url)
    with Client(url, retries=0) as client:
        client.create_collection("docs", bundle="old@1", text_field="text")
        client.upsert("docs", [{"id": f"p{n}", "text": text} for n, text in enumerate(TEXTS)])
        yield client
        client.delete_collection("docs")


@pytest.fixture
def judged(tmp_path: Path) -> str:
    """A file of judged queries."""
    file = tmp_path / "judged.jsonl"
    lines = [json.dumps({"text": text, "relevant": [f"p{n}"]}) for n, text in enumerate(TEXTS[:20])]
    file.write_text("\n".join(lines), "utf-8")
    return str(file)


def upgrade(*arguments: str) -> int:
    return run("upgrade", *arguments)


def table_of(printed: str) -> list[list[str]]:
    return [line.split() for line in printed.splitlines()]


def test_step_by_step(docs: Client, tmp_path: Path, capsys: Printed):
    assert upgrade("attach", "docs", "new@1") == 0
    rows = table_of(capsys.readouterr().out)
    assert [row[:2] for row in rows[:3]] == [["version", "state"], ["old@1", "active"], ["new@1", "attached"]]
    assert upgrade("evaluate", "docs", "new@1", "--sample", "20", "--points", "50", "--plot", f"{tmp_path}/a.svg") == 0
    assert "<svg" in (tmp_path / "a.svg").read_text("utf-8")
    shown = capsys.readouterr().out
    rows = table_of(shown)
    assert rows[0] == ["old@1", "->", "new@1:", "20", "queries,", "50", "points"]
    assert [row for row in rows if row[:2] == ["old", "old"]]
    kinds = [row[2] if row[0] != "*" else row[3] for row in rows if ["new", "old"] in (row[:2], row[1:3])]
    assert sorted(kinds) == ["compatible", "dual", "linear", "weighted"]
    assert len([row for row in rows if row[:1] == ["*"]]) == 1
    assert [row[1] for row in rows if row[2:3] == ["new"] and "%" in row[1]] == ["25%", "50%", "75%"]
    assert [row for row in rows if row[:2] == ["new", "new"]]
    assert "Promotion changes recall@10 by" in shown
    assert "no relevance judgments" in shown
    assert upgrade("promote", "docs", "new@1", "--min-gain", "-1", "--adapter", "linear") == 0
    assert (
        "'docs': active version is now new@1 (was old@1). old@1's codes are searched through the linear adapter."
        in (capsys.readouterr().out)
    )
    assert upgrade("backfill", "docs", "--rate", "5000", "--wait") == 0
    assert "succeeded: 60 of 60 points" in capsys.readouterr().out
    assert upgrade("retire", "docs", "old@1") == 0
    assert upgrade("status", "docs") == 0
    shown = capsys.readouterr().out
    assert [row[:2] for row in table_of(shown)[-5:-3]] == [["old@1", "retired"], ["new@1", "active"]]
    assert "promote  old@1 -> new@1" in shown
    assert "texts are kept in 'text'" in shown


def test_the_gate_refuses_with_the_numbers(docs: Client, judged: str, capsys: Printed):
    docs.attach_version("docs", "new@1")
    assert upgrade("promote", "docs", "new@1") == 1
    assert "was not evaluated" in capsys.readouterr().err
    assert upgrade("evaluate", "docs", "--queries", judged) == 0
    shown = capsys.readouterr().out
    assert "20 queries with relevance judgments" in shown and "no relevance judgments" not in shown
    assert upgrade("promote", "docs", "new@1", "--min-gain", "0.9") == 1
    printed = capsys.readouterr()
    assert printed.out == shown
    assert printed.err.startswith("error: 'new@1' does not pass the gate")
    assert upgrade("promote", "docs", "new@1", "--min-gain", "0.9", "--json") == 1
    refused = json.loads(capsys.readouterr().out)
    assert refused["min_gain"] == 0.9 and refused["evaluation"]["judged"]
    assert docs.list_versions("docs")["active"] == "old@1"
    assert upgrade("promote", "docs", "new@1", "--min-gain", "0.9", "--force") == 0
    assert "(forced)" in capsys.readouterr().out
    assert upgrade("rollback", "docs") == 0
    assert "'docs': active version is now old@1 (was new@1)." in capsys.readouterr().out
    assert upgrade("status", "docs") == 0
    shown = capsys.readouterr().out
    assert "promote  old@1 -> new@1, forced" in shown and "rollback  new@1 -> old@1" in shown


def test_a_backfill_is_steered_by_the_name_of_its_collection(docs: Client, capsys: Printed):
    assert upgrade("pause", "docs") == 1
    assert "collection 'docs' has no backfill" in capsys.readouterr().err
    docs.attach_version("docs", "new@1")
    docs.promote_version("docs", "new@1", force=True)
    assert upgrade("backfill", "docs", "--rate", "20") == 0
    assert "running: 0 of 60 points" in capsys.readouterr().out
    assert upgrade("pause", "docs") == 0
    assert " paused: " in capsys.readouterr().out
    assert upgrade("status", "docs", "--json") == 0
    assert json.loads(capsys.readouterr().out)["backfill"]["state"] == "paused"
    assert upgrade("pause", "docs") == 1
    capsys.readouterr()
    assert upgrade("resume", "docs") == 0
    assert " running: " in capsys.readouterr().out
    assert upgrade("cancel", "docs", "--json") == 0
    assert json.loads(capsys.readouterr().out)["state"] == "cancelled"
    docs.pause_job(docs.backfill("docs", rate_limit=5000))
    assert upgrade("resume", "docs", "--wait") == 0
    assert "succeeded" in capsys.readouterr().out


def test_all_in_one_go(docs: Client, judged: str, capsys: Printed):
    arguments = ("run", "docs", "new@1", "--queries", judged, "--min-gain", "-1")
    assert upgrade(*arguments) == 1  # nobody is there to say yes
    assert docs.list_versions("docs")["active"] == "old@1"
    assert "Promotion changes nDCG@10" in capsys.readouterr().out
    assert upgrade("run", "docs", "new@1", "--queries", judged, "--min-gain", "0.9", "--yes") == 1
    assert "does not pass the gate" in capsys.readouterr().err
    assert upgrade(*arguments, "--yes", "--backfill", "--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert done["evaluation"]["queries"] == 20
    assert done["promotion"]["to"] == "new@1"
    assert (done["backfill"]["state"], done["backfill"]["applied"]) == ("succeeded", 60)


def test_what_the_old_model_cannot_tell_is_said(capsys: Printed):
    from bebr.cli.versions.tables import print_matrix

    cell = {"ndcg_at_10": 0.5, "recall_at_10": 0.6}
    print_matrix(
        {"active": "a@1", "version": "b@1", "measure": "ndcg_at_10", "judged": True, "queries": 3, "points": 30}
        | {"adapter": "linear", "old_to_old": None, "new_to_old": cell, "new_to_new": None, "mixed": {}}
        | {"adapters": {"linear": cell | {"gain": None}}, "gain": None, "update_gain": None, "negative_flips": None}
    )
    shown = capsys.readouterr().out
    assert ["*", "new", "old", "linear", "0.500", "0.600"] in table_of(shown)
    assert "There is no old->old result to compare with" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("attach", "docs", "none@1"), "no bundle 'none@1'"),
        (("evaluate", "docs"), "has no version but the active one"),
        (("evaluate", "docs", "--adapter", "guess"), "--adapter: expected one of compatible, linear, dual, weighted"),
        (("evaluate", "docs", "--queries", "none.jsonl"), "there is no file 'none.jsonl'"),
        (("evaluate", "docs", "--plot", "a.gif"), "--plot: expected a file that ends in"),
        (("rollback", "docs"), "has no promotion to undo"),
        (("retire", "docs", "old@1"), "is in use"),
        (("status", "none"), "none"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_1(arguments: tuple[str, ...], message: str, capsys: Printed):
    assert upgrade(*arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err


@pytest.mark.parametrize(("content", "message"), [("", "has no queries"), ("{}\n[", "line 2 is not valid JSON")])
def test_a_file_of_queries_is_checked(content: str, message: str, tmp_path: Path, capsys: Printed):
    file = tmp_path / "queries.jsonl"
    file.write_text(content)
    assert upgrade("evaluate", "docs", "--queries", str(file)) == 1
    assert message in capsys.readouterr().err


def test_ingest_makes_a_collection_that_keeps_its_texts(docs: Client, tmp_path: Path, capsys: Printed):
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(TEXTS))
    new = ("ingest", str(file), "-c", "kept", "--bundle", "old@1", "--keep-text")
    assert run(*new, "text") == 0
    assert docs.describe_collection("kept")["text_field"] == "text"
    assert run(*new, "text") == 0
    assert run(*new, "body") == 1
    assert "'kept' keeps its texts in 'text'" in capsys.readouterr().err
    assert run("ingest", str(file), "-c", "kept", "--keep-text", "text") == 0, "it is what it asks for"
    docs.delete_collection("kept")
