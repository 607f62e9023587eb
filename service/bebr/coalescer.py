"""While one batch runs, gather what arrives; run all of it next. Nothing waits when all is idle."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from bebr.errors import Overloaded

Item = TypeVar("Item")
Result = TypeVar("Result")


class Coalescer(Generic[Item, Result]):
    """Runs items in batches, one batch at a time, in the order in which they came.

    run: a list of items -> their results in the same order. Raises Overloaded when `max_queue` items wait already.
    An error of a batch reaches every item of it, so `run` must only see items that were checked before.
    """

    def __init__(
        self, run: Callable[[list[Item]], Awaitable[list[Result]]], *, what: str, max_batch: int, max_queue: int
    ) -> None:
        self._run = run
        self._what = what
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._busy = False
        self._drainer: asyncio.Task[None] | None = None

    def check_capacity(self) -> None:
        """Raise Overloaded when no item can be taken."""
        if len(self._waiting) >= self._max_queue:
            raise Overloaded(
                f"{len(self._waiting)} {self._what} wait already (the limit); try again later", waiting=self._what
            )

    async def submit(self, item: Item) -> Result:
        """Run the item, alone and at once when idle, else with all others that wait."""
        if self._busy:
            self.check_capacity()
            future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
            self._waiting.append((item, future))
            return await future
        self._busy = True
        try:
            (result,) = await self._run([item])
            return result
        finally:
            if self._waiting:
                self._drainer = asyncio.create_task(self._drain())
            else:
                self._busy = False

    async def _drain(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._max_batch], self._waiting[self._max_batch :]
                await self._run_batch(batch)
        finally:
            self._busy = False  # also when cancelled: the next one to come runs what still waits

    async def _run_batch(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._run([item for item, _ in batch])
        except BaseException as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
