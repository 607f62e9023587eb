"""Searches that are checked in the background: what the description and the metrics say of them, against an oracle."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.encoding.quantization.embeddings import text_like
from tests.server.service import DOCS, serving, vector_b64
from tests.waiting import until

from bebr.index import slices

DIMS = 32
POINTS = 400
ROWS = text_like(POINTS, dims=DIMS)
QUERIES = text_like(12, seed=5, dims=DIMS)


def points() -> list[dict[str, Any]]:
    return [
        {
            "id": f"p{n:03}",
            "vector_b64": vector_b64(row.tolist()),
            "metadata": {"n": n % 4, "tag": f"t{n % 50}", "tags": [f"t{n % 20}", f"t{n % 13}"]},
        }
        for n, row in enumerate(ROWS)
    ]


async def create(client: httpx.AsyncClient, rescore_bytes: int = 24) -> None:
    fit = {"bytes": 4, "rescore_bytes": rescore_bytes, "sample": 130, "dims": DIMS}
    fields = {"n": "integer", "tag": "keyword", "tags": "keyword[]"}
    assert (await client.put(DOCS, json={"fit": fit, "filterable": fields})).status_code == 200
    assert (await client.post(f"{DOCS}/points", json={"points": points()})).json()["applied"] == POINTS
    await fitted(client)


async def fitted(client: httpx.AsyncClient) -> None:
    async def is_fitted() -> bool:
        return bool((await client.get(DOCS)).json()["fit"]["state"] == "done")

    await until(is_fitted, "the fit")


async def search(client: httpx.AsyncClient, candidates: int, **body: Any) -> list[list[str]]:
    found = []
    for row in QUERIES:
        asked = {"vector": row.tolist(), "rescore": {"candidates": candidates}, "with_metadata": False, **body}
        answer = await client.post(f"{DOCS}/search", json=asked)
        assert answer.status_code == 200, answer.text
        found.append([hit["id"] for hit in answer.json()["hits"]])
    return found


async def checked(client: httpx.AsyncClient, searches: int) -> dict[str, Any]:
    async def there() -> Any:
        coverage = (await client.get(DOCS)).json().get("coverage", {})
        return coverage if coverage.get("searches", 0) >= searches else None

    found: dict[str, Any] = await until(there, f"{searches} searches that are checked")
    return found


async def test_the_share_is_that_of_the_best_hits_which_the_shortlist_held(tmp_path: Path) -> None:
    async with serving(tmp_path, coverage_one_in=1, coverage_cpu_percent=100) as client:
        await create(client)
        assert "coverage" not in (await client.get(DOCS)).json()
        found = await search(client, 10)
        coverage = await checked(client, len(QUERIES))
        assert (coverage["searches"], coverage["skipped"]) == (len(QUERIES), 0)
        text = (await client.get("/metrics")).text
        assert f'bebr_collection_coverage{{collection="docs"}} {coverage["share"]}' in text
        assert (
            f'bebr_collection_shortcut_coverage{{collection="docs",shortcut="shortlist"}} {coverage["share"]}' in text
        )
        assert f'bebr_collection_coverage_checks_total{{collection="docs"}} {float(len(QUERIES))}' in text
        assert 'bebr_collection_fit_recall{collection="docs"}' in text
        best = await search(client, POINTS)
        shared = sum(len(set(one) & set(other)) for one, other in zip(found, best, strict=True))
        assert 0 < shared < 10 * len(QUERIES) and coverage["share"] == shared / (10 * len(QUERIES))


async def test_filters_and_pages_are_checked_as_they_were(tmp_path: Path) -> None:
    async with serving(tmp_path, coverage_one_in=1, coverage_cpu_percent=100) as client:
        await create(client)
        changes: dict[str, Any] = {"filter": {"must": [{"key": "n", "match": {"value": 1}}]}, "offset": 5, "limit": 7}
        found = await search(client, 12, **changes)
        coverage = await checked(client, len(QUERIES))
        best = await search(client, POINTS, **changes)
        shared = sum(len(set(one) & set(other)) for one, other in zip(found, best, strict=True))
        assert coverage["share"] == shared / (7 * len(QUERIES))


async def test_what_takes_no_shortcut_is_not_checked(tmp_path: Path) -> None:
    async with serving(tmp_path, coverage_one_in=1, coverage_cpu_percent=100) as client:
        await create(client)
        await client.post(f"{DOCS}/search", json={"vector": QUERIES[0].tolist(), "rescore": False})
        await client.post(f"{DOCS}/search", json={"vector": QUERIES[0].tolist(), "scorer": "hamming"})
        await search(client, 10)
        assert (await checked(client, len(QUERIES)))["searches"] == len(QUERIES)


async def test_the_setting_ends_it(tmp_path: Path) -> None:
    async with serving(tmp_path, coverage_one_in=0) as client:
        await create(client)
        await search(client, 10)
        assert "coverage" not in (await client.get(DOCS)).json()


@pytest.mark.parametrize(("key", "groups", "size"), [("n", 3, 2), ("tag", 5, 1)])
async def test_grouped_searches_are_checked(
    tmp_path: Path, key: str, groups: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the groups of all points; slices are shorter than segments."""
    monkeypatch.setattr(slices, "SLICE_ROWS", 48)
    some = {"must": [{"key": "n", "range": {"gte": 1}}]}
    async with serving(tmp_path, coverage_one_in=1, coverage_cpu_percent=100) as client:
        await create(client)
        found, wanted = 0, 0
        for number, row in enumerate(QUERIES[:6]):
            asked = {"vector": row.tolist(), "rescore": {"candidates": groups}, "limit": groups, "filter": some}
            answer = await client.post(f"{DOCS}/search", json=asked | {"group_by": key, "group_size": size})
            of_search = grouped(answer.json()["hits"], key, groups, size)
            listed = {"vector": row.tolist(), "rescore": {"candidates": POINTS}, "limit": POINTS, "filter": some}
            every = (await client.post(f"{DOCS}/search", json=listed)).json()["hits"]
            best = grouped(every, key, groups, size)
            found += sum(len(set(ids) & set(of_search.get(value, []))) for value, ids in best.items())
            wanted += sum(map(len, best.values()))
            await checked(client, 2 * number + 2)
        coverage = await checked(client, 12)  # those that list everything find everything
        listed_hits = 6 * len(every)
        assert coverage["share"] == coverage["shortlist"] == (found + listed_hits) / (wanted + listed_hits)
        assert 0 < found < wanted


async def test_groups_of_fields_with_several_values_lose_nothing_where_all_points_are_candidates(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, coverage_one_in=1, coverage_cpu_percent=100) as client:
        await create(client)
        await search(client, POINTS, group_by="tags", group_size=30, limit=10)
        assert (await checked(client, len(QUERIES)))["share"] == 1
        await search(client, 2, group_by="tags", group_size=1, limit=2)
        assert (await checked(client, 2 * len(QUERIES)))["share"] < 1


async def test_thresholds_and_several_versions_are_checked(tmp_path: Path) -> None:
    """Some points are of the version before the last fit, and the scores of both are one list."""
    async with serving(tmp_path, coverage_one_in=1, coverage_cpu_percent=100) as client:
        await create(client)
        fit = {"bytes": 4, "rescore_bytes": 12, "sample": 130}
        assert (await client.post(f"{DOCS}/fit", json=fit)).status_code == 202
        again = {"points": points()[:150]}
        assert (await client.post(f"{DOCS}/points", json=again)).json()["applied"] == 150
        await fitted(client)
        assert len((await client.get(DOCS)).json()["points_per_version"]) == 2
        found = await search(client, 10, score_threshold=0.5, limit=10)
        coverage = await checked(client, len(QUERIES))
        best = await search(client, POINTS, score_threshold=0.5, limit=10)
        shared = sum(len(set(one) & set(other)) for one, other in zip(found, best, strict=True))
        wanted = sum(map(len, best))
        assert 0 < shared < wanted < 10 * len(QUERIES) and coverage["share"] == shared / wanted


def grouped(hits: list[dict[str, Any]], key: str, groups: int, size: int) -> dict[Any, list[str]]:
    """The best `size` ids of each of the best groups, by the value of a field."""
    found: dict[Any, list[str]] = {}
    for hit in hits:
        value = hit["metadata"][key]
        if value in found or len(found) < groups:
            found.setdefault(value, []).append(hit["id"])
    return {value: ids[:size] for value, ids in found.items()}
