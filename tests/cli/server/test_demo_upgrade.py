"""The demo of an upgrade: every command of it, with the real model on few texts."""

import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from bebr.cli.server.demo_upgrade import upgrade
from bebr.config import Settings
from bebr.demo.corpus import collect
from bebr.demo.questions import judged_questions
from bebr.demo.upgrade import NEW, OLD, Files
from bebr.encoding import BundleRegistry
from bebr.encoding.importing.pull import KNOWN_MODELS, pull

POINTS = 480
SHORT = ("--steps", "2")
COMMANDS = ["ingest", "search", "train-adapter", "attach", "evaluate", "evaluate", "promote", "search"]
COMMANDS += ["backfill", "pause", "search", "resume", "search", "retire"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of data, as a path from the folder that one is in."""
    with ExitStack() as undo:
        patch = undo.enter_context(pytest.MonkeyPatch.context())
        patch.chdir(tmp_path_factory.mktemp("demo"))
        for name in ("BEBR_URL", "BEBR_API_KEY", "BEBR_CONFIG", "BEBR_PORT"):
            patch.delenv(name, raising=False)
        # Only their first words: four commands embed each of them.
        short = [replace(docstring, text=docstring.text[:100]) for docstring in collect(POINTS)]
        patch.setattr("bebr.demo.upgrade.collect", lambda points: short[:points])
        pull("minilm", Path("data/bundles"))
        yield Path("data")


@pytest.mark.skipif(
    importlib.util.find_spec(KNOWN_MODELS["minilm"].package) is None,
    reason="the weights of MiniLM are not installed",
)
@pytest.mark.timeout(1800)  # fourteen commands, some of which train and embed
def test_all_commands_of_the_demo_run(data_dir: Path, capfd: pytest.CaptureFixture[str]):
    settings = Settings(data_dir=data_dir, port=0, min_free_disk_bytes=0, api_keys=("s3cret",))
    upgrade(settings, POINTS, SHORT)
    printed = capfd.readouterr()
    shown = [line.removeprefix("$ bebr ").split()[:2] for line in printed.out.splitlines() if line.startswith("$ ")]
    assert [words[0] if words[0] != "upgrade" else words[1] for words in shown] == COMMANDS
    assert "s3cret" not in printed.out
    assert f"{POINTS} points of {OLD}" in printed.out and f"{POINTS} points of {NEW}" in printed.out
    assert f"succeeded: {POINTS} of {POINTS} points" in printed.out
    files = Files(data_dir / "upgrade-demo")
    assert files.picture.is_file() and files.judged_picture.is_file()
    (entry,) = BundleRegistry([settings.bundles_dir]).get(NEW).manifest.compatible_with
    assert entry.bundle == OLD


def test_questions_without_an_answer_are_left_out():
    names = {"str.join", "pprint", "pprint.pp"}
    assert judged_questions(names) == {
        "pretty print a nested structure": ["pprint", "pprint.pp"],
        "join strings with a separator": ["str.join"],
    }
    assert judged_questions(()) == {}
