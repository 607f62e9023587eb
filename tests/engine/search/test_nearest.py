"""The shortest way of a plain search gives the answers of the long way, and takes only searches that it may."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine import listing
from tests.engine.fitting import DIMS, reached
from tests.engine.running import running
from tests.engine.search.test_pipeline import ROWS, fitted, write
from tests.engine.search.test_plain import OTHERS
from tests.waiting import until

from bebr.config import Limits
from bebr.core.list_calibration import Calibration
from bebr.core.scoring import Scorer
from bebr.core.types import FieldType, WriteMode
from bebr.encoding.encoder import Encoder
from bebr.engine import CollectionSettings, Engine, FitSettings, SearchRequest
from bebr.engine.collections.collection import Collection
from bebr.engine.results import SearchResult
from bebr.engine.search import list_measuring
from bebr.engine.search.rescore import candidates_for, candidates_of
from bebr.engine.search.search import Searcher
from bebr.errors import InvalidOption, NotReady
from bebr.shards import Searched, ShardClient
from bebr.shards.local import LocalShards

TAKEN: list[dict[str, Any]] = [
    {},
    {"limit": 1},
    {"limit": 256, "with_metadata": False},
    {"rescore": False, "scorer": Scorer.ADC},
    {"offset": 1},
    {"limit": 6, "offset": 250},
    {"score_threshold": 0.5},
    {"score_threshold": -1e300},
    {"score_threshold": 2.0},
    {"with_metadata": ["n"], "limit": 20},
    {"with_metadata": []},
]
LEFT: list[dict[str, Any]] = [
    *(options for options in OTHERS if not options.keys() & {"offset", "filter", "score_threshold"}),
    {"offset": -1},
    {"limit": 200, "offset": 57},
    {"filter": {"must": [{"key": "unknown", "match": {"value": 1}}]}},
    {"score_threshold": np.nan},
    {"score_threshold": np.inf},
    {"limit": 257},
    {"with_code": True},
    {"explain": True},
    {"exact": True},
    {"recall": 0.9},
]


async def both(searcher: Searcher, requests: list[SearchRequest]) -> list[SearchResult]:
    """What both ways answer."""
    await asyncio.sleep(0)  # each turn of the event loop has time for a few
    short = await searcher._nearest.search(requests, 1.0)
    assert short is not None
    shown = [replace(one, took_ms=0.0) for one in short]
    assert shown == [replace(one, took_ms=0.0) for one in await searcher._search(requests)]
    return shown


async def add_some(engine: Engine) -> None:
    """Sealed and growing segments, dead rows, and points that tie."""
    await write(engine, 200, 300)
    await engine.delete_points("docs", [f"p{n:03}" for n in range(50, 90)])
    points = [{"id": f"twin{n}", "vector": ROWS[7].tolist(), "metadata": {"n": n}} for n in range(12)]
    report = await engine.write_points("docs", points, WriteMode.UPSERT)
    assert report.rejected == 0


@pytest.mark.parametrize("is_centered", [False, True])
async def test_both_ways_answer_the_same(tmp_path: Path, is_centered: bool) -> None:
    async with running(tmp_path) as engine:
        await fitted(engine)
        await add_some(engine)
        collection = engine.registry.get("docs")
        searcher = engine.searchers.of(collection)
        if is_centered:
            codec = collection.codec(collection.active)
            assert isinstance(codec, Encoder)
            codec._opened.exact_mean = np.random.default_rng(1).standard_normal(DIMS)
        for options in TAKEN:
            for row in (*ROWS[:8], ROWS[350] * 1000):
                await both(searcher, [SearchRequest(vector=row, **options)])
        (twins,) = await both(searcher, [SearchRequest(vector=ROWS[7], limit=5)])
        assert [hit.id for hit in twins.hits][:1] == ["p007"] and twins.cursor is not None
        for seed in range(5):
            order = np.random.default_rng(seed).permutation(len(TAKEN) * 3)
            await both(searcher, [SearchRequest(vector=ROWS[n], **TAKEN[n % len(TAKEN)]) for n in order])


@pytest.fixture(autouse=True)
def never_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are measured when a test says so."""
    monkeypatch.setattr(list_measuring, "POLL_SECONDS", 3600.0)


class ReadLists:
    """Notes what was read of lists by searches of both ways."""

    def __init__(self, shards: ShardClient, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read: list[tuple[list[int], list[int], list[bool]]] = []
        search, nearest, nearest_on_thread = shards.search, shards.nearest, shards.nearest_on_thread

        async def long(*args: Any, **options: Any) -> Searched:
            return self._noted(await search(*args, **options))

        def short(*args: Any) -> Searched | None:
            searched = nearest(*args)
            return None if searched is None else self._noted(searched)

        async def on_thread(*args: Any) -> Searched | None:
            searched = await nearest_on_thread(*args)
            return None if searched is None else self._noted(searched)

        monkeypatch.setattr(shards, "search", long)
        monkeypatch.setattr(shards, "nearest", short)
        monkeypatch.setattr(shards, "nearest_on_thread", on_thread)

    def _noted(self, searched: Searched) -> Searched:
        (read,) = searched.lists.values()
        self.read.append((read.lists.tolist(), read.rows.tolist(), read.is_whole.tolist()))
        return searched


async def listed(engine: Engine, rescore_bytes: int = 0) -> Collection:
    """A collection whose lists are measured once, and never again; they pay, whatever was read."""
    collection = await listing.listed(engine, rescore_bytes)
    use_shares(collection, 0.1)
    return collection


def use_shares(collection: Collection, share: float, delta: float | None = None) -> None:
    """As if searches had read this share of all codes. delta: of all recalls."""
    rules, number = collection.list_rules, collection.active.number
    measured = rules.measured[number]
    found = [replace(one, share=share) for one in measured.calibration.measured]
    if delta is not None:
        found = [replace(found[-1], delta=delta)]
    rules.measured = {number: replace(measured, calibration=Calibration(tuple(found)))}


async def settled(collection: Collection) -> None:
    """Nothing moves rows between the two searches that are compared."""
    shards = collection.shards
    assert isinstance(shards, LocalShards)
    await until(lambda: not shards.upkeep.is_busy, "the end of maintenance")


@pytest.mark.parametrize(("rescore_bytes", "delta"), [(0, None), (24, np.inf)])
async def test_both_ways_read_the_same_lists(
    tmp_path: Path, rescore_bytes: int, delta: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, **(listing.SETTINGS | {"lists_from_points": 2_500})) as engine:
        collection = await listed(engine, rescore_bytes)
        number = collection.active.number
        await engine.delete_points("docs", [f"p{n:03}" for n in range(0, 900, 7)])
        points = [{"id": f"twin{n}", "vector": listing.ROWS[7].tolist(), "metadata": {"n": n}} for n in range(12)]
        await engine.write_points("docs", points, WriteMode.UPSERT)
        if delta is not None:
            use_shares(collection, 0.1, delta)
        await settled(collection)
        searcher, lists = engine.searchers.of(collection), ReadLists(collection.shards, monkeypatch)
        for limit in (1, 3, 10, 40, 256):
            await engine.set_recall("docs", 0.9 if limit == 3 else 0.98)
            for row in listing.QUERIES[:12]:
                await both(searcher, [SearchRequest(vector=row, limit=limit, rescore=False)])
        for seed in range(4):
            limits = np.random.default_rng(seed).integers(1, 15, 20).tolist()
            some = zip(listing.QUERIES[seed:], limits, strict=False)
            await both(searcher, [SearchRequest(vector=row, limit=limit, rescore=False) for row, limit in some])
        (twins,) = await both(searcher, [SearchRequest(vector=listing.ROWS[7], limit=20, rescore=False)])
        assert {f"twin{n}" for n in range(12)} < {hit.id for hit in twins.hits}
        assert lists.read[::2] == lists.read[1::2]
        rows = [count for _, read, _ in lists.read for count in read]
        living = collection.shards.points()[number]
        assert min(rows) < living / 2 if delta is None else set(rows) == {living}


async def test_searches_of_lists_are_noted_and_checked(tmp_path: Path) -> None:
    async with running(tmp_path, **(listing.SETTINGS | {"coverage_one_in": 1, "coverage_cpu_percent": 100})) as engine:
        collection = await listed(engine)
        rules, number = collection.list_rules, collection.active.number
        searcher, spec = engine.searchers.of(collection), collection.active.spec
        requests = [SearchRequest(vector=row) for row in listing.QUERIES]
        for request in requests[:5]:
            await asyncio.sleep(0)
            await searcher.search([request])
        await until(lambda: (status := collection.coverage.status()) and status.searches >= 5, "checks of searches")
        for request in requests[5:]:
            await asyncio.sleep(0)
            assert await searcher._nearest.search([request], 1.0) is not None
        noted = rules.recent(number, spec)
        assert len(noted) == len(requests) == rules.searches(number)
        for request in requests:
            await searcher._search([request])
        again = rules.recent(number, spec)
        np.testing.assert_array_equal(again.values[60:], noted.values)
        np.testing.assert_array_equal(again.scales[60:], noted.scales)


async def test_collections_that_will_have_lists_and_those_that_want_none(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, **listing.SETTINGS) as engine:
        collection = await listed(engine)
        rules, number, measured = collection.list_rules, collection.active.number, collection.list_rules.measured
        searcher = engine.searchers.of(collection)
        await engine.set_recall("docs", None)
        exact = await both(searcher, [SearchRequest(vector=row) for row in listing.QUERIES])
        await engine.set_recall("docs", 0.5)
        assert await both(searcher, [SearchRequest(vector=row) for row in listing.QUERIES]) != exact
        rules.measured = {}  # lists are there, and not measured yet
        assert await both(searcher, [SearchRequest(vector=row) for row in listing.QUERIES]) == exact
        assert rules.searches(number) > 0
        rules.measured = measured
        use_shares(collection, 0.9)  # lists would cost more
        assert await both(searcher, [SearchRequest(vector=row) for row in listing.QUERIES]) == exact
        rules.measured = measured
        await engine.delete_points("docs", [f"p{n:03}" for n in range(200)])  # fewer than have lists
        await settled(collection)
        assert await both(searcher, [SearchRequest(vector=row) for row in listing.QUERIES]) == [
            replace(one, took_ms=0.0)
            for one in await engine.search("docs", [SearchRequest(vector=row, exact=True) for row in listing.QUERIES])
        ]


async def test_all_others_take_the_long_way(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await fitted(engine)
        searcher, plain = engine.searchers.of(engine.registry.get("docs")), SearchRequest(vector=ROWS[0])
        for options in LEFT:
            request = SearchRequest(**({"vector": ROWS[0]} | options))
            await asyncio.sleep(0)
            assert await searcher._nearest.search([request], 1.0) is None, options
            assert await searcher._nearest.search([plain, request], 1.0) is None, options
        assert not engine.admission.searches.is_busy
        await engine.fits.request("docs", size_bytes=12, sample=300)
        await write(engine, 200, 210)  # points of another version
        assert await searcher._nearest.search([plain], 1.0) is None


@pytest.mark.parametrize("is_centered", [False, True])
async def test_both_ways_score_candidates_again(tmp_path: Path, is_centered: bool) -> None:
    async with running(tmp_path) as engine:
        await fitted(engine, rescore_bytes=16)
        await add_some(engine)
        collection = engine.registry.get("docs")
        searcher = engine.searchers.of(collection)
        if is_centered:
            codec = collection.codec(collection.active)
            assert isinstance(codec, Encoder)
            codec._opened.exact_mean = np.random.default_rng(1).standard_normal(DIMS)
        for options in ({}, {"limit": 1}, {"limit": 30, "with_metadata": False}, {"scorer": Scorer.ADC}):
            for row in (*ROWS[:8], ROWS[350] * 1000):
                await both(searcher, [SearchRequest(vector=row, **options)])
                await both(searcher, [SearchRequest(vector=row, **options, rescore=False)])
        for seed in range(5):
            limits = np.random.default_rng(seed).integers(1, 25, 4).tolist()
            some = [SearchRequest(vector=ROWS[n], limit=limit) for n, limit in enumerate(limits, seed)]
            await both(searcher, some)
        one, other = SearchRequest(vector=ROWS[0]), SearchRequest(vector=ROWS[0], rescore=False)
        for requests in ([one, other], [other, one], [replace(one, rescore=True)], [replace(one, candidates=40)]):
            await asyncio.sleep(0)
            assert await searcher._nearest.search(requests, 1.0) is None
        many = [SearchRequest(vector=row) for row in ROWS[:60]]  # a thread scores so many candidates
        assert await searcher._nearest.search(many, 1.0) is None


async def test_candidates_that_tie_where_they_end_are_those_of_lower_ids(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await fitted(engine, rescore_bytes=16)
        collection, request = engine.registry.get("docs"), SearchRequest(vector=ROWS[0], limit=5)
        count = candidates_for(request, candidates_of(collection.active), Limits())
        vectors = np.repeat(ROWS[:1], count + 1, axis=0)
        ids = [f"twin{n:04}" for n in range(len(vectors))]
        assert (await engine.write_vectors("docs", ids, vectors, None, WriteMode.UPSERT)).rejected == 0
        (found,) = await both(engine.searchers.of(collection), [request])
        twins = [hit.id for hit in found.hits if hit.id != "p000"]
        assert twins == ids[: len(twins)] and len(twins) >= 4


MAPPED = {"map_from_bytes": 0}
FILTERS: list[Any] = [
    None,
    {"must": [{"key": "n", "range": {"gte": 40}}]},
    {"must": [{"key": "n", "match": {"value": 7}}]},
    {"must_not": [{"key": "n", "range": {"lt": 60}}]},
    {"should": [{"key": "n", "range": {"lt": 5}}, {"key": "n", "range": {"gte": 90}}]},
    {"must": [{"key": "n", "match": {"value": 1000}}]},
]


def drawn(rng: np.random.Generator, row: np.ndarray, rescore: bool | None) -> SearchRequest:
    """A search of any options that the shortest way takes."""
    return SearchRequest(
        vector=row,
        limit=int(rng.choice([1, 5, 10, 12])),
        offset=int(rng.choice([0, 0, 3, 8])),
        filter=FILTERS[rng.integers(len(FILTERS))],
        score_threshold=rng.choice([None, None, -1.0, 0.3, 0.8]),
        with_metadata=[True, False, ["n"], []][rng.integers(4)],
        rescore=rescore,
    )


@pytest.mark.parametrize(("is_centered", "is_mapped"), [(False, False), (True, False), (True, True)])
async def test_searches_of_any_options(tmp_path: Path, is_centered: bool, is_mapped: bool) -> None:
    async with running(tmp_path, head_rows=64, **(MAPPED if is_mapped else {})) as engine:
        fit = FitSettings(8, 150, DIMS, 16)
        await engine.create_collection("docs", CollectionSettings(fit=fit, filterable={"n": FieldType.INTEGER}))
        ids, metadata = [f"p{n:03}" for n in range(350)], [{"n": n % 100, "of": "x" * n} for n in range(350)]
        await engine.write_vectors("docs", ids, ROWS[:350], metadata, WriteMode.UPSERT)
        await reached(engine, "done")
        await add_some(engine)
        collection = engine.registry.get("docs")
        await settled(collection)
        if is_centered:
            codec = collection.codec(collection.active)
            assert isinstance(codec, Encoder)
            codec._opened.exact_mean = np.random.default_rng(1).standard_normal(DIMS)
        shards, searcher, found = collection.shards, engine.searchers.of(collection), 0
        assert isinstance(shards, LocalShards) and bool(shards._scan_view().mapped) == is_mapped
        for seed in range(120):
            rng = np.random.default_rng(seed)
            rescore = None if seed % 2 else False
            requests = [drawn(rng, ROWS[rng.integers(350)], rescore) for _ in range(1 if seed % 3 else 3)]
            found += sum([len(one.hits) for one in await both(searcher, requests)])
        assert found > 500
        await engine.delete_points("docs", [f"p{n:03}" for n in range(40, 70)])
        await write(engine, 90, 95)  # without metadata from now on
        await settled(collection)
        for condition in FILTERS:
            await both(searcher, [SearchRequest(vector=ROWS[7], limit=12, filter=condition)])


async def test_hits_beyond_the_first_candidates_take_the_long_way(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await fitted(engine, rescore_bytes=16)
        collection = engine.registry.get("docs")
        searcher, count = engine.searchers.of(collection), candidates_of(collection.active)
        await both(searcher, [SearchRequest(vector=ROWS[0], offset=10, limit=count - 10)])
        await asyncio.sleep(0)
        assert await searcher._nearest.search([SearchRequest(vector=ROWS[0], offset=count, limit=10)], 1.0) is None


async def test_no_more_hits_than_the_limit_of_the_service(tmp_path: Path) -> None:
    async with running(tmp_path, max_limit=50) as engine:
        await fitted(engine)
        searcher = engine.searchers.of(engine.registry.get("docs"))
        for options in ({"limit": 51}, {"limit": 30, "offset": 21}):
            with pytest.raises(InvalidOption, match="at most 50"):
                await engine.search("docs", [SearchRequest(vector=ROWS[0], **options)])
        (found,) = await both(searcher, [SearchRequest(vector=ROWS[0], limit=30, offset=20)])
        assert len(found.hits) == 30 and found.cursor is None


@pytest.mark.parametrize(("rescore_bytes", "is_mapped"), [(0, False), (24, False), (24, True)])
async def test_both_ways_read_the_same_lists_with_any_options(
    tmp_path: Path, rescore_bytes: int, is_mapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = listing.SETTINGS | {"lists_from_points": 2_500} | (MAPPED if is_mapped else {})
    async with running(tmp_path, **settings) as engine:
        collection = await listed(engine, rescore_bytes)
        await settled(collection)
        searcher, lists = engine.searchers.of(collection), ReadLists(collection.shards, monkeypatch)
        filters = [
            None,
            {"must": [{"key": "n", "range": {"gte": 1_000}}]},
            {"must": [{"key": "n", "range": {"lt": 9}}]},
        ]
        taken = 0
        for seed in range(60):
            rng = np.random.default_rng(seed)
            requests = [
                replace(
                    drawn(rng, listing.QUERIES[rng.integers(60)], None),
                    offset=0,
                    filter=filters[(seed if seed % 4 else rng.integers(3)) % 3],
                )
                for _ in range(1 if seed % 3 else 3)
            ]
            await asyncio.sleep(0)
            if (short := await searcher._nearest.search(requests, 1.0)) is None:
                continue
            taken += 1
            shown = [replace(one, took_ms=0.0) for one in short]
            assert shown == [replace(one, took_ms=0.0) for one in await searcher._search(requests)]
        assert taken > 40
        assert lists.read[::2] == lists.read[1::2]
        assert {len(set(whole)) for _, _, whole in lists.read} == {1}
        assert {whole[0] for _, _, whole in lists.read} == {True, False}
        assert collection.list_rules.searches(collection.active.number) > 0


async def test_one_search_at_a_time_waits_for_a_disk(tmp_path: Path) -> None:
    async with running(tmp_path, head_rows=64, **MAPPED) as engine:
        await fitted(engine)
        collection = engine.registry.get("docs")
        await settled(collection)
        searcher = engine.searchers.of(collection)
        requests = [[SearchRequest(vector=row, limit=3)] for row in ROWS[:20]]
        alone = [await both(searcher, one) for one in requests]
        found = await asyncio.gather(*(searcher._nearest.search(one, 1.0) for one in requests))
        taken = [[replace(result, took_ms=0.0) for result in one] for one in found if one is not None]
        assert taken == alone[:1]
        together = await asyncio.gather(*(searcher.search(one) for one in requests))
        assert [[replace(result, took_ms=0.0) for result in one] for one in together] == alone


async def test_damaged_codes_of_mapped_files_are_left_to_the_long_way(tmp_path: Path) -> None:
    async with running(tmp_path, head_rows=64, **MAPPED) as engine:
        await fitted(engine)
        collection = engine.registry.get("docs")
        await settled(collection)
        searcher, request = engine.searchers.of(collection), SearchRequest(vector=ROWS[0], limit=3)
        expected = await both(searcher, [request])
        for path in tmp_path.glob("**/*.seg"):
            os.truncate(path, 4096 if path.stat().st_size > 4096 else 100)
        assert await searcher._nearest.search([request], 1.0) is None

        async def mended() -> bool:
            try:
                (found,) = await engine.search("docs", [request])
            except NotReady:
                return False
            return [replace(found, took_ms=0.0)] == expected

        await until(mended, "the mended segments")


async def test_rescore_codes_that_are_not_in_memory_or_damaged(tmp_path: Path) -> None:
    async with running(tmp_path, head_rows=64) as engine:
        await fitted(engine, rescore_bytes=16)
        await write(engine, 200, 300)
        collection = engine.registry.get("docs")
        await settled(collection)
        searcher, request = engine.searchers.of(collection), SearchRequest(vector=ROWS[0])
        expected = await both(searcher, [request])
        files = sorted(tmp_path.glob("**/*.seg"))
        assert files
        for path in files:
            with path.open("rb+") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert await both(searcher, [request]) == expected  # a thread has waited, where the file system forgets
        queries = searcher._nearest._queries([request])
        assert queries is not None
        searched = await collection.shards.nearest_on_thread(queries)
        assert searched is not None
        assert searched.found[0].ids[:10] == [hit.id for hit in expected[0].hits]
        for path in files:
            os.truncate(path, 4096 if path.stat().st_size > 4096 else 100)
        await asyncio.sleep(0)
        assert await searcher._nearest.search([request], 1.0) is None
        assert not engine.admission.searches.is_busy


async def test_searches_by_the_shortest_way_are_checked(tmp_path: Path) -> None:
    async with running(tmp_path, coverage_one_in=1, coverage_cpu_percent=100) as engine:
        await fitted(engine, rescore_bytes=16)
        coverage = engine.registry.get("docs").coverage
        await engine.search("docs", [SearchRequest(vector=ROWS[0], rescore=False)])  # takes no shortcut
        await engine.search("docs", [SearchRequest(vector=row) for row in ROWS[:2]])
        await until(lambda: (status := coverage.status()) and status.searches >= 2, "the checks")


async def test_answers_that_are_too_large_are_refused_on_the_long_way(tmp_path: Path) -> None:
    async with running(tmp_path, max_answer_bytes=2000) as engine:
        await fitted(engine)
        points = [{"id": f"m{n}", "vector": ROWS[3].tolist(), "metadata": {"a": "x" * 900}} for n in range(9)]
        await engine.write_points("docs", points, WriteMode.UPSERT)
        searcher = engine.searchers.of(engine.registry.get("docs"))
        assert await searcher._nearest.search([SearchRequest(vector=ROWS[3], limit=5)], 1.0) is None
        assert not engine.admission.searches.is_busy


async def test_an_empty_collection(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await engine.create_collection("docs", CollectionSettings(bundle="minilm@1"))
        found = await engine.search("docs", [SearchRequest(vector=np.ones(384, np.float32))])
        assert found[0].hits == []


async def test_points_that_are_deleted_between_scan_and_fetch_are_left_out(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await fitted(engine)
        searcher = engine.searchers.of(engine.registry.get("docs"))
        requests = [SearchRequest(vector=ROWS[0], limit=3), SearchRequest(vector=ROWS[0], limit=3, with_metadata=False)]
        queries = searcher._nearest._queries(requests)
        assert queries is not None
        searched = searcher._collection.shards.nearest(queries)
        assert searched is not None
        first, *others = searched.found[0].ids
        await engine.delete_points("docs", [first])
        points = await searcher._nearest._fetch(requests, searched.found)
        results = searcher._nearest._results(requests, queries, searched, searched.found, points, 0.0)
        assert results is not None
        assert [hit.id for hit in results[0].hits] == others and [h.id for h in results[1].hits] == [first, *others]
