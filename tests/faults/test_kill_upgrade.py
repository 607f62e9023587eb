"""kill -9 at random moments of an upgrade: no point is lost or in two versions, and which version is active is certain.

A point's text follows from a number in its metadata, so that its state can be told and its code be checked.
"""

import base64
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.engine.two_models import text_bundle, texts
from tests.waiting import PATIENCE_SECONDS, wait_until

from bebr.encoding import Bundle, TextKind
from bebr.encoding.encoder import Encoder
from faults.service import Service, scroll_ids
from servers import ServerKind, running_server

TEXTS = texts(400)
COUNT = 300
ROUNDS = 4
OLD, NEW = "old@1", "new@1"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    text_bundle(folder, NEW, seed=1, old=text_bundle(folder, OLD, seed=0))
    return folder


@dataclass
class Upgrader(threading.Thread):
    """Promotes, rolls back, backfills and writes until the service dies. active: the ids that may be active."""

    url: str
    seed: float
    stop: threading.Event
    active: set[str]
    possible: dict[str, set[int]]
    surprises: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        chance = random.Random(self.seed)
        with httpx.Client(base_url=f"{self.url}/v1/collections/docs/", timeout=PATIENCE_SECONDS) as client:
            while not self.stop.is_set():
                step = chance.choice([self._promote, self._rollback, self._backfill, self._write, self._write])
                try:
                    answer = step(client, chance)
                except httpx.TransportError:
                    return  # it was killed; what was under way may have happened
                if answer.status_code not in (200, 202, 409, 503):
                    self.surprises.append(f"{answer.status_code} {answer.text[:300]}")

    def _promote(self, client: httpx.Client, chance: random.Random) -> httpx.Response:
        return self._activate(client, NEW, "versions/promote", {"version": NEW, "force": True})

    def _rollback(self, client: httpx.Client, chance: random.Random) -> httpx.Response:
        return self._activate(client, OLD, "versions/rollback", {})

    def _activate(self, client: httpx.Client, version: str, path: str, body: dict[str, Any]) -> httpx.Response:
        before = set(self.active)
        self.active |= {version}
        answer = client.post(path, json=body)
        if answer.status_code == 200:
            self.active.clear()
            self.active.add(version)
        elif answer.status_code == 409:
            self.active.clear()
            self.active.update(before)
        return answer

    def _backfill(self, client: httpx.Client, chance: random.Random) -> httpx.Response:
        return client.post("versions/backfill", json={"rate_limit": chance.choice([200, 2000, 100_000])})

    def _write(self, client: httpx.Client, chance: random.Random) -> httpx.Response:
        after = {f"p{i}": chance.randrange(len(TEXTS)) for i in chance.sample(range(COUNT), 10)}
        for point_id, n in after.items():
            self.possible[point_id] |= {n}
        points = [{"id": i, "text": TEXTS[n], "metadata": {"n": n}} for i, n in after.items()]
        answer = client.post("points", json={"points": points})
        if answer.status_code == 200:
            self.possible |= {point_id: {n} for point_id, n in after.items()}
        return answer


def check(service: Service, bundles: Path, active: set[str], possible: dict[str, set[int]]) -> None:
    """What is held is what may be held, counted once, with a code that the model of its version made."""
    encoders = {name: Encoder(Bundle.load(bundles / name)) for name in (OLD, NEW)}
    with httpx.Client(base_url=f"{service.url}/v1/collections/docs/", timeout=PATIENCE_SECONDS) as client:
        described = client.get("versions").raise_for_status().json()
        assert described["active"] in active, (described["active"], active)
        assert [version["active"] for version in described["versions"]].count(True) == 1
        active.clear()
        active.add(described["active"])
        assert scroll_ids(client) == sorted(possible)
        assert sum(version["points"] for version in described["versions"]) == COUNT
        found = client.post("points/get", json={"ids": sorted(possible), "with_code": True}).json()["points"]
        for point in found:
            n = point["metadata"]["n"]
            assert n in possible[point["id"]] and point["metadata"]["text"] == TEXTS[n], point
            possible[point["id"]] = {n}
        body = {"text": TEXTS[0], "limit": 1000, "with_metadata": False}
        hits = client.post("search", json=body).raise_for_status().json()["hits"]
        by_id = {point["id"]: point for point in found}
        assert sorted(hit["id"] for hit in hits) == sorted(possible)
        for hit in hits:
            # a backfill that goes on may have moved it since
            assert hit["version"] == by_id[hit["id"]]["version"] or backfilled(client, hit["id"], hit["version"])
        for point in found[::20]:
            encoder = encoders[point["version"]]
            record = encoder.encode(encoder.embed([TEXTS[point["metadata"]["n"]]], TextKind.PASSAGE))[0].tobytes()
            like = {"code_b64": point["code_b64"], "version": point["version"], "scorer": "sdc", "limit": 1}
            assert point["code_b64"] == base64.b64encode(record).decode(), point["id"]
            assert client.post("search", json=like).status_code == 200


def backfilled(client: httpx.Client, point_id: str, version: str) -> bool:
    return bool(client.get(f"points/{point_id}").json()["version"] == version)


def kill_through_an_upgrade(service: Service, bundles: Path, seed: int) -> None:
    chance = random.Random(seed)
    active, possible = {OLD}, {f"p{i}": {i} for i in range(COUNT)}
    with service:
        url = f"{service.url}/v1/collections/docs"
        body = {"bundle": OLD, "text_field": "text", "shards": 2, "filterable": {"n": "integer"}}
        assert httpx.put(url, json=body).status_code == 200
        points = [{"id": f"p{i}", "text": TEXTS[i], "metadata": {"n": i}} for i in range(COUNT)]
        assert httpx.post(f"{url}/points", json={"points": points}, timeout=PATIENCE_SECONDS).json()["applied"] == COUNT
        assert httpx.post(f"{url}/versions", json={"bundle": NEW}, timeout=PATIENCE_SECONDS).status_code == 201
        for _ in range(ROUNDS):
            upgrader = Upgrader(service.url, chance.random(), threading.Event(), active, possible)
            upgrader.start()
            time.sleep(chance.uniform(0.2, 1.0))
            service.kill()
            upgrader.stop.set()
            upgrader.join()
            assert not upgrader.surprises, upgrader.surprises[:3]
            service.start()
            check(service, bundles, active, possible)
        finish(service, active)
        check(service, bundles, active, possible)
        versions = httpx.get(f"{url}/versions").json()["versions"]
        assert {version["id"]: version["points"] for version in versions if version["points"]} == {NEW: COUNT}
        assert httpx.delete(f"{url}/versions/{OLD}").status_code == 200
        service.kill()
        service.start()
        assert [version["retired"] for version in httpx.get(f"{url}/versions").json()["versions"]] == [True, False]


def finish(service: Service, active: set[str]) -> None:
    """Bring the upgrade to its end."""
    url = f"{service.url}/v1/collections/docs/versions"
    if active != {NEW}:
        assert httpx.post(f"{url}/promote", json={"version": NEW, "force": True}).status_code == 200
        active.clear()
        active.add(NEW)

    def is_finished() -> bool:
        if not any(v["points"] for v in httpx.get(url).json()["versions"] if v["id"] == OLD):
            return True
        answer = httpx.post(f"{url}/backfill", json={"rate_limit": 100_000})
        assert answer.status_code in (202, 409), answer.text
        return False

    wait_until(is_finished, "all points are moved")


def test_sqlite_survives_kills_in_an_upgrade(tmp_path: Path, bundles: Path) -> None:
    kill_through_an_upgrade(Service(tmp_path / "data", BEBR_BUNDLES_DIR=str(bundles)), bundles, seed=1)


def test_valkey_survives_kills_in_an_upgrade(tmp_path: Path, bundles: Path) -> None:
    with running_server(ServerKind.VALKEY) as server:
        service = Service(tmp_path / "data", BEBR_BUNDLES_DIR=str(bundles), BEBR_REDIS_URL=server.url)
        kill_through_an_upgrade(service, bundles, seed=2)
