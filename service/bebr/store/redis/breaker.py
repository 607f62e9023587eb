"""Breaker: once a server was seen to hang, calls fail at once, and one probe at a time finds out when it answers again.

A server that refuses connections needs no breaker: its calls fail at once by themselves. Both are logged, once for each
outage.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from bebr.errors import StoreUnavailable
from bebr.telemetry import Outage

log = logging.getLogger(__name__)
PROBE_EVERY_SECONDS = 0.2
PROBE_TIMEOUT_SECONDS = 1.0


class Breaker:
    """probe: returns when the server answers, or raises."""

    def __init__(self, probe: Callable[[], Awaitable[object]]) -> None:
        self._probe = probe
        self._hangs: str | None = None
        self._probing: asyncio.Task[None] | None = None
        self._outage = Outage(log, "store is away", "store is back")
        self._has_answered = False
        """Until the first answer nothing is served, and whoever opens the store says what is wrong."""
        self.waiting: set[asyncio.Timeout] = set()
        """Deadlines of the calls under way that end when the server is seen to hang."""

    def check(self) -> None:
        """Raise StoreUnavailable while the server hangs."""
        if self._hangs is not None:
            raise StoreUnavailable(f"{self._hangs}, and it still does not answer", sent=False)

    def hangs(self, why: str) -> None:
        """A call was not answered in time: nobody else has to wait as long."""
        self.fails(why)
        if self._hangs is None:
            self._hangs = why
            now = asyncio.get_running_loop().time()
            for deadline in self.waiting:
                if not deadline.expired():
                    deadline.reschedule(now)
            self._probing = asyncio.create_task(self._wait_for_answer())

    def fails(self, why: object) -> None:
        """A call failed because the server is away."""
        if self._has_answered:
            self._outage.fails(why)

    def works(self) -> None:
        """A call was answered."""
        self._has_answered = True
        if self._outage.began is not None and self._hangs is None:
            self._outage.works()

    async def stop(self) -> None:
        """Probe no more."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
            self._probing, self._hangs = None, None

    async def _wait_for_answer(self) -> None:
        while self._hangs is not None:
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                    await self._probe()
            except Exception:  # whatever it is, the server does not answer yet
                await asyncio.sleep(PROBE_EVERY_SECONDS)
            else:
                self._hangs = None
        self.works()
