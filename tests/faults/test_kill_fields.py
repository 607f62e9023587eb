"""kill -9 while fields of points that there are change: each start goes on, and it ends as if nothing had happened."""

import base64
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.waiting import PATIENCE_SECONDS, wait_until

from faults.service import Service
from servers import ServerKind, running_server

POINTS, BYTES, ROUNDS = 2_500, 16, 1
CHANGE = {"year": "integer", "tags": "keyword[]", "old": None, "again": "float"}
DOCS = "/v1/collections/docs"


def point(number: int, rng: np.random.Generator) -> dict[str, Any]:
    """Every seventh has no number as its year."""
    year = "unknown" if number % 7 == 0 else 1990 + number % 6
    metadata = {"year": year, "tags": [f"t{number % 5}", "all"], "old": number, "again": number % 5}
    return {"id": f"p{number:04}", "code_b64": base64.b64encode(rng.bytes(BYTES)).decode(), "metadata": metadata}


def write(client: httpx.Client, points: list[dict[str, Any]]) -> None:
    for start in range(0, len(points), 500):
        answer = client.post(f"{DOCS}/points", json={"points": points[start : start + 500]}).raise_for_status()
        assert answer.json()["rejected"] == 0, answer.text


@contextmanager
def started(kind: ServerKind | None, folder: Path) -> Iterator[Service]:
    """A service with the store of this kind; None: SQLite."""
    if kind is None:
        with Service(folder, BEBR_HEAD_ROWS="512") as service:
            yield service
        return
    with running_server(kind) as server, Service(folder, BEBR_HEAD_ROWS="512", BEBR_REDIS_URL=server.url) as service:
        yield service


@pytest.mark.parametrize("kind", [None, ServerKind.REDIS], ids=["sqlite", "redis"])
def test_a_change_of_fields_that_is_killed_goes_on_and_ends_the_same(tmp_path: Path, kind: ServerKind | None) -> None:
    rng, chance = np.random.default_rng(1), random.Random(7)
    with (
        started(kind, tmp_path / "data") as service,
        httpx.Client(base_url=service.url, timeout=PATIENCE_SECONDS) as client,
    ):
        body = {"code": f"{8 * BYTES}x1", "filterable": {"old": "integer", "again": "integer"}, "shards": 2}
        client.put(DOCS, json=body).raise_for_status()
        write(client, [point(n, rng) for n in range(POINTS)])
        asked_and_killed(service, client, chance.uniform(0, 0.03))
        if (job := the_job(client)) is None:  # it came before the change was stored
            job = str(client.patch(DOCS, json={"filterable": CHANGE}).raise_for_status().json()["job"])
        for round in range(ROUNDS):
            more = [point(POINTS + 7 * round + n, rng) for n in range(1, 7)]  # that fit
            write(client, [one for one in more if one["metadata"]["year"] != "unknown"])
            threading.Event().wait(chance.uniform(0, 0.2))
            service.kill()
            service.start()

        def is_over() -> bool:
            found = client.get(f"/v1/jobs/{job}").raise_for_status().json()
            assert found["state"] in ("running", "succeeded"), found
            return bool(found["state"] == "succeeded")

        wait_until(is_over, "the end of the job")
        found = client.get(f"/v1/jobs/{job}").json()
        misfits = len(range(0, POINTS, 7))
        assert found["misfits"]["year"]["count"] == found["rejected"] == misfits and found["progress"] == 1
        described = client.get(DOCS).json()
        assert described["filterable"] == {"year": "integer", "tags": "keyword[]", "again": "float"}
        assert all(field["state"] == "ready" for field in described["fields"].values())
        check_columns(client)
        service.kill()
        shutil.rmtree(tmp_path / "data" / "collections")  # the views, with what the jobs had made
        service.start()
        check_columns(client)


def asked_and_killed(service: Service, client: httpx.Client, seconds: float) -> None:
    """The fields change, and the service is killed so long after that was sent."""

    def ask() -> None:
        with suppress(httpx.TransportError):
            client.patch(DOCS, json={"filterable": CHANGE})

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join(seconds)
    service.kill()
    asking.join()
    service.start()


def the_job(client: httpx.Client) -> str | None:
    jobs = client.get("/v1/jobs").raise_for_status().json()["jobs"]
    return next((str(job["job"]) for job in jobs if job["kind"] == "fields"), None)


def check_columns(client: httpx.Client) -> None:
    """Filters find, value by value, exactly the points whose stored metadata say so."""
    stored = {one["id"]: one["metadata"] for one in scrolled(client, with_metadata=True)}
    assert len(stored) >= POINTS

    def check(condition: dict[str, Any], holds: Callable[[dict[str, Any]], bool]) -> None:
        found = [one["id"] for one in scrolled(client, with_metadata=False, filter={"must": [condition]})]
        assert found == sorted(i for i, metadata in stored.items() if holds(metadata)), condition

    for year in range(1989, 1997):
        check({"key": "year", "match": {"value": year}}, lambda metadata, year=year: metadata["year"] == year)
    check({"is_empty": {"key": "year"}}, lambda metadata: metadata["year"] == "unknown")
    for tag in ("t0", "t1", "t2", "t3", "t4", "all", "none"):
        check({"key": "tags", "match": {"value": tag}}, lambda metadata, tag=tag: tag in metadata["tags"])
    for n in range(6):
        within = {"gt": n - 0.5, "lt": n + 0.5}
        check({"key": "again", "range": within}, lambda metadata, n=n: metadata["again"] == n)


def scrolled(client: httpx.Client, **body: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = client.post(f"{DOCS}/points/scroll", json={"limit": 5_000, "cursor": cursor, **body})
        found += page.raise_for_status().json()["points"]
        if (cursor := page.json()["cursor"]) is None:
            return found
