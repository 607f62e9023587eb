"""What a backfill does to a collection: points of older code versions get codes of the active one, from the text that
their metadata holds. When and how fast is the job's business.

What is left to do follows from the points alone, so a backfill that was cut short goes on at the next start, and no
point is encoded twice or lost: each gets its new code in one write, which is left out where the point was written or
deleted meanwhile. Points that searches found most of late come first.
"""

import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Set
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from bebr.config import Limits
from bebr.core.types import JobState, StoredPoint
from bebr.engine.capacity import CapacityGuard
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.registry import CollectionRegistry
from bebr.engine.collections.schema import CollectionDocument
from bebr.engine.collections.upgrades import Backfill
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.versions.fits import Fits
from bebr.engine.write.encode import Encoding, encode_texts
from bebr.errors import Conflict
from bebr.shards import Replace

PAGE = 16
"""Points embedded at a time: a search that needs the model waits for no more than that."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of one page of points."""

    applied: int
    """Points that have their new code."""
    without_text: list[str]
    """Ids of points that cannot be re-encoded."""


class Backfills:
    """The backfills of all collections: one each at most, kept in the collection's document."""

    def __init__(
        self, registry: CollectionRegistry, fits: Fits, *, limits: Limits, guard: CapacityGuard, encoding: Encoding
    ) -> None:
        self._registry = registry
        self._fits = fits
        self._limits = limits
        self._guard = guard
        self._encoding = encoding

    async def begin(self, collection: Collection, job: str, version_id: str, rate: float) -> None:
        """Save that a backfill is running, by a job of that id. Raises Conflict, VersionNotFound."""

        def begun(document: CollectionDocument) -> CollectionDocument:
            version, before = collection.version(version_id), document.upgrades.backfill
            self._check_target(collection, version)
            if before is not None and not before.state.ended:
                raise Conflict(
                    f"backfill {before.job} of '{collection.name}' is {before.state} already", job=before.job
                )
            if document.text_field is None or not collection.encoders.takes_text(version):
                raise Conflict(
                    f"'{collection.name}' keeps no texts to re-encode: it was created without 'text_field', or takes "
                    "vectors; backfill it from vectors of the new model",
                    key="text_field",
                )
            backfill = Backfill(
                job=job,
                version=version.id,
                rate=rate,
                total=collection.old_points(version),
                created_at=time.time(),
                state=JobState.RUNNING,
            )
            return replace(document, upgrades=replace(document.upgrades, backfill=backfill))

        await self._registry.update(collection, begun)

    async def pause(self, collection: Collection) -> None:
        """Save that it is paused. Raises Conflict where it is not running."""
        await self._change(collection, JobState.RUNNING, JobState.PAUSED, "paused")

    async def resume(self, collection: Collection) -> None:
        """Save that it is running. Raises Conflict where it is not paused, or cannot go on now."""
        await self._change(collection, JobState.PAUSED, JobState.RUNNING, "resumed")

    async def end(
        self, collection: Collection, job: str, state: JobState, *, skipped: int, detail: str | None = None
    ) -> None:
        """Save how a job ended. Nothing changes where it has ended before; one that is paused can only be cancelled."""

        def ended(backfill: Backfill) -> Backfill:
            paused = backfill.state is JobState.PAUSED and state is not JobState.CANCELLED
            if backfill.job != job or backfill.state.ended or paused:
                return backfill
            backfill = self._counted(collection, backfill, skipped)
            return replace(backfill, state=state, detail=detail, finished_at=time.time())

        await self._update(collection, ended)

    async def save_counts(self, collection: Collection, job: str, skipped: int) -> None:
        """Save how many points were re-encoded, and skipped because they have no text. For a job that has stopped."""

        def counted(backfill: Backfill) -> Backfill:
            return self._counted(collection, backfill, skipped) if backfill.job == job else backfill

        await self._update(collection, counted)

    def _counted(self, collection: Collection, backfill: Backfill, skipped: int) -> Backfill:
        return replace(backfill, applied=self.applied(collection, backfill), skipped=max(backfill.skipped, skipped))

    def applied(self, collection: Collection, backfill: Backfill) -> int:
        """How many points have their new code; as it was saved where the collection cannot tell."""
        target = collection.document.version(backfill.version)
        if target is None or not collection.ready:
            return backfill.applied
        return max(0, backfill.total - collection.old_points(target))

    async def pages(self, collection: Collection, target: Version, skipped: Set[str]) -> AsyncIterator[list[str]]:
        """Ids of points of other versions, hot points first; a shard at a time, so that few ids are held."""
        hot, _ = await collection.fetch_sound(collection.hot_points.hottest(), metadata=False)
        for page in _batched(point.id for point in hot.values() if point.version != target.number):
            yield page
        for version in collection.document.versions:
            if version.number == target.number or version.kind is VersionKind.BUFFERED:
                continue
            for shard in range(collection.document.shards):
                ids = await collection.shards.version_ids(shard, version.number, None)
                for page in _batched(point_id for point_id in ids if point_id not in skipped):
                    yield page

    async def move(self, collection: Collection, target: Version, ids: list[str]) -> Moved:
        """Re-encode a page of points as the target. Raises InsufficientStorage, Overloaded, StoreUnavailable."""
        self._guard.check()
        points, texts = [], []
        found, without_text = await collection.fetch_sound(ids, records=True)
        versions, text_field = collection.document.versions, collection.document.text_field
        for point in found.values():
            if point.version == target.number or versions[point.version].kind is VersionKind.BUFFERED:
                continue
            text = _text(point, text_field, self._limits.max_text_chars)
            if text is None:
                without_text.append(point.id)
            else:
                points.append(point)
                texts.append(text)
        if not points:
            return Moved(0, without_text)
        collection.writing[target.number] += 1
        try:
            records = await encode_texts(collection, target, [point.id for point in points], texts, self._encoding)
            return Moved(await _replace_codes(collection, target, points, records), without_text)
        finally:
            collection.writing[target.number] -= 1

    async def _change(self, collection: Collection, before: JobState, after: JobState, what: str) -> None:
        def changed(document: CollectionDocument) -> CollectionDocument:
            backfill = document.upgrades.backfill
            if backfill is None or backfill.state is not before:
                state = "none" if backfill is None else str(backfill.state)
                raise Conflict(f"only a {before} backfill can be {what}; that of '{collection.name}' is {state}")
            if after is JobState.RUNNING:
                self._check_target(collection, collection.version(backfill.version))
            backfill = replace(backfill, state=after, applied=self.applied(collection, backfill))
            return replace(document, upgrades=replace(document.upgrades, backfill=backfill))

        await self._registry.update(collection, changed)

    async def _update(self, collection: Collection, change: Callable[[Backfill], Backfill]) -> None:
        def changed(document: CollectionDocument) -> CollectionDocument:
            backfill = document.upgrades.backfill
            if backfill is None:
                return document
            return replace(document, upgrades=replace(document.upgrades, backfill=change(backfill)))

        await self._registry.update(collection, changed)

    def _check_target(self, collection: Collection, version: Version) -> None:
        """Raise Conflict unless points may be re-encoded as that version now."""
        if version.number != collection.document.active:
            raise Conflict(f"'{version.id}' is not the active version of '{collection.name}'; promote it first")
        self._fits.check_quiet(collection)


async def _replace_codes(
    collection: Collection, target: Version, points: list[StoredPoint], records: NDArray[np.uint8]
) -> int:
    """Give points that are as they were read their new records (points, record_size_bytes) -> how many got them."""
    places = {point.id: place for place, point in enumerate(points)}
    applied = 0
    for shard, ids in collection.by_shard(list(places)).items():
        await collection.shards.wait_for_capacity(shard)
        rows = [places[point_id] for point_id in ids]
        change = Replace(
            ids=ids,
            after=target.number,
            records=records[rows],
            made_from=[points[row].record for row in rows],
        )
        applied += sum((await collection.shards.write(shard, change)).applied)
    return applied


def _batched(ids: Iterable[str]) -> Iterator[list[str]]:
    left = iter(ids)
    while page := list(islice(left, PAGE)):
        yield page


def _text(point: StoredPoint, text_field: str | None, max_chars: int) -> str | None:
    """The text that a point can be encoded from; None where it holds none."""
    text = json.loads(point.metadata).get(text_field)
    return text[:max_chars] if isinstance(text, str) and text.strip() else None
