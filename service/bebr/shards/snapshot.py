"""Snapshot: the shards of a collection as they were at one moment, for whoever compares answers of the same points.

It blocks: its methods are for threads. Files that were merged meanwhile may be gone; what needs them raises
DamagedSegment.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bebr.errors import DamagedSegment, NotReady
from bebr.index import Found, Grouping, Rescoring, ScanQueries, Value
from bebr.index.exact import Exact, Steps, best_groups, best_scores
from bebr.index.scan_view import ScanView
from bebr.shards import reads

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """It keeps what it shows in memory."""

    _view: ScanView
    found_damage: Callable[[DamagedSegment], None]
    """Is told what was raised, on the event loop: the shard is made anew unless the file is gone for a good reason."""

    @property
    def points(self) -> Mapping[int, int]:
        """Living points by code version."""
        return self._view.points

    @property
    def rows(self) -> int:
        """What a scan of all passes, dead points included."""
        return self._view.rows

    def search(self, queries: Sequence[ScanQueries], grouping: Grouping | None, rescoring: Rescoring | None) -> Found:
        """The hits of one query, as `ShardClient.search` finds them. queries: of each version, with one query."""
        rescorings = None if grouping is not None or rescoring is None else [rescoring]
        (found,) = reads.search(self._view, queries, grouping, rescorings).found
        return found

    def best_scores(
        self, queries: Sequence[ScanQueries], limit: int, rescoring: Rescoring | None, with_shortlist: bool
    ) -> Steps[Exact]:
        """What the `limit` best hits score where no point is passed over. Each step is short."""
        return self._unhurt(best_scores(self._view, queries, limit, rescoring, with_shortlist))

    def best_groups(
        self, queries: Sequence[ScanQueries], grouping: Grouping, preferred: Sequence[Value]
    ) -> Steps[dict[Value, list[float]]]:
        """The same of the best groups: see `bebr.index.exact.best_groups`."""
        return self._unhurt(best_groups(self._view, queries, grouping, preferred))

    def _unhurt(self, steps: Steps[Result]) -> Steps[Result]:
        """What the steps return; raises NotReady where a mapped file was cut short meanwhile."""
        lost = self._view.begin_scan(checks_all=True)
        found = yield from steps
        if not self._view.is_unhurt(lost):
            raise NotReady("a file was cut short while it was read")
        return found
