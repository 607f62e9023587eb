"""Search over HTTP, by code and by id; `test_writes` searches by text and vector."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.encoding.importing.checkpoints import DIMS
from tests.server.service import CODE, DOCS, assert_problem, code, create, fill, serving, vector_b64


async def test_hits_come_best_first_with_what_was_asked_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await fill(client, 30)
        answer = (await client.post(f"{DOCS}/search", json={"code_b64": code(7), "limit": 5})).json()
        assert answer["hits"][0]["id"] == "p007" and len(answer["hits"]) == 5
        scores = [hit["score"] for hit in answer["hits"]]
        assert scores == sorted(scores, reverse=True)
        assert answer["hits"][0]["metadata"] == {"lang": "de", "year": 2007}
        assert answer["query_version"] == CODE and answer["searched"] == {CODE: 30} and answer["took_ms"] >= 0
        more = {"id": "p007", "limit": 2, "with_metadata": ["year"], "with_code": True, "explain": True}
        answer = (await client.post(f"{DOCS}/search", json=more)).json()
        assert all(set(hit["metadata"]) == {"year"} and hit["code_b64"] for hit in answer["hits"])
        assert answer["explain"]["scorer"] == "sdc"
        hamming = (await client.post(f"{DOCS}/search", json={"code_b64": code(7), "scorer": "hamming"})).json()
        assert hamming["hits"][0]["distance"] == 0


async def test_a_filter_never_shortens_the_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await fill(client, 200)
        rare = {
            "must": [{"key": "year", "range": {"gte": 2190}}],
            "must_not": [{"key": "lang", "match": {"value": "de"}}],
        }
        answer = (await client.post(f"{DOCS}/search", json={"code_b64": code(0), "limit": 10, "filter": rare})).json()
        assert {hit["id"] for hit in answer["hits"]} == {"p190", "p192", "p194", "p196", "p198"}


async def test_pages_follow_each_other(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await fill(client, 30)
        whole = (await client.post(f"{DOCS}/search", json={"code_b64": code(3), "limit": 30})).json()["hits"]
        skipped = (await client.post(f"{DOCS}/search", json={"code_b64": code(3), "limit": 5, "offset": 5})).json()
        assert skipped["hits"] == whole[5:10]
        first = (await client.post(f"{DOCS}/search", json={"code_b64": code(3), "limit": 5})).json()
        body = {"code_b64": code(3), "limit": 5, "cursor": first["cursor"]}
        assert (await client.post(f"{DOCS}/search", json=body)).json()["hits"] == whole[5:10]


async def test_a_batch_gives_what_each_search_gives(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await fill(client, 30)
        searches = [{"code_b64": code(i), "limit": i + 1} for i in range(5)]
        batch = (await client.post(f"{DOCS}/search/batch", json={"searches": searches})).json()["results"]
        for search, result in zip(searches, batch, strict=True):
            assert result["hits"] == (await client.post(f"{DOCS}/search", json=search)).json()["hits"]
        assert_problem(
            await client.post(f"{DOCS}/search/batch", json={"searches": []}), 400, "InvalidOption", "searches"
        )
        many = {"searches": searches[:1] * 257}
        assert_problem(await client.post(f"{DOCS}/search/batch", json=many), 400, "InvalidOption", "searches")
        wrong = {"searches": [searches[0], {"code_b64": code(0), "limit": 0}]}
        answer = await client.post(f"{DOCS}/search/batch", json=wrong)
        assert_problem(answer, 400, "InvalidOption", "searches[1].limit")


async def test_hits_are_grouped(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await fill(client, 30)
        body = {"code_b64": code(3), "limit": 2, "group_by": "lang", "group_size": 2}
        hits = (await client.post(f"{DOCS}/search", json=body)).json()["hits"]
        assert sorted(hit["metadata"]["lang"] for hit in hits) == ["de", "de", "en", "en"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"text": ""}, "InvalidText"),
        ({"text": "x" * 100_001}, "InvalidText"),
        ({"vector": [1.0] * (DIMS + 1)}, "DimensionMismatch"),
        ({"vector": [0.0] * DIMS}, "InvalidVector"),
        ({"vector": [float("nan")] * DIMS}, "InvalidVector"),
        ({"vector": []}, None),
        ({"vector_b64": vector_b64([float("inf")] * DIMS)}, "InvalidVector"),
        ({"vector_b64": vector_b64([1.0] * 3)}, "DimensionMismatch"),
    ],
)
async def test_bad_queries_are_refused(client: httpx.AsyncClient, body: dict[str, Any], error: str | None) -> None:
    await client.post(f"{DOCS}/points", json={"points": [{"id": "a", "text": "fox"}]})
    answer = await client.post(f"{DOCS}/search", content=json.dumps(body), headers={"content-type": "application/json"})
    problem = assert_problem(answer, 400, error or answer.json()["error"])
    assert problem["detail"]
