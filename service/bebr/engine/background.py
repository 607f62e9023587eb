"""What an engine does beside requests: it loads the collections, and then looks after them until it is stopped."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

Work = Callable[[], Coroutine[Any, Any, None]]


class Background:
    """The tasks of one engine."""

    def __init__(self, load: Work, beside: Sequence[Work]) -> None:
        """beside: what runs for ever once everything is loaded."""
        self._load = load
        self._beside = beside
        self._loading: asyncio.Task[None] | None = None
        self._running: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._loading = asyncio.create_task(self._run())

    async def wait_until_loaded(self) -> None:
        """Raises what went wrong while loading."""
        if self._loading is not None:
            await self._loading

    async def stop(self) -> None:
        tasks = [task for task in (self._loading, *self._running) if task is not None]
        for task in tasks:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._running = []

    async def _run(self) -> None:
        await self._load()
        self._running = [asyncio.create_task(work()) for work in self._beside]
