"""Requests that were read and have not started: only a few start in each turn of the event loop.

A started request holds up all others until its first wait. A thousand that start in one turn would hold up the sockets,
and so the refusals and the probes, for as long as all of them take.
"""

import asyncio
from collections import deque
from collections.abc import Callable

STARTS_PER_TURN = 16


class StartQueue:
    """Starts requests at once while few come, else in turns: of each key in the order in which they came."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Callable[[], None]]] = {}
        """By key; the first key has its turn next. None is empty."""
        self._started = 0
        """In this turn of the event loop."""
        self._before = 0
        """In the last turn in which any did."""

    @property
    def is_calm(self) -> bool:
        """Whether requests come one by one."""
        return not self._started and self._before <= 1

    def put(self, key: str, start: Callable[[], None]) -> None:
        """Start a request, or keep it until its turn. start: must only begin it."""
        if not self._started:
            asyncio.get_running_loop().call_soon(self._next_turn)
        if self._started < STARTS_PER_TURN and not self._queues:
            self._started += 1
            start()
        else:
            self._queues.setdefault(key, deque()).append(start)

    def _next_turn(self) -> None:
        self._before, self._started = self._started, 0
        if not self._queues:
            return
        asyncio.get_running_loop().call_soon(self._next_turn)
        while self._queues and self._started < STARTS_PER_TURN:
            key = next(iter(self._queues))
            queue = self._queues.pop(key)
            start = queue.popleft()
            if queue:
                self._queues[key] = queue  # behind the others
            self._started += 1
            start()
