"""Collections of vectors that the user brings, of any dims: `{"dims": n}` alone works from the first point on."""

import base64
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.encoding.quantization.embeddings import text_like
from tests.server.service import DOCS, serving
from tests.waiting import until

from bebr.encoding.quantization.training_free import default_bytes


def rows_of(dims: int, count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, dims)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


async def write(client: httpx.AsyncClient, rows: np.ndarray, first: int = 0) -> None:
    points = [
        {"id": f"p{first + n:04}", "vector_b64": base64.b64encode(row.astype("<f4").tobytes()).decode()}
        for n, row in enumerate(rows)
    ]
    answer = await client.post(f"{DOCS}/points", json={"points": points})
    assert answer.status_code == 200 and answer.json()["rejected"] == 0, answer.text


async def search(client: httpx.AsyncClient, row: np.ndarray, **more: Any) -> list[dict[str, Any]]:
    vector = base64.b64encode(row.astype("<f4").tobytes()).decode()
    answer = await client.post(f"{DOCS}/search", json={"vector_b64": vector, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["hits"]


async def recall(client: httpx.AsyncClient, rows: np.ndarray, queries: np.ndarray, **more: Any) -> float:
    found = 0
    for query in queries:
        near = {f"p{n:04}" for n in np.argsort(-(rows @ query))[:10].tolist()}
        found += len(near & {hit["id"] for hit in await search(client, query, **more)})
    return found / (10 * len(queries))


async def described(client: httpx.AsyncClient) -> dict[str, Any]:
    return (await client.get(DOCS)).json()


@pytest.mark.parametrize("dims", [1, 2, 3, 7, 100, 384, 1536, 3072, 8192])
@pytest.mark.parametrize("options", [{}, {"fit": False}, {"code": "int8"}], ids=["default", "no fit", "int8"])
async def test_any_dims_are_searched_at_once_and_after_a_restart(
    tmp_path: Path, dims: int, options: dict[str, Any]
) -> None:
    rows = rows_of(dims, 12)
    async with serving(tmp_path) as client:
        answer = await client.put(DOCS, json={"dims": dims, **options})
        assert answer.status_code == 200, answer.text
        scan, _ = default_bytes(dims)
        assert answer.json()["code_bytes"] == (2 * -(-dims // 2) if options.get("code") else scan)
        assert (answer.json()["fit"] is not None) == (not options and 8 <= dims <= 4096)
        assert answer.json()["takes"][:2] == ["vector", "vector_b64"]
        await write(client, rows)
        before = await search(client, rows[5], limit=12)
        assert len(before) == 12
    async with serving(tmp_path) as client:
        after = await search(client, rows[5], limit=12)
        assert after == before
        for query, unit in zip(rows, rows, strict=True):
            hits = {hit["id"]: hit["score"] for hit in await search(client, query, limit=12)}
            exact = rows @ unit
            errors = [abs(hits[f"p{n:04}"] - exact[n]) for n in range(12)]
            coarse = "code" not in options and (dims > 4096 or (dims >= 8 and "fit" in options))
            assert max(errors) < (0.1 if coarse else 0.01), max(errors)
        more_like_this = await client.post(f"{DOCS}/search", json={"id": "p0005", "limit": 12})
        assert more_like_this.status_code == 200 and len(more_like_this.json()["hits"]) == 12


async def test_what_does_not_fit_together_is_refused_with_what_to_do(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        for body, key, words in [
            ({"dims": 8193}, "dims", "1 to 8192"),
            ({"dims": 10**9}, "dims", "1 to 8192"),
            ({"dims": 64, "bundle": "minilm@2"}, "dims", "leave it out"),
            ({"dims": 64, "code": "64x2"}, "code", "int8"),
            ({"dims": 64, "code": "int8", "fit": True}, "fit", "stays"),
            ({"dims": 64, "code": "int8", "fit": {"bytes": 8}}, "fit", "stays"),
            ({"code": "int8"}, "dims", "dims"),
            ({"dims": 64, "fit": {"dims": 32}}, "fit.dims", "alone"),
            ({"dims": 64, "fit": {"bytes": 33}}, "fit.bytes", "1 to 32"),
            ({"dims": 64, "fit": {"rescore_bytes": 65}}, "fit.rescore_bytes", "1 to 64"),
            ({"dims": 5000, "fit": True}, "fit.dims", "4096"),
            ({"dims": 1, "fit": True}, "fit.bytes", "bytes"),
            ({"fit": False}, "bundle", "'dims'"),
            ({}, "bundle", "'dims'"),
        ]:
            answer = await client.put(DOCS, json=body)
            assert answer.status_code == 400 and answer.json()["fields"]["key"] == key, (body, answer.text)
            assert words in answer.json()["detail"], (body, answer.text)
        for body in ({"dims": 0}, {"dims": -1}, {"dims": "64"}, {"dims": 1.5}, {"dims": True}):
            assert (await client.put(DOCS, json=body)).status_code in (400, 422), body


async def test_a_fit_takes_over_from_the_training_free_code(tmp_path: Path) -> None:
    rows = text_like(1500, dims=64)
    async with serving(tmp_path) as client:
        created = await client.put(DOCS, json={"dims": 64, "fit": {"bytes": 16, "rescore_bytes": 32, "sample": 400}})
        assert created.status_code == 200 and created.json()["code"] == "128x1/64x8"
        await write(client, rows[:300])
        assert (await described(client))["fit"]["state"] == "collecting"
        assert await recall(client, rows[:300], rows[1400:1430]) > 0.97
        assert await recall(client, rows[:300], rows[1400:1430], rescore=False) > 0.6
        await write(client, rows[300:900], 300)

        async def done() -> bool:
            return (await described(client))["fit"]["state"] == "done"

        await until(done, "the end of the fit")
        about = await described(client)
        assert about["code_bytes"] == 16 and about["active_version"].startswith("own-docs-")
        assert about["points_per_version"] == {about["active_version"]: 900}
        await write(client, rows[900:1400], 900)
        assert await recall(client, rows[:1400], rows[1400:1430]) > 0.9
    async with serving(tmp_path) as client:
        assert await recall(client, rows[:1400], rows[1400:1430]) > 0.9


async def test_false_keeps_the_training_free_code_until_a_fit_is_requested(tmp_path: Path) -> None:
    rows = text_like(600, dims=48)
    async with serving(tmp_path) as client:
        await client.put(DOCS, json={"dims": 48, "fit": False})
        await write(client, rows[:300])
        about = await described(client)
        assert about["fit"] is None and about["active_version"] == "rotated" and about["code_bytes"] == 24
        versions = (await client.get(f"{DOCS}/versions")).json()["versions"]
        assert [(one["kind"], one["points"]) for one in versions] == [("rotated", 300)]
        assert await recall(client, rows[:300], rows[550:580]) > 0.95
        hit = (await search(client, rows[0], limit=1, with_code=True))[0]
        assert hit["id"] == "p0000" and "code_b64" in hit
        copied = {"points": [{"id": "copy", "code_b64": hit["code_b64"]}]}
        assert (await client.post(f"{DOCS}/points", json=copied)).json()["applied"] == 1
        for scorer in ("hamming", "sdc", "adc"):
            assert (await search(client, rows[0], limit=2, scorer=scorer))[0]["id"] in ("p0000", "copy"), scorer
        answer = await client.post(f"{DOCS}/fit", json={"bytes": 12, "sample": 200, "from": "codes"})
        assert answer.status_code == 202, answer.text

        async def done() -> bool:
            return (await described(client))["fit"]["state"] == "done"

        await until(done, "the end of the fit")
        about = await described(client)
        assert about["code_bytes"] == 12 and len(about["points_per_version"]) == 1
        assert await recall(client, rows[:300], rows[550:580]) > 0.8


async def test_aliases_and_a_refit_of_int8(tmp_path: Path) -> None:
    rows = text_like(700, dims=33)
    async with serving(tmp_path) as client:
        await client.put(DOCS, json={"dims": 33, "code": "int8", "shards": 3})
        actions = [{"create": {"alias": "prod", "collection": "docs"}}]
        assert (await client.post("/v1/aliases", json={"actions": actions})).status_code == 200
        await write(client, rows[:400])
        assert await recall(client, rows[:400], rows[650:680]) > 0.97
        answer = await client.post("/v1/collections/prod/fit", json={"bytes": 16, "now": True})
        assert answer.status_code == 202, answer.text

        async def done() -> bool:
            return (await described(client))["fit"]["state"] == "done"

        await until(done, "the end of the fit")
        assert (await described(client))["code_bytes"] == 16
        assert await recall(client, rows[:400], rows[650:680]) > 0.7


async def test_a_fit_is_cancelled_while_it_collects_and_another_one_can_follow(tmp_path: Path) -> None:
    rows = text_like(700, dims=32)
    async with serving(tmp_path) as client:
        await client.put(DOCS, json={"dims": 32, "fit": {"sample": 400}})
        await write(client, rows[:200])
        (job,) = (await client.get("/v1/jobs")).json()["jobs"]
        assert job["kind"] == "fit" and job["state"] == "queued"
        cancelled = await client.delete(f"/v1/jobs/{job['job']}")
        assert cancelled.status_code == 200 and cancelled.json()["state"] == "cancelled", cancelled.text
        assert (await client.delete(f"/v1/jobs/{job['job']}")).json()["state"] == "cancelled"
        await write(client, rows[200:600], 200)
        fit = (await described(client))["fit"]
        assert (fit["state"], fit["detail"], fit["collected"]) == ("cancelled", "cancelled by request", 600)
        assert await recall(client, rows[:600], rows[650:670]) > 0.95
    async with serving(tmp_path) as client:
        assert (await described(client))["fit"]["state"] == "cancelled"
        answer = await client.post(f"{DOCS}/fit", json={"bytes": 8, "now": True, "cpu_seconds": 0.05})
        assert answer.status_code == 202, answer.text

        async def done() -> bool:
            return (await described(client))["fit"]["state"] == "done"

        await until(done, "the end of the fit")
        fit = (await described(client))["fit"]
        assert fit["bytes"] == 8 and fit["cpu_seconds"] == 0.05 and 0 < fit["fitted_to"] <= 600
        (job,) = (await client.get("/v1/jobs")).json()["jobs"]
        assert (await client.delete(f"/v1/jobs/{job['job']}")).json()["state"] == "succeeded"


async def test_a_fit_is_cancelled_while_it_is_computed(tmp_path: Path) -> None:
    rows = text_like(3000, dims=128)
    async with serving(tmp_path, head_rows=4096) as client:
        await client.put(DOCS, json={"dims": 128, "fit": {"sample": 2500}})
        for first in range(0, 3000, 500):
            await write(client, rows[first : first + 500], first)

        async def fitting() -> bool:
            fit = (await described(client))["fit"]
            return fit["state"] == "fitting" and " of " in (fit["detail"] or "")

        await until(fitting, "a fit that is computed")
        assert "CPU seconds in all" in (await described(client))["fit"]["detail"]
        (job,) = (await client.get("/v1/jobs")).json()["jobs"]
        assert (await client.delete(f"/v1/jobs/{job['job']}")).json()["state"] == "cancelled"
        about = await described(client)
        assert about["fit"]["state"] == "cancelled" and about["active_version"] == "buffered"
        assert await recall(client, rows, rows[:10]) > 0.95


@pytest.mark.parametrize("seconds", [0, -1, "60", 1e9])
async def test_cpu_seconds_that_cannot_be_are_refused(tmp_path: Path, seconds: Any) -> None:
    async with serving(tmp_path) as client:
        answer = await client.put(DOCS, json={"dims": 32, "fit": {"cpu_seconds": seconds}})
        assert answer.status_code == 400 and answer.json()["fields"]["key"] == "fit.cpu_seconds", answer.text
