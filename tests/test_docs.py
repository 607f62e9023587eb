"""What the project's pages point to exists: files, headings, commands with their options, benchmarks, messages."""

import ast
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from bebr.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    page
    for folder in (".", "docs", "models", "deploy", "docker")
    for page in (ROOT / folder).glob("*.md" if folder == "." else "**/*.md")
)
FIGURES = ROOT / "docs" / "benchmarks.md"
LINK = re.compile(r"\[[^][]*\]\(([^()\s]+(?:\([^()]*\))?)\)")
COMMAND = re.compile(r"(?:^(?:\$ )?(?:\.venv/bin/)?|`)(bebr [^`\n#]*)", flags=re.M)
HISTORY = "CHANGELOG.md"
"""Names old commands too."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The names of a page's headings as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def unknown(command: Any, words: list[str]) -> Iterator[str]:
    """The words of a command line that name no command or no option of `bebr`."""
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        name, *words = words
        if name not in command.commands:
            yield name
            return
        command = command.commands[name]
    options = {name for parameter in command.params for name in parameter.opts + parameter.secondary_opts}
    options |= {"--help", "-h"}
    for word in words:
        if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in options:
            yield word


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_a_page_resolve(page: Path) -> None:
    broken = []
    for link in LINK.findall(page.read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One: `two.three`\n[a](#one-twothree) [b](#four) [c](none.md) [d](https://x.y)\n")
    with pytest.raises(AssertionError, match=r"\['#four', 'none.md'\]"):
        test_links_of_a_page_resolve(page)


def test_figures_that_the_code_links_to_exist() -> None:
    known = anchors(FIGURES)
    folders = [ROOT / name for name in ("service", "models", "bench", "tests")]
    code = [path for folder in folders for ending in ("py", "hpp", "cpp") for path in folder.rglob(f"*.{ending}")]
    links = {
        (str(source), anchor)
        for source in code
        for anchor in re.findall(r"docs/benchmarks\.md#([\w-]+)", source.read_text("utf-8"))
    }
    assert not {(source, anchor) for source, anchor in links if anchor not in known}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != HISTORY], ids=name_of)
def test_commands_of_a_page_exist(page: Path) -> None:
    command = get_command(app)
    wrong = []
    for line in COMMAND.findall(page.read_text("utf-8")):
        words = shlex.split(line.partition("...")[0])[1:]
        wrong += [f"{line}: {word}" for word in unknown(command, words)]
    assert not wrong


def test_a_wrong_command_is_found() -> None:
    command = get_command(app)
    assert list(unknown(command, ["fit", "a.npy", "--bytes", "64"])) == []
    assert list(unknown(command, ["collection", "fitt", "notes"])) == ["fitt"]
    assert list(unknown(command, ["upgrade", "promote", "--min-gian=0.2"])) == ["--min-gian=0.2"]


def test_benchmarks_that_the_pages_name_exist() -> None:
    named = {name for page in PAGES for name in re.findall(r"\bbench\.(\w+)\b", page.read_text("utf-8"))}
    assert named
    assert not {name for name in named if not any((ROOT / "bench" / path).exists() for path in (f"{name}.py", name))}


def test_tests_that_the_pages_name_exist() -> None:
    """`tests/test_docs.py::test_tests_that_the_pages_name_exist`; each line of the table of guarantees names some."""
    named = {test for page in PAGES for test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text("utf-8"))}
    missing = {(path, name) for path, name in named if not (ROOT / path).exists() or not defines(ROOT / path, name)}
    assert not missing
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    lines = page.partition("| Failure | What clients see |")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(lines) > 10
    assert not [line for line in lines if not re.search(r"`tests/[\w/]+\.py::test_\w+` \|$", line)]


def texts_of(source: str) -> Iterator[str]:
    """The string literals of a module, adjacent ones joined; a line break where a value goes in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "\n" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_messages_that_the_page_on_upgrades_explains_exist() -> None:
    engine = (ROOT / "service" / "bebr" / "engine").rglob("*.py")
    said = "\n".join(text for path in engine for text in texts_of(path.read_text("utf-8")))
    page = (ROOT / "docs" / "upgrading.md").read_text("utf-8")
    table = page.partition("| Message |")[2].partition("\n\n")[0]
    messages = re.findall(r"^\| ([^|]+) \|", table, flags=re.M)
    parts = {part for message in messages for part in re.split(r"'[.a-z]+'|\.\.\.", message) if part.strip()}
    assert len(parts) > len(messages) > 10
    assert not {part for part in parts if part.strip() not in said}


def test_the_picture_shows_the_figures_of_the_page() -> None:
    images = ROOT / "docs" / "images"
    draw = runpy.run_path(str(images / "overview.py"))["draw"]
    assert draw() == (images / "overview.svg").read_text("utf-8"), "run: python docs/images/overview.py"


def test_files_and_functions_of_the_architecture_exist() -> None:
    """`search.py Searcher.search` names a file of the source and what it defines."""
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    files = [path for folder in ("service", "models", "tests") for path in (ROOT / folder).rglob("*.py")]
    named = re.findall(r"`((?:[\w-]+/)*[\w-]+\.py)(?: ([\w.]+))?`", text)
    assert len(named) > 40
    for path, name in named:
        found = [file for file in files if f"/{file.relative_to(ROOT)}".endswith(f"/{path}")]
        assert found, path
        parts = [part for part in name.split(".") if part]
        assert any(all(defines(file, part) for part in parts) for file in found), f"{path} {name}"


def defines(file: Path, name: str) -> bool:
    return re.search(rf"^\s*(?:async )?(?:def|class) {name}\b", file.read_text("utf-8"), re.MULTILINE) is not None
