"""Collections with a bundle: texts and vectors in, hits out, over every way in that there is."""

import base64
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.encoding.importing.checkpoints import DIMS
from tests.server.bundles import SPEC, TINY, write_tiny_bundle
from tests.server.service import DOCS, assert_problem, ended, serving, vector_b64

TEXTS = ["a quick brown fox", "parse a date", "binary codes", "search the lazy dog", "time string"]
BINARY = {"content-type": "application/octet-stream"}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    write_tiny_bundle(folder, tmp_path_factory.mktemp("scratch"))
    return folder


@pytest.fixture
async def client(tmp_path: Path, bundles: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(tmp_path, bundles_dir=bundles) as client:
        answer = await client.put(DOCS, json={"bundle": TINY, "filterable": {"n": "integer"}})
        assert answer.status_code == 200, answer.text
        yield client


def rows(count: int = 20) -> np.ndarray:
    vectors = np.random.default_rng(1).standard_normal((count, DIMS)).astype("<f4")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def frame(ids: list[Any], vectors: np.ndarray, metadata: list[Any] | None = None) -> bytes:
    header = {"dims": vectors.shape[1], "count": len(vectors), "ids": ids, "metadata": metadata}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + vectors.tobytes()


async def best(client: httpx.AsyncClient, **body: Any) -> str:
    answer = await client.post(f"{DOCS}/search", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["hits"][0]["id"])


async def test_a_text_is_found_by_itself(client: httpx.AsyncClient) -> None:
    points = [{"id": f"t{i}", "text": text} for i, text in enumerate(TEXTS)]
    assert (await client.post(f"{DOCS}/points", json={"points": points})).json()["applied"] == len(TEXTS)
    for i, text in enumerate(TEXTS):
        assert await best(client, text=text) == f"t{i}"
    searches = {"searches": [{"text": text, "limit": 1} for text in TEXTS]}
    results = (await client.post(f"{DOCS}/search/batch", json=searches)).json()["results"]
    assert [result["hits"][0]["id"] for result in results] == [f"t{i}" for i in range(len(TEXTS))]


async def test_a_vector_is_found_however_it_came(client: httpx.AsyncClient) -> None:
    vectors = rows()
    points = [
        {"id": "list", "vector": vectors[0].tolist()},
        {"id": "base64", "vector_b64": vector_b64(vectors[1])},
    ]
    assert (await client.post(f"{DOCS}/points", json={"points": points})).json()["applied"] == 2
    ids = [f"f{i}" for i in range(2, 20)]
    body = frame(ids, vectors[2:], [{"n": i} for i in range(18)])
    assert (await client.post(f"{DOCS}/points/vectors", content=body, headers=BINARY)).json()["applied"] == 18
    for name, vector in zip(["list", "base64", *ids], vectors, strict=True):
        assert await best(client, vector=vector.tolist()) == name
        assert await best(client, vector_b64=vector_b64(vector)) == name
    last = {"must": [{"key": "n", "match": {"value": 17}}]}
    assert await best(client, vector=vectors[2].tolist(), filter=last) == "f19"


async def test_bad_texts_and_vectors_are_named_and_good_ones_applied(client: httpx.AsyncClient) -> None:
    good, nan, inf = rows()[0].tolist(), [float("nan")] * DIMS, [1e300] * DIMS
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"vector": nan}, "InvalidVector"),
        ({"vector": inf}, "InvalidVector"),
        ({"vector": [0.0] * DIMS}, "InvalidVector"),
        ({"vector": ["1"] * DIMS}, "InvalidVector"),
        ({"vector": good[:-1]}, "DimensionMismatch"),
        ({"vector": []}, "DimensionMismatch"),
        ({"vector_b64": vector_b64(nan)}, "InvalidVector"),
        ({"vector_b64": vector_b64(good[:-1])}, "DimensionMismatch"),
        ({"vector_b64": "not base64!"}, "InvalidVector"),
        ({"vector_b64": "AAA="}, "InvalidVector"),
        ({"text": ""}, "InvalidText"),
        ({"text": " \n"}, "InvalidText"),
        ({"text": 7}, "InvalidText"),
        ({"text": "x" * 100_001}, "InvalidText"),
        ({"text": "a", "vector": good}, "InvalidOption"),
    ]
    points = [{"id": "good", "vector": good}, *({"id": f"w{i}", **bad} for i, (bad, _) in enumerate(wrong))]
    body = json.dumps({"points": [*points, {"id": "text", "text": "fox"}]})
    answer = await client.post(f"{DOCS}/points", content=body, headers={"content-type": "application/json"})
    report = answer.json()
    assert report["applied"] == 2, report
    assert [(item["id"], item["error"]) for item in report["items"]] == [
        (f"w{i}", error) for i, (_, error) in enumerate(wrong)
    ]


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


async def test_bad_rows_of_a_frame_are_named_and_good_ones_applied(client: httpx.AsyncClient) -> None:
    vectors = rows(5)
    vectors[1] = np.nan
    vectors[2] = 0
    body = frame(["a", "b", "c", "a", 7], vectors)
    report = (await client.post(f"{DOCS}/points/vectors", content=body, headers=BINARY)).json()
    assert report["applied"] == 1
    assert [(item["index"], item["error"]) for item in report["items"]] == [
        (1, "InvalidVector"),
        (2, "InvalidVector"),
        (3, "DuplicateId"),
        (4, "InvalidId"),
    ]
    wide = frame(["a"], np.ones((1, DIMS + 1), "<f4"))
    answer = await client.post(f"{DOCS}/points/vectors", content=wide, headers=BINARY)
    assert_problem(answer, 400, "DimensionMismatch")
    assert_problem(await client.post(f"{DOCS}/points/vectors", json={}), 415, "UnsupportedMedia")


async def test_embeddings_in_every_format(client: httpx.AsyncClient) -> None:
    async def embed(**changes: Any) -> dict[str, Any]:
        answer = await client.post("/v1/embeddings", json={"model": TINY, "input": TEXTS} | changes)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    answer = await embed()
    floats = np.array([entry["embedding"] for entry in answer["data"]], np.float32)
    assert floats.shape == (len(TEXTS), DIMS) and np.allclose(np.linalg.norm(floats, axis=1), 1, atol=1e-5)
    assert [entry["index"] for entry in answer["data"]] == [0, 1, 2, 3, 4] and answer["model"] == TINY
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] == sum(len(t.split()) + 2 for t in TEXTS)
    packed = [entry["embedding"] for entry in (await embed(encoding_format="base64"))["data"]]
    assert (np.stack([np.frombuffer(base64.b64decode(text), "<f4") for text in packed]) == floats).all()
    signs = np.array([e["embedding"] for e in (await embed(encoding_format="ubinary"))["data"]])
    assert (signs == np.packbits(floats > 0, axis=1)).all()
    assert (np.array([e["embedding"] for e in (await embed(encoding_format="binary"))["data"]]) == signs - 128).all()
    codes = [entry["embedding"] for entry in (await embed(encoding_format="code"))["data"]]
    assert all(len(base64.b64decode(code)) == SPEC.record_size_bytes for code in codes)
    points = [{"id": text, "code_b64": code} for text, code in zip(TEXTS, codes, strict=True)]
    assert (await client.post(f"{DOCS}/points", json={"points": points})).json()["applied"] == len(TEXTS)
    assert [await best(client, text=text) for text in TEXTS] == TEXTS


async def test_embeddings_refuse_what_they_cannot_do(client: httpx.AsyncClient) -> None:
    good = {"model": TINY, "input": "fox"}
    for changes, status, error, key in [
        ({"model": "nope@1"}, 404, "BundleNotFound", None),
        ({"input": ""}, 400, "InvalidText", None),
        ({"input": []}, 400, "InvalidOption", "input"),
        ({"input": [1, 2]}, 400, "InvalidOption", None),
        ({"dimensions": 8}, 400, "DimensionMismatch", "dimensions"),
        ({"encoding_format": "int4"}, 400, "InvalidOption", "encoding_format"),
        ({"user": "me"}, 400, "InvalidOption", "user"),
        ({"kind": "document"}, 400, "InvalidOption", "kind"),
    ]:
        assert_problem(await client.post("/v1/embeddings", json=good | changes), status, error, key)
    assert (await client.post("/v1/embeddings", json=good | {"dimensions": DIMS})).status_code == 200


async def test_texts_are_ingested_in_bulk(client: httpx.AsyncClient) -> None:
    body = "\n".join(json.dumps({"id": f"t{i}", "text": text}) for i, text in enumerate([*TEXTS, " "]))
    answer = await client.post(f"{DOCS}/ingest", content=body, headers={"content-type": "application/x-ndjson"})
    state = await ended(client, answer.json()["job"])
    assert (state["applied"], state["rejected"]) == (len(TEXTS), 1)
    assert await best(client, text=TEXTS[2]) == "t2"


async def test_a_bundle_with_a_wrong_hash_is_not_used(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundles", tmp_path)
    graph = bundle.path / bundle.binarizer.graph
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    async with serving(tmp_path) as client:
        answer = await client.put(DOCS, json={"bundle": TINY})
        problem = assert_problem(answer, 500, "DamagedBundle")
        assert problem["fields"]["file"] == graph.name and "binarizer.onnx" in problem["detail"]
        assert (await client.get("/v1/collections")).json() == {"collections": []}
