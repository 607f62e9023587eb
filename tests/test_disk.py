"""A crash at any step of writing leaves the old file or the new one, whole. Processes are really ended."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bebr.disk import make_private, replace_file, replacing, write_folder

CRASH = """
import os, sys
from pathlib import Path
from bebr.disk import replace_file, replacing, write_folder

left = int(sys.argv[1])

def dying(step):
    def call(*given, **named):
        global left
        if not left:
            os._exit(9)
        left -= 1
        return step(*given, **named)
    return call

for name in ("open", "fsync", "mkdir", "rename", "replace"):
    setattr(os, name, dying(getattr(os, name)))
"""
"""Ends the process at a step of the operating system, counted from the start of the call that follows."""
OLD, NEW = b"old" * 1_000, b"new" * 50_000
MOST_STEPS = 30


def crash(call: str, step: int) -> bool:
    """Run a call in a process that ends at a step; whether it ended before the call did."""
    code = subprocess.run([sys.executable, "-c", CRASH + call, str(step)], check=False).returncode
    assert code in (0, 9)
    return code == 9


@pytest.mark.parametrize("before", [OLD, None])
def test_a_crash_leaves_the_old_file_or_the_new_one(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "file.bin"
    found = []
    for step in range(MOST_STEPS):
        if before is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(before)
        crashed = crash(f"replace_file(Path({str(path)!r}), {NEW[:3]!r} * 50_000)", step)
        found.append(path.read_bytes() if path.exists() else None)
        assert found[-1] in (before, NEW)
        if not crashed:
            break
    assert found[0] == before and found[-1] == NEW and len(found) > 3
    replace_file(path, OLD)
    assert path.read_bytes() == OLD, "what a crash left is no obstacle"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.bin"]


@pytest.mark.parametrize("replace", [True, False])
def test_a_crash_leaves_the_old_folder_or_the_new_one(tmp_path: Path, replace: bool) -> None:
    old, new = {"a": b"1", "b": b"2"}, {"b": b"3", "c": b"4"}
    found = []
    for step in range(MOST_STEPS):
        target = tmp_path / str(step) / "folder"
        if replace:
            write_folder(target, old, replace=False)
        else:
            target.parent.mkdir()
        crashed = crash(f"write_folder(Path({str(target)!r}), {new!r}, replace={replace})", step)
        found.append(content(target))
        if found[-1] is None and replace:
            assert content(next(target.parent.glob(".folder.*/old"))) == old
        else:
            assert found[-1] in ((old if replace else None), new)
        if not crashed:
            break
    assert found[0] == (old if replace else None) and found[-1] == new and len(found) > 6
    assert [entry.name for entry in target.parent.iterdir()] == ["folder"], "a call that ends cleans up"


def content(folder: Path) -> dict[str, bytes] | None:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else None


def test_an_error_while_writing_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(OLD)
    with pytest.raises(KeyError), replacing(path) as file:
        file.write(NEW)
        raise KeyError
    assert path.read_bytes() == OLD and len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_is_there_is_replaced_only_where_that_is_said(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    write_folder(target, {"a": b"1"}, replace=False)
    with pytest.raises(OSError, match=r"not empty|exists"):
        write_folder(target, {"a": b"2"}, replace=False)
    assert content(target) == {"a": b"1"} and len(list(tmp_path.iterdir())) == 1
    write_folder(target, {"a": b"2"}, replace=True)
    assert content(target) == {"a": b"2"}
    (target / "a").unlink()
    (tmp_path / "no folder").write_bytes(b"")
    with pytest.raises(OSError, match="Not a directory"):
        write_folder(tmp_path / "no folder", {"a": b"2"}, replace=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "no folder"]


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_what_a_service_writes_is_for_its_user_only(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        old, home = tmp_path / "old", tmp_path / "home"
        (old / "store").mkdir(parents=True)
        (home / "store").mkdir(parents=True)
        (home / "photos").mkdir()
        for folder in (tmp_path / "new" / "data", old, home):
            make_private(folder, ("store", "jobs"))
        replace_file(tmp_path / "file", b"x")
        assert [mode(path) for path in (tmp_path / "new", tmp_path / "new" / "data", old)] == [0o700] * 3
        assert mode(old / "store") == mode(home / "store") == 0o700
        assert mode(home) == mode(home / "photos") == 0o755
        assert mode(tmp_path / "file") == 0o600
    finally:
        os.umask(before)
