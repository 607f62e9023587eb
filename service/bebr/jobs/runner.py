"""Runs one job to its end: waits while the store or the disk is away, and stops between two steps when told to."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Any, ClassVar

from bebr.core.types import JobState
from bebr.errors import BebrError, NotReady, Unavailable
from bebr.telemetry import event

log = logging.getLogger(__name__)
RETRY_SECONDS = 1.0


class Stopped(Exception):
    """The job was told to stop: it was paused or cancelled, or the service ends."""


class Runner(ABC):
    """Owns one job while it runs."""

    passing: ClassVar[tuple[type[Exception], ...]] = (Unavailable, OSError)
    """Errors that pass by themselves: the work is tried again."""

    def __init__(self, what: str, **about: Any) -> None:
        self.what = what
        """Names the job in the log."""
        self.about = about
        """Its fields in the log: job, kind, collection."""
        self.waiting: str | None = None
        """What it waits for."""
        self._reason = ""
        self.stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def work(self) -> None:
        """Do what is left to do. It may be called again after an error, and calls `rest` or checks `stopping`."""

    @abstractmethod
    async def ended(self, state: JobState, detail: str | None) -> None:
        """Save how the job ended: succeeded, or failed and why."""

    async def stopped(self) -> None:
        """Save what is worth saving when the job was told to stop."""
        return

    def alone(self) -> AbstractAsyncContextManager[None]:
        """What the job has while it works."""
        return nullcontext()

    def start(self, finished: Callable[[], None]) -> None:
        """Run in the background. finished: called after the end."""

        def done(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("how %s ended could not be saved", self.what, exc_info=error)
            finished()

        self._task = asyncio.create_task(self.run(), name=self.what)
        self._task.add_done_callback(done)

    async def stop(self) -> None:
        """Tell the job to stop, and wait until it has."""
        self.stopping.set()
        await self.wait()

    async def abort(self) -> None:
        """Stop at once, in the middle of a step."""
        self.stopping.set()
        if self._task is not None:
            self._task.cancel()
        await self.wait()

    async def wait(self) -> None:
        """Until it has come to its end."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def run(self) -> None:
        """Work until the job has ended or is told to stop."""
        event(log, "job running", **self.about)
        try:
            async with self.alone():
                while not await self._try():
                    await self.rest_before_retry()
        except Stopped:
            await self.stopped()

    async def rest(self, seconds: float) -> None:
        """Raises Stopped as soon as the job is to stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), max(seconds, 0))
        if self.stopping.is_set():
            raise Stopped

    async def rest_before_retry(self) -> None:
        """Raises Stopped as soon as the job is to stop."""
        await self.rest(RETRY_SECONDS)

    async def until_saved(self, save: Callable[[], Awaitable[None]]) -> None:
        """Retry until saved. Raises Stopped."""
        while True:
            try:
                return await save()
            except (Unavailable, OSError) as error:
                self.wait_for(error)
                await self.rest_before_retry()

    async def _try(self) -> bool:
        """Work once -> whether the job has ended."""
        try:
            await self.work()
        except Stopped:
            raise
        except self.passing as error:
            self.wait_for(error)
            return False
        except BebrError as error:
            await self._end(JobState.FAILED, f"{type(error).__name__}: {error.detail}")
        except Exception as error:
            # a bug ends this job and not all others; the job and the log both tell of it
            log.exception("%s failed", self.what)
            await self._end(JobState.FAILED, f"unexpected {type(error).__name__}; the log of the service has it")
        else:
            await self._end(JobState.SUCCEEDED, None)
        return True

    async def _end(self, state: JobState, detail: str | None) -> None:
        await self.ended(state, detail)
        level = logging.ERROR if state is JobState.FAILED else logging.INFO
        event(log, "job ended", level, **self.about, state=state, detail=detail)

    def wait_for(self, error: Exception) -> None:
        """Say what the job waits for; the log hears of each reason once. A start that is not over is no trouble."""
        reason = str(error)
        if reason != self._reason:
            self._reason = reason
            level = logging.INFO if isinstance(error, NotReady) else logging.WARNING
            event(log, "job waits", level, **self.about, reason=reason)
        self.waiting = f"waiting: {reason}"
