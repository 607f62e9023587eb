"""Which points searches found most of late. A backfill takes those first."""

from collections import Counter
from collections.abc import Sequence

MAX_POINTS = 10_000


class HotPoints:
    """Counts hits by id: of MAX_POINTS ids at least and twice as many at most. Not kept over a restart."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, ids: Sequence[str]) -> None:
        self._counts.update(ids)
        if len(self._counts) > 2 * MAX_POINTS:
            self._counts = Counter(dict(self._counts.most_common(MAX_POINTS)))

    def hottest(self) -> list[str]:
        """Up to MAX_POINTS ids, the most frequent hits first."""
        return [point_id for point_id, _ in self._counts.most_common(MAX_POINTS)]
