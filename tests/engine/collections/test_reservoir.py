"""The reservoir on a real store: whatever is written or deleted, it is a random sample of what is there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import numpy as np
from tests.encoding.quantization.embeddings import text_like

from bebr.core.sampling import sample_keys, smallest
from bebr.encoding.quantization.int8 import Int8Binarizer
from bebr.engine.collections.reservoir import MAX_PENDING, PAGE_ROWS, Reservoir
from bebr.store import RESERVOIR, RESERVOIR_PAGE, reservoir_page_name
from bebr.store.sqlite.store import SqliteStore

DIMS, LIMIT, UID = 8, 600, "a" * 24
ROWS = text_like(6_000, dims=DIMS)
CODEC = Int8Binarizer(DIMS)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Reservoir]:
    store = SqliteStore(folder)
    await store.open()
    reservoir = Reservoir(store, UID)
    await reservoir.load()
    try:
        yield reservoir
    finally:
        await store.close()


async def offer(reservoir: Reservoir, numbers: range, rows: np.ndarray = ROWS) -> None:
    for start in range(numbers.start, numbers.stop, 100):
        some = range(start, min(start + 100, numbers.stop))
        reservoir.add(reservoir.encode([f"p{n}" for n in some], rows[list(some)]))
        if reservoir.is_due:
            await reservoir.save()


def everything(count: int, without: range = range(0)) -> set[str]:
    return {f"p{n}" for n in range(count)} - {f"p{n}" for n in without}


async def read(reservoir: Reservoir, there: set[str]) -> dict[str, bytes]:
    async def existing(ids: list[str]) -> set[str]:
        return there & set(ids)

    return await reservoir.read(existing)


async def compact(reservoir: Reservoir, there: set[str]) -> None:
    async def existing(ids: list[str]) -> set[str]:
        return there & set(ids)

    await reservoir.compact(existing)


async def test_it_stays_the_points_with_the_smallest_keys_as_a_collection_grows(tmp_path: Path) -> None:
    async with opened(tmp_path) as reservoir:
        assert reservoir.encode(["p0"], ROWS[:1]) == {} and not reservoir.takes(None, DIMS)
        await reservoir.open(LIMIT, [f"p{n}" for n in range(1_000)], DIMS, None)
        assert reservoir.takes(None, DIMS) and not reservoir.takes("model", DIMS) and not reservoir.takes(None, 16)
        for start in range(0, 3_000, 500):
            await offer(reservoir, range(start, start + 500))
            await compact(reservoir, everything(start + 500))
        await reservoir.save()
    async with opened(tmp_path) as reservoir:  # a restart
        await offer(reservoir, range(3_000, 6_000))
        found = await read(reservoir, everything(6_000))
        ids = [f"p{n}" for n in range(6_000)]
        drawn = smallest(sample_keys(ids), len(found))
        assert list(found) == [ids[place] for place in drawn] and len(found) >= LIMIT
        assert found[ids[drawn[7]]] == CODEC.encode(ROWS[drawn[7]][None]).tobytes()
        await reservoir.save()
        await compact(reservoir, everything(6_000))
        kept = await read(reservoir, everything(6_000))
        assert list(kept) == list(found)[:LIMIT]
        pages = await reservoir._store.list_documents(RESERVOIR_PAGE)
        assert len(pages) == -(-LIMIT // PAGE_ROWS)


async def test_what_is_written_again_or_deleted(tmp_path: Path) -> None:
    async with opened(tmp_path) as reservoir:
        await reservoir.open(LIMIT, [f"p{n}" for n in range(2_000)], DIMS, None)
        for _ in range(6):
            await offer(reservoir, range(2_000))
            await compact(reservoir, everything(2_000))
        await offer(reservoir, range(2_000), ROWS[::-1])
        found = await read(reservoir, everything(2_000, without=range(0, 1_000)))
        assert found and not found.keys() & everything(1_000)
        some = next(iter(found))
        assert found[some] == CODEC.encode(ROWS[::-1][int(some[1:])][None]).tobytes()
        contents = reservoir.contents
        assert contents is not None and contents.rows <= 2 * 1.5 * LIMIT


async def test_few_points_are_all_in_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as reservoir:
        await reservoir.open(LIMIT, ["p0"], DIMS, None)
        await offer(reservoir, range(500))
        assert len(await read(reservoir, everything(500))) == 500 and reservoir.fresh < 500
        await reservoir.save()
        assert reservoir.fresh == 499
        await reservoir.note_measured()
        assert reservoir.fresh == 0


async def test_a_store_that_is_away_costs_rows_and_no_memory(tmp_path: Path) -> None:
    async with opened(tmp_path) as reservoir:
        await reservoir.open(6_000, [], DIMS, None)
        for start in range(0, 6_000, 100):
            reservoir.add(reservoir.encode([f"p{n}" for n in range(start, start + 100)], ROWS[start : start + 100]))
        assert MAX_PENDING < 6_000
        assert MAX_PENDING <= len(await read(reservoir, everything(6_000))) < MAX_PENDING + 100


async def test_a_damaged_page_costs_its_rows_and_a_deleted_collection_leaves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as reservoir:
        await reservoir.open(LIMIT, [], DIMS, None)
        await offer(reservoir, range(600))
        await reservoir.save()
        page, *others = await reservoir._store.list_documents(RESERVOIR_PAGE)
        assert others
    import sqlite3

    with closing(sqlite3.connect(tmp_path / "catalog.db")) as database, database:
        database.execute("update documents set value = replace(value, 'p1', 'q1') where name = ?", (page,))
    async with opened(tmp_path) as reservoir:
        assert 0 < len(await read(reservoir, everything(600))) < 600
        await reservoir.open(LIMIT, [], DIMS, None)  # begun anew
        assert await reservoir._store.list_documents(RESERVOIR_PAGE) == {}
        await offer(reservoir, range(600))
        await reservoir.save()
        await reservoir.close()
        assert await reservoir._store.list_documents(RESERVOIR_PAGE) == {}
        assert await reservoir._store.list_documents(RESERVOIR) == {}
        await reservoir.close()


async def test_two_services_that_share_a_store_keep_one_sample(tmp_path: Path) -> None:
    """Neither loses the pages of the other, whoever saves, writes them anew or notes something in between."""
    async with opened(tmp_path) as one:
        await one.open(LIMIT, [f"p{n}" for n in range(1_000)], DIMS, None)
        other = Reservoir(one._store, UID)
        await other.load()
        for start in range(0, 6_000, 500):
            for number, reservoir in enumerate((one, other)):
                half = start + 250 * number
                await offer(reservoir, range(half, half + 250))
                await reservoir.save()
            await one.note_measured()
            await compact(other, everything(start + 500))
        found = [await read(reservoir, everything(6_000)) for reservoir in (one, other)]
        ids = [f"p{n}" for n in range(6_000)]
        drawn = smallest(sample_keys(ids), len(found[0]))
        assert found[0] == found[1] and len(found[0]) >= LIMIT
        assert list(found[0]) == [ids[place] for place in drawn]


async def test_a_page_that_a_crash_left_without_a_place_is_not_in_the_way(tmp_path: Path) -> None:
    async with opened(tmp_path) as reservoir:
        await reservoir.open(LIMIT, [], DIMS, None)
        await offer(reservoir, range(300))
        await reservoir.save()
        assert reservoir.contents is not None
        after = reservoir.contents.next
        page = await reservoir._store.get_document(RESERVOIR_PAGE, reservoir_page_name(UID, after - 1))
        assert page is not None
        await reservoir._store.put_document(RESERVOIR_PAGE, reservoir_page_name(UID, after), page)
        await offer(reservoir, range(300, 600))
        await reservoir.save()
        assert (await read(reservoir, everything(600))).keys() == everything(600)
