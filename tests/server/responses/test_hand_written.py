"""Answers that are written by hand are those of the models that document them."""

import base64
import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from bebr.core.types import Hit
from bebr.engine.results import Explanation, Page, Point, SearchResult
from bebr.server.responses import points, search
from bebr.server.responses.base import to_json
from bebr.server.responses.points import page_json, point_json, points_json
from bebr.server.responses.search import search_batch_json, search_json

TEXTS = ["a", 'quote " and \\ and /', "Größe", "日本語", "\u2028 line", "tab\tnewline\n", "\x7f\x01", "🙂", "minilm@1"]
EXPLAINED = Explanation("adc", "256x2", {"old@1": "dual, then linear"}, {"embed": 1.5, "search": 0.25}, 2, 5, 640)


def metadata(rng: np.random.Generator) -> dict[str, Any]:
    values = [None, True, 3, -2.5, 2**53 + 1, [], ["a", "b"], {"deep": {"er": TEXTS}}, *TEXTS]
    keys = rng.choice(len(TEXTS), int(rng.integers(0, 4)), replace=False)
    return {TEXTS[int(key)]: values[int(rng.integers(len(values)))] for key in keys}


def maybe(rng: np.random.Generator, value: Any) -> Any:
    return value if rng.random() < 0.5 else None


def text_of(rng: np.random.Generator) -> str:
    return TEXTS[int(rng.integers(len(TEXTS)))]


def random_hit(rng: np.random.Generator) -> Hit:
    return Hit(
        id=text_of(rng),
        score=float(np.float32(rng.standard_normal() * 10.0 ** int(rng.integers(-9, 9)))),
        version=text_of(rng),
        metadata=maybe(rng, json.dumps(metadata(rng), ensure_ascii=False)),
        distance=maybe(rng, int(rng.integers(0, 1000))),
        code=maybe(rng, rng.bytes(18)),
    )


def random_result(rng: np.random.Generator) -> SearchResult:
    return SearchResult(
        hits=[random_hit(rng) for _ in range(int(rng.integers(0, 6)))],
        query_version=text_of(rng),
        searched={text_of(rng): int(rng.integers(0, 10**9)) for _ in range(int(rng.integers(0, 3)))},
        took_ms=float(rng.random() * 100),
        cursor=maybe(rng, "c2VhcmNo"),
        explain=maybe(rng, EXPLAINED),
    )


def shown(metadata: str | None, code: bytes | None) -> dict[str, Any]:
    found: dict[str, Any] = {} if metadata is None else {"metadata": json.loads(metadata)}
    return found if code is None else found | {"code_b64": base64.b64encode(code).decode()}


def answer_of(result: SearchResult) -> search.SearchAnswer:
    """By the model, which is slow and plain."""
    hits = []
    for hit in result.hits:
        score = float(f"{hit.score:.7g}")
        optional = shown(hit.metadata, hit.code) | ({} if hit.distance is None else {"distance": hit.distance})
        hits.append(search.Hit(id=hit.id, score=score, version=hit.version, **optional))
    explain = {} if result.explain is None else {"explain": search.Explanation(**asdict(result.explain))}
    return search.SearchAnswer(
        hits=hits,
        query_version=result.query_version,
        searched=result.searched,
        took_ms=round(result.took_ms, 3),
        cursor=result.cursor,
        **explain,
    )


@pytest.mark.parametrize("seed", range(50))
def test_a_search_is_written_as_its_model_writes_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    results = [random_result(rng) for _ in range(3)]
    for result in results:
        assert json.loads(search_json(result)) == json.loads(to_json(answer_of(result)))
    batch = search.SearchBatchAnswer(results=[answer_of(result) for result in results])
    assert json.loads(search_batch_json(results)) == json.loads(to_json(batch))


@pytest.mark.parametrize("seed", range(20))
def test_points_are_written_as_their_models_write_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hits = [random_hit(rng) for _ in range(int(rng.integers(1, 6)))]
    found = [Point(hit.id, hit.version, hit.metadata, hit.code) for hit in hits]
    models = [points.StoredPoint(id=p.id, version=p.version, **shown(p.metadata, p.code)) for p in found]
    assert json.loads(point_json(found[0])) == json.loads(to_json(models[0]))
    whole = points.Points(points=models, missing=TEXTS)
    assert json.loads(points_json(found, TEXTS)) == json.loads(to_json(whole))
    for cursor in (None, "YWZ0ZXI="):
        page = points.ScrollPage(points=models, cursor=cursor)
        assert json.loads(page_json(Page(found, cursor))) == json.loads(to_json(page))
