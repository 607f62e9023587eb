"""What Prometheus reads."""

from pathlib import Path

import httpx
from tests.encoding.quantization.embeddings import text_like
from tests.server.service import DOCS, code, create, fill, serving, vector_b64


async def test_metrics_count_by_route_and_never_by_path(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await fill(client, 3)
        for _ in range(2):
            await client.post(f"{DOCS}/search", json={"code_b64": code(1)})
        await client.post(f"{DOCS}/search", json={})
        for i in range(3):
            await client.get(f"/nope{i}")
        text = (await client.get("/metrics")).text
        search = 'method="POST",route="/v1/collections/{collection}/search"'
        assert f'bebr_http_requests_total{{{search},status="200"}} 2.0' in text
        assert f'bebr_http_requests_total{{{search},status="400"}} 1.0' in text
        assert f"bebr_http_request_seconds_count{{{search}}} 3.0" in text
        assert 'bebr_http_requests_total{method="GET",route="unknown",status="404"} 3.0' in text
        assert 'bebr_collection_points{collection="docs"} 3.0' in text
        assert 'bebr_jobs{state="running"} 0.0' in text and "bebr_ready 1.0" in text
        assert 'bebr_store_commit_seconds_count{collection="docs"} 1.0' in text
        assert 'bebr_collection_behind_operations{collection="docs"} 0.0' in text
        assert "process_resident_memory_bytes" in text


DIMS = 32


ROWS = text_like(200, dims=DIMS)


FIT = {"bytes": 8, "sample": 150, "dims": DIMS}


async def write(client: httpx.AsyncClient, numbers: range) -> None:
    points = [{"id": f"p{n:03}", "vector_b64": vector_b64(ROWS[n].tolist()), "metadata": {"n": n}} for n in numbers]
    answer = await client.post(f"{DOCS}/points", json={"points": points})
    assert answer.json()["applied"] == len(points), answer.text


async def test_the_metrics_know_what_waits_for_a_fit(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await client.put(DOCS, json={"fit": FIT})
        await write(client, range(20))
        assert 'bebr_collection_buffered_points{collection="docs"} 20.0' in (await client.get("/metrics")).text
