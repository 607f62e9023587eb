"""Gives memory back to the system that the allocator keeps after large, short-lived work."""

import ctypes
from collections.abc import Callable


def _find_trim() -> Callable[[int], int]:
    """glibc's malloc_trim; elsewhere there is nothing to do."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return lambda _: 0
    return trim


_trim = _find_trim()


def release_free_memory() -> None:
    """Sealing and compaction need much memory for a moment; glibc would keep it (measured: 120 MB at 1M points)."""
    _trim(0)
