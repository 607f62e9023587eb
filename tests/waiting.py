"""Waiting for what comes by itself: as long as a slow and busy machine may need, without taking its processor.

A loop of `asyncio.sleep(0)` keeps the interpreter from the very thread that it waits for.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

PATIENCE_SECONDS = 120.0
PAUSE_SECONDS = 0.01
Found = TypeVar("Found")


async def until(condition: Callable[[], Found | Awaitable[Found]], what: str) -> Found:
    """What the condition returns, as soon as that is true. what: names it in the error."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        _check(deadline, what)
        await asyncio.sleep(PAUSE_SECONDS)


def wait_until(condition: Callable[[], Found], what: str, patience_seconds: float = PATIENCE_SECONDS) -> Found:
    """The same, for threads and processes."""
    deadline = time.monotonic() + patience_seconds
    while not (found := condition()):
        _check(deadline, what, patience_seconds)
        time.sleep(PAUSE_SECONDS)
    return found


def _check(deadline: float, what: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
    assert time.monotonic() < deadline, f"not within {patience_seconds:.0f} s: {what}"
