"""What follows a fit: embeddings of a sample of the points are saved, and the binarizer is measured on them again.

Both happen as the collection is written to, in the background, one collection at a time.
"""

import asyncio
import logging
from contextlib import suppress

from bebr.config import Limits
from bebr.engine import Engine
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.schema import FitSource
from bebr.engine.statuses import FitState
from bebr.errors import BebrError, CollectionNotFound, Unavailable
from bebr.jobs.turns import Turns
from bebr.telemetry import event

log = logging.getLogger(__name__)
MEASURE_SECONDS = 5.0
"""What a measurement takes, about."""
MEASURE_AGAIN = 0.2
"""Share of the sample that is new when the binarizer is measured again."""


class FitUpkeep:
    """Keeps the samples of all collections, and proposes fits."""

    def __init__(self, engine: Engine, turns: Turns) -> None:
        """turns: of whatever computes for seconds."""
        self._registry = engine.registry
        self._fits = engine.fits
        self._steps = engine.fit_steps
        self._limits: Limits = engine.limits
        self._turns = turns
        self._running: dict[str, asyncio.Task[None]] = {}
        """By uid of the collection."""
        self._failed: set[str] = set()
        """Uids of collections whose upkeep failed since it last succeeded; the log hears of it once."""

    def changed(self, collection: Collection) -> None:
        """Begin what is due. Called after every write: it must be cheap."""
        uid = collection.document.uid
        if uid not in self._running and (collection.reservoir.is_due or self._is_measure_due(collection)):
            self._running[uid] = asyncio.create_task(self._keep(collection))

    async def stop(self) -> None:
        """Stop, and save what is pending."""
        await self._cancel(list(self._running))
        for collection in list(self._registry.collections.values()):
            with suppress(Unavailable, OSError):
                await collection.reservoir.save()

    async def closing(self, collection: Collection) -> None:
        """End what is running for a collection that is about to be closed."""
        await self._cancel([collection.document.uid])

    async def _cancel(self, uids: list[str]) -> None:
        tasks = [self._running[uid] for uid in uids if uid in self._running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_measure_due(self, collection: Collection) -> bool:
        reservoir = collection.reservoir
        due = reservoir.fresh > MEASURE_AGAIN * reservoir.limit
        return due and self._fits.state(collection) is FitState.DONE

    async def _keep(self, collection: Collection) -> None:
        uid, reservoir = collection.document.uid, collection.reservoir
        try:
            await reservoir.save()
            await reservoir.compact(collection.existing)
            while self._is_measure_due(collection):
                async with self._turns.turn(MEASURE_SECONDS):
                    await self._measure(collection)
                await reservoir.save()
            self._failed.discard(uid)
        except (BebrError, OSError) as error:
            if uid not in self._failed:
                log.warning("the sample of collection %s: %s; the next write tries again", collection.name, error)
            self._failed.add(uid)
        finally:
            del self._running[uid]

    async def _measure(self, collection: Collection) -> None:
        """Measure the binarizer on points of today, and say or do what follows."""
        before = collection.document.fit
        plan = await self._steps.measure(collection)
        if plan is None or plan.latest is None or not self._fits.proposes(plan):
            return
        if before is None or not self._fits.proposes(before):
            recall, drift = plan.latest.recall_at_10, round(plan.drift or 0.0, 3)
            event(log, "points have changed since the fit", collection=collection.name, recall=recall, drift=drift)
        if self._limits.makes_fits:
            with suppress(CollectionNotFound):
                await self._fits.request(collection.name, source=FitSource.SAMPLE)
