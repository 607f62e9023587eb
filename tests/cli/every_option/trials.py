"""What a command does with an option and without it: what it prints, what it writes, what becomes of its collection."""

import hashlib
import io
import json
import re
import shlex
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bebr.cli import main
from bebr.client import Client
from bebr.errors import CollectionNotFound

MAX_TEXT_BYTES = 50_000
VOLATILE = re.compile(
    r"\b\d{4}-\d\d-\d\d[T ][\d:.+Z]+|\b\d[\d.,]* (?:ms|s|KB|MB|B|bytes|seconds)\b|(?: at)? ?\b\d[\d.,]*/s\b"
    r"|\"(?:took_ms|seconds|rate_per_s)\": [\d.]+|\b[0-9a-f]{8,64}\b|[━╸╺ ]{4,}|\d\d:\d\d"
)
"""Times, sizes of files that contain times, hashes of those, bars of progress."""


@dataclass(frozen=True)
class Try:
    """An option is typed, and changes something, or is refused."""

    more: str
    """The words of the option, and what belongs to it."""
    base: str | None = None
    """The command without it; None: as for most of its options."""
    refused: str | None = None
    """What the refusal says; None: it changes something."""
    before: tuple[str, ...] | None = None
    """Commands that are run before; None: as for most of its options."""
    fails: bool | None = False
    """Whether it fails either way, in other words; None: it may."""


@dataclass(frozen=True)
class Elsewhere:
    """A test that takes long for other reasons holds the option to what it says."""

    file: str
    """In tests/cli."""
    test: str
    says: str = ""
    """What the file has of the option; '': its name."""


@dataclass(frozen=True)
class Command:
    """A command and its own options. Those that many commands share are tried by one rule each."""

    base: str
    """The command with what it needs; without options where it can do without."""
    before: tuple[str, ...] = ()
    """Commands that are run before."""
    options: dict[str, Try | Elsewhere] = field(default_factory=dict)
    shared: dict[str, Try | Elsewhere] = field(default_factory=dict)
    """Instead of the rule of an option that many commands share."""
    beside: tuple[Try, ...] = ()
    """Options that do nothing beside certain others, and are refused there."""


@dataclass(frozen=True)
class Seen:
    """What a command did."""

    code: int
    output: str
    errors: str
    collection: str
    files: dict[str, str]
    """What it wrote, by path."""

    def differs(self, other: "Seen", unstable: frozenset[str]) -> bool:
        mine, others = self._parts(), other._parts()
        return any(mine.get(name) != others.get(name) for name in (mine.keys() | others.keys()) - unstable)

    def unstable(self, again: "Seen") -> frozenset[str]:
        """What came out otherwise, though nothing was otherwise: it says nothing."""
        mine, others = self._parts(), again._parts()
        return frozenset(name for name in mine.keys() | others.keys() if mine.get(name) != others.get(name))

    def _parts(self) -> dict[str, object]:
        whole = {"code": self.code, "output": self.output, "errors": self.errors, "collection": self.collection}
        return whole | {f"file {name}": content for name, content in self.files.items()}


class Stage:
    """Where commands are run: each with a folder of its own ({dir}) and a free name for a collection ({new})."""

    def __init__(self, folder: Path, client: Client, names: dict[str, str]) -> None:
        """names: of what the commands may use."""
        self.names = names
        self._folder = folder
        self._client = client
        self._runs = 0
        self._plain: dict[tuple[str, ...], tuple[Seen, frozenset[str]]] = {}

    def changes(self, base: str, more: str, before: Sequence[str], fails: bool | None) -> bool:
        """Whether a command does something else with more words, and does it, unless it fails either way."""
        key = (*before, base)
        if key not in self._plain:
            first, again = self.run(base, before), self.run(base, before)
            self._plain[key] = first, first.unstable(again)
        first, unstable = self._plain[key]
        second = self.run(f"{base} {more}", before)
        assert fails in (None, first.code != 0 and second.code != 0), (first, second)
        return first.differs(second, unstable)

    def run(self, command: str, before: Sequence[str] = ()) -> Seen:
        self._runs += 1
        folder, new = self._folder / f"run-{self._runs:04}", f"new-{self._runs:04}"
        folder.mkdir()
        names = self.names | {"dir": str(folder), "new": new}
        for earlier in before:
            code, output, errors = bebr(earlier.format(**names))
            assert code == 0, (earlier, output, errors)

        def plain(text: str) -> str:
            return VOLATILE.sub("~", text.replace(str(folder), "DIR").replace(new, "NEW"))

        code, output, errors = bebr(command.format(**names))
        files = {str(path.relative_to(folder)): _content(path, plain) for path in folder.rglob("*") if path.is_file()}
        return Seen(code, plain(output), plain(errors), plain(self._described(new)), files)

    def _described(self, name: str) -> str:
        try:
            described: dict[str, Any] = dict(self._client.describe_collection(name))
        except CollectionNotFound:
            return ""
        points = [[point.id, point.metadata] for point in self._client.scroll(name)]
        aliases = [alias for alias, of in self._client.list_aliases().items() if of == name]
        return json.dumps([described, points, aliases], default=str, sort_keys=True)


def bebr(command: str) -> tuple[int, str, str]:
    """Exit code, output, errors."""
    with redirect_stdout(io.StringIO()) as output, redirect_stderr(io.StringIO()) as errors:
        try:
            main(shlex.split(command))
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        else:
            code = 0
    return code, output.getvalue(), errors.getvalue()


def _content(path: Path, plain: Callable[[str], str]) -> str:
    data = path.read_bytes()
    try:
        if len(data) > MAX_TEXT_BYTES:
            return hashlib.sha256(data).hexdigest()
        return plain(data.decode())
    except UnicodeDecodeError:
        return hashlib.sha256(data).hexdigest()
