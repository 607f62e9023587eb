"""Measures in the background what the lists of collections need: see `bebr.core.list_calibration`.

It is measured when lists appear, as soon as all are of other centroids or there are GROWTH times the points, since
what was measured before then finds less than it promises; and when as many other searches have come as are kept, which
is not often. What was measured while codes were being sorted into lists is measured again as soon as they are. Some of
the points serve as queries, and the last searches, each of them once; each is answered exactly, then by lists, a few at
a time, with rests in between. More points take fewer queries, so that what it costs is bounded.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import split_records
from bebr.core.list_calibration import (
    DEEP_HITS,
    DEEP_ROWS,
    calibration_of,
    deep_deltas,
    deltas_to_measure,
    recall_as_queries,
    sure_recall,
)
from bebr.core.lists import ListRule
from bebr.core.scoring import DotQueries, prepare_sdc
from bebr.engine.admission import Lane
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.list_rules import RECENT, MeasuredLists
from bebr.engine.collections.registry import CollectionRegistry
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.search.probing import MEASURED_LIMIT
from bebr.errors import BebrError
from bebr.shards import ListsHeld, Needs, ScanQueries, quantize
from bebr.telemetry import event

log = logging.getLogger(__name__)
Hits = tuple[NDArray[np.float64], NDArray[np.float32]]
"""Scores and needs (hits,) of the hits of one query."""
POINTS, SEARCHES = "points", "searches"
"""The kinds of queries."""
OWN = 400
"""Points that serve as queries."""
FEWEST = 50
"""Queries of each kind that measure anything."""
GROWTH = 1.5
"""As many more points make the k-th best hit score more, so that with the same delta less is found."""
MAX_ROWS = 2**32
"""Rows that the exact searches of one measurement may scan in all."""
TOGETHER = 16
"""Queries that are searched for at a time."""
POLL_SECONDS = 1.0
RESTS = (1, 4)
"""Times as long as a step took, the next one waits; where searches are under way too."""
AGAIN_SECONDS = 600.0
"""A measurement is not repeated sooner than this for other searches alone."""
RETRY_SECONDS = 1.0
"""One that failed is tried again after this, each time that it fails after twice as long, up to AGAIN_SECONDS."""


@dataclass(frozen=True, slots=True)
class _Tried:
    """The last time that lists were measured."""

    at: float
    """On the monotonic clock."""
    failures: int
    """How often it failed since it last succeeded."""

    @property
    def is_rested(self) -> bool:
        """Whether they may be measured again."""
        seconds = RETRY_SECONDS * 2.0 ** min(self.failures - 1, 20) if self.failures else AGAIN_SECONDS
        return time.monotonic() - self.at >= min(seconds, AGAIN_SECONDS)


@dataclass(frozen=True, slots=True)
class _Kind:
    """Queries of one kind, and their exact hits."""

    queries: DotQueries
    limit: int
    exact: list[Needs]
    skipped: int = 0
    """Of the best hits that count for nothing: a point finds itself."""

    def recall(self, found: Sequence[Sequence[float]]) -> float:
        """The share of the exact hits among those with these scores, see `sure_recall`. Of hits that tie, one is as
        good as another."""
        wanted = [max(0, len(one.scores) - self.skipped) for one in self.exact]
        reached = [
            sum(score >= one.scores[-1] for score in scores) - self.skipped if len(one.scores) else 0
            for scores, one in zip(found, self.exact, strict=True)
        ]
        return sure_recall([min(max(0, n), of) for n, of in zip(reached, wanted, strict=True)], wanted)


class ListMeasuring:
    """Measures one collection after the other."""

    def __init__(self, registry: CollectionRegistry, lane: Lane) -> None:
        """lane: of searches, for which it rests longer."""
        self._registry = registry
        self._lane = lane
        self._tried: dict[tuple[str, int], _Tried] = {}
        """By uid of the collection and version."""

    async def run_for_ever(self) -> None:
        """Measure what is due. Runs until it is cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self._measure_all()

    async def _measure_all(self) -> None:
        """Nothing of a collection may be held between two rounds: it would keep the files of a dropped one."""
        uids = {collection.document.uid for collection in self._registry.collections.values()}
        self._tried = {key: tried for key, tried in self._tried.items() if key[0] in uids}
        for collection in list(self._registry.collections.values()):
            if collection.ready and not collection.closed:
                await self.measure_due(collection)

    async def measure_due(self, collection: Collection) -> None:
        """Measure the versions of a collection that are due."""
        rules, points = collection.list_rules, collection.shards.points()
        rules.keep(points)
        for number in rules.keeps:
            held = collection.shards.lists().get(number)
            if held is None or not self._is_due(collection, number, held, points[number]):
                continue
            version, key = collection.document.versions[number], (collection.document.uid, number)
            failures = 1 + (self._tried[key].failures if key in self._tried else 0)
            try:
                await self.measure(collection, version)
                failures = 0
            except (BebrError, OSError) as error:
                log.warning("lists of '%s' in collection %s: %s; trying again", version.id, collection.name, error)
            except Exception:
                log.exception("lists of '%s' in collection %s cannot be measured", version.id, collection.name)
            self._tried[key] = _Tried(time.monotonic(), failures)

    def _is_due(self, collection: Collection, number: int, held: ListsHeld, points: int) -> bool:
        rules = collection.list_rules
        if 2 * held.rows < points:
            return False
        tried, known = self._tried.get((collection.document.uid, number)), rules.measured.get(number)
        is_rested = tried is None or tried.is_rested
        if known is None or not known.calibration.deep or (tried is not None and tried.failures):
            return is_rested
        if points >= GROWTH * known.points or (known.sorting and not collection.shards.list_stats(number).unsorted):
            return True
        if known.generations != held.generations and len(held.generations) == 1:  # else they are still being sorted
            return True
        return is_rested and rules.searches(number) - known.searches >= RECENT

    async def measure(self, collection: Collection, version: Version) -> None:
        """Measure the lists of a version, and use what was found. Raises what a search raises, StoreUnavailable."""
        rules, shards = collection.list_rules, collection.shards
        points, searches, started = shards.points()[version.number], rules.searches(version.number), time.monotonic()
        held, is_sorting = shards.lists()[version.number], bool(shards.list_stats(version.number).unsorted)
        kinds = await self._kinds(collection, version, points)
        if not kinds:
            return
        deltas = deltas_to_measure([np.concatenate([one.needs for one in kind.exact]) for kind in kinds.values()])
        recalls, shares = [], []
        for delta in deltas:
            of_kinds = [await self._found(collection, version, kind, delta) for kind in kinds.values()]
            recalls.append({name: recall for name, (recall, _) in zip(kinds, of_kinds, strict=True)})
            if list(kinds) == [POINTS]:
                recalls[-1] = {POINTS: recall_as_queries(recalls[-1][POINTS], points)}
            shares.append(max(share for _, share in of_kinds))
        deep = deep_deltas([await self._deep(collection, version, kind) for kind in kinds.values()])
        measured = MeasuredLists(
            calibration_of(deltas, recalls, shares, deep),
            held.generations,
            points,
            {name: len(kind.queries) for name, kind in kinds.items()},
            searches,
            datetime.now(UTC).isoformat(timespec="seconds"),
            held.lists,
            is_sorting,
        )
        took = round(time.monotonic() - started, 3)
        event(log, "lists measured", collection=collection.name, version=version.id, points=points, seconds=took)
        await rules.save(version, measured)

    async def _kinds(self, collection: Collection, version: Version, points: int) -> Mapping[str, _Kind]:
        """The queries of each kind that there are enough of, with their exact hits."""
        count = max(FEWEST, MAX_ROWS // (2 * max(1, points)))
        records = await collection.shards.sample(version.number, min(OWN, count), seed=points)
        own = _queries_of(collection, version, records)
        recent = collection.list_rules.recent(version.number, version.spec)
        recent = _unlike(DotQueries(recent.values[-count:], recent.scales[-count:]))
        kinds = {POINTS: _Kind(own, MEASURED_LIMIT + 1, [], 1), SEARCHES: _Kind(recent, MEASURED_LIMIT, [])}
        return {
            name: replace(kind, exact=await self._exact(collection, version, kind))
            for name, kind in kinds.items()
            if len(kind.queries) >= min(FEWEST, points)
        }

    async def _exact(self, collection: Collection, version: Version, kind: _Kind) -> list[Needs]:
        found: list[Needs] = []
        for some in _steps(version.number, kind):
            began = time.monotonic()
            found += await collection.shards.needs(some)
            await self._rest(began)
        return found

    async def _deep(self, collection: Collection, version: Version, kind: _Kind) -> list[Hits]:
        """The hits of each query among a sample of the points."""
        found: list[Hits] = []
        for some in _steps(version.number, replace(kind, limit=DEEP_HITS)):
            began = time.monotonic()
            found += [(one.scores, one.needs) for one in await collection.shards.needs(some, DEEP_ROWS)]
            await self._rest(began)
        return found

    async def _found(
        self, collection: Collection, version: Version, kind: _Kind, delta: np.float32
    ) -> tuple[float, float]:
        """-> share of the exact hits that is found with this delta, and of the rows in lists that is read, on average.

        Rows that are in no list yet, as while a collection is filled, count for nothing: they soon will be.
        """
        scores, shares = list[list[float]](), 0.0
        for some in _steps(version.number, kind):
            began = time.monotonic()
            count = len(some)
            rule = ListRule(np.full(count, delta, np.float32), np.full(count, some.limit, np.int32))
            searched = await collection.shards.search([replace(some, lists=rule)], on_loop=False)
            scores += [found.scores for found in searched.found]
            if (read := searched.lists.get(version.number)) is not None:
                in_none = searched.points[version.number] - read.held.rows
                shares += float((read.rows - in_none).sum()) / max(1, read.held.rows)
            await self._rest(began)
        return kind.recall(scores), shares / len(kind.queries)

    async def _rest(self, began: float) -> None:
        await asyncio.sleep(RESTS[self._lane.is_busy] * (time.monotonic() - began))


def _steps(version: int, kind: _Kind) -> list[ScanQueries]:
    """What is searched for at a time."""
    found = []
    for start in range(0, len(kind.queries), TOGETHER):
        some = slice(start, start + TOGETHER)
        queries = DotQueries(kind.queries.values[some], kind.queries.scales[some])
        no_floors = np.full(len(queries), -np.inf, np.float32)
        found.append(ScanQueries(version, queries, kind.limit, (None,) * len(queries), no_floors))
    return found


def _unlike(queries: DotQueries) -> DotQueries:
    """Each of the queries once: one that is asked over and over says nothing of others."""
    some = zip(queries.values, queries.scales, strict=True)
    which = sorted({(values.tobytes(), scales.tobytes()): n for n, (values, scales) in enumerate(some)}.values())
    return DotQueries(queries.values[which], queries.scales[which])


def _queries_of(collection: Collection, version: Version, records: NDArray[np.uint8]) -> DotQueries:
    """Scan codes with gains (n, scan_record_size_bytes) uint8 -> queries that search by them, as sdc does."""
    whole = np.zeros((len(records), version.spec.record_size_bytes), np.uint8)
    whole[:, : records.shape[1]] = records
    if version.kind is VersionKind.RAW:
        return prepare_sdc(*split_records(whole, version.spec), version.spec, version.steps)
    projected = collection.encoders.codec(version).code_query(whole)
    return quantize(projected, version.spec, version.steps)
