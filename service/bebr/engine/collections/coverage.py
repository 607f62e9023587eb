"""How much of what a search without shortcuts finds the searches of a collection found, by those that were checked."""

from collections import deque
from collections.abc import Mapping

from bebr.engine.statuses import CoverageStatus, Shortcut, Tally

RECENT = 256
"""Checked searches that the shares are of."""
FIRST_SECONDS_PER_ROW = 1e-6


class Coverage:
    """Counts what was checked."""

    def __init__(self) -> None:
        self._whole = _Recent()
        self._of: dict[Shortcut, _Recent] = {}
        self._searches = 0
        self._skipped = 0
        self.seconds_per_row = FIRST_SECONDS_PER_ROW
        """Processor time that a check takes, about."""

    def add(self, whole: Tally, of: Mapping[Shortcut, Tally]) -> None:
        """A search was compared with the one without shortcuts, and with one without each of them."""
        self._whole.append(whole)
        for shortcut, tally in of.items():
            self._of.setdefault(shortcut, _Recent()).append(tally)
        self._searches += 1

    def skip(self) -> None:
        """A search could not be checked."""
        self._skipped += 1

    def note_cost(self, seconds: float, rows: int) -> None:
        """A check took so much processor time for so many rows."""
        if rows:
            self.seconds_per_row = (self.seconds_per_row + seconds / rows) / 2

    def status(self) -> CoverageStatus | None:
        """None: nothing was to be checked."""
        if not self._searches and not self._skipped:
            return None
        of = {shortcut: share for shortcut, recent in self._of.items() if (share := recent.share) is not None}
        return CoverageStatus(self._whole.share, self._searches, self._skipped, of)


class _Recent(deque[Tally]):
    """The tallies of the last checked searches."""

    def __init__(self) -> None:
        super().__init__(maxlen=RECENT)

    @property
    def share(self) -> float | None:
        """None: there was nothing to find."""
        wanted = sum(tally.wanted for tally in self)
        return sum(tally.found for tally in self) / wanted if wanted else None
