"""kill -9 while lists are made and segments are sorted by them: right after each start all is found and counted, and in
the end the lists are ready."""

import base64
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.waiting import PATIENCE_SECONDS, wait_until

from faults.service import Service, scroll_ids
from servers import ServerKind, running_server

BYTES, POINTS = 16, 3_000
FEW = {"BEBR_LISTS_FROM_POINTS": "1000", "BEBR_HEAD_ROWS": "128", "BEBR_COVERAGE_ONE_IN": "0"}
SORTS_ONE = """
import threading

from bebr.cli import main
from bebr.index.shard import Shard

sort_one, left, turn = Shard.sort_one, [1], threading.Lock()


def sort_the_first(*arguments):
    with turn:
        if not left or not sort_one(*arguments):
            return False
        left.clear()
        return True


Shard.sort_one = sort_the_first
main()
"""
"""The service, but it sorts one segment by its lists and no other."""


@pytest.fixture(params=["sqlite", ServerKind.REDIS], ids=str)
def store(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        kind = request.param
        yield {} if kind == "sqlite" else {"BEBR_REDIS_URL": stack.enter_context(running_server(kind)).url}


def clustered_codes(rng: np.random.Generator) -> list[str]:
    """Of 30 clusters, no two equal."""
    centers = rng.integers(0, 2, (30, 8 * BYTES))
    bits = centers[rng.integers(0, 30, POINTS)] ^ (rng.random((POINTS, 8 * BYTES)) < 0.15)
    return [base64.b64encode(code.tobytes()).decode() for code in np.packbits(bits.astype(np.uint8), axis=1)]


def write(client: httpx.Client, codes: Sequence[str], numbers: range) -> None:
    for start in range(numbers.start, numbers.stop, 500):
        some = range(start, min(start + 500, numbers.stop))
        points = [{"id": f"p{n:04}", "code_b64": codes[n], "metadata": {"n": n}} for n in some]
        client.post("points", json={"points": points}).raise_for_status()


def check(client: httpx.Client, codes: Sequence[str], points: int, exact: dict[int, Any]) -> None:
    """All points are counted and listed; searches that compare all codes find what they did, most others the point."""
    assert client.post("points/count", json={}).json()["count"] == points
    missed = 0
    for number, hits in exact.items():
        body = {"code_b64": codes[number], "limit": 10, "with_metadata": False}
        found = client.post("search", json=body | {"exact": True}).raise_for_status().json()["hits"]
        assert found == hits, number
        best = client.post("search", json=body).raise_for_status().json()["hits"][0]
        missed += best["id"] != f"p{number:04}"
    assert missed <= 0.2 * len(exact)
    assert scroll_ids(client) == [f"p{n:04}" for n in range(points)]


def lists_of(service: Service) -> dict[str, Any]:
    found = httpx.get(f"{service.url}/v1/collections/docs", timeout=PATIENCE_SECONDS).raise_for_status().json()["lists"]
    return next(iter(found.values()), {"state": "none", "current": 0})


def filled(service: Service, client: httpx.Client, codes: Sequence[str]) -> dict[int, Any]:
    """A collection of all codes, and the answers of exact searches, by number of the point searched for."""
    body = {"code": f"{8 * BYTES}x1", "shards": 2}
    assert httpx.put(f"{service.url}/v1/collections/docs", json=body).status_code == 200
    write(client, codes, range(POINTS))
    exact = dict[int, Any]()
    for number in range(0, POINTS, 300):
        query = {"code_b64": codes[number], "limit": 10, "with_metadata": False, "exact": True}
        exact[number] = client.post("search", json=query).json()["hits"]
    return exact


def check_at_the_end(service: Service, client: httpx.Client, codes: Sequence[str], exact: dict[int, Any]) -> None:
    wait_until(lambda: lists_of(service)["state"] == "ready", "lists")
    lists = lists_of(service)
    assert lists["current"] + lists["without"] == POINTS and lists["older"] == 0 and lists["current"] > POINTS / 2
    check(client, codes, POINTS, exact)


def test_lists_come_to_their_end_and_nothing_is_lost_meanwhile(tmp_path: Path) -> None:
    codes = clustered_codes(np.random.default_rng(1))
    service = Service(tmp_path / "data", **FEW)
    with (
        service,
        httpx.Client(base_url=f"{service.url}/v1/collections/docs/", timeout=PATIENCE_SECONDS) as client,
    ):
        exact = filled(service, client, codes)
        for seconds in (0.0, 0.05, 0.15):  # after centroids have begun to be made
            wait_until(lambda: lists_of(service)["state"] != "none", "lists that are made")
            time.sleep(seconds)
            service.kill()
            service.start()
            check(client, codes, POINTS, exact)
        check_at_the_end(service, client, codes, exact)


def test_a_service_that_dies_while_it_sorts_goes_on_with_it(tmp_path: Path, store: dict[str, str]) -> None:
    codes = clustered_codes(np.random.default_rng(1))
    service = Service(tmp_path / "data", **FEW, **store)
    whole, service.program = service.program, (sys.executable, "-c", SORTS_ONE)
    with (
        service,
        httpx.Client(base_url=f"{service.url}/v1/collections/docs/", timeout=PATIENCE_SECONDS) as client,
    ):
        exact = filled(service, client, codes)

        def is_in_between() -> bool:
            lists = lists_of(service)
            return lists["state"] == "sorting" and lists["current"] > 0 and lists["without"] > 0

        wait_until(is_in_between, "a segment that is sorted, and one that is not")
        check(client, codes, POINTS, exact)
        service.kill()
        service.program = whole
        service.start()
        check(client, codes, POINTS, exact)
        check_at_the_end(service, client, codes, exact)
