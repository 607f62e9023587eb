"""Refuses writes before the disk or the memory runs out, rather than after."""

import logging
import os
import shutil
import time
from pathlib import Path

from bebr.errors import InsufficientStorage

log = logging.getLogger(__name__)
CHECK_EVERY_SECONDS = 0.5


class CapacityGuard:
    """Watches free disk space of a folder and the memory of this process; looks at most twice a second."""

    def __init__(self, folder: Path, min_free_disk_bytes: int, max_memory_bytes: int) -> None:
        self._folder = folder
        self._min_free = min_free_disk_bytes
        self._max_memory = max_memory_bytes
        self._checked = float("-inf")
        self._problem: InsufficientStorage | None = None

    def check(self) -> None:
        """Raise InsufficientStorage when disk or memory is low."""
        if (problem := self.problem()) is not None:
            raise problem

    def problem(self) -> InsufficientStorage | None:
        """What `check` raises now."""
        now = time.monotonic()
        if now - self._checked >= CHECK_EVERY_SECONDS:
            before, self._checked, self._problem = self._problem, now, self._look()
            if (before is None) != (self._problem is None):
                _log_change(self._problem)
        if self._problem is None:
            return None
        return InsufficientStorage(self._problem.detail, **self._problem.fields)

    def _look(self) -> InsufficientStorage | None:
        free = self._free_bytes()
        if free is not None and free < self._min_free:
            return InsufficientStorage(
                f"the disk of the data folder has {free:,} bytes free, and writes need {self._min_free:,}. Deletes "
                "still work: delete points or collections, free some space, or lower min_free_disk_bytes",
                free=free,
                needed=self._min_free,
            )
        used = resident_bytes()
        if used > self._max_memory:
            return InsufficientStorage(
                f"the process uses {used:,} bytes of memory, the limit is {self._max_memory:,}. Deletes still work: "
                "delete points or collections, raise max_memory_bytes, or use a larger machine",
                used=used,
                limit=self._max_memory,
            )
        return None

    def _free_bytes(self) -> int | None:
        """None where the folder cannot be looked at, as before the first start: who writes there will say why."""
        try:
            return shutil.disk_usage(self._folder).free
        except OSError:
            return None


def _log_change(problem: InsufficientStorage | None) -> None:
    if problem is None:
        log.warning("disk and memory suffice again: writes are taken")
    else:
        log.warning("writes are refused: %s", problem.detail)


def resident_bytes() -> int:
    """Memory of this process that cannot be dropped: resident pages less those of mapped files; 0 where unknown."""
    try:
        fields = Path("/proc/self/statm").read_text().split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
