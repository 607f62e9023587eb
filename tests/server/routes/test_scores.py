"""The score that is printed is the score: sent back as `score_threshold` it keeps its hit, whatever made it."""

import base64
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.encoding.quantization.embeddings import text_like
from tests.server.service import DOCS, create, serving, vector_b64
from tests.waiting import until

from bebr.core.codes import CodeSpec, pack_levels

DIMS = 24
LIMIT = 12


async def check(client: httpx.AsyncClient, body: dict[str, Any]) -> int:
    """Every hit's score as threshold keeps exactly the hits of at least that score."""
    body = body | {"limit": LIMIT, "with_metadata": False}
    hits = (await client.post(f"{DOCS}/search", json=body)).json()["hits"]
    assert hits
    searches = [body | {"score_threshold": hit["score"]} for hit in hits]
    results = (await client.post(f"{DOCS}/search/batch", json={"searches": searches})).json()["results"]
    for hit, result in zip(hits, results, strict=True):
        assert result["hits"] == [other for other in hits if other["score"] >= hit["score"]]
        above = hit["score"] + abs(hit["score"]) * 2e-6
        found = (await client.post(f"{DOCS}/search", json=body | {"score_threshold": above})).json()["hits"]
        assert found == [other for other in hits if other["score"] >= above]
    return len(hits)


@pytest.mark.parametrize("spec", ["24x2", "99x1", "33x4+7x1", "8x1"])
async def test_scores_of_codes_keep_their_hits(tmp_path: Path, spec: str) -> None:
    codes = random_codes(CodeSpec.parse(spec), 60)
    async with serving(tmp_path) as client:
        await create(client, code=spec, filterable={"lang": "keyword"})
        points = [{"id": f"p{n}", "code_b64": code, "metadata": {"lang": str(n % 5)}} for n, code in enumerate(codes)]
        assert (await client.post(f"{DOCS}/points", json={"points": points})).json()["applied"] == 60
        for scorer in ("sdc", "hamming"):
            await check(client, {"code_b64": codes[3], "scorer": scorer})
            await check(client, {"id": "p5", "scorer": scorer})
            grouped = {"id": "p7", "scorer": scorer, "group_by": "lang", "group_size": 3}
            hits = (await client.post(f"{DOCS}/search", json=grouped)).json()["hits"]
            for hit in hits:
                kept = (await client.post(f"{DOCS}/search", json=grouped | {"score_threshold": hit["score"]})).json()
                assert kept["hits"] == [other for other in hits if other["score"] >= hit["score"]]


def random_codes(spec: CodeSpec, count: int) -> list[str]:
    levels = np.random.default_rng(1).integers(0, spec.max_levels.astype(int) + 1, (count, spec.dims))
    return [base64.b64encode(code.tobytes()).decode() for code in pack_levels(levels.astype(np.uint8), spec)]


async def test_scores_of_several_versions_keep_their_hits(tmp_path: Path) -> None:
    rows = text_like(420, dims=DIMS, common_mean=2)
    async with serving(tmp_path) as client:
        body = {"fit": {"bytes": 8, "sample": 150, "dims": DIMS}, "shards": 3}
        assert (await client.put(DOCS, json=body)).status_code == 200
        await write(client, rows, range(200))
        await fitted(client)
        assert (await client.post(f"{DOCS}/fit", json={"bytes": 12, "sample": 400})).status_code == 202
        await write(client, rows, range(150, 300))  # of the fitted version and buffered ones
        for row in rows[400:410]:
            for scorer in ("adc", "sdc"):
                assert await check(client, {"vector_b64": vector_b64(row.tolist()), "scorer": scorer}) == LIMIT
        await check(client, {"id": "p7"})


async def write(client: httpx.AsyncClient, rows: np.ndarray, numbers: range) -> None:
    points = [{"id": f"p{n}", "vector_b64": vector_b64(rows[n].tolist())} for n in numbers]
    assert (await client.post(f"{DOCS}/points", json={"points": points})).json()["applied"] == len(points)


async def fitted(client: httpx.AsyncClient) -> None:
    async def is_fitted() -> bool:
        return bool((await client.get(DOCS)).json()["fit"]["state"] == "done")

    await until(is_fitted, "the fit")
