"""How far the making of lists is: in the description over HTTP, on the command line, and in the metrics."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cli.test_commands import run
from tests.client.running import running_service
from tests.jobs.test_list_upkeep import SPEC, codes_of, points_of
from tests.waiting import PATIENCE_SECONDS, wait_until

from bebr.cli.server.running import Service
from bebr.client import Client
from bebr.index.lists import assigning, clustering
from bebr.jobs import list_upkeep

POINTS, CHUNKS = 500, 3 * clustering.ROUNDS
"""Lists of 500 points are made of 192: three chunks of 64 in each round."""


@dataclass
class Stops:
    """Says that lists are wanted, but of some questions only once it is let go on."""

    at: int
    asked: int = 0
    goes_on: threading.Event = field(default_factory=threading.Event)

    def is_wanted(self) -> bool:
        self.asked += 1
        return self.asked <= self.at or self.goes_on.wait(PATIENCE_SECONDS)


@contextmanager
def making(service: Service, stops: Stops) -> Iterator[None]:
    """Lists of the collection docs are made meanwhile; after it, they have been."""
    services: Any = service._app._app.state.services  # type: ignore[attr-defined]
    loop = services.jobs._lists._looking.get_loop()
    collection = services.engine.registry.get("docs")
    make = services.engine.lists.make(collection, collection.active, stops.is_wanted)
    made = asyncio.run_coroutine_threadsafe(make, loop)
    try:
        yield
    finally:
        stops.goes_on.set()
        assert made.result(PATIENCE_SECONDS)


@pytest.mark.parametrize("at", [1, CHUNKS // 2, CHUNKS - 1])
def test_the_description_says_which_share_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], at: int
) -> None:
    monkeypatch.setattr(assigning, "CHUNK_ROWS", 64)
    monkeypatch.setattr(list_upkeep, "PAUSE_SECONDS", 10 * PATIENCE_SECONDS)  # the test makes them
    few: dict[str, Any] = {"lists_from_points": 400, "head_rows": 64}
    with running_service(tmp_path, **few) as service, Client(service.url) as client:

        def lists() -> dict[str, Any]:
            (one,) = client.describe_collection("docs")["lists"].values()
            return dict(one)

        def is_held() -> bool:
            return stops.asked > at

        client.create_collection("docs", code=str(SPEC))
        client.upsert("docs", points_of([f"p{n}" for n in range(POINTS)], codes_of(range(POINTS))))
        assert (lists()["state"], lists()["progress"]) == ("none", 0)
        stops, share = Stops(at), round(at / CHUNKS, 3)
        with making(service, stops):
            wait_until(is_held, "lists are half made")
            assert (lists()["state"], lists()["progress"]) == ("making", share)
            assert run("collection", "show", "docs", "--json", "--url", service.url) == 0
            (shown,) = json.loads(capsys.readouterr().out)["lists"].values()
            assert (shown["state"], shown["progress"]) == ("making", share)
            assert run("inspect", "docs", "--url", service.url) == 0
            assert f"state making, progress {share:.4g}" in capsys.readouterr().out
            metrics = httpx.get(f"{service.url}/metrics", timeout=PATIENCE_SECONDS).text
            (line,) = [one for one in metrics.splitlines() if one.startswith("bebr_collection_list_progress{")]
            assert line.endswith(f"}} {share}")
        wait_until(lambda: lists()["state"] == "ready", "lists are ready")
        assert lists()["progress"] == 1 and stops.asked >= CHUNKS
