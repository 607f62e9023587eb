"""Probes, metrics, documents, headers: what the service says about itself."""

import gzip
import logging
import re
from pathlib import Path

import httpx
import pytest
from tests.server.service import DOCS, assert_problem, code, create, fill, running, serving, settings

from bebr import __version__
from bebr.bootstrap import build_app


async def test_probes(tmp_path: Path) -> None:
    app = build_app(settings(tmp_path))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://bebr") as client:
        assert (await client.get("/livez")).json() == {"status": "alive"}
        answer = await client.get("/readyz")
        assert_problem(answer, 503, "NotReady")
        assert int(answer.headers["retry-after"]) >= 1
        for path in ("/v1/collections", DOCS, "/v1/aliases"):  # it may well exist: nobody has looked yet
            assert_problem(await client.get(path), 503, "NotReady")
        assert "bebr_ready 0.0" in (await client.get("/metrics")).text
    async with running(app) as client:
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        for path in ("/readyz", "/metrics", "/v1/collections"):
            assert (await client.head(path)).status_code == 200
        assert (await client.head("/v1/jobs/nope")).status_code == 404


async def test_every_answer_has_a_request_id_and_the_version(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        ids = [(await client.get(path)).headers["x-request-id"] for path in ("/livez", "/nope", "/v1/jobs/nope")]
        assert len(set(ids)) == 3
        answer = await client.get("/livez", headers={"x-request-id": "mine-1"})
        assert answer.headers["x-request-id"] == "mine-1" and answer.headers["bebr-version"] == __version__
        answer = await client.get("/livez", headers={"x-request-id": "<script>"})
        assert answer.headers["x-request-id"] != "<script>"


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
        assert "process_resident_memory_bytes" in text


async def test_large_answers_are_zipped_for_those_who_accept_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await fill(client, 300)
        body = {"ids": [f"p{i:03}" for i in range(300)]}
        for accepted, zipped in (("gzip", True), ("br, gzip;q=0.5", True), ("identity", False), ("gzip;q=0", False)):
            answer = await client.post(f"{DOCS}/points/get", json=body, headers={"accept-encoding": accepted})
            assert len(answer.json()["points"]) == 300
            assert (answer.headers.get("content-encoding") == "gzip") is zipped
        answer = await client.get("/livez")
        assert "content-encoding" not in answer.headers


async def test_zipped_bodies_are_read(tmp_path: Path) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    async with serving(tmp_path) as client:
        await create(client)
        body = gzip.compress(b'{"filter": null}')
        assert (await client.post(f"{DOCS}/points/count", content=body, headers=headers)).json() == {"count": 0}
        answer = await client.post(f"{DOCS}/points/count", content=gzip.compress(bytes(10**8)), headers=headers)
        assert_problem(answer, 413, "PayloadTooLarge")


async def test_an_unexpected_error_is_logged_and_told_without_internals(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = build_app(settings(tmp_path))

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the secret is 42")

    async with running(app) as client:
        with caplog.at_level(logging.ERROR):
            answer = await client.get("/broken")
        problem = assert_problem(answer, 500, "InternalError")
        assert "42" not in answer.text
        assert problem["fields"]["request_id"] == answer.headers["x-request-id"]
        record = next(r for r in caplog.records if r.exc_info)
        assert answer.headers["x-request-id"] in record.getMessage() and "42" in str(record.exc_info[1])
        text = (await client.get("/metrics")).text
        assert 'bebr_http_requests_total{method="GET",route="/broken",status="500"} 1.0' in text


async def test_docs_need_no_other_server_and_name_every_error(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        page = (await client.get("/", follow_redirects=True)).text
        assert "<script" not in page and not re.findall(r"(?:src|href)=['\"]?https?:", page)
        for needed in ("/v1/collections/{collection}/search", "DimensionMismatch", "id=Overloaded", "vector_b64"):
            assert needed in page
