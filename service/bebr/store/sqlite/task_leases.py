"""Leases of tasks in a folder: a locked file for each, which the kernel frees when its process dies. All methods block
for no longer than a small file takes.

What a file holds is the token that was given last, and to whom.
"""

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bebr.store.protocol import HeldLease


@dataclass(frozen=True, slots=True)
class _Held:
    file: IO[str]
    lease: HeldLease


class TaskLeases:
    """Those of one store in one process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, _Held] = {}

    def take(self, name: str, holder: str) -> int | None:
        """The token of the lease; None while somebody else has it."""
        if name in self._held:
            held = self._held[name].lease
            return held.token if held.holder == holder else None
        self._folder.mkdir(exist_ok=True)
        file = (self._folder / name).open("a+")
        if not _lock(file):
            file.close()
            return None
        lease = HeldLease(name, holder, _read(name, file).token + 1)
        file.truncate(0)
        file.write(f"{lease.token} {lease.holder}\n")
        file.flush()
        os.fsync(file.fileno())
        self._held[name] = _Held(file, lease)
        return lease.token

    def renew(self, name: str, token: int) -> bool:
        """A lease is its holder's for as long as its process lives."""
        return name in self._held and self._held[name].lease.token == token

    def release(self, name: str, token: int) -> None:
        if self.renew(name, token):
            self._held.pop(name).file.close()

    def release_all(self) -> None:
        for held in self._held.values():
            held.file.close()
        self._held = {}

    def held(self) -> list[HeldLease]:
        """Those of all processes."""
        return sorted([held.lease for held in self._held.values()] + list(self._others()), key=lambda one: one.name)

    def _others(self) -> Iterator[HeldLease]:
        for path in self._folder.glob("*"):
            if path.name not in self._held:
                with path.open() as file:
                    if not _lock(file, fcntl.LOCK_SH):
                        yield _read(path.name, file)


def _lock(file: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(name: str, file: IO[str]) -> HeldLease:
    file.seek(0)
    token, _, holder = file.read().strip().partition(" ")
    return HeldLease(name, holder, int(token) if token.isdecimal() else 0)
