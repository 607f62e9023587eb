"""kill -9 while fields of points that there are change: each start goes on, and it ends as if nothing had happened."""

import base64
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tests.waiting import PATIENCE_SECONDS, wait_until

from faults.service import Service

POINTS, BYTES = 2_500, 16
CHANGE = {"year": "integer", "tags": "keyword[]", "old": None, "again": "float"}


def point(number: int, rng: np.random.Generator) -> dict[str, Any]:
    """Every seventh has no number as its year."""
    year = "unknown" if number % 7 == 0 else 1990 + number % 30
    metadata = {"year": year, "tags": [f"t{number % 5}", "all"], "old": number, "again": number % 10}
    return {"id": f"p{number:04}", "code_b64": base64.b64encode(rng.bytes(BYTES)).decode(), "metadata": metadata}


def write(client: httpx.Client, points: list[dict[str, Any]]) -> None:
    for start in range(0, len(points), 500):
        answer = client.post("points", json={"points": points[start : start + 500]}).raise_for_status()
        assert answer.json()["rejected"] == 0, answer.text


def count(client: httpx.Client, condition: dict[str, Any]) -> int:
    answer = client.post("points/count", json={"filter": {"must": [condition]}}).raise_for_status()
    return int(answer.json()["count"])


def test_a_change_of_fields_that_is_killed_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    service = Service(tmp_path / "data", BEBR_HEAD_ROWS="512")
    with (
        service,
        httpx.Client(base_url=f"{service.url}/v1/collections/docs/", timeout=PATIENCE_SECONDS) as client,
    ):
        body = {"code": f"{8 * BYTES}x1", "filterable": {"old": "integer", "again": "integer"}}
        client.put(f"{service.url}/v1/collections/docs", json=body).raise_for_status()
        write(client, [point(n, rng) for n in range(POINTS)])
        answer = client.patch(f"{service.url}/v1/collections/docs", json={"filterable": CHANGE}).raise_for_status()
        assert answer.status_code == 202
        job = answer.json()["job"]
        for round in range(2):
            more = [point(POINTS + 7 * round + n, rng) for n in range(1, 7)]  # that fit
            write(client, [one for one in more if one["metadata"]["year"] != "unknown"])
            service.kill()
            service.start()

        def is_over() -> bool:
            found = client.get(f"{service.url}/v1/jobs/{job}").raise_for_status().json()
            assert found["state"] in ("running", "succeeded"), found
            return bool(found["state"] == "succeeded")

        wait_until(is_over, "the end of the job")
        found = client.get(f"{service.url}/v1/jobs/{job}").json()
        misfits = len(range(0, POINTS, 7))
        assert found["misfits"]["year"]["count"] == found["rejected"] == misfits and found["progress"] == 1
        total = client.post("points/count", json={}).json()["count"]
        assert count(client, {"is_empty": {"key": "year"}}) == misfits
        assert count(client, {"key": "year", "range": {"gte": 1990}}) == total - misfits
        assert count(client, {"key": "tags", "match": {"value": "all"}}) == total
        assert count(client, {"key": "again", "range": {"gt": 8.5}}) == sum(n % 10 == 9 for n in numbers(client))
        described = client.get(f"{service.url}/v1/collections/docs").json()
        assert described["filterable"] == {"year": "integer", "tags": "keyword[]", "again": "float"}
        assert all(field["state"] == "ready" for field in described["fields"].values())


def numbers(client: httpx.Client) -> list[int]:
    found: list[int] = []
    cursor = None
    while True:
        body = {"limit": 5_000, "cursor": cursor, "with_metadata": False}
        page = client.post("points/scroll", json=body).raise_for_status().json()
        found += [int(one["id"][1:]) for one in page["points"]]
        if (cursor := page["cursor"]) is None:
            return found
