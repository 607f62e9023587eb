"""The command line without a service: help, exit codes, settings, and the page that lists every command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.waiting import PATIENCE_SECONDS

from bebr.cli import main
from bebr.cli.app import app
from bebr.cli.reference import commands, markdown

ROOT = Path(__file__).parents[2]
COMMANDS = [name.split()[1:] for name, _ in commands(app, "bebr")]
NOTHING_LISTENS = "http://127.0.0.1:9"


def run(*arguments: str) -> int:
    """The exit code of `bebr` with these arguments."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    code = ended.value.code
    return code if isinstance(code, int) else 0


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("BEBR_URL", "BEBR_API_KEY", "BEBR_CONFIG", "BEBR_PORT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command: list[str], capsys: pytest.CaptureFixture[str]):
    assert run(*command, "--help") == 0
    shown = capsys.readouterr().out
    assert "Usage" in shown
    assert command[-1] in shown


def test_the_commands_are_those_that_were_promised():
    names = {command[0] for command in COMMANDS}
    promised = "serve demo ingest search models fit collection train train-adapter evaluate upgrade inspect config"
    promised += " export import copy points alias jobs encode"
    assert names == {*promised.split(), "backup", "restore", "verify"}


def test_the_page_of_commands_is_up_to_date():
    written = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert written == markdown(), "run: python -m bebr.cli.reference > docs/cli.md"


def test_help_loads_nothing_heavy():
    script = (
        "import sys; from bebr.cli import app; "
        "print([m for m in ('numpy', 'fastapi', 'httpx', 'onnxruntime', 'uvicorn', 'faiss') if m in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
    )
    assert loaded.stdout.strip() == "[]"


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]):
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("bebr 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("search",),
        ("search", "x", "--limit", "0"),
        ("search", "x", "--limit", "many"),
        ("serve", "--port", "eighty"),
        ("serve", "--unknown"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]):
    assert run(*arguments) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("search", "x", "--url", NOTHING_LISTENS), "cannot reach http://127.0.0.1:9"),
        (("inspect", "--url", NOTHING_LISTENS), "cannot reach"),
        (("search", "x", "--filter", "{"), "the filter is not valid JSON"),
        (("search", "x", "--filter", "lang"), "expected a filter as key=value"),
        (("ingest", "none.ndjson", "-c", "c"), "there is no file 'none.ndjson'"),
        (("serve", "--set", "prot=1"), "unknown setting 'prot'; did you mean port?"),
        (("serve", "--set", "port"), "--set expects name=value"),
        (("serve", "--port", "70000"), "flag port: expected a whole number from 0 to 65535, got 70000"),
        (("serve", "--config", "none.toml"), "the settings file 'none.toml' does not exist"),
    ],
)
def test_what_goes_wrong_is_one_line_and_exit_code_1(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bebr.client.steps.FIRST_PAUSE_SECONDS", 0.0)
    assert run(*arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_an_unknown_variable_stops_the_service(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("BEBR_PROT", "1")
    assert run("serve") == 1
    assert "did you mean BEBR_PORT?" in capsys.readouterr().err


def test_config_shows_values_and_sources(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    file = tmp_path / "bebr.toml"
    file.write_text("max_queue = 9\n")
    monkeypatch.setenv("BEBR_PORT", "1234")
    monkeypatch.setenv("BEBR_API_KEYS", "s3cret")
    assert run("config", "--config", str(file), "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["port"] == {"value": "1234", "source": "BEBR_PORT"}
    assert shown["max_queue"] == {"value": "9", "source": str(file)}
    assert shown["host"] == {"value": "127.0.0.1", "source": "default"}
    assert run("config") == 0
    table = capsys.readouterr().out
    assert "BEBR_PORT" in table
    assert "s3cret" not in table + json.dumps(shown)


def test_config_prints_the_page_of_settings(capsys: pytest.CaptureFixture[str]):
    assert run("config", "--markdown") == 0
    assert capsys.readouterr().out == (ROOT / "docs" / "settings.md").read_text("utf-8")


def test_with_the_client_alone_the_command_says_what_is_missing():
    hidden = "import sys; sys.modules['typer'] = None; from bebr.cli import main"
    ended = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert (
        ended.stderr
        == "error: the command line needs 'typer', which comes with the extra [server]: pip install '.[server]'\n"
    )
