"""How long a caller is waited for: a timer, and a watch that what comes from it, or goes to it, does not trickle."""

import asyncio
from collections.abc import Callable

WINDOW_SECONDS = 10.0
"""A rate is judged over this long."""


class Timer:
    """Calls `action` after some time, unless it is cancelled.

    A loop that stood still calls its timers before it looks at its sockets. So what came in time is read first.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, action: Callable[[], None]) -> None:
        self._loop = loop
        self._action = action
        self._handle: asyncio.Handle = loop.call_later(seconds, self._is_due)

    def cancel(self) -> None:
        self._handle.cancel()

    def _is_due(self) -> None:
        self._handle = self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._handle = self._loop.call_soon(self._action)  # in the next turn, before which sockets are looked at


class RateWatch:
    """While it runs, `progress()` has to grow by `rate` bytes per second over each window, else `on_slow()` is called.

    A window in which this side made the other one wait does not count: `excuse` says so, and `progress` may call it.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, rate: int, progress: Callable[[], int], on_slow: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._least = rate * WINDOW_SECONDS
        self._progress = progress
        self._on_slow = on_slow
        self._timer: Timer | None = None
        self._before = 0
        self._excused = False

    def start(self) -> None:
        """Start it, unless it runs already or any rate will do."""
        if self._timer is None and self._least:
            self._next_window()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def excuse(self) -> None:
        """The other side had to wait for this one."""
        self._excused = True

    def _next_window(self) -> None:
        self._excused = False
        self._before = self._progress()
        self._timer = Timer(self._loop, WINDOW_SECONDS, self._judge)

    def _judge(self) -> None:
        self._timer = None
        progress = self._progress() - self._before
        if self._excused or progress >= self._least:
            self._next_window()
        else:
            self._on_slow()
