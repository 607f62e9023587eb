"""How the lists of a collection are read: what was measured of each code version, and the searches to measure it with.

A measurement is a document in the store beside the collection, with the last searches: a restart goes on from there.
Losing one costs a measurement. `engine/search/list_measuring.py` makes them.
"""

import base64
import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bebr.core.arrays import Floats
from bebr.core.codes import CodeSpec
from bebr.core.list_calibration import Calibration, Measured, cost
from bebr.core.scoring import DotQueries
from bebr.engine.collections.version import Version
from bebr.errors import DamagedStore
from bebr.shards import ScanQueries
from bebr.store import MetadataStore

log = logging.getLogger(__name__)
KIND = "list-calibration"
RECENT = 200
"""Searches that are kept of each code version."""
FEW_OF_A_SCAN = 4
"""Searches that are kept of those that ran together."""


@dataclass(frozen=True, slots=True)
class MeasuredLists:
    """What was measured of the lists of one code version."""

    calibration: Calibration
    generations: tuple[int, ...]
    """Of the centroids of all lists that there were."""
    points: int
    """How many the version had."""
    queries: Mapping[str, int]
    """How many queries of each kind it was measured with."""
    searches: int
    """Searches that the version had had by then, over restarts."""
    at: str
    """When: ISO 8601."""
    lists: int = 0
    """How many there were."""
    sorting: bool = False
    """Whether codes were still being sorted into them."""

    def cost(self, measured: Measured) -> float:
        """What it costs to do what was measured, once all codes are in lists, of what it costs to compare all."""
        return cost(self.lists, measured.share * self.points) / max(1, self.points)

    def pays(self, measured: Measured) -> bool:
        """Whether they cost less."""
        return self.cost(measured) < 1


class ListRules:
    """Measurements and recent searches of one collection."""

    def __init__(self, store: MetadataStore, uid: str, from_points: int) -> None:
        """from_points: searches of fewer points of a version are exact."""
        self._store = store
        self._uid = uid
        self._from_points = from_points
        self.measured: Mapping[int, MeasuredLists] = {}
        """By number of the code version."""
        self.keeps: frozenset[int] = frozenset()
        """Numbers of the versions whose searches are kept."""
        self._recent: dict[int, deque[tuple[np.ndarray[Any, Any], Floats]]] = {}
        """By version: values (dims,) int8 and scales (blocks,) float32 of the last searches."""
        self._searches: dict[int, int] = {}
        """By version: how many there were."""

    def of(self, version: int, points: int) -> MeasuredLists | None:
        """What a version was measured to need; None: with so many points its searches are exact."""
        return self.measured.get(version) if points >= self._from_points else None

    def keep(self, points: Mapping[int, int]) -> None:
        """Keep the searches of versions that have, or will soon have, lists. points: by version."""
        self.keeps = frozenset(number for number, count in points.items() if count >= self._from_points)

    def note(self, scanned: Sequence[ScanQueries]) -> None:
        """Keep what was searched for. Every search comes here."""
        for queries in scanned:
            if queries.version in self.keeps and isinstance(queries.prepared, DotQueries):
                self.note_queries(queries.version, queries.prepared)

    def note_queries(self, version: int, prepared: DotQueries) -> None:
        """The same, of a version whose searches are kept."""
        recent = self._recent.setdefault(version, deque(maxlen=RECENT))
        some = range(min(len(prepared), FEW_OF_A_SCAN))
        recent.extend((prepared.values[n].copy(), prepared.scales[n].copy()) for n in some)
        self._searches[version] = self.searches(version) + len(some)

    def searches(self, version: int) -> int:
        """How many searches of a version were noted."""
        return self._searches.get(version, 0)

    def recent(self, version: int, spec: CodeSpec) -> DotQueries:
        """The last searches of a version."""
        return _joined(self._recent.get(version, ()), spec)

    async def load(self, versions: Iterable[Version]) -> None:
        """Go on from what the store has; what is damaged is measured again."""
        for version in versions:
            try:
                document = await self._store.get_document(KIND, self._name(version.number))
                if document is not None:
                    self._use(version, document)
            except (DamagedStore, KeyError, TypeError, ValueError) as error:
                log.error("lists of '%s' in collection %s are measured again: %s", version.id, self._uid, error)

    async def save(self, version: Version, measured: MeasuredLists) -> None:
        """Use a measurement from now on. Raises StoreUnavailable; it is used all the same, until a restart."""
        self.measured = {**self.measured, version.number: measured}
        recent = self.recent(version.number, version.spec)
        document = {
            **measured.calibration.to_document(),
            "generations": list(measured.generations),
            "points": measured.points,
            "queries": dict(measured.queries),
            "searches": measured.searches,
            "at": measured.at,
            "lists": measured.lists,
            "sorting": measured.sorting,
            "values": base64.b64encode(recent.values.tobytes()).decode(),
            "scales": base64.b64encode(recent.scales.tobytes()).decode(),
        }
        await self._store.put_document(KIND, self._name(version.number), document)

    async def forget(self, versions: Iterable[Version]) -> None:
        """Remove what there is, of a collection that is deleted."""
        for version in versions:
            await self._store.delete_document(KIND, self._name(version.number))

    def _use(self, version: Version, document: Mapping[str, Any]) -> None:
        measured = MeasuredLists(
            Calibration.from_document(document),
            tuple(document["generations"]),
            int(document["points"]),
            dict(document["queries"]),
            int(document["searches"]),
            str(document["at"]),
            int(document.get("lists", 0)),
            bool(document.get("sorting", False)),
        )
        values = np.frombuffer(base64.b64decode(document["values"]), np.int8).reshape(-1, version.spec.dims)
        scales = np.frombuffer(base64.b64decode(document["scales"]), np.float32)
        scales = scales.reshape(len(values), len(version.spec.blocks))
        self.measured = {**self.measured, version.number: measured}
        self._recent[version.number] = deque(zip(values, scales, strict=True), maxlen=RECENT)
        self._searches[version.number] = measured.searches

    def _name(self, version: int) -> str:
        return f"{self._uid}-{version}"


def _joined(queries: Iterable[tuple[np.ndarray[Any, Any], Floats]], spec: CodeSpec) -> DotQueries:
    some = list(queries)
    values = np.array([values for values, _ in some], np.int8).reshape(-1, spec.dims)
    return DotQueries(values, np.array([scales for _, scales in some], np.float32).reshape(len(some), len(spec.blocks)))
