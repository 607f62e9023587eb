"""Group commit: what arrives while one transaction is written goes into the next one, together.

One fsync then serves everyone who waits, and no writer ever waits for a timer. Knows nothing of SQL.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class GroupCommitter(Generic[Item, Outcome]):
    """Runs `flush` on groups of items in the executor, one group at a time and in order of arrival.

    flush: items -> one outcome per item; an outcome that is an exception is raised to the one who submitted the item.
    size: how much an item weighs; a group stops growing at `max_size`.
    """

    def __init__(
        self,
        executor: Executor,
        flush: Callable[[list[Item]], list[Outcome | Exception]],
        size: Callable[[Item], int],
        max_size: int,
    ) -> None:
        self._executor = executor
        self._flush = flush
        self._size = size
        self._max_size = max_size
        self._queue: deque[tuple[Item, asyncio.Future[Outcome]]] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        return self._task is not None

    async def submit(self, item: Item) -> Outcome:
        """Return the item's outcome once its group is written. A cancelled caller does not stop the group."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._queue.append((item, future))
        if self._task is None:
            self._task = asyncio.create_task(self._drain())
        return await future

    async def settle(self) -> None:
        """Wait until nothing is queued or being written."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._queue:
                group = self._take_group()
                try:
                    outcomes = await loop.run_in_executor(self._executor, self._flush, [item for item, _ in group])
                except Exception as error:
                    outcomes = [error] * len(group)
                for (_, future), outcome in zip(group, outcomes, strict=True):
                    _resolve(future, outcome)
        finally:
            self._task = None

    def _take_group(self) -> list[tuple[Item, asyncio.Future[Outcome]]]:
        group = [self._queue.popleft()]
        size = self._size(group[0][0])
        while self._queue and size + self._size(self._queue[0][0]) <= self._max_size:
            group.append(self._queue.popleft())
            size += self._size(group[-1][0])
        return group


def _resolve(future: "asyncio.Future[Outcome]", outcome: Outcome | Exception) -> None:
    if future.done():  # the caller was cancelled
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
