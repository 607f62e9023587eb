"""Searches that read lists: how much they find and read, what they say of it, pages, restarts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.fitting import write
from tests.engine.listing import POINTS, QUERIES, ROWS, SETTINGS, ids, in_lists, listed, recall, search
from tests.engine.running import running

from bebr.engine import SearchRequest

FILTERS: list[Any] = [
    None,
    {"must": [{"key": "n", "range": {"lt": 1500}}]},
    {"must": [{"key": "n", "match": {"value": 7}}]},
    {"must_not": [{"key": "n", "range": {"gte": 40}}]},
]


@pytest.mark.parametrize("rescore_bytes", [0, 24])
async def test_searches_find_the_share_that_is_wanted_and_say_what_they_read(
    tmp_path: Path, rescore_bytes: int
) -> None:
    async with running(tmp_path, **SETTINGS) as engine:
        collection = await listed(engine, rescore_bytes)
        measured = collection.list_rules.measured[collection.active.number]
        assert measured.generations == (1,) and measured.queries == {"points": 400}
        described = (await engine.describe_collection("docs")).lists[collection.active.id]
        assert described.generations == (1,) and described.lists == 32 and described.points > 0.7 * POINTS
        assert described.delta is not None and described.measured_at == measured.at
        shares = []
        for wanted in (0.5, 0.9, 0.97):
            found = await recall(engine, recall=wanted)
            assert found >= wanted - 0.05
            read = [(await search(engine, row, recall=wanted)).explain for row in QUERIES]
            lists = [one.lists[collection.active.id] for one in read if one is not None]
            assert len(lists) == len(QUERIES) and all(one.recall == wanted and one.generations == (1,) for one in lists)
            assert all(one.lists_read <= one.lists == 32 and one.rows_read <= POINTS for one in lists)
            shares.append(sum(one.rows_read for one in lists))
        assert shares == sorted(shares) and shares[0] < 0.6 * len(QUERIES) * POINTS
        by_default = (await search(engine, QUERIES[0])).explain
        assert by_default is not None and by_default.exact is None
        assert by_default.lists[collection.active.id].recall == 0.98
        exactly = (await search(engine, QUERIES[0], exact=True)).explain
        assert exactly is not None and (exactly.lists, exactly.exact) == ({}, "the search says so")
        (grouped,) = await engine.search(
            "docs", [SearchRequest(vector=QUERIES[0], group_by="n", explain=True, limit=3)]
        )
        assert grouped.explain is not None and grouped.explain.exact == "group_by compares all codes"


@pytest.mark.parametrize("rescore_bytes", [0, 24])
async def test_filters_thresholds_and_batches_find_as_much(tmp_path: Path, rescore_bytes: int) -> None:
    async with running(tmp_path, **SETTINGS) as engine:
        await listed(engine, rescore_bytes)
        for condition in FILTERS:
            assert await recall(engine, QUERIES[:30], filter=condition) >= 0.93
        few = (await search(engine, QUERIES[0], filter=FILTERS[2])).explain
        assert few is not None and few.lists == {} and few.exact is not None and "so few points" in few.exact
        for limit in (1, 3, 40):
            assert await recall(engine, QUERIES[:30], limit=limit) >= 0.93
        threshold = (await search(engine, QUERIES[1], exact=True, limit=6)).hits[-1].score
        found = await search(engine, QUERIES[1], score_threshold=threshold, limit=100)
        assert 5 <= len(found.hits) <= 6 + 20 * bool(rescore_bytes) and all(
            hit.score >= threshold for hit in found.hits
        )
        requests = [SearchRequest(vector=row, filter=FILTERS[n % 4], limit=5 + n % 3) for n, row in enumerate(QUERIES)]
        together = [ids(result) for result in await engine.search("docs", requests)]
        alone = [ids((await engine.search("docs", [request]))[0]) for request in requests]
        assert together == alone


@pytest.mark.parametrize("rescore_bytes", [0, 24])
@pytest.mark.parametrize("limit", [4, 15])
async def test_pages_have_no_hit_twice_and_lose_none_that_was_read(
    tmp_path: Path, rescore_bytes: int, limit: int
) -> None:
    async with running(tmp_path, **SETTINGS) as engine:
        await listed(engine, rescore_bytes)
        shown = wanted = 0
        for row in QUERIES[:12]:
            found: list[str] = []
            cursor = None
            for page in range(7):
                options: dict[str, Any] = {"cursor": cursor} if page % 2 else {"offset": page * limit}
                one = await search(engine, row, limit=limit, recall=0.7, **options)
                assert len(one.hits) == limit
                found += ids(one)
                cursor = one.cursor
            assert len(set(found)) == len(found)
            first = ids(await search(engine, row, limit=limit, recall=0.7))
            assert found[:limit] == first
            # what one larger search of the same lists finds, pages that go as far as its block have shown
            exact = ids(await search(engine, row, limit=4 * limit, exact=True))
            shown, wanted = shown + len(set(exact) & set(found[: 4 * limit])), wanted + len(exact)
        assert shown >= 0.6 * wanted


async def test_a_measurement_and_the_last_searches_are_there_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, **SETTINGS) as engine:
        collection = await listed(engine)
        number = collection.active.number
        for row in QUERIES:
            await search(engine, row)
        await engine.list_measuring.measure(collection, collection.active)
        before = collection.list_rules.measured[number]
        assert before.queries == {"points": 400, "searches": len(QUERIES)}
    async with running(tmp_path, **SETTINGS) as engine:
        collection = engine.registry.get("docs")
        rules = collection.list_rules
        assert rules.measured[number] == before and rules.searches(number) == before.searches
        assert len(rules.recent(number, collection.active.spec)) == len(QUERIES)
        await in_lists(engine)
        assert await engine.lists.make(collection, collection.active, lambda: True)
        await in_lists(engine, 2)
        await engine.list_measuring.measure_due(collection)
        assert rules.measured[number].generations == (2,)
        assert await recall(engine, QUERIES[:30]) >= 0.93
        await engine.delete_collection("docs")
        assert await engine._store.list_documents("list-calibration") == {}


async def test_small_collections_and_those_without_a_recall_are_exact(tmp_path: Path) -> None:
    async with running(tmp_path, **SETTINGS) as engine:
        collection = await listed(engine)
        await engine.set_recall("docs", None)
        for row in QUERIES[:5]:
            explain = (await search(engine, row)).explain
            assert explain is not None and explain.exact == "the recall of the collection is null"
            explain = (await search(engine, row, recall=0.9)).explain
            assert explain is not None and explain.exact is None
        await engine.set_recall("docs", 0.5)
        assert await recall(engine, QUERIES[:30]) < 1
        await engine.delete_points("docs", filter={"must": [{"key": "n", "range": {"gte": 900}}]})
        explain = (await search(engine, QUERIES[0])).explain
        assert explain is not None and explain.exact == "no code version has 2,900 points"
        assert await recall(engine, QUERIES[:30]) == 1
        assert collection.list_rules.measured


async def test_searches_see_what_is_written_and_deleted_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, **SETTINGS) as engine:
        await listed(engine)
        gone = ids(await search(engine, QUERIES[0]))[:3]
        await engine.delete_points("docs", gone)
        assert not set(gone) & set(ids(await search(engine, QUERIES[0], limit=100)))
        rows = np.concatenate([ROWS, QUERIES[:1]])
        await write(engine, range(POINTS, POINTS + 1), rows)
        assert ids(await search(engine, QUERIES[0]))[0] == f"p{POINTS}"
