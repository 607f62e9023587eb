"""Rescoring over HTTP: what a search says of it, what is refused, and segment files that are damaged meanwhile."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cli.test_commands import run
from tests.encoding.quantization.embeddings import text_like
from tests.server.routes.test_collection_fits import hits, reached, write
from tests.server.service import DOCS, assert_problem, code, create, fill, serving
from tests.waiting import until

DIMS = 32
ROWS = text_like(200, dims=DIMS)
FIT = {"bytes": 8, "rescore_bytes": 16, "sample": 150, "dims": DIMS}
QUERY = {"vector": ROWS[3].tolist()}


async def make(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.put(DOCS, json={"fit": FIT, "filterable": {"n": "integer"}, "shards": 1})
    assert answer.status_code == 200, answer.text
    await write(client, range(200))
    return await reached(client, "done")


async def explained(client: httpx.AsyncClient, **body: Any) -> Any:
    answer = await client.post(f"{DOCS}/search", json={**QUERY, "explain": True, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()["explain"]["rescore"]


async def test_an_answer_says_how_it_was_rescored(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        fit = await make(client)
        by_default = await explained(client)
        assert set(by_default) == {"candidates", "rows_read", "ms"} and by_default["ms"] > 0
        assert by_default["candidates"] == fit["candidates"] == by_default["rows_read"]
        assert (await explained(client, rescore=True))["candidates"] == fit["candidates"]
        assert (await explained(client, limit=20))["candidates"] == 2 * fit["candidates"]
        assert (await explained(client, rescore={"candidates": 77}))["rows_read"] == 77
        assert (await explained(client, rescore={"candidates": 1}))["candidates"] == 10  # as many as are wanted
        assert await explained(client, rescore=False) is None
        assert await explained(client, scorer="hamming") is None
        assert (await explained(client, group_by="n", limit=3))["candidates"] == fit["candidates"]
        finer, plain = await hits(client, **QUERY), await hits(client, **QUERY, rescore=False)
        assert [hit["score"] for hit in finer] != [hit["score"] for hit in plain]
        for by in (QUERY, {"id": "p003"}):
            assert (await hits(client, **by))[0]["id"] == "p003"
        lowest = finer[-1]["score"]
        assert await hits(client, **QUERY, score_threshold=lowest) == finer
        searches = [QUERY, {**QUERY, "rescore": False}, {**QUERY, "rescore": {"candidates": 200}}]
        batch = (await client.post(f"{DOCS}/search/batch", json={"searches": searches})).json()["results"]
        assert [one["hits"] for one in batch[:2]] == [finer, plain]
        everything = await hits(client, **QUERY, limit=200)
        assert batch[2]["hits"] == everything[:10]
        cosines = sorted((-float(row @ ROWS[3]), f"p{n:03}") for n, row in enumerate(ROWS))
        assert [hit["id"] for hit in everything[:5]] == [point_id for _, point_id in cosines[:5]]
        assert abs(everything[4]["score"] + cosines[4][0]) < 0.05


async def test_what_does_not_apply_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await make(client)
        await create(client, "/v1/collections/plain")
        await fill(client, 20, "/v1/collections/plain")

        async def search(collection: str = "docs", **body: Any) -> httpx.Response:
            return await client.post(f"/v1/collections/{collection}/search", json=body)

        for rescore in (True, {"candidates": 50}):
            assert_problem(await search(**QUERY, scorer="hamming", rescore=rescore), 400, "InvalidOption", "rescore")
            refused = await search("plain", code_b64=code(1), rescore=rescore)
            assert "rescore_bytes" in assert_problem(refused, 400, "InvalidOption", "rescore")["detail"]
        assert (await search("plain", code_b64=code(1), rescore=False)).status_code == 200
        assert_problem(
            await search(**QUERY, rescore={"candidates": 10_001}), 400, "InvalidOption", "rescore.candidates"
        )
        for wrong in ("yes", 5, []):
            found = assert_problem(await search(**QUERY, rescore=wrong), 400, "InvalidOption", "rescore")
            assert "boolean" in found["detail"] and "object" in found["detail"]
        for wrong in ({}, {"candidates": 0}, {"candidates": "5"}):
            assert_problem(await search(**QUERY, rescore=wrong), 400, "InvalidOption", "rescore.candidates")
        more = {"candidates": 5, "more": 1}
        assert_problem(await search(**QUERY, rescore=more), 400, "InvalidOption", "rescore.more")
        body = {"searches": [QUERY, {**QUERY, "scorer": "hamming", "rescore": True}]}
        answer = await client.post(f"{DOCS}/search/batch", json=body)
        assert "searches[1]" in assert_problem(answer, 400, "InvalidOption")["detail"]


@pytest.mark.parametrize("what", ["flipped", "cut"])
async def test_a_damaged_row_is_reported_and_made_anew(tmp_path: Path, what: str) -> None:
    async with serving(tmp_path, scrub_bytes_per_s=0) as client:
        await make(client)
    async with serving(tmp_path, scrub_bytes_per_s=0) as client:  # all points are in files now
        expected = await hits(client, **QUERY, limit=200, rescore=False)
        for path in tmp_path.glob("data/**/*.seg"):
            spoil(path, what)
        assert await hits(client, **QUERY, limit=200, rescore=False) == expected
        refused = await client.post(f"{DOCS}/search", json={**QUERY, "limit": 200})
        assert "made anew from the store" in assert_problem(refused, 503, "NotReady")["detail"]

        async def served() -> Any:
            answer = await client.post(f"{DOCS}/search", json={**QUERY, "limit": 200})
            return answer if answer.status_code != 503 else None

        answer = await until(served, "the segments are made anew")
        assert answer.json()["hits"][0]["id"] == "p003" and len(answer.json()["hits"]) == 200


def test_verify_names_the_damaged_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def fill_and_close() -> None:
        async with serving(tmp_path) as client:
            await make(client)

    asyncio.run(fill_and_close())
    folder = tmp_path / "data"
    assert run("verify", "--data-dir", str(folder)) == 0
    path = next(folder.glob("**/*.seg"))
    spoil(path, "flipped")
    capsys.readouterr()
    assert run("verify", "--data-dir", str(folder)) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert path.name in shown and "section 'rescore' does not match its checksum" in shown


def spoil(path: Path, what: str) -> None:
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[8:12], "little")
    entry = json.loads(data[16 : 16 + length])["sections"]["rescore"]
    start = (16 + length + 63) // 64 * 64 + entry["offset"]
    if what == "cut":
        path.write_bytes(data[: start + entry["row_size"] // 2])
        return
    data[start + 5] ^= 4
    path.write_bytes(data)
