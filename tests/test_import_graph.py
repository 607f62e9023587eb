"""Holds the source to the dependency direction of ARCHITECTURE.md, by reading every import with `ast`.

    cli, demo, server -> bootstrap -> jobs -> engine -> {encoding, shards, store}
    {encoding, index} -> kernel ; shards -> index ; all -> core -> errors

A *layer* is the first name below `bebr` (`bebr.core.codes` lies in `core`). Imports inside functions and under
`TYPE_CHECKING` count as well: a direction that holds only at start-up does not hold.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE_ROOTS = (ROOT / "service", ROOT / "models")

MIDDLE = frozenset({"encoding", "index", "shards", "store", "coalescer", "at_once", "telemetry"})
USE_CASES = frozenset({"engine", "jobs"}) | MIDDLE | {"core", "errors"}
EVERY_LAYER = USE_CASES | {"disk", "kernel", "config", "bootstrap", "server", "client", "cli", "demo"}

# Layer -> the layers it may import. A layer may always import itself; a new layer needs a line here first.
ALLOWED: Mapping[str, frozenset[str]] = {
    "errors": frozenset(),
    "core": frozenset({"errors"}),
    "disk": frozenset({"errors"}),
    "telemetry": frozenset(),
    "kernel": frozenset({"core", "errors"}),
    "encoding": frozenset({"core", "disk", "errors", "kernel", "telemetry"}),
    "index": frozenset({"core", "disk", "errors", "kernel", "telemetry"}),
    "coalescer": frozenset({"errors"}),
    "at_once": frozenset(),
    "shards": frozenset({"core", "errors", "at_once", "index", "telemetry"}),
    "store": frozenset({"at_once", "core", "disk", "errors", "telemetry"}),
    "config": frozenset({"errors"}),
    "client": frozenset({"core", "errors"}),
    "engine": (MIDDLE - {"index"}) | {"core", "errors"},
    "jobs": MIDDLE | {"engine", "core", "disk", "errors"},
    "server": USE_CASES,
    "bootstrap": USE_CASES | {"server", "config", "disk"},
    "demo": EVERY_LAYER - {"kernel", "cli"},
    "cli": EVERY_LAYER - {"kernel"},
}

# Finer than layers: (importing layer, imported layer) -> the only modules of it that may be imported.
ONLY_MODULES: Mapping[tuple[str, str], frozenset[str]] = {
    ("client", "core"): frozenset({"bebr.core.types", "bebr.core.scoring.Scorer"}),
}
# Anyone may hold the version and the frozen limits; the other settings belong to `bootstrap` and the command line.
ANYONE = frozenset({"bebr.config.Limits", "bebr.__version__"})

# External package -> the only layer that may import it.
ONLY_IMPORTER: Mapping[str, str] = {
    "onnxruntime": "encoding",
    "tokenizers": "encoding",
    "redis": "store",
    "sqlite3": "store",
    "fastapi": "server",
    "starlette": "server",
    "pydantic": "server",
    "torch": "bebr_training",
    "faiss": "bebr_training",
    "matplotlib": "bebr_training",
}
# What `bebr_training` may import of the service, and the only modules that may import it.
TRAINING_MAY_IMPORT = frozenset({"core", "disk", "encoding", "errors"})
TRAINING_IMPORTERS = frozenset(
    f"bebr.cli.{name}"
    for name in (
        "models.train",
        "models.train_adapter",
        "models.adapter_destination",
        "models.training_data",
        "models.evaluate",
        "versions.steps",
    )
)
# `core` is pure: what would let it touch a file, a socket, a clock or a thread.
IMPURE = frozenset(
    {"asyncio", "concurrent", "datetime", "http", "io", "logging", "mmap", "multiprocessing", "os", "pathlib", "random"}
    | {"shutil", "socket", "subprocess", "tempfile", "threading", "time", "urllib"}
)


NATIVE = frozenset({"bebr.kernel._kernel"})
"""Modules without a source in Python."""


@dataclass(frozen=True)
class Import:
    """`module` names `target` in line `line`; `lazy` where it stands inside a function or under TYPE_CHECKING."""

    module: str
    target: str
    line: int
    lazy: bool


def layer_of(name: str) -> str:
    """Return the layer of a dotted name: `core`, `bebr_training`, or the package itself for outside ones."""
    package, _, rest = name.partition(".")
    if package != "bebr":
        return package
    return rest.partition(".")[0] or "bebr"


def imports_of(module: str, source: str, *, is_package: bool = False) -> list[Import]:
    """Return every import of a module's source, relative ones resolved, `import_module("x")` included."""
    found: list[Import] = []

    def visit(node: ast.AST, lazy: bool) -> None:
        for target in _targets(node, module, is_package):
            found.append(Import(module, target, getattr(node, "lineno", 0), lazy))
        inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _for_types(node)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(source), False)
    return found


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _targets(node: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=base, names=names, level=level):
            if level:
                parts = module.split(".")
                parts = parts[: len(parts) - level + is_package]
                base = ".".join([*parts, *([base] if base else [])])
            yield from (f"{base}.{alias.name}" for alias in names)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[ast.Constant(value=str(target)), *_]):
            if name in {"import_module", "__import__"}:
                yield target


def violations(imports: list[Import]) -> list[str]:
    """Return one sentence for each import that breaks a rule."""
    return [f"{i.module}:{i.line} imports {i.target}: {why}" for i in imports for why in _faults(i)]


def _faults(found: Import) -> Iterator[str]:
    source, target = layer_of(found.module), layer_of(found.target)
    only = ONLY_IMPORTER.get(target)
    if only is not None and source != only:
        yield f"only {only} imports {target}"
    if source == "core" and target in IMPURE:
        yield "core does no I/O"
    if target == "bebr_training" and source != target and not (found.lazy and found.module in TRAINING_IMPORTERS):
        yield f"only {' and '.join(sorted(TRAINING_IMPORTERS))} import bebr_training, inside a function"
    if source == "bebr_training":
        if found.target.startswith("bebr.") and target not in TRAINING_MAY_IMPORT:
            yield f"bebr_training may import of bebr only {', '.join(sorted(TRAINING_MAY_IMPORT))}"
    elif found.target.startswith("bebr.") and source != target:
        yield from _layer_faults(source, found.target)


def _layer_faults(source: str, target: str) -> Iterator[str]:
    if source == "bebr":
        if not target.startswith(("bebr.client", "bebr.errors")):
            yield "the package itself may name only the client and the errors"
    elif source not in ALLOWED:
        yield f"{source} is a layer that this test does not know: add it to ALLOWED"
    elif layer_of(target) not in ALLOWED[source] and target not in ANYONE:
        yield f"{source} may import {', '.join(sorted(ALLOWED[source])) or 'nothing of bebr'}"
    else:
        only = ONLY_MODULES.get((source, layer_of(target)))
        if only is not None and not any(f"{target}.".startswith(f"{name}.") for name in only):
            yield f"{source} may import only {', '.join(sorted(only))}"


def cycle_among(edges: set[tuple[str, str]]) -> list[str]:
    """Return the nodes that lie on or lead out of no sink, sorted: empty when the graph has no cycle."""
    nodes = {node for edge in edges for node in edge}
    while True:
        sinks = {node for node in nodes if not any(a == node and b in nodes for a, b in edges)}
        if not sinks:
            return sorted(nodes)
        nodes -= sinks


def source_modules() -> Iterator[tuple[str, Path]]:
    for root in SOURCE_ROOTS:
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def source_imports() -> list[Import]:
    return [
        found
        for module, path in source_modules()
        for found in imports_of(module, path.read_text("utf-8"), is_package=path.name == "__init__.py")
    ]


def test_source_keeps_the_direction() -> None:
    imports = source_imports()
    assert imports, "no source was found"
    assert not violations(imports), "\n".join(violations(imports))


def test_layers_form_no_cycle() -> None:
    edges = {
        (layer_of(i.module), layer_of(i.target))
        for i in source_imports()
        if i.target.startswith("bebr.") and layer_of(i.module) not in {layer_of(i.target), "bebr"}
    }
    assert cycle_among(edges) == []


def test_modules_form_no_cycle() -> None:
    """Nor does any module import itself by others, inside a function or not."""
    modules = {module for module, _ in source_modules()} | NATIVE
    sorter = TopologicalSorter[str]()
    for found in source_imports():
        target = _module_of(found.target, modules)
        if target not in ("", "bebr", found.module):
            sorter.add(found.module, target)
    sorter.prepare()  # raises CycleError, which names the modules
    assert sorter.is_active()


def _module_of(name: str, modules: set[str]) -> str:
    """The module that a dotted name lies in; empty where it is none of these."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("bebr.core.codes", "from bebr.encoding import Bundle", "core may import errors"),
        ("bebr.core.codes", "import os", "core does no I/O"),
        ("bebr.index.shard", "from bebr.store.protocol import Write", "index may import"),
        ("bebr.index.shard", "from ..store import protocol", "index may import"),
        ("bebr.store.protocol", "def f():\n    from bebr.index import shard", "store may import"),
        ("bebr.shards.truth", "from bebr.store import MetadataStore", "shards may import"),
        ("bebr.engine", "from bebr.config import Settings", "engine may import"),
        ("bebr.engine", "from bebr import kernel", "engine may import"),
        ("bebr.engine", "from bebr.index import Found", "engine may import"),
        ("bebr.engine", "import sqlite3", "only store imports sqlite3"),
        ("bebr.index.shard", "import faiss", "only bebr_training imports faiss"),
        ("bebr.cli.models.evaluate", "def f():\n    import matplotlib.figure", "only bebr_training imports matplotlib"),
        ("bebr.bootstrap", "from fastapi import FastAPI", "only server imports fastapi"),
        ("bebr.cli", "from onnxruntime.capi import x", "only encoding imports onnxruntime"),
        ("bebr.cli.models.train", "import bebr_training.binarizer.train", "inside a function"),
        (
            "bebr.cli.models.fit",
            "def f():\n    import bebr_training.binarizer.train",
            "import bebr_training, inside a function",
        ),
        ("bebr.engine", "def f():\n    import bebr_training.binarizer", "import bebr_training, inside a function"),
        ("bebr.encoding.bundles.bundle", "__import__('torch')", "only bebr_training imports torch"),
        ("bebr.index.shard", "importlib.import_module('bebr.engine')", "index may import"),
        ("bebr.client", "from bebr.core import topk", "client may import only"),
        ("bebr_training.binarizer.train", "from bebr.engine import Engine", "bebr_training may import"),
        ("bebr_training.binarizer.train", "from bebr import kernel", "bebr_training may import"),
        ("bebr.surprise", "from bebr.core import codes", "does not know"),
    ],
)
def test_a_violation_is_caught(module: str, source: str, fault: str) -> None:
    assert any(fault in sentence for sentence in violations(imports_of(module, source)))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bebr.index.shard", "from bebr import kernel\nfrom bebr.core.codes import CodeSpec"),
        ("bebr.engine", "from bebr.config import Limits\nfrom bebr.store import open_store"),
        (
            "bebr.client",
            "from bebr.core.types import WriteMode\nfrom bebr.core.scoring import Scorer",
        ),
        ("bebr.cli.models.train", "def train():\n    from bebr_training import train"),
        ("bebr.cli.models.train", "if TYPE_CHECKING:\n    from bebr_training.binarizer.train import Run"),
        (
            "bebr_training.binarizer.train",
            "import torch, faiss\nfrom bebr.core import codes\nfrom bebr.encoding.quantization import layout",
        ),
        ("bebr.core.codes", "from .types import Puts"),
    ],
)
def test_what_is_allowed_passes(module: str, source: str) -> None:
    assert violations(imports_of(module, source)) == []


def test_a_cycle_is_caught() -> None:
    assert cycle_among({("api", "bootstrap"), ("bootstrap", "engine")}) == []
    assert cycle_among({("api", "bootstrap"), ("bootstrap", "api"), ("api", "engine")}) == ["api", "bootstrap"]
