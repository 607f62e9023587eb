"""Lists in cells, which versions with very many points have, here of few: they find what exact searches do."""

import base64
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.server.service import DOCS, create, serving
from tests.waiting import until

from bebr.core.codes import CodeSpec, pack_levels
from bebr.index import probe
from bebr.index.lists import centroid_files, clustering
from bebr.index.lists.assigning import CELLS_COMPARED

SPEC = CodeSpec.parse("48x2")
POINTS, CLUSTERS, LISTS, CELLS = 2_000, 20, 256, 16
Hits = list[tuple[str, float]]


@pytest.fixture(autouse=True)
def many_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few points have many lists, and these lie in cells."""
    monkeypatch.setattr(clustering, "ROWS_PER_LIST", 8)
    monkeypatch.setattr(clustering, "CELLS_ABOVE_LISTS", 128)
    monkeypatch.setattr(probe, "FLAT_ROWS_PER_LIST", 0)  # filters read lists, too


def codes(seed: int, count: int) -> list[str]:
    """Near the centers that all of them have in common."""
    centers = np.random.default_rng(0).integers(0, 4, (CLUSTERS, SPEC.dims))
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 4, (count, SPEC.dims))
    levels = np.where(rng.random((count, SPEC.dims)) < 0.2, noise, centers[rng.integers(0, CLUSTERS, count)])
    packed = pack_levels(levels.astype(np.uint8), SPEC)
    return [base64.b64encode(code.tobytes()).decode() for code in packed]


QUERIES = codes(2, 60)
FILTERS: tuple[dict[str, Any], ...] = (
    {},
    {"filter": {"must": [{"key": "lang", "match": {"value": "en"}}]}},
    {"filter": {"must": [{"key": "year", "range": {"gte": 500, "lt": 900}}]}},
)


async def fill(client: httpx.AsyncClient) -> None:
    stored = codes(1, POINTS)
    for start in range(0, POINTS, 500):
        some = [
            {"id": f"p{n:04}", "code_b64": stored[n], "metadata": {"lang": ("en", "de")[n % 2], "year": n}}
            for n in range(start, start + 500)
        ]
        assert (await client.post(f"{DOCS}/points", json={"points": some})).json()["applied"] == 500


async def measured(client: httpx.AsyncClient) -> dict[str, Any]:
    """What is said of the lists once they are ready and it is known how many of them to read."""

    async def found() -> dict[str, Any] | None:
        (one,) = (await client.get(DOCS)).json()["lists"].values()
        return one if one["state"] == "ready" and one["measured_at"] is not None else None

    lists = await until(found, "lists are ready and measured")
    assert lists is not None
    return lists


async def found_by(client: httpx.AsyncClient, **more: Any) -> list[tuple[Hits, dict[str, Any]]]:
    """The hits of each query, and what is explained of it."""
    searches = [{"code_b64": query, "limit": 10, "explain": True} | more for query in QUERIES]
    results = (await client.post(f"{DOCS}/search/batch", json={"searches": searches})).json()["results"]
    return [([(hit["id"], hit["score"]) for hit in one["hits"]], one["explain"]) for one in results]


async def check(client: httpx.AsyncClient, filtered: dict[str, Any], recall: float) -> None:
    """Searches read some of the lists, and find about as many of the exact hits as they say, with the same scores."""
    exact = [dict(hits) for hits, _ in await found_by(client, exact=True, **filtered)]
    shares = []
    for known, (hits, explain) in zip(exact, await found_by(client, recall=recall, **filtered), strict=True):
        (lists,) = explain["lists"].values()
        assert lists["lists"] == LISTS and 0 < lists["lists_read"] < LISTS and lists["rows_read"] < lists["rows"]
        assert len(hits) == 10 and [score for _, score in hits] == sorted((score for _, score in hits), reverse=True)
        same = [point for point, score in hits if known.get(point) == score]
        assert len(same) == len(known.keys() & dict(hits).keys())
        shares.append(len(same) / 10)
    assert np.mean(shares) >= recall - 0.08


async def test_lists_in_cells_find_what_exact_searches_do(tmp_path: Path) -> None:
    few: dict[str, Any] = {"lists_from_points": POINTS, "head_rows": 500}
    async with serving(tmp_path, **few) as client:
        await create(client, code=str(SPEC), shards=1)
        await fill(client)
        lists = await measured(client)
        assert (lists["lists"], lists["generations"]) == (LISTS, [1]) and lists["current"] >= POINTS / 2
        (file,) = tmp_path.rglob("*.centroids")
        cells = centroid_files.load(file).cells
        assert cells is not None and len(cells) == CELLS > CELLS_COMPARED
        for filtered in FILTERS:
            await check(client, filtered, 0.95)
    async with serving(tmp_path, **few) as client:
        await measured(client)
        await check(client, {}, 0.95)
