"""API keys: nobody without one, nothing changed with a read-only one."""

import re
from pathlib import Path

import httpx
import pytest
from tests.server.service import DOCS, assert_problem, code, create, fill, serving

from bebr.server.middleware.auth import OPEN_PATHS

FULL, READ = {"api-key": "full-key"}, {"authorization": "Bearer read-key"}
KEYS = {"api_keys": ("other-key", "full-key"), "read_only_api_keys": ("read-key",)}
READING_OPERATIONS = {
    "search",
    "search_batch",
    "get_points",
    "get_point",
    "scroll",
    "list_versions",
    "count",
    "embed",
    "list_bundles",
    "list_members",
    "list_models",
    "get_model",
    "list_collections",
    "describe_collection",
    "get_definition",
    "export_points",
    "list_aliases",
    "list_jobs",
    "get_job",
    "get_job_errors",
    "livez",
    "readyz",
    "metrics",
}


async def test_without_keys_nobody_is_asked(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        assert (await client.get("/v1/collections")).status_code == 200


async def test_a_key_is_needed_where_keys_are_set(tmp_path: Path) -> None:
    async with serving(tmp_path, **KEYS) as client:
        for headers in ({}, {"api-key": "wrong"}, {"api-key": ""}, {"authorization": "Basic full-key"}):
            answer = await client.get("/v1/collections", headers=headers)
            assert_problem(answer, 401, "Unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
        for path in sorted(OPEN_PATHS - {"/"}):
            assert (await client.get(path)).status_code == 200
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/metrics", headers=READ)).status_code == 200


async def test_a_read_only_key_reads(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, **KEYS) as client,
        httpx.AsyncClient(transport=client._transport, base_url="http://bebr", headers=READ) as reading,
    ):
        client.headers.update(FULL)
        await create(client)
        await fill(client, 3)
        assert (await reading.get(DOCS)).status_code == 200
        assert (await reading.post(f"{DOCS}/search", json={"code_b64": code(1)})).status_code == 200
        assert (await reading.post(f"{DOCS}/points/count")).json() == {"count": 3}
        for method, path in (("POST", "points"), ("POST", "points/delete"), ("POST", "ingest"), ("DELETE", "")):
            answer = await reading.request(method, f"{DOCS}/{path}".rstrip("/"), json={})
            assert_problem(answer, 403, "Forbidden")
        assert (await reading.post(f"{DOCS}/points/count")).json() == {"count": 3}


async def test_a_read_only_key_may_call_what_reads_and_nothing_else(tmp_path: Path) -> None:
    async with serving(tmp_path, **KEYS) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
        called = set()
        for path, item in paths.items():
            for method, operation in item.items():
                reads = operation["operationId"] in READING_OPERATIONS
                assert operation["x-access"] == ("read" if reads else "write")
                url = re.sub(r"{\w+}", "some", path)
                answer = await client.request(method.upper(), url, headers=READ)
                assert (answer.status_code == 403) is not reads, (method, path, answer.text)
                called.add(operation["operationId"])
        assert called >= READING_OPERATIONS


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"{DOCS}/points/a/b/search", 404),
        ("HEAD", DOCS, 404),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/nothing/search", 403),
        ("POST", f"{DOCS}/search/", 403),
        ("GET", f"{DOCS}/search", 405),
        ("POST", "/livez", 405),
        ("POST", "/v1/jobs/search", 403),
        ("PUT", "/v1/collections/search", 403),
        ("DELETE", "/v1/collections/points/get", 403),
    ],
)
async def test_what_no_route_answers_is_closed_to_a_read_only_key(
    method: str, path: str, status: int, tmp_path: Path
) -> None:
    async with serving(tmp_path, **KEYS) as client:
        assert (await client.request(method, path, headers=READ)).status_code == status
