"""The steps of a search: what is found stays right when versions change between two, and nobody fails for another."""

from pathlib import Path

import numpy as np
import pytest
from tests.encoding.quantization.embeddings import text_like
from tests.engine.fitting import DIMS, reached
from tests.engine.running import running

from bebr.core.scoring import Scorer
from bebr.core.types import WriteMode
from bebr.engine import CollectionSettings, Engine, FitSettings, SearchRequest
from bebr.engine.search.query import Answer
from bebr.errors import Incompatible

ROWS = text_like(400, dims=DIMS)


async def write(engine: Engine, start: int, end: int) -> None:
    ids = [f"p{n:03}" for n in range(start, end)]
    report = await engine.write_vectors("docs", ids, ROWS[start:end], None, WriteMode.UPSERT)
    assert report.rejected == 0


async def fitted(engine: Engine, rescore_bytes: int = 0) -> None:
    """200 points with fitted codes."""
    await engine.create_collection("docs", CollectionSettings(fit=FitSettings(8, 150, DIMS, rescore_bytes)))
    await write(engine, 0, 200)
    await reached(engine, "done")


def listed(answer: Answer) -> list[tuple[float, str]]:
    return list(zip(answer.found.scores, answer.found.ids, strict=True))


async def test_points_of_a_version_that_came_after_routing_are_found(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await fitted(engine)
        searcher = engine.searchers.of(engine.registry.get("docs"))
        requests = [SearchRequest(vector=row, limit=5) for row in ROWS[200:210]]
        routed = await searcher._route(requests)
        await engine.fits.request("docs", size_bytes=12, sample=300)
        await write(engine, 200, 210)  # buffered: a version that the queries know nothing of
        late = await searcher._route([SearchRequest(vector=ROWS[210], limit=5)])
        assert routed[0].of_version.keys() < late[0].of_version.keys()
        answers, _ = await searcher._run([*routed, *late])
        assert [answer.found.ids[0] for answer in answers[:10]] == [f"p{n}" for n in range(200, 210)]
        assert all(sum(answer.covered.values()) == 210 and len(answer.covered) == 2 for answer in answers)
        anew, _ = await searcher._run(await searcher._route([*requests, late[0].query.request]))
        assert [listed(answer) for answer in answers] == [listed(answer) for answer in anew]


async def test_a_query_that_cannot_be_answered_any_more_fails_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await fitted(engine)
        searcher = engine.searchers.of(engine.registry.get("docs"))
        scorers = [Scorer.HAMMING if n % 3 == 1 else Scorer.ADC for n in range(9)]
        requests = [SearchRequest(vector=row, limit=5, scorer=s) for row, s in zip(ROWS[200:], scorers, strict=False)]
        batch = [await searcher._route([request]) for request in requests]
        await engine.fits.request("docs", size_bytes=12, sample=300)
        await write(engine, 200, 210)  # buffered points have no signs to compare
        outcomes = await searcher._run_together(batch)
        for number, (scorer, outcome) in enumerate(zip(scorers, outcomes, strict=True)):
            if scorer is Scorer.HAMMING:
                assert isinstance(outcome, Incompatible) and "buffered as embeddings" in outcome.detail
            else:
                assert not isinstance(outcome, Incompatible)
                assert outcome[0][0].found.ids[0] == f"p{200 + number}"


async def test_the_first_wrong_search_of_a_batch_is_named_and_nothing_is_searched(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await fitted(engine)
        good = SearchRequest(vector=ROWS[0])
        with pytest.raises(Exception, match="limit") as raised:
            await engine.search("docs", [good, good, SearchRequest(vector=ROWS[0], limit=0), SearchRequest()])
        assert getattr(raised.value, "fields", {})["search"] == 2


async def test_a_query_is_a_value(tmp_path: Path) -> None:
    """Running a routed query twice, alone or with others, changes nothing in it."""
    async with running(tmp_path) as engine:
        await fitted(engine)
        searcher = engine.searchers.of(engine.registry.get("docs"))
        requests = [SearchRequest(id="p003", limit=4), SearchRequest(vector=ROWS[7], limit=200, scorer=Scorer.SDC)]
        routed = await searcher._route(requests)
        first, _ = await searcher._run(routed)
        second, _ = await searcher._run([*routed, *routed])
        assert [listed(a) for a in second] == 2 * [listed(a) for a in first]
        with pytest.raises(AttributeError):
            routed[0].query.wanted = 7  # type: ignore[misc]
        assert np.shares_memory(routed[0].of_version[routed[0].query.version.number].record, routed[0].query.record)
