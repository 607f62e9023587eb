"""While batches run, gather what arrives; run it next, in turns by key. Nothing waits when all is idle."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from bebr.errors import Overloaded

Item = TypeVar("Item")
Result = TypeVar("Result")
Drop = Callable[[], Exception | None]
"""Asked when the turn of an item comes: why it is not to be run any more, or None."""


@dataclass(slots=True)
class _Waiting(Generic[Item, Result]):
    """An item whose turn has not come."""

    item: Item
    result: "asyncio.Future[Result]"
    drop: Drop | None


class Coalescer(Generic[Item, Result]):
    """Runs items in batches. Of each key in the order in which they came, and of all keys in turns.

    run: a list of items -> their results in the same order. width: batches that run at a time. size: what an item adds
    to its batch, which ends once it has `max_size`. Raises Overloaded when `max_queue` items wait already.
    An error of a batch reaches every item of it, so `run` must only see items that were checked before.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[list[Result]]],
        *,
        what: str,
        max_batch: int,
        max_queue: int,
        width: int = 1,
        size: Callable[[Item], int] = lambda _: 0,
        max_size: int = 1,
    ) -> None:
        self._run = run
        self._what = what
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._width = width
        self._size, self._max_size = size, max_size
        self._queues: dict[str, deque[_Waiting[Item, Result]]] = {}
        """By key; the first key has its turn next. None is empty."""
        self._count = 0
        """Items that wait."""
        self._running = 0
        """Batches under way."""
        self._drainers: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether an item would have to wait."""
        return self._running >= self._width

    def check_capacity(self) -> None:
        """Raise Overloaded when no item can be taken."""
        if self._count >= self._max_queue:
            raise Overloaded(
                f"{self._count} {self._what} wait already (the limit); try again later", waiting=self._what
            )

    async def submit(self, item: Item, key: str = "", drop: Drop | None = None, *, alone: bool = True) -> Result:
        """Run the item, alone and at once when idle, else with others that wait. One whose caller left is not run.

        alone: False where others are known to be near: when idle, it then waits for those of this turn of the loop.
        """
        if self._running >= self._width or not alone:
            self.check_capacity()
            entry = _Waiting[Item, Result](item, asyncio.get_running_loop().create_future(), drop)
            self._queues.setdefault(key, deque()).append(entry)
            self._count += 1
            if self._running < self._width:
                self._running += 1
                self._start_draining()
            return await entry.result
        if drop is not None and (why := drop()) is not None:
            raise why
        self._running += 1
        try:
            (result,) = await self._run([item])
            return result
        finally:
            if self._count:
                self._start_draining()
            else:
                self._running -= 1

    def _start_draining(self) -> None:
        drainer = asyncio.create_task(self._drain())
        self._drainers.add(drainer)
        drainer.add_done_callback(self._drainers.discard)

    async def _drain(self) -> None:
        try:
            while batch := self._take():
                await self._run_batch(batch)
        finally:
            self._running -= 1  # also when cancelled: the next one to come runs what still waits

    def _take(self) -> list[_Waiting[Item, Result]]:
        """The next batch, one item of each key in turns; empty when nothing waits."""
        batch: list[_Waiting[Item, Result]] = []
        size = 0
        while self._queues and len(batch) < self._max_batch and (size < self._max_size or not batch):
            key = next(iter(self._queues))
            queue = self._queues.pop(key)
            entry = queue.popleft()
            self._count -= 1
            if queue:
                self._queues[key] = queue  # behind the others
            if entry.result.done():
                continue
            if entry.drop is not None and (why := entry.drop()) is not None:
                entry.result.set_exception(why)
                continue
            batch.append(entry)
            size += self._size(entry.item)
        return batch

    async def _run_batch(self, batch: list[_Waiting[Item, Result]]) -> None:
        try:
            results = await self._run([entry.item for entry in batch])
        except BaseException as error:
            for entry in batch:
                if not entry.result.done():
                    entry.result.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            for entry, result in zip(batch, results, strict=True):
                if not entry.result.done():
                    entry.result.set_result(result)
