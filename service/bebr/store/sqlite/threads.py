"""The threads of a SqliteStore: what blocks on its files runs there, not on the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from bebr.errors import StoreUnavailable
from bebr.store.sqlite.files import translated

POOL_THREADS = 4

Result = TypeVar("Result")


class Threads:
    """Of one store while it is open."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def start(self) -> None:
        self._pool = ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="bebr-sqlite")

    def stop(self) -> None:
        """Wait for the calls that run."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    @property
    def pool(self) -> ThreadPoolExecutor:
        """Raises StoreUnavailable while the store is not open."""
        if self._pool is None:
            raise StoreUnavailable("the store is not open")
        return self._pool

    async def run(self, path: Path, call: Callable[[], Result]) -> Result:
        """Run a blocking call on a file. A cancelled caller leaves only when the call is over: it may hold a lock."""
        future = asyncio.get_running_loop().run_in_executor(self.pool, call)
        try:
            with translated(path):
                return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise
