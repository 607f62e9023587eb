"""How much of what a search without shortcuts finds the searches of a collection found, by those that were checked."""

from collections import deque
from dataclasses import dataclass

RECENT = 256
"""Checked searches that the share is of."""


@dataclass(frozen=True, slots=True)
class CoverageStatus:
    """The coverage of a collection's searches."""

    share: float | None
    """Of the best hits without shortcuts, how many the last checked searches found; None: none was checked."""
    searches: int
    """Searches checked since the start."""
    skipped: int
    """Searches that were to be checked and were not: the collection was too large, or the service too busy."""


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

    def status(self) -> CoverageStatus:
        wanted = sum(wanted for _, wanted in self._recent)
        share = sum(found for found, _ in self._recent) / wanted if wanted else None
        return CoverageStatus(share, self._searches, self._skipped)
