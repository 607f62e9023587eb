"""An upgrade over HTTP, with the requests of the documentation; and what is refused."""

import json
import struct
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.engine.two_models import text_bundle, texts
from tests.server.service import DOCS, assert_problem, ended, serving
from tests.server.test_openapi import example

TEXTS = texts(60)
VERSIONS = f"{DOCS}/versions"
NEW = "minilm@2"
"""As in the examples."""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    text_bundle(folder, NEW, seed=1, old=text_bundle(folder, "old@1", seed=0))
    return folder


async def fill(client: httpx.AsyncClient, **changes: Any) -> None:
    body = {"bundle": "old@1", "text_field": "text", "filterable": {"n": "integer"}} | changes
    answer = await client.put(DOCS, json=body)
    assert answer.status_code == 200, answer.text
    points = [{"id": f"p{n}", "text": text, "metadata": {"n": n}} for n, text in enumerate(TEXTS)]
    assert (await client.post(f"{DOCS}/points", json={"points": points})).json()["applied"] == len(TEXTS)


async def test_the_examples_of_the_document_are_an_upgrade(tmp_path: Path, bundles: Path) -> None:
    async with serving(tmp_path, bundles_dir=bundles) as client:
        document = (await client.get("/openapi.json")).json()
        await fill(client)

        async def send(path: str) -> dict[str, Any]:
            content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
            url = path.replace("{collection}", "docs")
            answer = await client.post(url, json=example(document, content["schema"]))
            assert answer.status_code in (200, 201, 202), (path, answer.text)
            found: dict[str, Any] = answer.json()
            return found

        prefix = "/v1/collections/{collection}/versions"
        attached = await send(prefix)
        assert [version["id"] for version in attached["versions"]] == ["old@1", NEW] and attached["active"] == "old@1"
        measured = await send(f"{prefix}/evaluate")
        assert measured["gain"]["low"] <= measured["gain"]["mean"] <= measured["gain"]["high"]
        if measured["gain"]["mean"] < 0:
            pytest.fail(f"models by other seeds are wanted: {measured}")
        event = await send(f"{prefix}/promote")
        assert (event["from"], event["to"], event["forced"]) == ("old@1", NEW, False)
        job = (await send(f"{prefix}/backfill"))["job"]
        state = await ended(client, job)
        assert (state["kind"], state["state"], state["applied"]) == ("backfill", "succeeded", len(TEXTS))
        listed = (await client.get("/v1/jobs")).json()["jobs"]
        assert [entry["job"] for entry in listed] == [job]
        assert (await client.delete(f"/v1/jobs/{job}")).json()["state"] == "succeeded"
        assert (await client.delete(f"{VERSIONS}/old@1")).json()["versions"][0]["retired"]
        answer = await client.post(f"{VERSIONS}/rollback")
        assert_problem(answer, 409, "Conflict")


async def test_a_query_tells_how_it_reached_old_codes(tmp_path: Path, bundles: Path) -> None:
    async with serving(tmp_path, bundles_dir=bundles) as client:
        await fill(client)
        await client.post(VERSIONS, json={"bundle": NEW})
        await client.post(f"{VERSIONS}/promote", json={"version": NEW, "force": True, "adapter": "linear"})
        body = {"text": TEXTS[3], "limit": 3, "explain": True}
        answer = (await client.post(f"{DOCS}/search", json=body)).json()
        assert answer["query_version"] == NEW and answer["searched"] == {"old@1": len(TEXTS)}
        assert answer["explain"]["route"] == {"old@1": "linear"}
        assert {hit["version"] for hit in answer["hits"]} == {"old@1"}
        event = (await client.post(f"{VERSIONS}/rollback")).json()
        assert event["event"] == "rollback" and event["to"] == "old@1"


async def test_backfills_are_paused_and_resumed(tmp_path: Path, bundles: Path) -> None:
    async with serving(tmp_path, bundles_dir=bundles) as client:
        await fill(client)
        await client.post(VERSIONS, json={"bundle": NEW})
        await client.post(f"{VERSIONS}/promote", json={"version": NEW, "force": True})
        job = (await client.post(f"{VERSIONS}/backfill", json={"rate_limit": 20})).json()["job"]
        assert (await client.post(f"/v1/jobs/{job}/pause")).json()["state"] == "paused"
        assert_problem(await client.post(f"/v1/jobs/{job}/pause"), 409, "Conflict")
        assert (await client.post(f"/v1/jobs/{job}/resume")).json()["state"] == "running"
        assert (await client.delete(f"/v1/jobs/{job}")).json()["state"] == "cancelled"
        for verb in ("pause", "resume"):
            assert_problem(await client.post(f"/v1/jobs/none/{verb}"), 404, "JobNotFound")
        ingest = await client.post(f"{DOCS}/ingest", content=b"", headers={"content-type": "application/x-ndjson"})
        answer = await client.post(f"/v1/jobs/{ingest.json()['job']}/pause")
        assert "cannot be paused" in assert_problem(answer, 409, "Conflict")["detail"]


async def test_vectors_of_the_new_model_are_streamed(tmp_path: Path, bundles: Path) -> None:
    async with serving(tmp_path, bundles_dir=bundles) as client:
        await fill(client, text_field=None)
        await client.post(VERSIONS, json={"bundle": NEW})
        await client.post(f"{VERSIONS}/promote", json={"version": NEW, "force": True})
        url = f"{VERSIONS}/backfill/vectors"
        frame = framed(["p1", "p2", "nobody"], np.random.default_rng(0).standard_normal((3, 32)))
        binary = {"content-type": "application/octet-stream"}
        answer = (await client.post(url, content=frame, headers=binary, params={"version": NEW})).json()
        assert answer["applied"] == 2 and answer["items"][0]["error"] == "PointNotFound"
        refused = await client.post(url, content=frame, headers=binary, params={"version": "old@1"})
        assert "declared as 'old@1'" in assert_problem(refused, 409, "Incompatible", "version")["detail"]
        assert_problem(await client.post(url, content=frame, headers=binary), 400, "InvalidOption")
        given = framed(["p1"], np.ones((1, 32)), metadata=[{"n": 1}])
        refused = await client.post(url, content=given, headers=binary, params={"version": NEW})
        assert_problem(refused, 400, "InvalidOption", "metadata")
        assert_problem(await client.post(f"{VERSIONS}/backfill", json={}), 409, "Conflict", "text_field")


def framed(ids: list[str], rows: np.ndarray, metadata: list[Any] | None = None) -> bytes:
    header = json.dumps({"dims": rows.shape[1], "count": len(ids), "ids": ids, "metadata": metadata}).encode()
    return struct.pack("<Q", len(header)) + header + rows.astype("<f4").tobytes()


@pytest.mark.parametrize(
    ("path", "body", "status", "error", "key"),
    [
        ("", {}, 400, "InvalidOption", "bundle"),
        ("", {"bundle": "none@1"}, 404, "BundleNotFound", "bundle"),
        ("", {"bundle": "old@1"}, 409, "AlreadyExists", None),
        ("/evaluate", {"version": "none@1"}, 404, "VersionNotFound", None),
        ("/evaluate", {"sample": 0}, 400, "InvalidOption", "sample"),
        ("/evaluate", {"points": 10}, 400, "InvalidOption", "points"),
        ("/evaluate", {"adapter": "guess"}, 400, "InvalidOption", "adapter"),
        ("/evaluate", {"queries": [{"text": "a"}], "sample": 5}, 400, "InvalidOption", "sample"),
        ("/evaluate", {"queries": [{"text": ""}]}, 400, "InvalidText", "queries[0].text"),
        ("/evaluate", {"queries": [{"text": "a", "relevant": ["x"]}]}, 409, "Conflict", "queries[0].relevant"),
        ("/promote", {"version": NEW}, 409, "Conflict", None),
        ("/promote", {"version": NEW, "gate": {"min_gain": "much"}}, 400, "InvalidOption", "gate.min_gain"),
        ("/promote", {"version": "none@1"}, 404, "VersionNotFound", None),
        ("/rollback", None, 409, "Conflict", None),
        ("/backfill", {"version": NEW}, 409, "Conflict", None),
        ("/backfill", {"rate_limit": 0}, 400, "InvalidOption", "rate_limit"),
    ],
)
async def test_what_cannot_be_is_refused(
    path: str, body: Any, status: int, error: str, key: str | None, tmp_path: Path, bundles: Path
) -> None:
    async with serving(tmp_path, bundles_dir=bundles) as client:
        await fill(client)
        assert (await client.post(VERSIONS, json={"bundle": NEW})).status_code == 201
        answer = await client.post(f"{VERSIONS}{path}", json=body)
        assert_problem(answer, status, error, key)


async def test_writes_may_declare_their_version(tmp_path: Path, bundles: Path) -> None:
    async with serving(tmp_path, bundles_dir=bundles) as client:
        await fill(client)
        body = {"points": [{"id": "x", "text": "a date", "metadata": {"n": 1}}]}
        answer = await client.post(f"{DOCS}/points", json=body, params={"version": "old@1"})
        assert answer.json()["applied"] == 1
        refused = await client.post(f"{DOCS}/points", json=body, params={"version": NEW})
        assert_problem(refused, 409, "Incompatible", "version")
