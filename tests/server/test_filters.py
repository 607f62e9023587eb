"""Filters of odd values through the API: search, count, scroll and delete by filter say what the oracle says."""

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tests.core.odd_filters import FIELDS, random_filter, random_metadata
from tests.server.service import DOCS, assert_problem, code, create, serving

from bebr.core.filters import matches, parse_filter

POINTS = 150


async def write(client: httpx.AsyncClient, rng: np.random.Generator, held: dict[str, Any], count: int) -> None:
    points = [
        {"id": f"p{n}", "code_b64": code(n), "metadata": random_metadata(rng)}
        for n in rng.choice(POINTS, count, replace=False).tolist()
    ]
    answer = await client.post(f"{DOCS}/points", json={"points": points})
    assert answer.json()["applied"] == count, answer.text
    held |= {point["id"]: point["metadata"] for point in points}


async def check(client: httpx.AsyncClient, rng: np.random.Generator, held: dict[str, Any]) -> None:
    asked = json.loads(json.dumps(random_filter(rng, list(held))))
    condition = parse_filter(asked, FIELDS)
    expected = sorted(i for i, metadata in held.items() if matches(condition, i, metadata))
    body = {"filter": asked}
    counted = await client.post(f"{DOCS}/points/count", json=body)
    assert counted.json() == {"count": len(expected)}, asked
    page = (await client.post(f"{DOCS}/points/scroll", json=body | {"limit": 1000})).json()
    assert [point["id"] for point in page["points"]] == expected
    found = (await client.post(f"{DOCS}/search", json=body | {"code_b64": code(1), "limit": 1000})).json()
    assert sorted(hit["id"] for hit in found["hits"]) == expected
    dry = await client.post(f"{DOCS}/points/delete", json=body | {"dry_run": True})
    assert dry.json()["would_delete"] == len(expected)


async def test_filters_equal_the_oracle_everywhere_and_after_restarts(tmp_path: Path) -> None:
    rng, held = np.random.default_rng(5), dict[str, Any]()
    for start in range(3):
        async with serving(tmp_path) as client:
            if start == 0:
                await create(client, filterable={key: str(kind) for key, kind in FIELDS.items()})
            for _ in range(12 if start else 0):
                await check(client, rng, held)
            for _ in range(3):
                await write(client, rng, held, 60)
                for _ in range(6):
                    await check(client, rng, held)


async def test_filters_have_a_size_in_all(tmp_path: Path) -> None:
    async with serving(tmp_path, max_filter_size=1000) as client:
        await create(client)
        values = {"key": "lang", "match": {"any": [str(n) for n in range(400)]}}
        three, two = {"must": [values] * 3}, {"must": [values] * 2}
        for path in ("search", "points/count", "points/scroll", "points/delete", "points/metadata"):
            body: dict[str, Any] = {"code_b64": code(1)} if path == "search" else {}
            body |= {"set": {"lang": "en"}} if path == "points/metadata" else {}
            problem = assert_problem(
                await client.post(f"{DOCS}/{path}", json=body | {"filter": three}), 400, "InvalidFilter"
            )
            assert "1000" in problem["detail"]
            assert (await client.post(f"{DOCS}/{path}", json=body | {"filter": two})).status_code == 200
        searches = [{"code_b64": code(1), "filter": two}, {"code_b64": code(2), "filter": two}]
        answer = await client.post(f"{DOCS}/search/batch", json={"searches": searches})
        assert "searches[1]" in assert_problem(answer, 400, "InvalidFilter")["detail"]
        ids = {
            "filter": {"must": [{"has_id": [f"p{n}" for n in range(900)]}, {"has_id": [str(n) for n in range(900)]}]}
        }
        assert_problem(await client.post(f"{DOCS}/points/count", json=ids), 400, "InvalidFilter")


async def test_large_filters_are_answered_beside_the_event_loop(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client, filterable={"lang": "keyword", "tags": "keyword[]"})
        points = [
            {"id": f"p{n}", "code_b64": code(n), "metadata": {"lang": f"w{n}", "tags": [f"t{n}", f"t{n + 1}"]}}
            for n in range(300)
        ]
        await client.post(f"{DOCS}/points", json={"points": points})
        many = {"key": "lang", "match": {"any": [f"w{n}" for n in range(200, 9000)]}}
        ids = {"has_id": [f"p{n}" for n in range(250, 9000)]}
        tags = {"key": "tags", "match": {"any": [f"t{n}" for n in range(260, 1000)]}}
        for body, expected in (
            ({"must": [many, ids]}, 50),
            ({"must": [many, tags]}, 41),
            ({"must_not": [ids, tags]}, 250),
        ):
            counted = await client.post(f"{DOCS}/points/count", json={"filter": body})
            assert counted.json() == {"count": expected}
            search = {"code_b64": code(1), "limit": 1000, "filter": body}
            assert len((await client.post(f"{DOCS}/search", json=search)).json()["hits"]) == expected


async def test_lists_of_searches_and_reads_have_a_size(tmp_path: Path) -> None:
    names = [f"n{n}" for n in range(257)]
    async with serving(tmp_path) as client:
        await create(client)
        bodies: dict[str, dict[str, Any]] = {
            "search": {"code_b64": code(1)},
            "points/scroll": {},
            "points/get": {"ids": ["a"]},
        }
        for path, body in bodies.items():
            assert (await client.post(f"{DOCS}/{path}", json=body | {"with_metadata": names[1:]})).status_code == 200
            answer = await client.post(f"{DOCS}/{path}", json=body | {"with_metadata": names})
            assert_problem(answer, 400, "InvalidOption", "with_metadata")
