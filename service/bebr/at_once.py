"""Coroutines that begin at once: one that never waits needs no task, which costs more than a small search."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from typing import Any


def run_at_once(run: Coroutine[Any, Any, None], keep: Callable[[asyncio.Task[None]], None]) -> None:
    """Run it now, as far as its first wait, in a context of its own. keep: gets the task that goes on from there.

    Whatever needs a task of its own, as `asyncio.timeout` does, must have `await in_task()` before it.
    """
    context = copy_context()
    try:
        waits_for = context.run(run.send, None)
    except StopIteration:
        return
    keep(asyncio.get_running_loop().create_task(_go_on(run, waits_for), context=context))


async def in_task() -> None:
    """Return in a task."""
    if asyncio.current_task() is None:
        await asyncio.sleep(0)


class _Rest:
    """The rest of a coroutine that waits for a future, or for the next turn of the event loop (None)."""

    def __init__(self, run: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._run = run
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for = self._waits_for
        try:
            while True:
                try:
                    sent = yield waits_for
                except BaseException as error:
                    waits_for = self._run.throw(error)
                else:
                    waits_for = self._run.send(sent)
        except StopIteration:
            return


async def _go_on(run: Coroutine[Any, Any, None], waits_for: Any) -> None:
    await _Rest(run, waits_for)
