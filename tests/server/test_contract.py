"""Every route answers what the document says, no more and no less, over collections of every kind."""

import json
import struct
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.encoding.quantization.embeddings import text_like
from tests.engine.two_models import text_bundle, texts
from tests.server.contract import Contract
from tests.server.service import code, ended, points, running, settings
from tests.waiting import until

from bebr.bootstrap import build_app
from bebr.core.codes import join_records
from bebr.encoding import Bundle

TEXTS = texts(60)
ROWS = text_like(160, dims=24)
BINARY, NDJSON = {"content-type": "application/octet-stream"}, {"content-type": "application/x-ndjson"}
OPEN = {"ItemError.id", "LineError.id", "Problem.fields", "CollectionDefinition.collection"}
"""What a caller sent comes back as it is; fields of an error are its own; a document is as the store keeps it."""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    text_bundle(folder, "new@1", seed=1, old=text_bundle(folder, "old@1", seed=0))
    return folder


def frame(ids: list[str], vectors: np.ndarray) -> bytes:
    return framed({"dims": vectors.shape[1], "count": len(ids), "ids": ids}, vectors.astype("<f4").tobytes())


def framed(header: dict[str, Any], rows: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rows


async def test_every_route_answers_as_documented(tmp_path: Path, bundles: Path) -> None:
    app = build_app(settings(tmp_path, bundles_dir=bundles))
    contract = Contract(app.openapi())
    async with running(app) as client:
        client.event_hooks["response"] = [contract.check]
        await of_raw_codes(client)
        await of_a_fit(client)
        await of_two_models(client, bundles)
        for path in (
            "/livez",
            "/readyz",
            "/metrics",
            "/v1/bundles",
            "/v1/members",
            "/v1/models",
            "/v1/models/old",
            "/v1/collections",
            "/v1/jobs",
        ):
            assert (await client.get(path)).is_success
        definition = (await client.get("/v1/collections/raw/definition")).json()
        assert (await client.put("/v1/collections/moved/definition", json=definition)).is_success
        page = (await client.post("/v1/collections/raw/points/export")).json()
        imported = await client.post("/v1/collections/moved/points/import", json={"points": page["points"]})
        assert imported.json()["applied"] == len(page["points"]) > 0
        assert (await client.delete("/v1/collections/raw")).is_success
    operations = {o["operationId"] for item in contract.document["paths"].values() for o in item.values()}
    assert contract.seen == operations


async def of_raw_codes(client: httpx.AsyncClient) -> None:
    """Points, searches and aliases of a collection without a bundle; bulk ingestion with bad lines."""
    raw = "/v1/collections/raw"
    fields = {"lang": "keyword", "year": "integer"}
    await client.put(raw, json={"code": "24x2", "filterable": fields})
    await client.get(raw)
    bad = [{"id": 7}, {"id": "p000"}, "nothing", {"id": "x", "code_b64": "!", "metadata": {"year": "soon"}}]
    await client.post(f"{raw}/points", json={"points": points(20) + bad}, headers={"idempotency-key": "once"})
    await client.get(f"{raw}/points/p001")
    await client.get(f"{raw}/points/absent")
    for more in ({}, {"with_metadata": False, "with_code": True}, {"with_metadata": ["lang"]}):
        await client.post(f"{raw}/points/get", json={"ids": ["p001", "absent"]} | more)
    await client.post(f"{raw}/points/scroll", json={"limit": 5})
    await client.post(f"{raw}/points/scroll")
    await client.post(f"{raw}/points/count")
    await client.post(f"{raw}/points/metadata", json={"ids": ["p001"], "set": {"lang": None}})
    for more in ({"dry_run": True}, {}):
        await client.post(f"{raw}/points/delete", json={"ids": ["p002"]} | more)
    query = {"code_b64": code(3), "limit": 3}
    for more in (
        {"explain": True, "with_code": True},
        {"scorer": "hamming", "with_metadata": ["lang"]},
        {"with_metadata": False, "filter": {"must": [{"key": "lang", "match": {"value": "xx"}}]}},
        {"group_by": "lang", "group_size": 2},
    ):
        await client.post(f"{raw}/search", json=query | more)
    await client.post(f"{raw}/search/batch", json={"searches": [query, {"id": "p003"}]})
    await client.post("/v1/aliases", json={"actions": [{"create": {"alias": "prod", "collection": "raw"}}]})
    await client.get("/v1/aliases")
    assert (await client.patch(raw, json={"recall": 0.95})).is_success
    lines = b"\n".join(json.dumps(point).encode() for point in points(5)) + b'\n{"id": 7}\nnothing\n'
    job = (await client.post(f"{raw}/ingest", content=lines, headers=NDJSON)).json()["job"]
    assert (await ended(client, job))["state"] == "succeeded"
    await client.get(f"/v1/jobs/{job}/errors")


async def of_a_fit(client: httpx.AsyncClient) -> None:
    """A collection that collects embeddings, fits, and is fitted anew."""
    own = "/v1/collections/own"
    await client.put(own, json={"fit": {"bytes": 8, "sample": 140, "dims": 24}})
    for first, last in ((0, 100), (100, 160)):
        ids = [f"p{n:03}" for n in range(first, last)]
        await client.post(f"{own}/points/vectors", content=frame(ids, ROWS[first:last]), headers=BINARY)
        answer = await client.post(f"{own}/search", json={"vector": ROWS[0].tolist(), "explain": True})
        assert answer.json()["hits"]

    async def is_fitted() -> bool:
        return bool((await client.get(own)).json()["fit"]["state"] == "done")

    await until(is_fitted, "the fit")
    await client.post(f"{own}/fit", json={"sample": 150})
    await client.get(own)


async def of_two_models(client: httpx.AsyncClient, bundles: Path) -> None:
    """An upgrade from one model to another, there, back, and there again."""
    docs, versions = "/v1/collections/docs", "/v1/collections/docs/versions"
    await client.put(docs, json={"bundle": "old@1", "text_field": "text", "filterable": {"n": "integer"}})
    written = [{"id": f"p{n}", "text": text, "metadata": {"n": n}} for n, text in enumerate(TEXTS)]
    await client.post(f"{docs}/points", json={"points": written})
    bundle = Bundle.load(bundles / "old@1")
    given = {"count": 1, "ids": ["given"], "code": str(bundle.spec), "fingerprint": bundle.fingerprint}
    record = join_records(np.zeros((1, bundle.spec.code_size_bytes), np.uint8), np.ones(1, np.float16)).tobytes()
    answer = await client.post(f"{docs}/points/records", content=framed(given, record), headers=BINARY)
    assert answer.json()["applied"] == 1
    assert (await client.post(f"{docs}/points/delete", json={"ids": ["given"]})).is_success
    for encoding in ("float", "base64", "binary", "ubinary", "code"):
        body = {"input": TEXTS[:2], "model": "new@1", "encoding_format": encoding}
        assert (await client.post("/v1/embeddings", json=body)).is_success
    await client.post(versions, json={"bundle": "new@1"})
    judged: list[dict[str, Any]] = [{"text": text, "relevant": [f"p{n}"]} for n, text in enumerate(TEXTS[:10])]
    for how in ({"sample": 20}, {"queries": judged}):
        await client.post(f"{versions}/evaluate", json={"version": "new@1"} | how)
    promotion = {"version": "new@1", "force": True}
    await client.post(f"{versions}/promote", json=promotion)
    await client.post(f"{docs}/search", json={"text": TEXTS[3], "explain": True})
    await client.post(f"{versions}/rollback")
    await client.post(f"{versions}/promote", json=promotion | {"adapter": "linear"})
    rows = np.random.default_rng(0).standard_normal((2, 32))
    some = frame(["p1", "nobody"], rows)
    await client.post(f"{versions}/backfill/vectors", content=some, headers=BINARY, params={"version": "new@1"})
    job = (await client.post(f"{versions}/backfill", json={"rate_limit": 20})).json()["job"]
    for verb in ("pause", "resume"):
        await client.post(f"/v1/jobs/{job}/{verb}")
    await client.get(versions)
    await client.delete(f"/v1/jobs/{job}")
    job = (await client.post(f"{versions}/backfill")).json()["job"]
    assert (await ended(client, job))["state"] == "succeeded"
    await client.delete(f"{versions}/old@1")
    await client.get(docs)


def test_every_answer_is_typed_and_closed(tmp_path: Path) -> None:
    document = build_app(settings(tmp_path)).openapi()
    schemas, left, seen = document["components"]["schemas"], [], set()
    for item in document["paths"].values():
        for operation in item.values():
            for response in operation["responses"].values():
                left += [c["schema"] for kind, c in response["content"].items() if "json" in kind]
    while left:
        name = str(left.pop().get("$ref", "")).rpartition("/")[2]
        if not name or name in seen:
            continue
        seen.add(name)
        schema = schemas[name]
        if "properties" in schema:
            assert schema["additionalProperties"] is False, name
        for field, kind in schema.get("properties", {}).items():
            typed = {"type", "$ref", "anyOf", "oneOf", "const", "enum"} & kind.keys()
            free = kind.get("additionalProperties") is True and field != "metadata"
            assert (typed and not free) or f"{name}.{field}" in OPEN, (name, field, kind)
        left += list(references(schema))
    assert len(seen) > 30


def references(schema: object) -> list[dict[str, Any]]:
    """All references in a schema."""
    if isinstance(schema, list):
        return [found for part in schema for found in references(part)]
    if not isinstance(schema, dict):
        return []
    own = [schema] if isinstance(schema.get("$ref"), str) else []
    return own + [found for part in schema.values() for found in references(part)]
