"""The coalescer stays usable whatever its batches and its callers do."""

import asyncio
from functools import partial

import pytest
from tests.waiting import PATIENCE_SECONDS

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
    async with asyncio.timeout(PATIENCE_SECONDS):
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
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await asyncio.gather(*tasks, return_exceptions=True) != []
        assert await asyncio.gather(tasks[1], tasks[3]) == [2, 4]
        assert await queue.submit(10) == 11


async def test_keys_take_turns_and_what_is_dropped_is_not_run() -> None:
    gate = asyncio.Event()
    batches: list[list[str]] = []

    async def run(items: list[str]) -> list[str]:
        await gate.wait()
        batches.append(items)
        return items

    queue = Coalescer(run, what="items", max_batch=3, max_queue=20)
    why = {"a2": ValueError("late")}
    names = ["first", "a1", "a2", "a3", "a4", "b1", "c1"]
    tasks = {name: asyncio.create_task(queue.submit(name, name[0], partial(why.get, name))) for name in names}
    await asyncio.sleep(0)
    tasks["a3"].cancel()
    gate.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        outcomes = await asyncio.gather(*tasks.values(), return_exceptions=True)
    assert batches == [["first"], ["a1", "b1", "c1"], ["a4"]]
    assert {name for name, outcome in zip(names, outcomes, strict=True) if outcome != name} == {"a2", "a3"}
    assert isinstance(outcomes[2], ValueError)


async def test_a_batch_ends_where_it_is_large_enough_and_several_may_run() -> None:
    gate = asyncio.Event()
    batches: list[list[int]] = []

    async def run(items: list[int]) -> list[int]:
        batches.append(items)
        await gate.wait()
        return items

    queue = Coalescer(run, what="items", max_batch=10, max_queue=20, width=2, size=lambda item: item, max_size=5)
    tasks = [asyncio.create_task(queue.submit(item)) for item in (1, 1, 2, 4, 9, 1)]
    await asyncio.sleep(0)
    assert batches == [[1], [1]] and queue.busy
    gate.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await asyncio.gather(*tasks) == [1, 1, 2, 4, 9, 1]
    assert batches[2:] == [[2, 4], [9], [1]] or sorted(map(sum, batches[2:])) == [1, 6, 9]
    assert not queue.busy


async def test_what_is_not_alone_waits_for_the_others_of_its_turn() -> None:
    batches: list[list[int]] = []

    async def run(items: list[int]) -> list[int]:
        batches.append(items)
        return items

    queue = Coalescer(run, what="items", max_batch=10, max_queue=10)
    assert await asyncio.gather(*(queue.submit(item, alone=False) for item in range(4))) == [0, 1, 2, 3]
    assert await asyncio.gather(*(queue.submit(item) for item in range(2))) == [0, 1]
    assert await queue.submit(9, alone=False) == 9
    assert batches == [[0, 1, 2, 3], [0], [1], [9]] and not queue.busy
