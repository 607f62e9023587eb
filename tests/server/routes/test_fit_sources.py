"""A fit from what there is already, over HTTP, on SQLite and on a real Valkey: what is refused, done and said."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.encoding.quantization.embeddings import text_like
from tests.server.service import DOCS, assert_problem, serving, vector_b64
from tests.waiting import until

from servers import ServerKind, running_server

DIMS = 32
ROWS = np.concatenate([text_like(400, dims=DIMS), text_like(400, seed=9, dims=DIMS)[:, ::-1]])
FIT = {"bytes": 8, "sample": 130, "dims": DIMS}


@pytest.fixture(params=["sqlite", ServerKind.VALKEY])
def store(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Settings of a store."""
    with contextlib.ExitStack() as stack:
        yield {} if request.param == "sqlite" else {"redis_url": stack.enter_context(running_server(request.param)).url}


async def write(client: httpx.AsyncClient, numbers: range) -> None:
    points = [{"id": f"p{n:03}", "vector_b64": vector_b64(ROWS[n].tolist())} for n in numbers]
    answer = await client.post(f"{DOCS}/points", json={"points": points})
    assert answer.json()["applied"] == len(points), answer.text


async def reached(client: httpx.AsyncClient, **expected: Any) -> dict[str, Any]:
    async def there() -> Any:
        fit = (await client.get(DOCS)).json()["fit"]
        assert fit["state"] != "failed", fit
        return fit if expected.items() <= fit.items() else None

    found: dict[str, Any] = await until(there, f"a fit with {expected}")
    return found


async def test_a_fit_to_the_sample_when_points_have_changed(tmp_path: Path, store: dict[str, Any]) -> None:
    async with serving(tmp_path, **store) as client:
        await client.put(DOCS, json={"fit": FIT})
        assert_problem(await client.post(f"{DOCS}/fit", json={"from": "sample"}), 409, "Conflict", "from")
        await write(client, range(400))
        first = await reached(client, state="done")
        assert (first["drift"], first["refit_proposed"]) == (0.0, False) and first["points"] == 400
    async with serving(tmp_path, **store) as client:
        for start in range(400, 800, 50):
            await write(client, range(start, start + 50))
        proposed = await reached(client, refit_proposed=True)
        assert proposed["drift"] > 0.1 and proposed["points"] > 400 and proposed["version"] == first["version"]
        answer = await client.post(f"{DOCS}/fit", json={"from": "sample"})
        assert answer.status_code == 202 and answer.json()["fit"]["state"] == "fitting"
        second = await reached(client, state="done")
        # 0, unless points that came meanwhile were measured already
        assert second["version"] != first["version"] and second["drift"] < proposed["drift"]
        assert (await client.get(DOCS)).json()["active_version"] == second["version"]
        search = await client.post(f"{DOCS}/search", json={"vector": ROWS[700].tolist(), "limit": 1})
        assert search.json()["hits"][0]["id"] == "p700" and search.json()["searched"] == {first["version"]: 800}


async def test_all_points_get_another_code_from_their_finer_one(tmp_path: Path, store: dict[str, Any]) -> None:
    async with serving(tmp_path, **store) as client:
        await client.put(DOCS, json={"fit": FIT | {"rescore_bytes": 24}})
        await write(client, range(400))
        first = await reached(client, state="done")
        refused = await client.post(f"{DOCS}/fit", json={"bytes": 4, "from": "codes", "now": True})
        assert_problem(refused, 400, "InvalidOption", "now")
        answer = await client.post(f"{DOCS}/fit", json={"bytes": 4, "from": "codes"})
        assert answer.status_code == 202 and answer.json()["fit"]["state"] == "fitting"
        again = await client.post(f"{DOCS}/fit", json={"from": "codes"})
        assert_problem(again, 409, "Conflict")
        job = next(job for job in (await client.get("/v1/jobs")).json()["jobs"] if job["kind"] == "fit")
        assert job["state"] == "running" and (await client.delete(f"/v1/jobs/{job['job']}")).status_code == 200
        cancelled = await reached(client, state="cancelled")
        assert (cancelled["version"], (await client.get(DOCS)).json()["active_version"]) == (first["version"],) * 2
        answer = await client.post(f"{DOCS}/fit", json={"bytes": 4, "from": "codes"})
        assert answer.status_code == 202, answer.text
        second = await reached(client, state="done", bytes=4)
        described = (await client.get(DOCS)).json()
        assert described["points_per_version"] == {second["version"]: 400} and described["code_bytes"] == 4
        assert (second["rescore_bytes"], second["collected"]) == (24, 0) and second["version"] != first["version"]
        assert (await client.delete(f"{DOCS}/versions/{first['version']}")).status_code == 200  # nothing needs it
    async with serving(tmp_path, **store) as client:
        search = await client.post(f"{DOCS}/search", json={"vector": ROWS[3].tolist(), "limit": 5})
        assert "p003" in [hit["id"] for hit in search.json()["hits"]]


@pytest.mark.parametrize(
    ("body", "status", "error", "key"),
    [
        ({"from": "texts"}, 400, "InvalidOption", "from"),
        ({"from": None}, 400, "InvalidOption", "from"),
        ({"from": "sample", "now": True}, 400, "InvalidOption", "now"),
        ({"from": "codes", "now": True}, 400, "InvalidOption", "now"),
        ({"from": "codes"}, 409, "Conflict", "from"),
        ({"source": "sample"}, 400, "InvalidOption", "source"),
        ({"from": "sample", "bytes": 17}, 400, "InvalidOption", "bytes"),
    ],
)
async def test_a_wrong_source_changes_nothing(
    tmp_path: Path, body: dict[str, Any], status: int, error: str, key: str | None
) -> None:
    async with serving(tmp_path) as client:
        await client.put(DOCS, json={"fit": FIT})
        await write(client, range(20))
        before = (await client.get(DOCS)).json()
        assert_problem(await client.post(f"{DOCS}/fit", json=body), status, error, key)
        assert (await client.get(DOCS)).json() == before
