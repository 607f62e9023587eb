"""Turns: one fit is computed at a time, and a short one does not wait for a long one.

Who comes gets a time by which it ought to be done: now, and what it takes. The earliest of these is next. So a short
fit goes before a long one that waits, and before one that is under way as soon as that may pause; a long one is passed
only by those that come while it might have been computed.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(order=True)
class Turn:
    """The turn of one computation."""

    due: float
    number: int
    granted: "asyncio.Future[None] | None" = field(default=None, compare=False)
    """Done once it has its turn; None: it does not wait."""


class Turns:
    """Who computes now, and who waits. For one event loop."""

    def __init__(self) -> None:
        self._waiting: list[Turn] = []
        self._is_taken = False
        self._numbers = itertools.count()

    @asynccontextmanager
    async def turn(self, seconds: float) -> AsyncIterator[Turn]:
        """Wait for a turn that takes about so many seconds, and end it."""
        turn = Turn(time.monotonic() + seconds, next(self._numbers))
        await self._take(turn)
        try:
            yield turn
        finally:
            if turn.granted is None:  # else it was ended while it let others pass, and has no turn
                self._next()

    def is_passed(self, turn: Turn) -> bool:
        """Whether somebody waits who ought to be done before."""
        waiting = [other for other in self._waiting if other.granted is not None and not other.granted.done()]
        return bool(waiting) and min(waiting) < turn

    async def let_pass(self, turn: Turn) -> None:
        """Let those go before who ought to be done before. Call it while the computation pauses."""
        if self.is_passed(turn):
            self._next()
            await self._take(turn)

    async def _take(self, turn: Turn) -> None:
        if not self._is_taken:
            self._is_taken = True
            return
        turn.granted = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, turn)
        try:
            await turn.granted
        except asyncio.CancelledError:
            if turn.granted.done() and not turn.granted.cancelled():
                self._next()  # it was granted in the same moment
            raise
        turn.granted = None

    def _next(self) -> None:
        while self._waiting:
            granted = heapq.heappop(self._waiting).granted
            if granted is not None and not granted.done():
                granted.set_result(None)
                return
        self._is_taken = False
