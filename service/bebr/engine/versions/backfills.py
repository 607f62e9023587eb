"""Backfills: points of older code versions get codes of the active one, from the text that their metadata holds.

What is left to do follows from the points alone, so a backfill that was cut short goes on at the next start, and no
point is encoded twice or lost: each gets its new code in one write, which is left out where the point was written or
deleted meanwhile. Points that searches found most of late come first.
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.config import Limits
from bebr.core.types import StoredPoint
from bebr.encoding import TextKind
from bebr.engine.capacity import RoomGuard
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.registry import CollectionRegistry
from bebr.engine.collections.schema import Backfill, CollectionDocument
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.versions.fits import Fits, FitState
from bebr.engine.versions.promotion import Versions
from bebr.errors import BebrError, Conflict, InvalidOption, JobNotFound, Unavailable
from bebr.shards import Replace

log = logging.getLogger(__name__)
RUNNING, PAUSED, SUCCEEDED, FAILED, CANCELLED = "running", "paused", "succeeded", "failed", "cancelled"
PAGE = 16
"""Points embedded at a time: a search that needs the model waits for no more than that."""
RETRY_SECONDS = 1.0
MAX_RATE = 1_000_000


class _Stopped(Exception):
    """The backfill was told to stop between two pages."""


@dataclass(slots=True)
class _Run:
    """One backfill under way in this process."""

    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None
    started: float = field(default_factory=time.monotonic)
    moved: int = 0
    skipped: set[str] = field(default_factory=set)
    waiting: str | None = None

    @property
    def rate(self) -> float:
        return self.moved / max(time.monotonic() - self.started, 1e-6)

    async def rest(self, seconds: float) -> None:
        """Raises _Stopped as soon as the backfill is to stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), max(seconds, 0))
        if self.stopping.is_set():
            raise _Stopped


class Backfills:
    """All backfills of the process, one for each collection at most."""

    def __init__(
        self,
        registry: CollectionRegistry,
        versions: Versions,
        fits: Fits,
        limits: Limits,
        guard: RoomGuard,
        encoding: Executor,
    ) -> None:
        self._registry = registry
        self._versions = versions
        self._fits = fits
        self._limits = limits
        self._guard = guard
        self._encoding = encoding
        self._runs: dict[str, _Run] = {}
        self._stopping = False

    async def start(self, collection: Collection, version_id: str, rate: float | None) -> str:
        """-> the id of its job, which is durable then. Raises Conflict, InvalidOption, VersionNotFound."""
        job = f"backfill-{collection.document.uid[:8]}-{int(time.time() * 1000):x}"
        rate = self._rate(rate)

        def begun(document: CollectionDocument) -> CollectionDocument:
            version, kept = self._versions.find(collection, version_id), document.upgrades.backfill
            self._check_target(collection, version)
            if kept is not None and not kept.ended:
                raise Conflict(f"backfill {kept.job} of '{collection.name}' is {kept.state} already", job=kept.job)
            if document.text_field is None or not collection.encoders.takes_text(version):
                raise Conflict(
                    f"'{collection.name}' keeps no texts that could be encoded anew: it was made without 'text_field', "
                    "or takes vectors; backfill it from vectors of the new model instead",
                    key="text_field",
                )
            backfill = Backfill(job, version.id, rate, collection.old_points(), time.time(), RUNNING)
            return replace(document, upgrades=replace(document.upgrades, backfill=backfill))

        await self._registry.update(collection, begun)
        self.look(collection)
        return job

    def look(self, collection: Collection) -> None:
        """Go on with what is to run, unless it does."""
        backfill = collection.document.upgrades.backfill
        uid = collection.document.uid
        if backfill is None or backfill.state != RUNNING or uid in self._runs:
            return
        if self._stopping or not collection.ready or self._registry.collections.get(collection.name) is not collection:
            return
        run = self._runs[uid] = _Run()
        run.task = asyncio.create_task(self._run(collection, run))

    async def pause(self, collection: Collection) -> None:
        """Once the page under way has come to its end."""
        await self._change(collection, RUNNING, PAUSED)
        await self._stop_run(collection)

    async def resume(self, collection: Collection) -> None:
        await self._change(collection, PAUSED, RUNNING)
        self.look(collection)

    async def cancel(self, collection: Collection) -> None:
        """What has its new code keeps it. Of a backfill that has ended nothing changes."""

        def cancelled(document: CollectionDocument) -> CollectionDocument:
            backfill = document.upgrades.backfill
            if backfill is None or backfill.ended:
                return document
            backfill = self._rested(collection, replace(backfill, state=CANCELLED, finished_at=time.time()))
            return replace(document, upgrades=replace(document.upgrades, backfill=backfill))

        await self._registry.update(collection, cancelled)
        await self._stop_run(collection)

    async def follow(self, collection: Collection) -> None:
        """Stop a run whose backfill was ended by a promotion or a rollback."""
        uid, backfill = collection.document.uid, collection.document.upgrades.backfill
        if backfill is None or backfill.state == RUNNING or uid not in self._runs:
            return
        await self._stop_run(collection)  # its last page counts too

        def rested(document: CollectionDocument) -> CollectionDocument:
            upgrades = document.upgrades
            kept = upgrades.backfill if upgrades.backfill is None else self._rested(collection, upgrades.backfill)
            return replace(document, upgrades=replace(upgrades, backfill=kept))

        await self._registry.update(collection, rested)

    async def drop(self, collection: Collection) -> None:
        """End at once what is under way for a collection that is about to be closed. The caller holds the lock."""
        run = self._runs.get(collection.document.uid)
        if run is not None and run.task is not None:
            run.task.cancel()  # it may be waiting for the lock
            await asyncio.gather(run.task, return_exceptions=True)

    async def stop(self) -> None:
        """Stop everything; the next start goes on with it."""
        self._stopping = True
        await asyncio.gather(*(self._end_run(run) for run in list(self._runs.values())))

    def describe(self, collection: Collection) -> dict[str, Any]:
        """The job as the API shows it. Raises JobNotFound."""
        backfill = collection.document.upgrades.backfill
        if backfill is None:
            raise JobNotFound(f"no backfill was asked for in '{collection.name}'")
        run = self._runs.get(collection.document.uid)
        if not backfill.ended:
            backfill = self._rested(collection, backfill)
        left = max(0, backfill.total - backfill.applied - backfill.skipped)
        rate = run.rate if run is not None else 0.0
        return {
            "job": backfill.job,
            "kind": "backfill",
            "collection": collection.name,
            "version": backfill.version,
            "state": backfill.state,
            "total": backfill.total,
            "applied": backfill.applied,
            "rejected": backfill.skipped,
            "remaining": left,
            "rate_limit": backfill.rate,
            "rate_per_s": round(rate, 1),
            "eta_s": round(left / rate, 1) if rate and not backfill.ended else None,
            "detail": run.waiting if run is not None and run.waiting else backfill.detail,
            "created_at": _iso(backfill.created_at),
            "finished_at": None if backfill.finished_at is None else _iso(backfill.finished_at),
        }

    def _check_target(self, collection: Collection, version: Version) -> None:
        """Raise Conflict unless points may be re-encoded as that version now."""
        if version.number != collection.document.active:
            raise Conflict(f"'{version.id}' is not the active version of '{collection.name}'; promote it first")
        if (state := self._fits.state(collection)) not in (None, FitState.DONE):
            raise Conflict(f"a fit of '{collection.name}' is {state}; wait until it is done", state=str(state))

    def _rate(self, rate: float | None) -> float:
        rate = float(self._limits.backfill_points_per_s) if rate is None else rate
        if not 0 < rate <= MAX_RATE:
            raise InvalidOption(f"'rate_limit' is points a second, above 0 and at most {MAX_RATE}", key="rate_limit")
        return rate

    async def _change(self, collection: Collection, before: str, after: str) -> None:
        def changed(document: CollectionDocument) -> CollectionDocument:
            backfill = document.upgrades.backfill
            if backfill is None or backfill.state != before:
                state = "there is none" if backfill is None else f"it is {backfill.state}"
                raise Conflict(f"a backfill that is {before} can be {after}; of '{collection.name}' {state}")
            if after == RUNNING:
                self._check_target(collection, self._versions.find(collection, backfill.version))
            backfill = self._rested(collection, replace(backfill, state=after))
            return replace(document, upgrades=replace(document.upgrades, backfill=backfill))

        await self._registry.update(collection, changed)

    def _rested(self, collection: Collection, backfill: Backfill) -> Backfill:
        """With its figures as they are now."""
        run = self._runs.get(collection.document.uid)
        skipped = max(backfill.skipped, len(run.skipped) if run is not None else 0)
        target = collection.document.version(backfill.version)
        if not collection.ready or target is None:
            return backfill
        left = collection.old_points(target.number)
        return replace(backfill, skipped=skipped, applied=max(0, backfill.total - left))

    async def _stop_run(self, collection: Collection) -> None:
        run = self._runs.get(collection.document.uid)
        if run is not None:
            await self._end_run(run)

    async def _end_run(self, run: _Run) -> None:
        run.stopping.set()
        if run.task is not None:
            await asyncio.gather(run.task, return_exceptions=True)

    async def _run(self, collection: Collection, run: _Run) -> None:
        backfill = collection.document.upgrades.backfill
        assert backfill is not None
        try:
            while True:
                try:
                    await self._move_all(collection, backfill, run)
                    break
                except (Unavailable, OSError) as error:
                    run.waiting = f"waiting: {error}"
                    log.warning("the backfill of collection %s waits: %s", collection.name, error)
                    await run.rest(RETRY_SECONDS)
            await self._end(collection, run, SUCCEEDED, None)
        except _Stopped:
            pass
        except BebrError as error:
            await self._end(collection, run, FAILED, error.detail)
        except Exception as error:
            log.exception("the backfill of collection %s failed", collection.name)
            await self._end(
                collection, run, FAILED, f"unexpected {type(error).__name__}; the log of the service has it"
            )
        finally:
            self._runs.pop(collection.document.uid, None)
            self.look(collection)  # another may have been asked for while this one came to its end

    async def _end(self, collection: Collection, run: _Run, state: str, detail: str | None) -> None:
        """Keep how it ended, however long the store is away."""

        def ended(document: CollectionDocument) -> CollectionDocument:
            backfill = document.upgrades.backfill
            if backfill is None or backfill.state != RUNNING:
                return document
            backfill = replace(backfill, state=state, detail=detail, finished_at=time.time())
            upgrades = replace(document.upgrades, backfill=self._rested(collection, backfill))
            return replace(document, upgrades=upgrades)

        while True:
            with suppress(Unavailable, OSError):
                await self._registry.update(collection, ended)
                return
            await run.rest(RETRY_SECONDS)

    async def _move_all(self, collection: Collection, backfill: Backfill, run: _Run) -> None:
        """Passes over what is left, until nothing is but points without text."""
        target = self._versions.find(collection, backfill.version)
        next_at = time.monotonic()
        while True:
            before = len(run.skipped)
            moved = 0
            async for page in _pages(collection, target, run.skipped):
                await run.rest(next_at - time.monotonic())
                next_at = max(next_at, time.monotonic() - 1) + len(page) / backfill.rate
                moved += await self._move(collection, target, page, run)
            if not moved and len(run.skipped) == before:
                return

    async def _move(self, collection: Collection, target: Version, ids: list[str], run: _Run) -> int:
        self._guard.check()
        if collection.document.active != target.number:
            raise _Stopped  # the promotion that made another one active has cancelled it
        versions = collection.document.versions
        found = (await collection.fetch(ids, records=True)).values()
        points = [
            p for p in found if p.version != target.number and versions[p.version].kind is not VersionKind.BUFFERED
        ]
        texts = [_text(point, collection.document.text_field, self._limits.max_text_chars) for point in points]
        run.skipped |= {point.id for point, text in zip(points, texts, strict=True) if text is None}
        points = [point for point, text in zip(points, texts, strict=True) if text is not None]
        if not points:
            return 0
        records = await self._encode(collection, target, [text for text in texts if text is not None])
        moved = 0
        by_id = {point.id: place for place, point in enumerate(points)}
        for number, members in collection.by_shard(list(by_id)).items():
            await collection.shards.wait_for_capacity(number)
            places = [by_id[point_id] for point_id in members]
            change = Replace(members, target.number, records[places], [points[place].record for place in places])
            moved += sum((await collection.shards.write(number, change)).applied)
        run.moved += moved
        run.waiting = None
        return moved

    async def _encode(self, collection: Collection, version: Version, texts: list[str]) -> NDArray[np.uint8]:
        embedder, codec = collection.encoders.embedder(version), collection.codec(version)

        def work() -> NDArray[np.uint8]:
            return codec.encode(embedder.embed(texts, TextKind.PASSAGE))

        return await asyncio.get_running_loop().run_in_executor(self._encoding, work)


async def _pages(collection: Collection, target: Version, skipped: set[str]) -> AsyncIterator[list[str]]:
    """Ids of points of other versions, those most asked for first; a shard at a time, so that few ids are held."""
    asked = await collection.fetch(collection.asked.most(), metadata=False)
    for page in _batched(point.id for point in asked.values() if point.version != target.number):
        yield page
    for version in collection.document.versions:
        if version.number == target.number or version.kind is VersionKind.BUFFERED:
            continue
        for shard in range(collection.document.shards):
            ids = await collection.shards.version_ids(shard, version.number, None)
            for page in _batched(point_id for point_id in ids if point_id not in skipped):
                yield page


def _batched(ids: Iterable[str]) -> Iterator[list[str]]:
    left = iter(ids)
    while page := list(islice(left, PAGE)):
        yield page


def _text(point: StoredPoint, text_field: str | None, max_chars: int) -> str | None:
    """The text that a point can be encoded from; None where it holds none."""
    text = json.loads(point.metadata).get(text_field)
    return text[:max_chars] if isinstance(text, str) and text.strip() else None


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
