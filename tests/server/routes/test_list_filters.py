"""Lists of tight clusters, whose best hits lie in one list: filters and large limits find hits of others."""

import base64
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tests.server.service import DOCS, create, serving
from tests.waiting import until

from bebr.core.codes import CodeSpec, pack_levels

SPEC = CodeSpec.parse("48x2")
CLUSTERS, SIZE = 40, 100
POINTS = CLUSTERS * SIZE
SETTINGS: dict[str, Any] = {"lists_from_points": POINTS, "head_rows": 500}
FIELDS = dict.fromkeys(("cluster", "member", "lot"), "integer")
RECALL = 0.98


def codes(seed: int, clusters: np.ndarray) -> list[str]:
    """Near the centers of these clusters."""
    centers = np.random.default_rng(0).integers(0, 4, (CLUSTERS, SPEC.dims))
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 4, (len(clusters), SPEC.dims))
    levels = np.where(rng.random(noise.shape) < 0.2, noise, centers[clusters])
    return [base64.b64encode(code.tobytes()).decode() for code in pack_levels(levels.astype(np.uint8), SPEC)]


QUERIES = codes(2, np.random.default_rng(3).integers(0, CLUSTERS, 60))


async def filled(client: httpx.AsyncClient) -> None:
    """Return once all points are there, and their lists are measured."""
    await create(client, code=str(SPEC), shards=1, filterable=FIELDS)
    clusters = np.arange(POINTS) % CLUSTERS
    stored, lots = codes(1, clusters), np.random.default_rng(4).integers(0, 100, POINTS)
    for start in range(0, POINTS, 1000):
        some = [
            {
                "id": f"p{n:04}",
                "code_b64": stored[n],
                "metadata": {"cluster": int(clusters[n]), "member": n // CLUSTERS, "lot": int(lots[n])},
            }
            for n in range(start, start + 1000)
        ]
        assert (await client.post(f"{DOCS}/points", json={"points": some})).json()["applied"] == 1000

    async def are_measured() -> bool:
        (one,) = (await client.get(DOCS)).json()["lists"].values()
        return one["state"] == "ready" and one["measured_at"] is not None and one["current"] > 0.9 * POINTS

    await until(are_measured, "lists are ready and measured")


async def found(client: httpx.AsyncClient, **search: Any) -> list[dict[str, Any]]:
    searches = [{"code_b64": query, "limit": 10, "explain": True, "with_metadata": False} | search for query in QUERIES]
    answer = await client.post(f"{DOCS}/search/batch", json={"searches": searches})
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def below(key: str, bound: int) -> dict[str, Any]:
    return {"filter": {"must": [{"key": key, "range": {"lt": bound}}]}}


SEARCHES: dict[str, dict[str, Any]] = {
    "most clusters, not all": below("cluster", CLUSTERS * 8 // 10),
    "one in ten": below("lot", 10),
    "a third": below("lot", 33),
    "hits of three clusters": {"limit": 250},
    "hits of three clusters, by a filter": below("lot", 40) | {"limit": 100},
}


async def test_filters_and_large_limits_find_what_lies_in_other_lists(tmp_path: Path) -> None:
    async with serving(tmp_path, **SETTINGS) as client:
        await filled(client)
        for name, search in SEARCHES.items():
            exact = await found(client, exact=True, **search)
            shared = wanted = 0
            for expected, given in zip(exact, await found(client, recall=RECALL, **search), strict=True):
                (lists,) = given["explain"]["lists"].values()
                assert 0 < lists["lists_read"] <= lists["lists"], name
                scores = {hit["id"]: hit["score"] for hit in expected["hits"]}
                shared += sum(scores.get(hit["id"]) == hit["score"] for hit in given["hits"])
                wanted += len(scores)
            assert shared / wanted >= RECALL - 0.01, f"{name}: {shared / wanted:.3f}"
