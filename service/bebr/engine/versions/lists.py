"""Lists of a collection's codes: when centroids are made, or made again, and which are forgotten.

They are made of a random sample of the codes themselves, once a version has enough points; again when it has grown
much, when it would have more lists by now and grows no more, or when its points are no longer like those that the lists
were made of. Segments are then sorted by them one after the other (`shards/local.py`); what is not sorted yet is
searched all the same.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial

from bebr.config import Limits
from bebr.core.lists import Centroids
from bebr.encoding.quantization.int8 import Int8Binarizer
from bebr.engine.collections.centroids import Making
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import Version, VersionKind
from bebr.shards import CodeSpace, cluster, lists_for, sample_rows_for
from bebr.telemetry import event

log = logging.getLogger(__name__)
GROWTH = 4
"""Centroids are made again once a version has this many times the rows that it had."""
GROWTH_UNPAID = 16
"""The same where searches for the collection's recall cost less without the lists that there are."""
STEADY_GROWTH, STEADY_SECONDS = 1.5, 30.0
"""So many times the rows are enough where more lists would be made of them and the version is steady: a bulk load,
which passes many sizes, makes them when it ends."""
STEADY_SHARE = 0.01
"""It is steady when its points have changed by less than this share for STEADY_SECONDS."""
DRIFT = 0.93
"""Also once the mean score of rows to their centroids is less than this share of what it was."""


class Lists:
    """Makes and forgets centroids of collections."""

    def __init__(self, limits: Limits, thread: Executor) -> None:
        self._from_points = limits.lists_from_points
        self._thread = thread
        """Computes beside everything else."""
        self.clock = time.monotonic

    def due(self, collection: Collection) -> Version | None:
        """A version whose centroids are to be made."""
        points = collection.shards.points()
        for version in collection.document.versions:
            count = points.get(version.number, 0)
            has_enough = count >= self._from_points and version.kind is not VersionKind.BUFFERED
            if has_enough and self._is_outdated(collection, version, count):
                return version
        return None

    def _is_outdated(self, collection: Collection, version: Version, count: int) -> bool:
        newest = collection.centroids.newest(version.number)
        pay = self._pay(collection, version)
        if newest is None or count >= (GROWTH if pay else GROWTH_UNPAID) * newest.rows:
            return True
        is_coarse = pay and count >= STEADY_GROWTH * newest.rows and lists_for(count) > newest.lists
        if is_coarse and self._is_steady(collection, version, count):
            return True
        mean_score = collection.shards.list_stats(version.number).mean_score
        return mean_score is not None and newest.mean_score > 0 and mean_score < DRIFT * newest.mean_score

    def _is_steady(self, collection: Collection, version: Version, count: int) -> bool:
        """Whether a version's points have hardly changed for a while, as far as was seen."""
        now, seen = self.clock(), collection.centroids.seen
        since, points = seen.get(version.number, (now, -1))
        if points < 0 or abs(count - points) > STEADY_SHARE * points:
            since, points = seen[version.number] = now, count
        return now - since >= STEADY_SECONDS

    def _pay(self, collection: Collection, version: Version) -> bool:
        """Whether lists are of use to searches for the collection's recall, as far as that was measured."""
        measured, recall = collection.list_rules.measured.get(version.number), collection.document.recall
        return measured is None or recall is None or measured.pays(measured.calibration.at(recall))

    async def make(self, collection: Collection, version: Version, is_wanted: Callable[[], bool]) -> bool:
        """Make centroids of a version, and sort rows by them from now on; False where there are too few points by now.

        Raises Stopped where they are not wanted any more, what went wrong with the version's bundle, StoreUnavailable,
        OSError.
        """
        making = collection.centroids.making[version.number] = Making()
        try:
            return await self._make(collection, version, is_wanted, making)
        finally:
            collection.centroids.making.pop(version.number, None)

    async def _make(
        self, collection: Collection, version: Version, is_wanted: Callable[[], bool], making: Making
    ) -> bool:
        began, shards = time.monotonic(), collection.shards
        rows = shards.points().get(version.number, 0)
        lists = lists_for(rows)
        codec = None if version.kind is VersionKind.RAW else collection.codec(version)
        metric = None if codec is None or isinstance(codec, Int8Binarizer) else codec.metric
        space = CodeSpace(version.spec.scan, version.steps, metric)
        known = [one.generation for one in collection.centroids.generations]
        generation = 1 + max([0, *known, *shards.list_stats(version.number).generations])
        sample = await shards.sample(version.number, sample_rows_for(lists), generation)
        if len(sample) < lists:
            return False  # most points were deleted meanwhile
        make = partial(
            cluster, sample, space, lists,
            version=version.number, generation=generation, rows=rows, seed=generation, is_wanted=is_wanted,
            advanced=partial(setattr, making, "progress"),
        )  # fmt: skip
        centroids, seconds = await asyncio.get_running_loop().run_in_executor(self._thread, _timed, make)
        shards.use_lists(await collection.centroids.add(centroids, seconds))
        event(
            log, "lists made", collection=collection.name, version=version.id, generation=generation, lists=lists,
            rows=rows, seconds=round(time.monotonic() - began, 1),
        )  # fmt: skip
        return True

    def has_older(self, collection: Collection) -> bool:
        """Whether there are generations that will be forgotten once segments are sorted, or their last points gone."""
        versions = [one.version for one in collection.centroids.generations]
        return len(versions) > len(set(versions) & collection.shards.points().keys())

    async def forget_unused(self, collection: Collection) -> None:
        """Delete generations that no segment has any more. Raises StoreUnavailable."""
        points = collection.shards.points()
        for one in list(collection.centroids.generations):
            newest = collection.centroids.newest(one.version)
            is_newest = newest is not None and one.generation == newest.generation and one.version in points
            if not is_newest and one.generation not in collection.shards.list_stats(one.version).generations:
                await collection.centroids.drop(one)
                collection.shards.forget_lists(one.version, one.generation)
                event(log, "lists forgotten", collection=collection.name, generation=one.generation)


def _timed(make: Callable[[], Centroids]) -> tuple[Centroids, float]:
    began = time.monotonic()
    return make(), round(time.monotonic() - began, 3)
