"""Points that were read of late, so that what many searches find is read once. Of the event loop's thread only.

Whoever writes points forgets them once the commit is over, and whoever reads points adds them without a wait in
between: so nothing is here that a finished commit has replaced.
"""

from collections.abc import Mapping, Sequence
from sys import getsizeof

from bebr.core.types import StoredPoint

POINT_BYTES = 300
"""Of a point beside its id and metadata, about: its tuple, its numbers, its place here."""


class PointCache:
    """Points with metadata and without records, by collection and id, in about `max_bytes` of memory.

    There are two halves. What is read is added to the new one, and what is found in the old one moves there. Once the
    new half is full it becomes the old one, in place of what nobody asked for since the last time.
    """

    def __init__(self, max_bytes: int) -> None:
        """max_bytes: 0 for no points."""
        self._max_half_bytes = max_bytes // 2
        self._new: dict[str, dict[str, StoredPoint]] = {}
        self._old: dict[str, dict[str, StoredPoint]] = {}
        self._new_bytes = 0

    def get(self, uid: str, ids: Sequence[str]) -> dict[str, StoredPoint]:
        """Those of the points that are here, by id."""
        new, old = self._new.get(uid, {}), self._old.get(uid)
        found = {point_id: new[point_id] for point_id in ids if point_id in new}
        if old and (again := {point_id: old.pop(point_id) for point_id in ids if point_id in old}):
            self.add(uid, again)
            found |= again
        return found

    def add(self, uid: str, points: Mapping[str, StoredPoint]) -> None:
        """Keep points, by id, as they were read just now."""
        size = sum([getsizeof(point.id) + getsizeof(point.metadata) + POINT_BYTES for point in points.values()])
        if size > self._max_half_bytes:
            return
        if self._new_bytes + size > self._max_half_bytes:
            self._old, self._new, self._new_bytes = self._new, {}, 0
        self._new.setdefault(uid, {}).update(points)
        self._new_bytes += size

    def forget(self, uid: str, ids: Sequence[str]) -> None:
        """These were written."""
        for half in (self._new.get(uid), self._old.get(uid)):
            if half:
                for point_id in ids:
                    half.pop(point_id, None)

    def forget_all(self, uid: str) -> None:
        """The collection is dropped."""
        self._new.pop(uid, None)
        self._old.pop(uid, None)
