"""How much of what a search without shortcuts finds the searches of a collection found, by those that were checked."""

from collections import deque

from bebr.engine.results import CoverageStatus

RECENT = 256
"""Checked searches that the share is of."""


class Coverage:
    """Counts what was checked."""

    def __init__(self) -> None:
        self._recent: deque[tuple[int, int]] = deque(maxlen=RECENT)
        """Hits found, and hits there were, of each search."""
        self._searches = 0
        self._skipped = 0

    def add(self, found: int, wanted: int) -> None:
        """A search found so many of the best hits."""
        self._recent.append((found, wanted))
        self._searches += 1

    def skip(self) -> None:
        """A search could not be checked."""
        self._skipped += 1

    def status(self) -> CoverageStatus | None:
        """None: nothing was to be checked."""
        if not self._searches and not self._skipped:
            return None
        wanted = sum(wanted for _, wanted in self._recent)
        share = sum(found for found, _ in self._recent) / wanted if wanted else None
        return CoverageStatus(share, self._searches, self._skipped)
