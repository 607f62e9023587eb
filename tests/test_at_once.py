"""Coroutines that begin at once go on in a task after their first wait, in one context all along."""

import asyncio
from contextvars import ContextVar
from typing import Any

from tests.waiting import PATIENCE_SECONDS

from bebr.at_once import in_task, run_at_once

name: ContextVar[str] = ContextVar("name", default="nobody")


async def test_what_never_waits_needs_no_task() -> None:
    done, tasks = list[str](), list[Any]()

    async def run() -> None:
        name.set("inside")
        done.append(name.get())

    run_at_once(run(), tasks.append)
    assert done == ["inside"] and not tasks and name.get() == "nobody"


async def test_what_waits_goes_on_in_a_task() -> None:
    done, tasks = list[Any](), list[Any]()
    future = asyncio.get_running_loop().create_future()

    async def run() -> None:
        name.set("inside")
        done.append(await future)
        await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_SECONDS):
            done.append(await asyncio.to_thread(name.get))

    run_at_once(run(), tasks.append)
    assert not done and len(tasks) == 1
    future.set_result(1)
    await tasks[0]
    assert done == [1, "inside"]


async def test_errors_and_cancelling_reach_it() -> None:
    caught, tasks = list[str](), list[Any]()
    future = asyncio.get_running_loop().create_future()

    async def run() -> None:
        try:
            await future
        except ValueError as error:
            caught.append(str(error))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            caught.append("cancelled")
            raise

    run_at_once(run(), tasks.append)
    future.set_exception(ValueError("wrong"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks[0].cancel()
    (result,) = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(result, asyncio.CancelledError) and caught == ["wrong", "cancelled"]


async def test_what_needs_a_task_can_wait_for_one() -> None:
    done, tasks = list[bool](), list[Any]()

    async def run() -> None:
        done.append(asyncio.current_task() is None)
        await in_task()
        done.append(asyncio.current_task() is tasks[0])

    asyncio.get_running_loop().call_soon(lambda: run_at_once(run(), tasks.append))
    await asyncio.sleep(0)
    await tasks[0]
    assert done == [True, True]
