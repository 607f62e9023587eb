"""Fit jobs: when a collection's binarizer is fitted, and its points re-encoded. One fit is computed at a time, in turns
that let short ones pass."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import TypeVar

from bebr.core.types import JobState
from bebr.engine import Engine
from bebr.engine.alone import Alone
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import VersionKind
from bebr.engine.statuses import FitState, FitStatus
from bebr.engine.versions.fit_plan import SLOW_GROWTH, SLOW_RESTS
from bebr.engine.versions.fit_steps import FitSteps, Fitted, estimated_seconds, fit
from bebr.engine.versions.fits import Fits
from bebr.errors import Unavailable
from bebr.jobs.fit_upkeep import FitUpkeep
from bebr.jobs.job import FitJob, Job, JobKind
from bebr.jobs.runner import Runner, Stopped
from bebr.jobs.source import JobSource
from bebr.jobs.turns import Turn, Turns
from bebr.telemetry import event

log = logging.getLogger(__name__)
Result = TypeVar("Result")
STATES = {
    FitState.COLLECTING: JobState.QUEUED,
    FitState.FITTING: JobState.RUNNING,
    FitState.CONVERTING: JobState.RUNNING,
    FitState.FAILED: JobState.FAILED,
    FitState.DONE: JobState.SUCCEEDED,
    FitState.CANCELLED: JobState.CANCELLED,
}


class FitJobs(JobSource):
    """The last fit of each collection, as its document and its points say. It is requested from the engine."""

    kind = JobKind.FIT

    def __init__(self, engine: Engine) -> None:
        self._registry = engine.registry
        self._alone = Alone(engine.registry, engine.store)
        self._fits = engine.fits
        self._steps = engine.fit_steps
        self._turns = Turns()
        self._runners: dict[str, _FitRunner] = {}
        """By uid of the collection."""
        self._watching: dict[str, asyncio.Task[None]] = {}
        """Waits for a collection to stop growing, by its uid."""
        self._upkeep = FitUpkeep(engine, self._turns)
        self._rest_seconds = engine.limits.fit_rest_seconds
        self._started = False

    def all(self) -> Sequence[Job]:
        statuses = [(collection, self._fits.status(collection)) for collection in self._registry.all()]
        return [_job(collection, status) for collection, status in statuses if status is not None]

    async def start(self) -> None:
        self._started = True
        for collection in list(self._registry.collections.values()):
            self.changed(collection)

    async def stop(self) -> None:
        self._started = False
        for watching in list(self._watching.values()):
            watching.cancel()
        await asyncio.gather(*(runner.abort() for runner in list(self._runners.values())))
        await self._upkeep.stop()

    def changed(self, collection: Collection) -> None:
        if not self._started or collection.document.fit is None or collection.closed or not collection.ready:
            return
        if not self._registry.holds(collection):
            return  # it was deleted while the write went on
        uid = collection.document.uid
        if uid not in self._runners and self._fits.state(collection) in (FitState.FITTING, FitState.CONVERTING):
            runner = self._runners[uid] = _FitRunner(self._fits, self._steps, self._turns, collection, self._alone)
            runner.start(lambda: self._finished(collection))
        elif uid not in self._watching and self._fits.waits_for_rest(collection):
            self._watching[uid] = asyncio.create_task(self._until_rest(collection))
        else:
            self._upkeep.changed(collection)

    async def closing(self, collection: Collection) -> None:
        uid = collection.document.uid
        if (watching := self._watching.get(uid)) is not None:
            watching.cancel()
        if (runner := self._runners.get(uid)) is not None:
            await runner.abort()
        await self._upkeep.closing(collection)
        self._fits.forget(collection)

    async def cancel(self, job: Job) -> None:
        collection = self._registry.get_to_change(job.collection)
        await self._fits.cancel(collection)
        if self._fits.state(collection) is FitState.CANCELLED:
            runner = self._runners.get(collection.document.uid)
            if runner is not None:
                await runner.abort()

    def _finished(self, collection: Collection) -> None:
        del self._runners[collection.document.uid]
        self.changed(collection)

    async def _until_rest(self, collection: Collection) -> None:
        """Begin the fit once the collection stops growing; it has enough embeddings, and better ones may come."""
        try:
            counts = deque([collection.buffered()], SLOW_RESTS + 1)
            while self._fits.waits_for_rest(collection):
                await asyncio.sleep(self._rest_seconds)
                counts.append(collection.buffered())
                is_slow = len(counts) > SLOW_RESTS and counts[-1] < counts[0] * SLOW_GROWTH
                if counts[-1] <= counts[-2] or is_slow:
                    self._fits.end_collecting(collection)
        finally:
            del self._watching[collection.document.uid]
        self.changed(collection)


class _FitRunner(Runner):
    """Takes a fit through its steps, until nothing is due."""

    def __init__(self, fits: Fits, steps: FitSteps, turns: Turns, collection: Collection, alone: Alone) -> None:
        super().__init__(f"the fit of collection {collection.name}", kind="fit", collection=collection.name)
        self._fits = fits
        self._steps = steps
        self._turns = turns
        self._collection = collection
        self._alone, self._task_name = alone, f"fit-{collection.document.uid}"
        self._abandoned = threading.Event()
        self._passing: Future[None] | None = None
        """While the fit pauses and lets others pass."""

    async def abort(self) -> None:
        self._abandoned.set()
        if (passing := self._passing) is not None:
            passing.cancel()
        await super().abort()

    def alone(self) -> AbstractAsyncContextManager[None]:
        return self._alone.doing(self._task_name, self.rest, self._lost)

    def _lost(self) -> None:
        """Another service goes on with it."""
        self._abandoned.set()
        self.stopping.set()

    async def work(self) -> None:
        while not self._collection.closed:
            match self._fits.state(self._collection):
                case FitState.FITTING:
                    await self._fit()
                case FitState.CONVERTING:
                    await self._convert()
                case _:
                    return

    async def ended(self, state: JobState, detail: str | None) -> None:
        """That it succeeded follows from the points."""
        if state is JobState.FAILED:
            reason = detail or str(state)
            await self.until_saved(lambda: self._steps.fail(self._collection, reason))

    async def _fit(self) -> None:
        collection, plan = self._collection, self._collection.document.fit
        assert plan is not None, "its state says so"
        with self._fits.running(collection, "waiting for another fit") as report:
            async with self._turns.turn(self._steps.estimate(collection, plan)) as turn:
                report("reading the embeddings")
                training = await self._steps.read(collection, plan)
                seconds = estimated_seconds(training, plan)
                event(
                    log, "fitting", **self.about, bytes=plan.bytes, points=len(training.rows.sample),
                    estimated_cpu_seconds=round(seconds, 1),
                )  # fmt: skip
                report(f"about {seconds:,.0f} CPU seconds")
                progress = self._progress(turn, report, seconds)
                fitted = await asyncio.wrap_future(_in_thread(lambda: fit(training, plan, progress)))
            if collection.document.fit == plan:  # else it was changed in the moment when this began
                await self._save(fitted)

    def _progress(self, turn: Turn, report: Callable[[str], None], seconds: float) -> Callable[[int, int, str], None]:
        """Reports each step of a fit, lets shorter ones pass between two, and ends it once it is abandoned."""
        loop = asyncio.get_running_loop()

        def progress(done: int, total: int, label: str) -> None:
            if self._abandoned.is_set():
                raise asyncio.CancelledError
            said = f"{done} of {total}: {label}; about {seconds:,.0f} CPU seconds in all"
            report(said)
            event(log, "fit goes on", logging.DEBUG, **self.about, detail=said)
            if self._turns.is_passed(turn):
                report(f"{done} of {total}: a shorter fit goes first")
                self._passing = asyncio.run_coroutine_threadsafe(self._turns.let_pass(turn), loop)
                try:
                    self._passing.result()
                finally:
                    self._passing = None
                report(said)

        return progress

    async def _save(self, fitted: Fitted) -> None:
        """Retry until saved: a fit is too expensive to lose to a short store outage."""
        await self.until_saved(lambda: self._switch(fitted))

    async def _switch(self, fitted: Fitted) -> None:
        """Raises Stopped where another service may have fitted meanwhile: its binarizer has the same id."""
        if not await self._alone.holds(self._task_name):
            raise Stopped
        await self._steps.switch(self._collection, fitted)

    async def _convert(self) -> None:
        """Re-encode what is buffered, whatever goes wrong with a page."""
        try:
            async for applied in self._steps.convert(self._collection):
                if not applied:
                    await self.rest_before_retry()  # the index is behind the store, and catches up
        except (Stopped, Unavailable, OSError):
            raise
        except Exception:
            log.exception("re-encoding points of collection %s failed; trying again", self._collection.name)
            await self.rest_before_retry()


def _job(collection: Collection, status: FitStatus) -> FitJob:
    """The newest fitted version is that of this fit once it is converting or done."""
    document, state = collection.document, STATES[status.state]
    fitted = status.state in (FitState.CONVERTING, FitState.DONE)
    new = fitted and document.fit is not None and document.fit.kept is None
    number = sum(version.kind is VersionKind.FITTED for version in document.versions) + (0 if new else 1)
    of_creation = number == 1 and document.versions[0].kind is VersionKind.BUFFERED
    return FitJob(
        id=f"fit-{document.uid[:8]}-{number}",
        kind=JobKind.FIT,
        collection=collection.name,
        version=status.version if fitted else None,
        state=state,
        detail=status.detail,
        created_at=datetime.fromisoformat(document.created_at).timestamp() if of_creation else None,
        finished_at=None,
        bytes=status.bytes,
        sample=status.sample,
        collected=status.collected,
    )


def _in_thread(work: Callable[[], Result]) -> "Future[Result]":
    """Run in a thread of its own that the end of the process does not wait for; a fit takes minutes."""
    future: Future[Result] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="fit", daemon=True).start()
    return future
