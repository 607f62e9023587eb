"""Embeddings in every format."""

import base64
from typing import Any

import httpx
import numpy as np
from tests.encoding.importing.checkpoints import DIMS
from tests.server.bundles import SPEC, TEXTS, TINY, best
from tests.server.service import DOCS


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
    for changes, status, code, param in [
        ({"model": "nope@1"}, 404, "model_not_found", "model"),
        ({"model": "nope"}, 404, "model_not_found", "model"),
        ({"input": ""}, 400, "invalid_text", "input[0]"),
        ({"input": []}, 400, "invalid_option", "input"),
        ({"input": [1, 2]}, 400, "invalid_text", "input"),
        ({"input": [[1, 2]]}, 400, "invalid_text", "input"),
        ({"dimensions": 8}, 400, "dimension_mismatch", "dimensions"),
        ({"encoding_format": "int4"}, 400, "invalid_option", "encoding_format"),
        ({"stream": True}, 400, "invalid_option", "stream"),
        ({"kind": "document"}, 400, "invalid_option", "kind"),
    ]:
        answer = await client.post("/v1/embeddings", json=good | changes)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param), error
    for changes in ({"dimensions": DIMS}, {"user": "me", "encoding_format": None}, {"model": "tiny"}):
        answer = await client.post("/v1/embeddings", json=good | changes)
        assert (answer.status_code, answer.json()["model"]) == (200, TINY)
