"""Searches that are checked in the background: what the description and the metrics say of them, against an oracle."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
from tests.encoding.quantization.embeddings import text_like
from tests.server.service import DOCS, serving, vector_b64

DIMS = 32
POINTS = 400
ROWS = text_like(POINTS, dims=DIMS)
QUERIES = text_like(12, seed=5, dims=DIMS)


async def create(client: httpx.AsyncClient, rescore_bytes: int = 24) -> None:
    fit = {"bytes": 4, "rescore_bytes": rescore_bytes, "sample": 130, "dims": DIMS}
    assert (await client.put(DOCS, json={"fit": fit, "filterable": {"n": "integer"}})).status_code == 200
    points = [
        {"id": f"p{n:03}", "vector_b64": vector_b64(row.tolist()), "metadata": {"n": n % 4}}
        for n, row in enumerate(ROWS)
    ]
    assert (await client.post(f"{DOCS}/points", json={"points": points})).json()["applied"] == POINTS
    async with asyncio.timeout(30):
        while (await client.get(DOCS)).json()["fit"]["state"] != "done":
            await asyncio.sleep(0.01)


async def search(client: httpx.AsyncClient, candidates: int, **body: Any) -> list[list[str]]:
    found = []
    for row in QUERIES:
        asked = {"vector": row.tolist(), "rescore": {"candidates": candidates}, "with_metadata": False, **body}
        answer = await client.post(f"{DOCS}/search", json=asked)
        assert answer.status_code == 200, answer.text
        found.append([hit["id"] for hit in answer.json()["hits"]])
    return found


async def checked(client: httpx.AsyncClient, searches: int) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while (coverage := (await client.get(DOCS)).json().get("coverage", {})).get("searches", 0) < searches:
            await asyncio.sleep(0.01)
    found: dict[str, Any] = coverage
    return found


async def test_the_share_is_that_of_the_best_hits_which_the_shortlist_held(tmp_path: Path) -> None:
    async with serving(tmp_path, coverage_one_in=1) as client:
        await create(client)
        assert "coverage" not in (await client.get(DOCS)).json()
        found = await search(client, 10)
        coverage = await checked(client, len(QUERIES))
        assert (coverage["searches"], coverage["skipped"]) == (len(QUERIES), 0)
        text = (await client.get("/metrics")).text
        assert f'bebr_collection_coverage{{collection="docs"}} {coverage["share"]}' in text
        assert f'bebr_collection_coverage_checks_total{{collection="docs"}} {float(len(QUERIES))}' in text
        assert 'bebr_collection_fit_recall{collection="docs"}' in text
        best = await search(client, POINTS)
        shared = sum(len(set(one) & set(other)) for one, other in zip(found, best, strict=True))
        assert 0 < shared < 10 * len(QUERIES) and coverage["share"] == shared / (10 * len(QUERIES))


async def test_filters_and_pages_are_checked_as_they_were(tmp_path: Path) -> None:
    async with serving(tmp_path, coverage_one_in=1) as client:
        await create(client)
        changes: dict[str, Any] = {"filter": {"must": [{"key": "n", "match": {"value": 1}}]}, "offset": 5, "limit": 7}
        found = await search(client, 12, **changes)
        coverage = await checked(client, len(QUERIES))
        best = await search(client, POINTS, **changes)
        shared = sum(len(set(one) & set(other)) for one, other in zip(found, best, strict=True))
        assert coverage["share"] == shared / (7 * len(QUERIES))


async def test_what_takes_no_shortcut_is_not_checked(tmp_path: Path) -> None:
    async with serving(tmp_path, coverage_one_in=1) as client:
        await create(client)
        await client.post(f"{DOCS}/search", json={"vector": QUERIES[0].tolist(), "rescore": False})
        await client.post(f"{DOCS}/search", json={"vector": QUERIES[0].tolist(), "scorer": "hamming"})
        await search(client, 10)
        assert (await checked(client, len(QUERIES)))["searches"] == len(QUERIES)


async def test_large_collections_are_skipped_and_the_setting_ends_it(tmp_path: Path) -> None:
    async with serving(tmp_path, coverage_one_in=1, coverage_max_points=POINTS - 1) as client:
        await create(client)
        await search(client, 10)
        expected = {"share": None, "searches": 0, "skipped": len(QUERIES)}
        assert (await client.get(DOCS)).json()["coverage"] == expected
        assert (
            f'coverage_skipped_total{{collection="docs"}} {float(len(QUERIES))}' in (await client.get("/metrics")).text
        )
    async with serving(tmp_path, coverage_one_in=0) as client:
        await search(client, 10)
        assert "coverage" not in (await client.get(DOCS)).json()
