"""Files and folders that a crash leaves whole: the old ones or the new ones. Knows nothing of what is in them.

    replace_file    one file: temporary file, fsync, rename, fsync of the folder
    replacing       the same for what is written in pieces
    replacing_beside    the same where several processes may write the file
    write_folder    several files that appear at once, as one folder
    sync_folder     makes new names in a folder durable
    FolderLock      keeps a folder for one process
    identity        whether a file is still the one that it was
    raise_open_files_limit, is_out_of_files     how many files may be open
    make_private    what this process writes is for its own user only

All raise OSError; what that means for a caller is the caller's to say.
"""

import errno
import fcntl
import glob
import os
import resource
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

HIDDEN = "."
"""Folders that are being written or removed start with a dot, so that listings can skip them."""


def replace_file(path: Path, content: bytes) -> None:
    """Write a file, or put it in the place of the one that is there."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A new file that takes the name `path` when the block ends; where it raises, nothing has changed.

    The content is always synced before the rename. durable: also sync the folder, without which a crash may bring the
    old file back; off for a caller that replaces several files and then calls `sync_folder` once.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


@contextmanager
def replacing_beside(path: Path) -> Iterator[BinaryIO]:
    """As `replacing`, where others may write the same file at the same time: each writes a hidden file of its own, and
    the last one to end wins. What a process that died has left is removed."""
    prefix, suffix = f"{HIDDEN}{path.name}.", ".tmp"
    for left in path.parent.glob(f"{glob.escape(prefix)}*{suffix}"):
        _remove_unlocked(left)
    descriptor, name = tempfile.mkstemp(suffix, prefix, path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _try_lock(file.fileno())
            yield file
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _remove_unlocked(path: Path) -> None:
    """Remove a temporary file that no process has open any more."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        if _try_lock(file.fileno()):
            path.unlink(missing_ok=True)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process holds it, or the file system has no locks
        return False
    return True


def write_folder(target: Path, contents: Mapping[str, bytes], *, replace: bool) -> None:
    """Make the folder `target` with these files. replace: in the place of one that is there, else that is an error.

    A folder to replace is first moved into a hidden one beside it. A crash before the new one has taken its name leaves
    it there.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f"{HIDDEN}{target.name}.", dir=target.parent))
    fresh, old = scratch / "new", scratch / "old"
    try:
        fresh.mkdir()
        for name, content in contents.items():
            with replacing(fresh / name, durable=False) as file:
                file.write(content)
        sync_folder(fresh)
        if replace and target.exists():
            target.rename(old)
        try:
            fresh.rename(target)
        except OSError:
            with suppress(OSError):  # another writer may have put a folder of that name there
                old.rename(target)
            raise
        sync_folder(target.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class FolderLock:
    """Keeps a second process from using a folder. The kernel lets go of it when the process dies.

    The file `lock` in the folder says which process it is, and has a random id of the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Raise BlockingIOError, which says what to do, when another process, or another part of this one, holds it."""
        with ExitStack() as failed:
            file = failed.enter_context(self._path.open("a+", errors="replace"))
            file.seek(0)
            owner, *rest = file.read().split() or ["unknown"]
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise BlockingIOError(
                    f"the data folder {self._path.parent} is in use by process {owner}; stop it, or choose another "
                    "folder"
                ) from error
            file.truncate(0)
            file.write(f"{os.getpid()} {rest[-1] if rest else secrets.token_hex(8)}\n")
            file.flush()
            failed.pop_all()
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def sync_folder(folder: Path) -> None:
    """Make new names and renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def identity(path: Path) -> tuple[int, ...] | None:
    """Tells a file that was written to or replaced since from one that was not; None: there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def raise_open_files_limit() -> int:
    """Let the process open as many files as the system lets it; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # a system may allow less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def is_out_of_files(error: BaseException) -> bool:
    """Whether no more files can be opened."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


def out_of_files_hint() -> str:
    """What to do about it."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return f"too many files are open (the limit is {limit}); raise it with `ulimit -n`, LimitNOFILE or the container's"


def make_private(folder: Path, own: Collection[str]) -> None:
    """Files that this process makes are for its own user only, and so is `folder`, which is made if it is missing.

    own: names in `folder` that are this service's; their folders of older releases become private too. A folder with
    anything else in it keeps its mode: it may be a home directory.
    """
    os.umask(0o077)
    folder.mkdir(parents=True, exist_ok=True)
    held = {path.name: path for path in folder.iterdir()}
    ours = [path for name, path in held.items() if name in own and path.is_dir()]
    for path in [*ours, *([folder] if held.keys() <= set(own) else [])]:
        with suppress(PermissionError):  # another user's, who lets this one write
            path.chmod(0o700)
