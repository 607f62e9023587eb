"""Keeps glibc's allocator from holding on to memory: many threads do large, short-lived work here."""

import ctypes
from typing import Any

M_ARENA_MAX = -8
ARENAS = 2


def _libc() -> Any:
    """The C library where it is glibc; elsewhere None, and there is nothing to do."""
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None
    except OSError:
        return None


_glibc = _libc()


def limit_arenas() -> None:
    """Let all threads share two heaps: one for each of them would hold more free memory."""
    if _glibc is not None:
        _glibc.mallopt(M_ARENA_MAX, ARENAS)


def release_free_memory() -> None:
    """Return what sealing and compaction needed for a moment."""
    if _glibc is not None:
        _glibc.malloc_trim(0)
