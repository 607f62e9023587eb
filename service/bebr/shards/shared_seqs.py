"""Numbers in a small mapped file, which one process raises and others look at without asking anybody.

A number only ever grows. So whoever looks has to compare no more than the bytes with those of the last time; and what
was raised before a process said something is seen by whoever heard of it. The file is no truth: it may be lost.
"""

import os
from contextlib import suppress
from mmap import ACCESS_READ, ACCESS_WRITE, mmap
from pathlib import Path

from bebr.core.types import Role

NUMBER_BYTES = 8
SEQ_BITS = 44
"""A shard's number is its seq, and above that how often it was built anew: the seq of another build may be lower."""
MAX_SEQ = 2**SEQ_BITS - 1


class SharedSeqs:
    """`count` numbers from 0 up to 2**64. The primary makes the file and raises them; followers only read."""

    def __init__(self, path: Path, count: int, role: Role) -> None:
        """Raises OSError for a primary that cannot make the file."""
        self._path, self._count, self._role = path, count, role
        self._map: mmap | None = None
        if role is Role.PRIMARY:
            self._open()

    def read(self) -> bytes | None:
        """The numbers as they are now, to be compared and given to `numbers`; None: there is no file yet."""
        if self._map is None:
            with suppress(OSError, ValueError):  # of a file that is not there, or not of its size yet
                self._open()
        return None if self._map is None else self._map[:]

    def raise_to(self, place: int, number: int) -> None:
        """Let the number at a place be at least this. Only the primary may."""
        assert self._map is not None, "a closed file, or a follower's"
        with memoryview(self._map) as raw, raw.cast("Q") as numbers:
            if number > numbers[place]:
                numbers[place] = number

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None

    def _open(self) -> None:
        size, writes = self._count * NUMBER_BYTES, self._role is Role.PRIMARY
        file = os.open(self._path, os.O_RDWR | os.O_CREAT if writes else os.O_RDONLY, 0o600)
        try:
            if writes and os.fstat(file).st_size < size:
                # never replaced, since followers go on with what they have mapped; and with room on the disk, for what
                # is written to a mapped hole of a full one ends the process
                os.posix_fallocate(file, 0, size)
            self._map = mmap(file, size, access=ACCESS_WRITE if writes else ACCESS_READ)
        finally:
            os.close(file)


def numbers(raw: bytes) -> list[int]:
    """What `SharedSeqs.read` has read."""
    with memoryview(raw) as view:
        return view.cast("Q").tolist()


class Acknowledged:
    """What the primary has acknowledged of one shard, told to the others."""

    def __init__(self, shared: SharedSeqs, shard: int) -> None:
        self._shared, self._shard = shared, shard
        raw = shared.read()
        self._build = 0 if raw is None else numbers(raw)[shard] >> SEQ_BITS
        self.begin_build()

    def begin_build(self) -> None:
        """What is told from now on is of another build, whose operations may be others."""
        self._build += 1

    def tell(self, seq: int) -> None:
        """Readers see the operations up to this seq."""
        self._shared.raise_to(self._shard, self._build << SEQ_BITS | seq)
