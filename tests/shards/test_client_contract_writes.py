"""What every ShardClient promises of writes: their order, their outcomes, and what becomes of the others."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
from tests.shards.clients import UID, FollowedClients, LocalClients, MakeClients
from tests.shards.model import (
    FIELDS,
    MAX_METADATA_BYTES,
    SPECS,
    Model,
    Point,
    random_points,
    random_records,
    reencoded,
    write_of,
)

from bebr.core import operations
from bebr.core.filters import parse_filter
from bebr.core.operations import Committed, DeleteWrite, PutWrite, Receipt
from bebr.core.types import Puts
from bebr.errors import (
    BebrError,
    DuplicateId,
    IdempotencyConflict,
    InvalidMetadata,
    Overloaded,
    PayloadTooLarge,
)
from bebr.shards import Change, Patch, Reencode, Replace, ShardWrite, values_of

pytestmark = pytest.mark.parametrize("clients", [LocalClients, FollowedClients], indirect=True)

# -- writes ------------------------------------------------------------------------------------------------------------


async def test_what_was_written_is_seen_by_the_next_read(clients: MakeClients) -> None:
    rng = np.random.default_rng(6)
    model = Model(4)
    client = await clients.open(4)

    async def write_and_read(number: int) -> None:
        point_id = f"w{number}"
        (point,) = random_points(rng, number % 2, [point_id]).values()
        await client.write(model.shard_of(point_id), write_of({point_id: point}, number % 2))
        only = parse_filter({"must": [{"has_id": [point_id]}]}, FIELDS)
        assert await client.count(only) == 1
        if number % 3 == 0:
            await client.write(model.shard_of(point_id), ShardWrite(DeleteWrite([point_id]), {}))
            assert await client.count(only) == 0

    await asyncio.gather(*(write_and_read(number) for number in range(120)))
    assert await client.count(None) == 80


async def test_writes_of_a_shard_happen_in_the_order_in_which_they_came(clients: MakeClients) -> None:
    rng = np.random.default_rng(7)
    client = await clients.open(1)
    points = [random_points(rng, 0, ["a"]) for _ in range(40)]
    changes: list[Change] = []
    for n, point in enumerate(points):
        changes.append(write_of(point, 0))
        changes.append(Patch(["a"], {"n": n}, MAX_METADATA_BYTES))
    outcomes = await asyncio.gather(*(client.write(0, change) for change in changes))
    assert [outcome.last_seq for outcome in outcomes] == list(range(1, 81))
    (stored,) = await clients.store.fetch(UID, 0, ["a"], records=True)
    assert stored is not None and stored.record == points[-1]["a"].record.tobytes() and '"n":39' in stored.metadata


async def test_a_read_sees_all_of_a_write_or_nothing(clients: MakeClients) -> None:
    rng = np.random.default_rng(8)
    model = Model(2)
    client = await clients.open(2, head_rows=50)

    async def write_all() -> None:
        for number in range(40):
            ids = [name for name in (f"{number}-{n}" for n in range(60)) if model.shard_of(name) == 0][:20]
            await client.write(0, write_of(random_points(rng, 0, ids), 0))

    writing = asyncio.create_task(write_all())
    while not writing.done():
        assert client.points().get(0, 0) % 20 == 0
        assert await client.count(None) % 20 == 0
        await asyncio.sleep(0.001)
    await writing
    assert await client.count(None) == 800


async def test_a_write_that_is_refused_changes_nothing_and_stops_no_other(
    clients: MakeClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(9)
    client = await clients.open(1)
    some: Callable[[str], dict[str, Point]] = lambda name: random_points(rng, 0, [name])  # noqa: E731
    await client.write(0, write_of(some("a"), 0, receipt=Receipt("k", b"1")))
    monkeypatch.setattr(operations, "MAX_COMMIT_OPERATIONS", 10)

    def fails(_: np.ndarray) -> np.ndarray:
        raise BebrError("no encoder")

    twice = write_of(some("b"), 0)
    assert isinstance(twice.write, PutWrite)
    puts = twice.write.puts
    doubled = Puts(["b", "b"], 0, np.repeat(puts.records, 2, axis=0), puts.metadata * 2)
    changes: list[Change] = [
        write_of(some("c"), 0),
        write_of(some("d"), 0, receipt=Receipt("k", b"2")),
        ShardWrite(PutWrite(doubled), values_of([{}, {}], FIELDS)),
        write_of(random_points(rng, 0, [f"e{n}" for n in range(11)]), 0),
        Patch(["a"], {"n": "x" * 200}, 100),
        Reencode(["a"], 0, 1, fails),
        write_of(some("f"), 0),
        write_of(some("a"), 0, receipt=Receipt("k", b"1")),
    ]
    outcomes = await asyncio.gather(*(client.write(0, change) for change in changes), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [
        Committed,
        IdempotencyConflict,
        DuplicateId,
        PayloadTooLarge,
        InvalidMetadata,
        BebrError,
        Committed,
        Committed,
    ]
    assert isinstance(outcomes[-1], Committed) and outcomes[-1].replayed
    assert await client.ids(None, None, 100) == ["a", "c", "f"] and client.points() == {0: 3}


async def test_a_large_change_of_points_is_done_in_parts(clients: MakeClients, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its points fit no single commit; that is no reason to refuse it."""
    rng = np.random.default_rng(10)
    client = await clients.open(1)
    points = random_points(rng, 0, [f"p{n:02}" for n in range(50)])
    await client.write(0, write_of(points, 0))
    monkeypatch.setattr(operations, "MAX_COMMIT_OPERATIONS", 7)
    patched = await client.write(0, Patch([*points, "absent"], {"year": 7}, MAX_METADATA_BYTES))
    assert patched.applied == [True] * 50 + [False] and (patched.first_seq, patched.last_seq) == (51, 100)
    moved = await client.write(0, Reencode(list(points), 0, 1, reencoded))
    assert moved.applied == [True] * 50 and client.points() == {1: 50}
    assert await client.count(parse_filter({"must": [{"key": "year", "match": {"value": 7}}]}, FIELDS)) == 50
    stored = await clients.store.fetch(UID, 0, list(points), records=True)
    assert [point and point.record for point in stored] == [
        reencoded(point.record[None]).tobytes() for point in points.values()
    ]


async def test_a_change_that_applies_to_nothing_takes_no_seq(clients: MakeClients) -> None:
    rng = np.random.default_rng(11)
    client = await clients.open(1)
    await client.write(0, write_of(random_points(rng, 1, ["a", "b"]), 1))
    records = random_records(rng, SPECS[1], 2)
    for change in (
        Patch(["x"], {"year": 1}, MAX_METADATA_BYTES),
        Reencode(["a", "x"], 0, 1, reencoded),
        Replace(["a", "x"], 1, records, [b"other", b"other"]),
        ShardWrite(DeleteWrite(["x", "y"]), {}),
    ):
        committed = await client.write(0, change)
        ids = change.write.ids if isinstance(change, ShardWrite) else change.ids
        assert committed == Committed([False] * len(ids), 3, 2)


async def test_a_caller_that_goes_away_stops_nothing(clients: MakeClients) -> None:
    rng = np.random.default_rng(12)
    client = await clients.open(1)
    tasks = [asyncio.create_task(client.write(0, write_of(random_points(rng, 0, [f"p{n}"]), 0))) for n in range(30)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.write(0, ShardWrite(DeleteWrite(["none"]), {}))  # comes after all of them
    assert await client.count(None) == 30


async def test_too_many_writes_at_once_are_refused_and_do_nothing(clients: MakeClients) -> None:
    rng = np.random.default_rng(13)
    client = await clients.open(2, max_queue=5)
    writes = [client.write(0, write_of(random_points(rng, 0, [f"p{n}"]), 0)) for n in range(50)]
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    done = {f"p{n}" for n, outcome in enumerate(outcomes) if isinstance(outcome, Committed)}
    assert all(isinstance(outcome, Committed | Overloaded) for outcome in outcomes)
    assert 5 <= len(done) < 50 and set(await client.ids(None, None, 100)) == done
    client.check_capacity([0, 1])
    waiting = [asyncio.create_task(client.write(0, write_of(random_points(rng, 0, [f"q{n}"]), 0))) for n in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        client.check_capacity([1, 0])
    client.check_capacity([1])
    await asyncio.gather(*waiting)
    await client.wait_for_capacity(0)
    client.check_capacity([0, 1])


async def test_many_pages_are_taken_as_fast_as_they_can_be(clients: MakeClients) -> None:
    rng = np.random.default_rng(14)
    client = await clients.open(1, head_rows=20)
    for number in range(30):
        await client.wait_for_capacity(0)
        await client.write(0, write_of(random_points(rng, 0, [f"{number}-{n}" for n in range(50)]), 0))
    assert await client.count(None) == 1500


async def test_a_version_that_was_added_takes_points(clients: MakeClients) -> None:
    rng = np.random.default_rng(15)
    client = await clients.open(1, specs={0: SPECS[0]})
    await client.write(0, write_of(random_points(rng, 0, ["a"]), 0))
    client.add_version(1, SPECS[1])
    await client.write(0, write_of(random_points(rng, 1, ["b"]), 1))
    assert client.points() == {0: 1, 1: 1}
    await client.write(0, Reencode(["a"], 0, 1, reencoded))
    assert client.points() == {1: 2} and await client.version_ids(0, 1, None) in (["a", "b"], ["b", "a"])
