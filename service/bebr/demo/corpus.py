"""The docstrings of this Python: standard library first, then installed packages.

Source files are parsed, never imported, so collecting docstrings runs none of their code.
"""

import ast
import builtins
import importlib.metadata
import inspect
import re
import sysconfig
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

STANDARD_LIBRARY = "python"
MIN_CHARS = 24
MAX_CHARS = 500
"""A few sentences say what a thing is for; more text would only blur its embedding."""
MAX_FILE_BYTES = 1_000_000
SKIPPED_FOLDERS = frozenset(
    {"__pycache__", "_vendor", "dist-packages", "distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data"}
    | {"site-packages", "test", "testing", "tests", "tkinter", "turtledemo", "vendor", "vendored"}
)


@dataclass(frozen=True, slots=True)
class Docstring:
    """One documented module, class or function. `text` is what is embedded."""

    name: str
    kind: str
    module: str
    package: str
    signature: str
    summary: str
    text: str

    def to_point(self) -> dict[str, Any]:
        """The point of this docstring; its id is the dotted name."""
        names = ("name", "kind", "module", "package", "signature", "summary")
        return {"id": self.name, "text": self.text, "metadata": {name: getattr(self, name) for name in names}}


def collect(limit: int) -> list[Docstring]:
    """Up to `limit` docstrings, without duplicate names or texts.

    Three quarters come from the standard library, if it has that many, the rest from all installed packages in turn.
    """
    standard = chain.from_iterable(docstrings(path, module, STANDARD_LIBRARY) for path, module in standard_library())
    seen: set[str] = set()
    found = list(islice(_distinct(chain(builtin_docstrings(), standard), seen), limit * 3 // 4))
    found += islice(_distinct(_in_turn(installed_packages()), seen), limit - len(found))
    return found


def _distinct(given: Iterable[Docstring], seen: set[str]) -> Iterator[Docstring]:
    """Docstrings whose name and text were not seen before. Names never contain a space, texts always do."""
    for docstring in given:
        said = docstring.text.partition("\n")[2].casefold()
        if docstring.name not in seen and said not in seen:
            seen |= {docstring.name, said}
            yield docstring


def _in_turn(sources: Iterable[Iterator[Docstring]]) -> Iterator[Docstring]:
    """One docstring of each source in turn, until all sources are exhausted."""
    waiting = deque(sources)
    while waiting:
        source = waiting.popleft()
        if (docstring := next(source, None)) is not None:
            yield docstring
            waiting.append(source)


def standard_library() -> Iterator[tuple[Path, str]]:
    """(file, module) of every public module: top-level ones first, then packages.

    A file such as `_pydatetime.py` is the Python source of a module that is also written in C, here of 'datetime'.
    """
    root = Path(sysconfig.get_path("stdlib"))
    files = (path.relative_to(root) for path in _source_files(root))
    for file in sorted(files, key=lambda file: (len(file.parts), file.as_posix())):
        public = Path(file.name.removeprefix("_py")) if len(file.parts) == 1 else file
        if module := module_name(public):
            yield root / file, module


def installed_packages() -> Iterator[Iterator[Docstring]]:
    """The docstrings of each installed package, by name; top-level modules first."""
    distributions = {d.metadata["Name"].lower(): d for d in importlib.metadata.distributions() if d.metadata["Name"]}
    for package, distribution in sorted(distributions.items()):
        yield _package_docstrings(package, distribution)


def _package_docstrings(package: str, distribution: importlib.metadata.Distribution) -> Iterator[Docstring]:
    for file in sorted(distribution.files or [], key=lambda file: (len(file.parts), file)):
        if file.suffix == ".py" and not SKIPPED_FOLDERS.intersection(file.parts) and (module := module_name(file)):
            yield from docstrings(Path(str(distribution.locate_file(file))), module, package)


def module_name(file: Path | importlib.metadata.PackagePath) -> str | None:
    """email/mime/__init__.py -> 'email.mime'. None for a private module and for any other file."""
    parts = [*file.parts[:-1], file.name.removesuffix(".py")]
    if parts[-1] == "__init__":
        parts.pop()
    if not parts or any(not part.isidentifier() or part.startswith("_") or part.startswith("test_") for part in parts):
        return None
    return ".".join(parts)


def docstrings(path: Path, module: str, package: str) -> Iterator[Docstring]:
    """The docstrings of one source file: its module, public classes, methods and functions."""
    tree = _parse(path)
    if tree is None:
        return
    if made := _docstring(module, "module", module, package, "", ast.get_docstring(tree)):
        yield made
    yield from _members(tree, module, module, package)


def builtin_docstrings() -> Iterator[Docstring]:
    """The docstrings of built-in functions, types and methods, which have no source but are always loaded."""
    for name, value in sorted(vars(builtins).items()):
        if name.startswith("_") or not callable(value) or _is_exception(value):
            continue
        kind = "class" if inspect.isclass(value) else "function"
        if made := _docstring(name, kind, "builtins", STANDARD_LIBRARY, _text_signature(value), inspect.getdoc(value)):
            yield made
        for member, method in sorted(vars(value).items()) if inspect.isclass(value) else ():
            if member.startswith("_") or not callable(method):
                continue
            signature = _text_signature(method)
            dotted = f"{name}.{member}"
            if made := _docstring(dotted, "method", "builtins", STANDARD_LIBRARY, signature, inspect.getdoc(method)):
                yield made


def _members(parent: ast.AST, prefix: str, module: str, package: str) -> Iterator[Docstring]:
    inside_class = isinstance(parent, ast.ClassDef)
    for node in _definitions(parent):
        if node.name.startswith("_"):
            continue
        name = f"{prefix}.{node.name}"
        if isinstance(node, ast.ClassDef):
            kind, signature = "class", ", ".join(ast.unparse(base) for base in node.bases)
        else:
            kind, signature = ("method" if inside_class else "function"), _arguments(node)
        shown = f"({signature})" if signature or kind != "class" else ""
        if made := _docstring(name, kind, module, package, shown, ast.get_docstring(node)):
            yield made
        if isinstance(node, ast.ClassDef):
            yield from _members(node, name, module, package)


def _definitions(parent: ast.AST) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Definitions directly inside a node, including those under `if` and `try`, but not those inside functions."""
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        elif isinstance(node, ast.If | ast.Try | ast.ExceptHandler):
            yield from _definitions(node)


def _docstring(name: str, kind: str, module: str, package: str, signature: str, doc: str | None) -> Docstring | None:
    said = _first_paragraphs(doc or "")
    if len(said) < MIN_CHARS or len(name.encode()) > 256:
        return None
    summary = re.split(r"(?<=[.!?])\s+(?=[A-Z])", said.partition("\n")[0], maxsplit=1)[0][:200]
    signature = signature[:200]
    return Docstring(name, kind, module, package, signature, summary, f"{kind} {name}\n{said}")


def _first_paragraphs(doc: str) -> str:
    """The paragraphs that fit into MAX_CHARS, or the start of the first one; without doctests and underlines."""
    kept: list[str] = []
    headings_apart = re.sub(r"(?m)^(.+)\n[ \t]*[-=~^*#]{3,}[ \t]*$", r"\1\n\n", doc.strip())
    for paragraph in re.split(r"\n\s*\n", headings_apart):
        lines = [line.strip() for line in paragraph.splitlines() if not re.fullmatch(r"\s*[-=~^*#]{3,}\s*", line)]
        if paragraph.lstrip().startswith((">>>", ".. ", "$", "|")):
            continue
        kept.append(" ".join(line for line in lines if line))
        if sum(map(len, kept)) > MAX_CHARS:
            break
    return re.sub(r"[ \t]+", " ", "\n".join(kept))[:MAX_CHARS].strip()


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The parameters without their annotations, which would be too long."""
    given = node.args
    plain = ast.arguments(
        [ast.arg(a.arg) for a in given.posonlyargs],
        [ast.arg(a.arg) for a in given.args],
        ast.arg(given.vararg.arg) if given.vararg else None,
        [ast.arg(a.arg) for a in given.kwonlyargs],
        given.kw_defaults,
        ast.arg(given.kwarg.arg) if given.kwarg else None,
        given.defaults,
    )
    written = ast.unparse(plain)
    return re.sub(r"^(self|cls)(, (/, )?|$)", "", written)


def _parse(path: Path) -> ast.Module | None:
    """The syntax tree. None for what this Python cannot parse, such as templates and sources of another version."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old sources have escape sequences that are deprecated today
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


def _source_files(root: Path) -> Iterator[Path]:
    for path in root.iterdir():
        if path.is_dir():
            if path.name not in SKIPPED_FOLDERS:
                yield from _source_files(path)
        elif path.suffix == ".py":
            yield path


def _text_signature(value: object) -> str:
    text = getattr(value, "__text_signature__", None) or ""
    return re.sub(r"\(\$(self|module|type)(, /)?(, )?", "(", text)


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)
