"""Few requests start in each turn of the event loop, so that others get their turn, too."""

import asyncio

from bebr.server.connections.starting import STARTS_PER_TURN, StartQueue


async def test_few_start_in_each_turn_and_collections_take_turns() -> None:
    starts, started = StartQueue(), list[str]()
    for number in range(3 * STARTS_PER_TURN):
        starts.put("busy", lambda number=number: started.append(f"busy{number}"))
    for number in range(2):
        starts.put("idle", lambda number=number: started.append(f"idle{number}"))
    assert started == [f"busy{n}" for n in range(STARTS_PER_TURN)]
    await asyncio.sleep(0)
    second = started[STARTS_PER_TURN:]
    assert len(second) == STARTS_PER_TURN
    assert second[:4] == [f"busy{STARTS_PER_TURN}", "idle0", f"busy{STARTS_PER_TURN + 1}", "idle1"]
    while len(started) < 3 * STARTS_PER_TURN + 2:
        before = len(started)
        await asyncio.sleep(0)
        assert 0 < len(started) - before <= STARTS_PER_TURN
    assert [name for name in started if name < "c"] == [f"busy{n}" for n in range(3 * STARTS_PER_TURN)]


async def test_what_comes_while_others_wait_waits_behind_them() -> None:
    starts, started = StartQueue(), list[int]()
    for number in range(STARTS_PER_TURN + 1):
        starts.put("a", lambda number=number: started.append(number))
    await asyncio.sleep(0)
    starts.put("a", lambda: started.append(-1))
    assert started == [*range(STARTS_PER_TURN + 1), -1], "the turn had room"
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    starts.put("a", lambda: started.append(-2))
    assert started[-1] == -2, "nothing waits, so it starts at once"


async def test_requests_come_one_by_one_or_together() -> None:
    starts = StartQueue()
    assert starts.is_calm
    for _ in range(2):
        starts.put("a", lambda: None)
        assert not starts.is_calm
    await asyncio.sleep(0)
    assert not starts.is_calm, "several came in the turn before"
    starts.put("a", lambda: None)
    await asyncio.sleep(0)
    assert starts.is_calm
