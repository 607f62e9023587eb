"""What the store has acknowledged to a shard, noted beside its files after every commit.

Checkpoints lag behind the store, by thousands of operations. The note does not, so that at the next start a store that
lost its end is told from one that had no more. It is not flushed: it is as new as the last commit after `kill -9`,
and may be older after a power failure, which only means that less is noticed.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from bebr.core.history import Mark

PREFIX = "acknowledged-"
SIZE_BYTES = 160
"""Always written as one piece of this size."""


@dataclass(frozen=True, slots=True)
class Note:
    """The last operation that was acknowledged."""

    mark: Mark
    closed: bool = False
    """The shard was closed in order afterwards, so that the store was not written to when it stopped."""


NOTHING = Note(Mark("", "", 0))


def write_note(path: Path, note: Note) -> None:
    """Where there is no room, or no folder any more, the older note stays."""
    body = json.dumps([*note.mark, note.closed]).encode()
    line = f"{crc32(body):08x} ".encode() + body
    with suppress(OSError):
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(file, line.ljust(SIZE_BYTES - 1) + b"\n", 0)
        finally:
            os.close(file)


def acknowledged(folder: Path) -> int:
    """How many operations the store acknowledged to the shards of a collection, by the notes in its folder."""
    return sum(read_note(path).mark.seq for path in _notes(folder))


def forget_notes(folder: Path) -> None:
    """Remove the notes: what the store acknowledged will be deleted. Raises OSError."""
    for path in _notes(folder):
        path.unlink(missing_ok=True)


def note_path(folder: Path, shard: int) -> Path:
    """The note of a shard in the folder of its collection."""
    return folder / f"{PREFIX}{shard}"


def _notes(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{PREFIX}*"))


def read_note(path: Path) -> Note:
    """NOTHING where there is none, or a damaged one."""
    try:
        checksum, _, body = path.read_bytes().strip().partition(b" ")
        if checksum == f"{crc32(body):08x}".encode():
            store, epoch, seq, closed = json.loads(body)
            return Note(Mark(store, epoch, seq), closed)
    except (OSError, ValueError):
        pass
    return NOTHING
