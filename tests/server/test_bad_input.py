"""Every bad input gets a clear problem with the field at fault, and does no harm."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.service import DOCS, assert_problem, code, create, fill, points, serving

JSON = {"content-type": "application/json"}
ONE = {"code_b64": code(0)}


@pytest.mark.parametrize(
    ("body", "error", "key"),
    [
        ({**ONE, "limit": 0}, "InvalidOption", "limit"),
        ({**ONE, "limit": 10**9}, "InvalidOption", "limit"),
        ({**ONE, "limit": 10**400}, "InvalidOption", "limit"),
        ({**ONE, "offset": 10**9}, "InvalidOption", "limit"),
        ({**ONE, "limitt": 3}, "InvalidOption", "limitt"),
        ({**ONE, "scorer": "bm25"}, "InvalidOption", "scorer"),
        ({**ONE, "scorer": "adc"}, "InvalidOption", "scorer"),
        ({**ONE, "group_size": 2}, "InvalidOption", "group_size"),
        ({**ONE, "cursor": "rubbish"}, "InvalidOption", "cursor"),
        ({**ONE, "version": "minilm@9"}, None, None),
        ({**ONE, "id": "p000"}, "InvalidOption", None),
        ({**ONE, "filter": {"must": [{"key": "colour", "match": {"value": 1}}]}}, "InvalidFilter", "colour"),
        ({**ONE, "filter": {"must": [{"key": "year", "range": {"gte": "2020"}}]}}, "InvalidFilter", "year"),
        ({**ONE, "filter": {"most": []}}, "InvalidFilter", None),
        ({**ONE, "filter": []}, "InvalidOption", "filter"),
        ({}, "InvalidOption", None),
        ({"code_b64": "not base64!"}, "InvalidCode", "code_b64"),
        ({"code_b64": "AAAA"}, "DimensionMismatch", "code_b64"),
        ({**ONE, "cursor": "c2VhcmNoOi01"}, "InvalidOption", "cursor"),
        ({**ONE, "cursor": "MTI="}, "InvalidOption", "cursor"),
        ({**ONE, "with_metadata": "lang"}, "InvalidOption", "with_metadata"),
        ({"vector_b64": "not base64!"}, "InvalidVector", "vector_b64"),
        ({"vector_b64": "AAAA"}, "InvalidVector", "vector_b64"),
        ({"vector": [1.0], "vector_b64": "AAAA"}, "InvalidOption", "vector_b64"),
        ({"text": "no model here"}, "InvalidOption", None),
        ({"id": "nope"}, "PointNotFound", "id"),
        ({"id": ""}, "InvalidId", "id"),
        ({"id": "x" * 257}, "InvalidId", "id"),
        ([ONE], "InvalidOption", "body"),
    ],
)
async def test_a_bad_search_is_refused(
    body: dict[str, Any], error: str | None, key: str | None, tmp_path: Path
) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await fill(client, 3)
        answer = await client.post(f"{DOCS}/search", content=json.dumps(body), headers=JSON)
        problem = answer.json()
        assert answer.status_code in (400, 404, 409)
        assert error is None or problem["error"] == error, problem
        assert key is None or problem["fields"]["key"] == key, problem


@pytest.mark.parametrize(
    ("wrong", "status", "error", "key"),
    [
        ({**ONE, "limit": 0}, 400, "InvalidOption", "searches[1].limit"),
        ({**ONE, "limit": 10**6}, 400, "InvalidOption", "searches[1].limit"),
        ({"code_b64": "?"}, 400, "InvalidCode", "searches[1].code_b64"),
        ({"code_b64": "AAAA"}, 400, "DimensionMismatch", "searches[1].code_b64"),
        ({"id": "nope"}, 404, "PointNotFound", "searches[1].id"),
        ({"id": ""}, 400, "InvalidId", "searches[1].id"),
    ],
)
async def test_a_bad_search_of_a_batch_is_named(
    wrong: dict[str, Any], status: int, error: str, key: str, tmp_path: Path
) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await fill(client, 3)
        answer = await client.post(f"{DOCS}/search/batch", json={"searches": [ONE, wrong, ONE]})
        assert "searches[1]" in assert_problem(answer, status, error, key)["detail"]
        colour = {"must": [{"key": "colour", "match": {"value": 1}}]}
        answer = await client.post(f"{DOCS}/search/batch", json={"searches": [ONE, {**ONE, "filter": colour}]})
        fields = assert_problem(answer, 400, "InvalidFilter", "colour")["fields"]
        assert fields == {"key": "colour", "at": "searches[1].filter.must[0]"}


async def test_a_cursor_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        for content in (b"[" * 5000, b'["after"]', b'["after", 5]', b"5", b"\xff"):
            cursor = base64.urlsafe_b64encode(content).decode()
            answer = await client.post(f"{DOCS}/points/scroll", json={"cursor": cursor})
            assert_problem(answer, 400, "InvalidOption", "cursor")


async def test_a_collection_of_a_wrong_code_or_bundle_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        for body, status, error, key in (
            ({"code": "24x3"}, 400, "InvalidSpec", "code"),
            ({"bundle": "nope@1"}, 404, "BundleNotFound", "bundle"),
            ({"code": "24x2", "shards": 10**9}, 400, "InvalidOption", "shards"),
        ):
            assert_problem(await client.put(DOCS, json=body), status, error, key)
        answer = await client.post("/v1/embeddings", json={"input": "x", "model": "nope@1"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (404, "model")


async def test_what_is_not_json_is_refused_with_its_place(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        for path in ("search", "points", "points/count", "points/get"):
            answer = await client.post(f"{DOCS}/{path}", content=b'{"ids": [1,\n 2', headers=JSON)
            fields = assert_problem(answer, 422, "Malformed")["fields"]
            assert fields == {"line": 2, "column": 2}
        for body in (b"\xff\xfe", b"", b'"\\ud800"', b"[" * 10_000):
            assert_problem(await client.post(f"{DOCS}/search", content=body, headers=JSON), 422, "Malformed")


async def test_unknown_things_are_not_found(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        for method, path in [
            ("POST", "/v1/collections/nope/search"),
            ("POST", "/v1/collections/nope/points/count"),
            ("GET", "/v1/collections/nope"),
            ("DELETE", "/v1/collections/nope"),
        ]:
            content = json.dumps(ONE if path.endswith("search") else {}) if method == "POST" else None
            answer = await client.request(method, path, content=content, headers=JSON if content else None)
            assert_problem(answer, 404, "CollectionNotFound")
        assert_problem(await client.get("/v1/jobs/nope"), 404, "JobNotFound")
        assert_problem(await client.get("/v1/jobs/nope/errors"), 404, "JobNotFound")
        assert_problem(await client.get("/v2/collections"), 404, "NotFound")
        assert_problem(await client.get("/v1/collections/"), 404, "NotFound")


async def test_a_wrong_method_names_the_right_ones(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        for path, allowed in (
            (f"{DOCS}/search", {"POST"}),
            ("/v1/bundles", {"GET", "HEAD"}),
            (DOCS, {"PUT", "GET", "HEAD", "DELETE", "PATCH"}),
            (f"{DOCS}/points/a", {"GET", "HEAD"}),
        ):
            answer = await client.request("LOCK", path)
            assert_problem(answer, 405, "MethodNotAllowed")
            assert set(answer.headers["allow"].split(", ")) == allowed


async def test_options_that_a_route_does_not_have_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        for answer in (
            await client.post(f"{DOCS}/search?pretty=1", json=ONE),
            await client.post(f"{DOCS}/points/count?pretty=1", json={}),
            await client.get("/v1/bundles?pretty=1"),
        ):
            assert_problem(answer, 400, "InvalidOption", "pretty")
        answer = await client.post(f"{DOCS}/points/count", json={"filtre": {}})
        assert "did you mean 'filter'" in assert_problem(answer, 400, "InvalidOption", "filtre")["detail"]


async def test_a_body_of_100_megabytes_is_refused_and_the_service_goes_on(tmp_path: Path) -> None:
    async def hundred_megabytes() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(10**6)

    async with serving(tmp_path) as client:
        await create(client)
        announced = {**JSON, "content-length": str(100 * 10**6)}
        for path in ("search", "points", "points/delete"):
            answer = await client.post(f"{DOCS}/{path}", content=b"{", headers=announced)
            assert_problem(answer, 413, "PayloadTooLarge")
        answer = await client.post(f"{DOCS}/points", content=hundred_megabytes(), headers=JSON)
        assert_problem(answer, 413, "PayloadTooLarge")
        await fill(client, 3)


async def test_too_many_points_or_ids_at_once_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, max_batch_points=10) as client:
        await create(client)
        assert_problem(await client.post(f"{DOCS}/points", json={"points": points(11)}), 400, "InvalidOption")
        ndjson = "\n".join(json.dumps(p) for p in points(11))
        answer = await client.post(f"{DOCS}/points", content=ndjson, headers={"content-type": "application/x-ndjson"})
        assert_problem(answer, 400, "InvalidOption", "points")
        for path in ("get", "delete"):
            answer = await client.post(f"{DOCS}/points/{path}", json={"ids": [f"p{i}" for i in range(11)]})
            assert_problem(answer, 400, "InvalidOption", "ids")
        assert (await client.post(f"{DOCS}/points/count")).json() == {"count": 0}


async def test_ids_that_are_no_ids_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        for path in ("get", "delete"):
            for ids in ([7], [""], [None], ["x" * 257], ["\0"]):
                answer = await client.post(f"{DOCS}/points/{path}", json={"ids": ids})
                assert_problem(answer, 400, "InvalidId", "ids[0]")
        assert_problem(await client.get(f"{DOCS}/points/{'x' * 257}"), 400, "InvalidId")


async def test_nan_in_metadata_is_named(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        body = '{"points":[{"id":"a","code_b64":"%s","metadata":{"x":NaN}},{"id":"b","code_b64":"%s"}]}'
        answer = await client.post(f"{DOCS}/points", content=body % (code(0), code(1)), headers=JSON)
        report = answer.json()
        assert report["applied"] == 1 and report["items"][0]["error"] == "InvalidMetadata", report
        patch = '{"ids":["b"],"set":{"x":NaN}}'
        answer = await client.post(f"{DOCS}/points/metadata", content=patch, headers=JSON)
        assert_problem(answer, 400, "InvalidMetadata")
