"""A plain search is the same as on the long way, and whatever is not plain takes the long way."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.running import running
from tests.engine.search.test_pipeline import ROWS, fitted, write

from bebr.core.scoring import Scorer
from bebr.engine import SearchRequest
from bebr.engine.search.parse import parse_all
from bebr.engine.search.plain import plain_query

PLAIN: list[dict[str, Any]] = [
    {},
    {"limit": 1},
    {"limit": 1000, "with_metadata": False},
    {"rescore": False},
    {"scorer": Scorer.ADC, "with_code": True, "with_metadata": ["a"], "explain": True},
]
OTHERS: list[dict[str, Any]] = [
    {"limit": 0},
    {"limit": 10**9},
    {"offset": 1},
    {"scorer": Scorer.SDC},
    {"filter": {}},
    {"score_threshold": 0.0},
    {"rescore": True},
    {"candidates": 20},
    {"group_by": "a"},
    {"group_size": 2},
    {"cursor": "a"},
    {"version": "a"},
    {"text": "words"},
    {"id": "p1"},
    {"code": b"a"},
    {"vector": None},
    {"vector": ROWS[0][:-1]},
    {"vector": np.zeros_like(ROWS[0])},
    {"vector": np.full_like(ROWS[0], np.nan)},
    {"vector": np.full_like(ROWS[0], 1e30)},
]


@pytest.mark.parametrize("rescore_bytes", [0, 16])
async def test_plain_searches(tmp_path: Path, rescore_bytes: int) -> None:
    async with running(tmp_path) as engine:
        await fitted(engine, rescore_bytes)
        collection = engine.registry.get("docs")
        versions = engine.searchers.of(collection)._versions()
        for options in PLAIN:
            request = SearchRequest(vector=ROWS[0], **options)
            plain = plain_query(collection, engine.limits, request)
            searcher = engine.searchers.of(collection)
            (long,) = searcher._routed(parse_all(collection, engine.limits, [request]), versions)
            assert plain is not None and plain.route == long.route and plain.rescoring == long.rescoring
            assert (plain.rescoring is None) == (rescore_bytes == 0 or options.get("rescore") is False)
            for field in fields(long.query):
                np.testing.assert_equal(getattr(plain.query, field.name), getattr(long.query, field.name))
            for number, asked in long.of_version.items():
                for field in fields(asked):
                    ours = getattr(plain.of_version[number], field.name)
                    np.testing.assert_equal(ours, getattr(asked, field.name))


async def test_the_others(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await fitted(engine)
        collection = engine.registry.get("docs")
        for options in OTHERS:
            request = SearchRequest(**({"vector": ROWS[0]} | options))
            assert plain_query(collection, engine.limits, request) is None, options
        await engine.fits.request("docs", size_bytes=12, sample=300)
        await write(engine, 200, 210)  # points of another version
        assert plain_query(collection, engine.limits, SearchRequest(vector=ROWS[0])) is None
