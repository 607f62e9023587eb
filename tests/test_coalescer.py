"""The coalescer stays usable whatever its batches and its callers do."""

import asyncio

import pytest

from bebr.coalescer import Coalescer


async def test_a_batch_that_is_cancelled_from_within_does_not_block_what_comes_later() -> None:
    gate = asyncio.Event()

    async def run(items: list[str]) -> list[str]:
        await gate.wait()
        if "bad" in items:
            raise asyncio.CancelledError
        return [item.upper() for item in items]

    queue = Coalescer(run, what="items", max_batch=1, max_queue=10)
    tasks = [asyncio.create_task(queue.submit(item)) for item in ("first", "bad", "waiting")]
    await asyncio.sleep(0)
    gate.set()
    assert await tasks[0] == "FIRST"
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    async with asyncio.timeout(5):
        assert await queue.submit("later") == "LATER"
        assert await tasks[2] == "WAITING"


async def test_callers_that_go_away_take_nothing_with_them() -> None:
    gate = asyncio.Event()

    async def run(items: list[int]) -> list[int]:
        await gate.wait()
        return [item + 1 for item in items]

    queue = Coalescer(run, what="items", max_batch=10, max_queue=10)
    tasks = [asyncio.create_task(queue.submit(item)) for item in range(4)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[2].cancel()
    gate.set()
    async with asyncio.timeout(5):
        assert await asyncio.gather(*tasks, return_exceptions=True) != []
        assert await asyncio.gather(tasks[1], tasks[3]) == [2, 4]
        assert await queue.submit(10) == 11
