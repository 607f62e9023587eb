"""Probes, metrics, documents, headers: what the service says about itself."""

from pathlib import Path

import httpx
from tests.server.service import DOCS, assert_problem, running, settings

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


async def test_who_has_no_key_learns_no_names_from_readyz(tmp_path: Path) -> None:
    app = build_app(settings(tmp_path, api_keys=("secret",)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://bebr") as client:
        for headers in ({}, {"api-key": "wrong"}):
            problem = assert_problem(await client.get("/readyz", headers=headers), 503, "NotReady")
            assert problem["fields"] == {} and "API key" in problem["detail"]
        known = assert_problem(await client.get("/readyz", headers={"api-key": "secret"}), 503, "NotReady")
        assert set(known["fields"]) == {"problem", "loading"}
