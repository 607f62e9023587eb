"""Plain searches by text: the short way gives the answers and the errors of the long way, whichever thread embeds."""

import asyncio
import math
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.engine.running import running
from tests.engine.two_models import text_bundle, texts

from bebr.core.types import WriteMode
from bebr.engine import CollectionSettings, Engine, SearchRequest, text_rate
from bebr.engine.results import SearchResult
from bebr.engine.search.parse import parse_all
from bebr.engine.search.plain import EmbeddedText, plain_query
from bebr.engine.search.search import Searcher
from bebr.engine.text_rate import TextRate
from bebr.errors import BebrError

TEXTS = texts(80)
TAKEN: list[dict[str, Any]] = [{}, {"limit": 1}, {"limit": 100, "with_metadata": False}]
LEFT: list[dict[str, Any]] = [
    {"limit": 3, "offset": 1},
    {"filter": {"n": {"gte": 3}}},
    {"score_threshold": 0.0},
    {"group_by": "n"},
    {"exact": True},
]


@asynccontextmanager
async def filled(folder: Path, **changes: Any) -> AsyncIterator[tuple[Engine, Searcher]]:
    text_bundle(folder / "bundles", "words@1", seed=0)
    async with running(folder / "data", bundles_dir=folder / "bundles", **changes) as engine:
        await engine.create_collection("docs", CollectionSettings(bundle="words@1"))
        points = [{"id": f"p{n:02}", "text": text, "metadata": {"n": n}} for n, text in enumerate(TEXTS)]
        assert (await engine.write_points("docs", points, WriteMode.UPSERT)).rejected == 0
        yield engine, engine.searchers.of(engine.registry.get("docs"))


def timeless(results: list[SearchResult] | None) -> list[SearchResult]:
    assert results is not None
    return [replace(one, took_ms=0.0) for one in results]


async def test_both_ways_answer_the_same(tmp_path: Path) -> None:
    async with filled(tmp_path) as (_, searcher):
        for options in TAKEN:
            for text in TEXTS[::20]:
                requests = [SearchRequest(text=text, **options)]
                embedded = await searcher._embed_plain(requests)
                assert embedded is not None
                expected = timeless(await searcher._search(requests))
                await asyncio.sleep(0)  # each turn of the event loop has time for a few
                assert timeless(await searcher._nearest.search(requests, 1.0, embedded)) == expected
                assert timeless(await searcher._search(requests, embedded)) == expected
                assert timeless(await searcher.search(requests)) == expected


async def test_all_others_take_the_long_way(tmp_path: Path) -> None:
    async with filled(tmp_path) as (engine, searcher):
        plain = SearchRequest(text=TEXTS[0])
        for options in LEFT:
            request = [replace(plain, **options)]
            if options.keys() & {"filter", "group_by"}:
                with pytest.raises(BebrError):
                    await searcher.search(request)
            assert await searcher._embed_plain(request) is None, options
        assert await searcher._embed_plain([plain, plain]) is None
        await asyncio.sleep(0)
        assert await searcher._nearest.search([plain], 1.0) is None
        embedded = await searcher._embed_plain([plain])
        assert embedded is not None
        other = EmbeddedText(embedded.unit, "another model", 0.0)
        assert await searcher._nearest.search([plain], 1.0, other) is None
        assert plain_query(searcher._collection, engine.limits, plain, other) is None
        together = await searcher.search([plain, plain])
        assert timeless(together[:1]) == timeless(together[1:]) == timeless(await searcher.search([plain]))
        assert not engine.admission.searches.is_busy and not engine.admission.query_texts.is_busy


async def test_what_is_wrong_is_said_as_on_the_long_way(tmp_path: Path) -> None:
    async with filled(tmp_path, max_text_chars=100) as (engine, searcher):
        for text in ("", " ", "x" * 101, "a \ud800"):
            for limit in (0, 1):
                request = SearchRequest(text=text, limit=limit)
                with pytest.raises(BebrError) as expected:
                    parse_all(searcher._collection, engine.limits, [request])
                with pytest.raises(BebrError) as raised:
                    await engine.search("docs", [request])
                assert (type(raised.value), raised.value.detail) == (type(expected.value), expected.value.detail)
                assert raised.value.fields == expected.value.fields


async def test_short_texts_are_embedded_on_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with filled(tmp_path) as (engine, searcher):
        request, gate = [SearchRequest(text=TEXTS[3])], threading.Event()
        monkeypatch.setattr(text_rate, "INLINE_SECONDS", -math.inf)
        expected = timeless(await searcher.search(request))
        held = engine._threads.query_encoding.submit(gate.wait, 120)
        monkeypatch.setattr(text_rate, "INLINE_SECONDS", math.inf)
        try:
            first = asyncio.create_task(searcher.search(request))  # nothing is known of the model
            while not engine.admission.query_texts.is_busy:
                await asyncio.sleep(0.01)
            monkeypatch.setattr(text_rate, "FIRST_TEXTS", 0)
            behind = asyncio.create_task(searcher.search(request))  # others wait for the thread
            while engine.admission.query_texts.requests < 2:
                await asyncio.sleep(0.01)
            assert not first.done() and not behind.done()
        finally:
            gate.set()
            held.result()
        assert timeless(await first) == timeless(await behind) == expected
        gate.clear()
        held = engine._threads.query_encoding.submit(gate.wait, 120)
        await asyncio.sleep(0)
        try:
            assert timeless(await searcher.search(request)) == expected
            with pytest.raises(BebrError, match="surrogate"):
                await searcher.search([SearchRequest(text="a \ud800")])
        finally:
            gate.set()
            held.result()
        assert not engine.admission.query_texts.is_busy


def test_a_rate_is_measured_first_and_follows_slowly() -> None:
    rate = TextRate()
    for _ in range(text_rate.FIRST_TEXTS):
        assert not rate.is_short(1) and rate.is_next(1)
        rate.note(10, 0.0001)
    assert rate.is_short(100) and not rate.is_short(101)
    assert sum(rate.is_next(100) for _ in range(3 * text_rate.MEASURED)) == 3 and rate.is_next(101)
    rate.note(10, 1.0)
    assert rate.is_short(90) and not rate.is_short(92)
    for _ in range(100):
        rate.note(10, 0.1)
    assert not rate.is_short(1)
