"""Fits in turns: one at a time, short ones before long ones, none for ever last."""

import asyncio

from bebr.jobs.turns import Turns


async def test_of_those_that_wait_the_one_that_ought_to_be_done_first_is_next() -> None:
    turns, order = Turns(), []
    free = asyncio.Event()

    async def compute(name: str, seconds: float) -> None:
        async with turns.turn(seconds):
            order.append(name)
            await free.wait()

    tasks = []
    for name, seconds in (("first", 9000), ("long", 8000), ("short", 10), ("middle", 500)):
        tasks.append(asyncio.create_task(compute(name, seconds)))
        await asyncio.sleep(0)
    free.set()
    await asyncio.gather(*tasks)
    assert order == ["first", "short", "middle", "long"]


async def test_a_short_one_passes_a_long_one_that_is_under_way() -> None:
    turns, order = Turns(), []
    async with turns.turn(9000) as long:
        assert not turns.is_passed(long)

        async def short() -> None:
            async with turns.turn(5):
                order.append("short")

        task = asyncio.create_task(short())
        await asyncio.sleep(0)
        assert turns.is_passed(long) and order == []
        await turns.let_pass(long)
        order.append("long again")
        assert not turns.is_passed(long)
        await turns.let_pass(long)
    await task
    assert order == ["short", "long again"]


async def test_who_gives_up_while_waiting_leaves_the_turn_to_others() -> None:
    turns, order = Turns(), []

    async def compute(name: str, seconds: float) -> None:
        async with turns.turn(seconds):
            order.append(name)

    async with turns.turn(9000) as long:
        given_up, patient = (asyncio.create_task(compute(name, n)) for n, name in enumerate(("given up", "patient")))
        await asyncio.sleep(0)
        given_up.cancel()
        await turns.let_pass(long)
        order.append("long")
    await asyncio.gather(given_up, patient, return_exceptions=True)
    assert order == ["patient", "long"]
    async with turns.turn(1):
        order.append("free again")
    assert order[-1] == "free again"


async def test_a_long_one_that_is_ended_while_it_is_passed_ends_no_turn_of_others() -> None:
    turns = Turns()
    inside, go = asyncio.Event(), asyncio.Event()

    async def short() -> None:
        async with turns.turn(1):
            inside.set()
            await go.wait()

    async def long() -> None:
        async with turns.turn(9000) as turn:
            while not turns.is_passed(turn):
                await asyncio.sleep(0)
            await turns.let_pass(turn)

    one = asyncio.create_task(long())
    await asyncio.sleep(0)
    other = asyncio.create_task(short())
    await inside.wait()
    one.cancel()
    await asyncio.gather(one, return_exceptions=True)
    order = []

    async def third() -> None:
        async with turns.turn(1):
            order.append("third")

    last = asyncio.create_task(third())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order == [], "the short one still has its turn"
    go.set()
    await asyncio.gather(other, last)
    assert order == ["third"]
