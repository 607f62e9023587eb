"""A file that takes up room, so that there is some to give when the disk is full: deleting points needs room too."""

import os
import shutil
from pathlib import Path

MOST_BYTES = 32 * 2**20
"""More than the write-ahead log has of a file: with it the log can be folded, and its own room is free for deletes."""
SHARE_OF_FREE = 4
"""The reserve takes this part of what is free, up to MOST_BYTES."""


class Reserve:
    """Made when the store opens; given up when a delete meets a full disk, made again when there is room."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fill(self) -> None:
        """Take the room, unless it is held already or there is none."""
        if self._path.exists():
            return
        try:
            size_bytes = min(MOST_BYTES, shutil.disk_usage(self._path.parent).free // SHARE_OF_FREE)
            with self._path.open("wb") as file:
                if size_bytes:
                    os.posix_fallocate(file.fileno(), 0, size_bytes)
        except OSError:
            self._path.unlink(missing_ok=True)

    def release(self) -> None:
        """Give the room to whoever writes next."""
        self._path.unlink(missing_ok=True)
