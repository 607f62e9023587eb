"""From a request to a query: defaults, the window of hits, and what is refused."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.running import running
from tests.engine.test_engine import SPEC, codes, make

from bebr.config import Limits
from bebr.core.scoring import Scorer
from bebr.engine import CollectionSettings, Engine, SearchRequest
from bebr.engine.collections.collection import Collection
from bebr.engine.cursors import write_search_cursor
from bebr.engine.search.parse import parse, parse_all
from bebr.errors import BebrError, DimensionMismatch, InvalidFilter, InvalidOption

LIMITS = Limits(max_limit=100)
CODE = codes(1)[0].tobytes()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with running(tmp_path) as engine:
        await make(engine)
        await engine.create_collection("texts", CollectionSettings(bundle="minilm@1"))
        yield engine


@pytest.fixture
def collection(engine: Engine) -> Collection:
    return engine.registry.get("docs")


async def test_a_code_is_compared_as_a_code_and_a_vector_as_a_vector(engine: Engine, collection: Collection) -> None:
    query = parse(collection, LIMITS, SearchRequest(code=CODE))
    assert query.scorer is Scorer.SDC and query.embedding is None and query.version is collection.active
    assert query.record is not None and query.record.shape == (1, SPEC.record_size_bytes)
    vector = np.arange(1, 385, dtype=np.float32)
    query = parse(engine.registry.get("texts"), LIMITS, SearchRequest(vector=vector))
    assert query.scorer is Scorer.ADC and query.record is None and query.embedding is not None
    np.testing.assert_allclose(np.linalg.norm(query.embedding), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("request_", "window"),
    [
        (SearchRequest(code=CODE), (0, 10)),
        (SearchRequest(code=CODE, limit=7, offset=5), (5, 12)),
        (SearchRequest(code=CODE, limit=100), (0, 100)),
        (SearchRequest(code=CODE, limit=10, cursor=write_search_cursor(20)), (20, 30)),
        (SearchRequest(code=CODE, limit=10, cursor=write_search_cursor(95)), (95, 100)),
    ],
)
async def test_the_window_of_hits(collection: Collection, request_: SearchRequest, window: tuple[int, int]) -> None:
    query = parse(collection, LIMITS, request_)
    assert (query.offset, query.wanted) == window


@pytest.mark.parametrize(
    ("changes", "key", "error"),
    [
        ({"code": None}, "text", InvalidOption),
        ({"id": "a"}, "text", InvalidOption),
        ({"scorer": Scorer.ADC}, "scorer", InvalidOption),
        ({"limit": 0}, "limit", InvalidOption),
        ({"limit": 101}, "limit", InvalidOption),
        ({"offset": 100}, "limit", InvalidOption),
        ({"offset": -1}, "limit", InvalidOption),
        ({"cursor": "nonsense"}, "cursor", InvalidOption),
        ({"cursor": write_search_cursor(3), "offset": 1}, "cursor", InvalidOption),
        ({"cursor": write_search_cursor(100)}, "limit", InvalidOption),
        ({"score_threshold": float("nan")}, "score_threshold", InvalidOption),
        ({"version": "other@1"}, "version", InvalidOption),
        ({"code": None, "id": "a", "version": "24x2"}, "version", InvalidOption),
        ({"group_size": 2}, "group_size", InvalidOption),
        ({"group_by": "title"}, "group_by", InvalidOption),
        ({"group_by": "lang", "group_size": 101}, "group_size", InvalidOption),
        ({"group_by": "lang", "offset": 1}, "group_by", InvalidOption),
        ({"code": b"abc"}, "code_b64", DimensionMismatch),
        ({"filter": {"must": [{"key": "title", "match": {"value": "x"}}]}}, None, InvalidFilter),
        ({"code": None, "text": "a"}, "text", InvalidOption),
        ({"code": None, "vector": np.ones(24, np.float32)}, "vector", InvalidOption),
    ],
)
async def test_what_is_wrong_is_named(
    collection: Collection, changes: dict[str, Any], key: str | None, error: type[BebrError]
) -> None:
    request = SearchRequest(**({"code": CODE} | changes))
    with pytest.raises(error) as raised:
        parse(collection, LIMITS, request)
    if key is not None:
        assert raised.value.fields["key"] == key
    with pytest.raises(error) as raised:
        parse_all(collection, LIMITS, [SearchRequest(code=CODE), request])
    assert raised.value.fields["search"] == 1
