"""Leave out of an environment what only a compiler, a debugger or a developer reads. docker/use.py proves the rest.

    python slim.py SITE_PACKAGES

Rules, not lists of files, so that new releases of packages need no change here:

sources     C, C++, headers, static libraries, Cython and type stubs
tests       folders of tests that packages bring
libraries   shared libraries (lib*.so*) that no other file of their package names
symbols     those of extension modules that only a debugger reads; `strip` of binutils removes them

It prints what each rule saved.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

SOURCES = {".a", ".c", ".cc", ".cpp", ".cu", ".h", ".hpp", ".pxd", ".pxi", ".pyi", ".pyx"}
TESTS = ("tests", "backend/test")
"""Folders, below that of a package. `onnx.backend.test` is the one that is not called `tests`."""


def size_of(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def sources(packages: Path) -> int:
    found = [path for path in files_of(packages) if path.suffix in SOURCES]
    saved = size_of(found)
    for path in found:
        path.unlink()
    return saved


def tests(packages: Path) -> int:
    saved = 0
    for folder in [folder for name in TESTS for folder in packages.glob(f"*/**/{name}")]:
        if folder.is_dir():
            saved += size_of(files_of(folder))
            shutil.rmtree(folder)
    return saved


def unnamed(packages: Path) -> Iterator[Path]:
    """Shared libraries that nothing beside them links to or opens by name. Extension modules are not called lib*."""
    for library in packages.glob("*/**/lib*.so*"):
        package = library.relative_to(packages).parts[0].removesuffix(".libs")
        stem = library.name.partition(".so")[0].encode() + b".so"
        beside = [path for folder in packages.glob(f"{package}*") if folder.is_dir() for path in files_of(folder)]
        readers = [path for path in beside if path != library and (".so" in path.name or path.suffix == ".py")]
        if not any(stem in path.read_bytes() for path in readers):
            yield library


def libraries(packages: Path) -> int:
    found = list(unnamed(packages))
    saved = size_of(found)
    for path in found:
        print(f"  no file names {path.relative_to(packages)}")
        path.unlink()
    return saved


def symbols(packages: Path) -> int:
    modules = [path for path in files_of(packages) if path.suffix == ".so" and not path.name.startswith("lib")]
    before = size_of(modules)
    subprocess.run(["strip", "--strip-unneeded", *modules], check=True)
    return before - size_of(modules)


if __name__ == "__main__":
    where = Path(sys.argv[1])
    for rule in (sources, tests, libraries, symbols):
        print(f"{rule.__name__}: {rule(where) / 1e6:.1f} MB less", flush=True)
    print(f"left: {size_of(files_of(where)) / 1e6:.1f} MB")
