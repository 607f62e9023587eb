"""A collection's own fit over HTTP, on SQLite and on a real Valkey: from the first point to codes of its own."""

import base64
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.encoding.quantization.embeddings import text_like
from tests.server.service import DOCS, assert_problem, serving, vector_b64
from tests.waiting import until

from servers import ServerKind, running_server

DIMS = 32
ROWS = text_like(200, dims=DIMS)
FIT = {"bytes": 8, "sample": 150, "dims": DIMS}


@pytest.fixture(params=["sqlite", ServerKind.VALKEY])
def store(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Settings of a store."""
    with contextlib.ExitStack() as stack:
        yield {} if request.param == "sqlite" else {"redis_url": stack.enter_context(running_server(request.param)).url}


async def write(client: httpx.AsyncClient, numbers: range) -> None:
    points = [{"id": f"p{n:03}", "vector_b64": vector_b64(ROWS[n].tolist()), "metadata": {"n": n}} for n in numbers]
    answer = await client.post(f"{DOCS}/points", json={"points": points})
    assert answer.json()["applied"] == len(points), answer.text


async def reached(client: httpx.AsyncClient, state: str) -> dict[str, Any]:
    async def there() -> Any:
        fit = (await client.get(DOCS)).json()["fit"]
        return fit if fit["state"] == state else None

    found: dict[str, Any] = await until(there, f"a fit that is {state}")
    return found


async def hits(client: httpx.AsyncClient, **body: Any) -> list[dict[str, Any]]:
    answer = await client.post(f"{DOCS}/search", json=body)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["hits"]
    return found


async def test_from_the_first_point_to_a_refit(tmp_path: Path, store: dict[str, Any]) -> None:
    async with serving(tmp_path, **store) as client:
        answer = await client.put(DOCS, json={"fit": FIT, "filterable": {"n": "integer"}})
        assert answer.status_code == 200, answer.text
        nothing = {"detail": None, "version": None, "code": None, "recall_at_10": None, "queries": None}
        assert answer.json()["fit"] == {"state": "collecting", "bytes": 8, "sample": 150, "collected": 0} | nothing
        assert await hits(client, vector=ROWS[0].tolist()) == []
        await write(client, range(100))
        best = await hits(client, vector=ROWS[7].tolist(), limit=1, with_code=True)
        assert (best[0]["id"], best[0]["version"]) == ("p007", "buffered") and best[0]["score"] > 0.99
        assert (await hits(client, id="p009", limit=1))[0]["id"] == "p009"
        assert (await hits(client, code_b64=best[0]["code_b64"], limit=1))[0]["id"] == "p007"
        hamming = await client.post(f"{DOCS}/search", json={"id": "p009", "scorer": "hamming"})
        assert_problem(hamming, 409, "Incompatible", "scorer")
        await write(client, range(100, 160))
        fit = await reached(client, "done")
        assert (fit["queries"], fit["collected"]) == (30, 0) and fit["version"].startswith("own-docs-")
        assert len(await hits(client, id="p009", scorer="hamming")) == 10
        await refit(client, fit)
    async with serving(tmp_path, **store) as client:
        assert (await client.get(DOCS)).json()["points"] == 200
        assert (await client.delete(DOCS)).status_code == 200


async def test_a_fit_with_a_rescore_code(tmp_path: Path, store: dict[str, Any]) -> None:
    async with serving(tmp_path, **store) as client:
        answer = await client.put(DOCS, json={"fit": FIT | {"rescore_bytes": 24}})
        assert answer.json()["fit"]["rescore_bytes"] == 24 and "candidates" not in answer.json()["fit"]
        await write(client, range(160))
        first = await reached(client, "done")
        assert first["code"].count("/") == 1 and first["rescore_bytes"] == 24 and first["candidates"] >= 10
        assert first["rescored_recall_at_10"] > first["recall_at_10"]
        described = (await client.get(DOCS)).json()
        assert described["code_bytes"] == 8 and described["code"] == first["code"]
        assert described["bytes_in_memory"] == 160 * (8 + 2)
        best = await hits(client, vector=ROWS[7].tolist(), limit=1, with_code=True)
        assert best[0]["id"] == "p007" and len(base64.b64decode(best[0]["code_b64"])) == 8 + 2 + 24 + 2
        assert (await hits(client, id="p009", limit=1))[0]["id"] == "p009"
        assert (await hits(client, code_b64=best[0]["code_b64"], limit=1))[0]["id"] == "p007"
    shutil.rmtree(tmp_path / "bundles")
    async with serving(tmp_path, **store) as client:  # its binarizer is written from the store
        assert (await hits(client, vector=ROWS[7].tolist(), limit=1))[0]["id"] == "p007"
        again = (await client.post(f"{DOCS}/fit", json={"bytes": 4, "sample": 130})).json()["fit"]
        assert (again["bytes"], again["rescore_bytes"]) == (4, 24)  # what is left out stays
        none = (await client.post(f"{DOCS}/fit", json={"rescore_bytes": 0})).json()["fit"]
        assert "rescore_bytes" not in none
        await write(client, range(130))
        second = await reached(client, "done")
        assert "/" not in second["code"] and "rescored_recall_at_10" not in second
        assert {hit["version"] for hit in await hits(client, vector=ROWS[0].tolist(), limit=160)} == {
            first["version"],
            second["version"],
        }
        kept = (await client.post(f"{DOCS}/fit", json={"rescore_bytes": 32})).json()["fit"]
        assert kept["rescore_bytes"] == 32


@pytest.mark.parametrize("value", [33, -1, "24", True, 2.5, 10**30])
async def test_a_rescore_code_has_at_most_a_byte_for_each_dim(tmp_path: Path, value: Any) -> None:
    async with serving(tmp_path) as client:
        answer = await client.put(DOCS, json={"fit": FIT | {"rescore_bytes": value}})
        assert answer.status_code in (400, 422) and "rescore_bytes" in answer.text, answer.text
        assert (await client.get(DOCS)).status_code == 404
        await client.put(DOCS, json={"fit": FIT | {"rescore_bytes": 32}})
        answer = await client.post(f"{DOCS}/fit", json={"rescore_bytes": value})
        assert answer.status_code in (400, 422) and "rescore_bytes" in answer.text, answer.text
        assert (await client.get(DOCS)).json()["fit"]["rescore_bytes"] == 32


async def refit(client: httpx.AsyncClient, first: dict[str, Any]) -> None:
    """More bytes for the points that are written from now on; the others are found beside them."""
    answer = await client.post(f"{DOCS}/fit", json={"bytes": 16, "sample": 130})
    assert answer.status_code == 202 and answer.json()["fit"]["state"] == "collecting"
    await write(client, range(70, 200))
    second = await reached(client, "done")
    assert second["version"] == first["version"].removesuffix("1") + "2"
    search = await client.post(f"{DOCS}/search", json={"vector": ROWS[0].tolist(), "limit": 200})
    assert search.json()["searched"] == {first["version"]: 70, second["version"]: 130}
    by_version = {hit["id"]: hit["version"] for hit in search.json()["hits"]}
    assert by_version["p069"] == first["version"] and by_version["p070"] == second["version"] and len(by_version) == 200
    bundles = (await client.get("/v1/bundles")).json()["bundles"]
    assert {first["version"], second["version"]} <= {bundle["id"] for bundle in bundles}


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"fit": {"bytes": 8, "sample": 150}}, "fit.dims"),
        ({"fit": {"sample": 150, "dims": 32}}, "fit.bytes"),
        ({"fit": {"bytes": 8, "dims": 32, "rows": 9}}, "fit.rows"),
        ({"fit": {"bytes": "8", "dims": 32}}, "fit.bytes"),
        ({"fit": {"bytes": 8, "dims": 32, "sample": 10}}, "fit.sample"),
        ({"fit": {"bytes": 8, "dims": 32, "sample": 10**9}}, "fit.sample"),
        ({"fit": {"bytes": 64, "dims": 32}}, "fit.bytes"),
        ({"fit": {"bytes": 8, "dims": 4097}}, "fit.dims"),
        ({"fit": {"bytes": 8, "dims": 32}, "code": "16x4"}, "code"),
        ({"fit": {"bytes": 8, "dims": 32}, "bundle": "tiny@1"}, "fit.dims"),
        ({"fit": 64}, "fit"),
    ],
)
async def test_a_wrong_fit_names_its_field(tmp_path: Path, body: dict[str, Any], key: str) -> None:
    async with serving(tmp_path) as client:
        problem = assert_problem(await client.put(DOCS, json=body), 400, "InvalidOption", key)
        assert problem["detail"]
        assert_problem(await client.get(DOCS), 404, "CollectionNotFound")


@pytest.mark.parametrize(
    ("body", "status", "error", "key"),
    [
        ({"bytes": 17}, 400, "InvalidOption", "bytes"),
        ({"sample": 100}, 400, "InvalidOption", "sample"),
        ({"sample": 200, "now": True}, 400, "InvalidOption", "sample"),
        ({"size": 9}, 400, "InvalidOption", "size"),
        ({"now": True}, 409, "Conflict", None),
    ],
)
async def test_a_wrong_refit_changes_nothing(
    tmp_path: Path, body: dict[str, Any], status: int, error: str, key: str | None
) -> None:
    async with serving(tmp_path) as client:
        await client.put(DOCS, json={"fit": FIT})
        await write(client, range(20))
        before = (await client.get(DOCS)).json()
        problem = assert_problem(await client.post(f"{DOCS}/fit", json=body), status, error, key)
        if error == "Conflict":
            assert problem["fields"] == {"collected": 20, "needed": 124}
        assert (await client.get(DOCS)).json() == before


async def test_a_read_only_key_may_not_fit(tmp_path: Path) -> None:
    async with serving(tmp_path, api_keys=("all",), read_only_api_keys=("some",)) as client:
        answer = await client.post(f"{DOCS}/fit", json={}, headers={"api-key": "some"})
        assert_problem(answer, 403, "Forbidden")
