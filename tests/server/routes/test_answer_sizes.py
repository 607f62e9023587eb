"""No answer is larger than the limit: it is refused before it is built, or its page ends."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.server.bundles import TINY
from tests.server.service import DOCS, assert_problem, code, create, point, serving

COUNT, TEXT, LIMIT = 300, "x" * 1000, 100_000
IDS = [f"p{number:03}" for number in range(COUNT)]


async def fill(client: httpx.AsyncClient) -> None:
    await create(client)
    points = [point(number, note=TEXT, n=number) for number in range(COUNT)]
    assert (await client.post(f"{DOCS}/points", json={"points": points})).json()["applied"] == COUNT


async def test_a_scroll_ends_its_page_where_the_answer_is_large_enough(tmp_path: Path) -> None:
    async with serving(tmp_path, max_answer_bytes=LIMIT) as client:
        await fill(client)
        ids: list[str] = []
        cursor, pages = None, 0
        while cursor is not None or not pages:
            answer = await client.post(f"{DOCS}/points/scroll", json={"limit": COUNT, "cursor": cursor})
            assert len(answer.content) <= LIMIT
            ids += [found["id"] for found in answer.json()["points"]]
            cursor, pages = answer.json()["cursor"], pages + 1
        assert ids == IDS and pages == 4
        answer = await client.post(f"{DOCS}/points/scroll", json={"limit": COUNT, "with_metadata": ["n"]})
        assert len(answer.json()["points"]) == COUNT and answer.json()["cursor"] is None


async def test_a_page_has_one_point_however_large_it_is(tmp_path: Path) -> None:
    async with serving(tmp_path, max_answer_bytes=1024) as client:
        await create(client)
        points = [point(number, note="x" * 5000) for number in range(3)]
        await client.post(f"{DOCS}/points", json={"points": points})
        page = (await client.post(f"{DOCS}/points/scroll", json={})).json()
        assert [found["id"] for found in page["points"]] == ["p000"] and page["cursor"]


REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("points/get", {"ids": IDS}),
    ("search", {"code_b64": code(1), "limit": COUNT}),
    ("search", {"code_b64": code(1), "limit": 120}),
    ("search/batch", {"searches": [{"code_b64": code(n), "limit": 10} for n in range(30)]}),
    ("search/batch", {"searches": [{"code_b64": code(n), "limit": COUNT} for n in range(24)]}),
    ("search/batch", {"searches": [{"code_b64": code(n), "limit": COUNT, "with_metadata": False} for n in range(8)]}),
]


@pytest.mark.parametrize(("path", "body"), REQUESTS)
async def test_an_answer_that_would_be_too_large_is_refused(tmp_path: Path, path: str, body: dict[str, Any]) -> None:
    async with serving(tmp_path, max_answer_bytes=LIMIT) as client:
        await fill(client)
        answer = await client.post(f"{DOCS}/{path}", json=body)
        problem = assert_problem(answer, 400, "AnswerTooLarge")
        assert problem["fields"] == {"max_answer_bytes": LIMIT} and "with_metadata" in problem["detail"]


async def test_what_fits_is_answered_whole(tmp_path: Path) -> None:
    """Also where more than one page of points is fetched, or the points are large and the answer is not."""
    async with serving(tmp_path, max_answer_bytes=LIMIT) as client:
        await fill(client)
        for path, body in REQUESTS[:3]:
            answer = await client.post(f"{DOCS}/{path}", json=body | {"with_metadata": ["n"]})
            found = answer.json().get("points") or answer.json()["hits"]
            assert len(found) == body.get("limit", COUNT)
            assert {one["metadata"]["n"] for one in found} <= set(range(COUNT))
    async with serving(tmp_path) as client:
        for path, body in REQUESTS:
            assert (await client.post(f"{DOCS}/{path}", json=body)).status_code == 200


async def test_embeddings_that_would_be_too_large_are_refused_before_they_are_made(
    tmp_path: Path, bundles: Path
) -> None:
    async with serving(tmp_path, bundles_dir=bundles, max_answer_bytes=10_000) as client:
        body = {"model": TINY, "input": ["a brown fox"] * 50}
        refused = await client.post("/v1/embeddings", json=body)
        assert refused.status_code == 400 and "10000 bytes" in refused.json()["error"]["message"]
        answer = await client.post("/v1/embeddings", json=body | {"encoding_format": "base64"})
        assert [one["index"] for one in answer.json()["data"]] == list(range(50))
