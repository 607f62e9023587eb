"""What scans find: rows of any parts and code versions as arrays, and the hits that come of them once ids are read.

Equal scores are ordered by ascending id, and ids are read last. So wherever candidates are cut, all that tie with the
last one stay, until their ids say which of them are hits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import eq
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bebr.core.scoring import reaches
from bebr.index.growing import GrowingView
from bebr.index.segment import SegmentView

Part = SegmentView | GrowingView


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rows that may be hits of one query, best first."""

    scores: NDArray[np.float64]
    """(rows,)."""
    places: NDArray[np.int32]
    """(rows,): of each row's part in the list of parts that was scanned."""
    rows: NDArray[np.int64]
    """(rows,): within the part; below 0: there is none."""
    distances: NDArray[np.int32] | None = None
    """(rows,): Hamming only."""

    def __len__(self) -> int:
        return len(self.scores)

    def at(self, which: NDArray[np.int64] | slice) -> "Candidates":
        """Some of them, in this order."""
        distances = None if self.distances is None else self.distances[which]
        return Candidates(self.scores[which], self.places[which], self.rows[which], distances)

    def raised(self, by: float, threshold: float) -> "Candidates":
        """The same rows with `by` added to every score, less those that then do not reach the threshold."""
        scores = self.scores + by
        return replace(self, scores=scores).at(slice(reaching(scores.tolist(), threshold)))


NOTHING = Candidates(np.empty(0), np.empty(0, np.int32), np.empty(0, np.int64))


class Found(NamedTuple):
    """Hits of one query, best first. A tuple, since every search makes one."""

    scores: list[float]
    ids: list[str]
    versions: list[int]
    """Number of each hit's code version."""
    distances: list[int] | None = None
    """Hamming only."""
    groups: Sequence[tuple[int, Any]] = ()
    """Grouped scans only: the value by which each is a hit, after its place among the values of the point."""
    rows: Sequence[tuple[int, int]] = ()
    """Grouped scans only: the place of the part of each, and its row there."""

    def raised(self, by: float, threshold: float) -> "Found":
        """The same hits with `by` added to every score, less those that then do not reach the threshold."""
        scores = [score + by for score in self.scores]
        kept = reaching(scores, threshold)
        distances = None if self.distances is None else self.distances[:kept]
        return Found(
            scores[:kept], self.ids[:kept], self.versions[:kept], distances, self.groups[:kept], self.rows[:kept]
        )

    def at(self, positions: Sequence[int]) -> "Found":
        """The hits at these positions."""
        if positions == range(len(self.ids)):
            return self
        return Found(
            [self.scores[i] for i in positions],
            [self.ids[i] for i in positions],
            [self.versions[i] for i in positions],
            None if self.distances is None else [self.distances[i] for i in positions],
        )


def best_of(found: Sequence[Candidates], limit: int) -> Candidates:
    """The `limit` best of all, and all that tie with the last of them."""
    if not found:
        return NOTHING
    scores = np.concatenate([one.scores for one in found])
    distances = [one.distances for one in found if one.distances is not None]
    together = Candidates(
        scores,
        np.concatenate([one.places for one in found]),
        np.concatenate([one.rows for one in found]),
        np.concatenate(distances) if distances else None,
    )
    kept = together.rows >= 0
    if len(scores) > limit:
        kept &= scores >= np.partition(scores, -limit)[-limit]
    which = np.flatnonzero(kept)
    return together.at(which[np.argsort(-scores[which], kind="stable")])


def hits_of(parts: Sequence[Part], candidates: Candidates, ids: Sequence[str], limit: int) -> Found:
    """The hits among candidates, whose ids order those that tie."""
    scores, places = candidates.scores.tolist(), candidates.places.tolist()
    distances = None if candidates.distances is None else candidates.distances.tolist()
    versions = [parts[place].version for place in places]
    if len(ids) <= limit and not any(map(eq, scores, scores[1:])):
        return Found(scores, list(ids), versions, distances)
    order = sorted(range(len(ids)), key=lambda position: (-scores[position], ids[position]))
    return Found(scores, list(ids), versions, distances).at(order[:limit])


def reaching(scores: Sequence[float], threshold: float) -> int:
    """How many of the scores, best first, count."""
    count = len(scores)
    while count and not reaches(scores[count - 1], threshold):
        count -= 1
    return count
