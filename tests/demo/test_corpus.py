"""The corpus of the demo: what is read from source files, and what is left out."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.waiting import PATIENCE_SECONDS

from bebr.core.types import check_id
from bebr.demo.corpus import collect, docstrings, module_name

SOURCE = '''
"""
A heading of the module
=======================
Its first sentence (e.g. this one) says what it is for. Another one follows.

A second paragraph.

    >>> left_out()
"""

def function(a, b: int = 1, *args, key=None, **rest) -> int:
    """Does what a function does, at length.
    And goes on in the next line.
    """
    def inner():
        """Nobody can call this, so nobody looks for it."""

def _private():
    """A private function with a docstring."""

def short():
    """Too short."""

class Thing(Base, metaclass=Meta):
    """A thing that can be looked for by its docstring."""
    def __init__(self):
        """Special methods are left out, all of them."""
    def method(self, x):
        """A method with a docstring that is long enough."""
    @property
    def value(self):
        """A property is documented as a method is."""

if True:
    async def conditional():
        """Defined under a condition, as many functions are."""
'''


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "sample.py"
    path.write_text(SOURCE + "\nraise SystemExit('imported!')\n")
    return path


def test_docstrings_of_a_file(module: Path):
    found = {d.name: d for d in docstrings(module, "sample", "package")}
    assert list(found) == [
        "sample",
        "sample.function",
        "sample.Thing",
        "sample.Thing.method",
        "sample.Thing.value",
        "sample.conditional",
    ]
    function = found["sample.function"]
    assert (function.kind, function.module, function.package) == ("function", "sample", "package")
    assert function.signature == "(a, b=1, *args, key=None, **rest)"
    assert function.summary == "Does what a function does, at length."
    assert function.text.splitlines()[1] == ("Does what a function does, at length. And goes on in the next line.")
    assert found["sample.Thing.method"].signature == "(x)"
    assert found["sample.Thing"].signature == "(Base)"
    assert found["sample.Thing.value"].kind == "method"
    assert ">>>" not in found["sample"].text
    assert found["sample"].text.splitlines()[1:] == [
        "A heading of the module",
        "Its first sentence (e.g. this one) says what it is for. Another one follows.",
        "A second paragraph.",
    ]
    assert found["sample"].summary == "A heading of the module"


@pytest.mark.parametrize("content", [b"def broken(:", b"\xff\xfe nonsense", b"x = '\x00'"])
def test_files_that_do_not_parse_are_left_out(tmp_path: Path, content: bytes):
    path = tmp_path / "broken.py"
    path.write_bytes(content)
    assert list(docstrings(path, "broken", "p")) == []
    assert list(docstrings(tmp_path / "missing.py", "missing", "p")) == []


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("json/__init__.py", "json"),
        ("email/mime/text.py", "email.mime.text"),
        ("_private.py", None),
        ("pkg/_impl/x.py", None),
        ("pkg/test_x.py", None),
        ("my-script.py", None),
        ("__init__.py", None),
    ],
)
def test_modules_are_named_by_their_files(file: str, name: str | None):
    assert module_name(Path(file)) == name


def test_the_corpus_of_this_python():
    found = collect(400)
    names = [d.name for d in found]
    assert len(found) == len(set(names)) == 400
    assert {"str.split", "print"} <= set(names)
    assert sum(d.package == "python" for d in found) == 300
    assert len({d.package for d in found}) > 10
    for docstring in found:
        point = docstring.to_point()
        assert check_id(point["id"]) == docstring.name
        assert 24 <= len(point["text"]) <= 1200
        assert point["metadata"]["summary"]


def test_nothing_is_imported_to_collect():
    script = (
        "import sys; from bebr.demo.corpus import collect; before = set(sys.modules); collect(600); "
        "print(sorted(name for name in set(sys.modules) - before if name.split('.')[0] in ('json', 'sqlite3', 'numpy', "
        "'fastapi', 'antigravity', 'this', 'turtle')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
    )
    assert done.stdout.strip().splitlines()[-1] == "[]"
