"""kill -9 at random moments of a fit: no point is lost, none is counted twice, and the fit comes to its end.

The embeddings are vectors of the user's own. A point is told from its other states by a number in its metadata, and its
vector follows from that number, so that the code of every point can be checked by searching for it.
"""

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.encoding.quantization.embeddings import text_like
from tests.waiting import PATIENCE_SECONDS, wait_until

from faults.service import Service, scroll_ids
from servers import ServerKind, running_server

DIMS = 64
ROWS = text_like(4000, dims=DIMS)
SAMPLE = 900
IDS = 700
SHORT_REST = {"BEBR_FIT_REST_SECONDS": "500ms"}
"""A fit begins soon after the collection has stopped growing."""
State = int | None
"""Number of the row that a point holds, or None for one that does not exist."""


@dataclass
class Writer(threading.Thread):
    """Overwrites and deletes points until told to stop, and knows for each what the service may hold."""

    url: str
    number: int
    possible: dict[str, set[State]]
    stop: threading.Event
    surprises: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        chance = random.Random(f"{self.number} {time.monotonic()}")
        with httpx.Client(base_url=f"{self.url}/v1/collections/docs/", timeout=PATIENCE_SECONDS) as client:
            while not self.stop.is_set():
                self._step(client, chance)

    def _step(self, client: httpx.Client, chance: random.Random) -> None:
        ids = [f"w{self.number}-{i}" for i in chance.sample(range(IDS), chance.choice([1, 5, 40]))]
        after: dict[str, State] = dict.fromkeys(ids)
        path, body = "points/delete", {"ids": ids}
        if chance.random() > 0.1:
            after = {i: chance.randrange(len(ROWS)) for i in ids}
            points = [{"id": i, "vector": ROWS[n].tolist(), "metadata": {"n": n}} for i, n in after.items()]
            path, body = "points", {"points": points}
        try:
            answer = client.post(path, json=body)
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.status_code == 200:
            self.possible |= {i: {after[i]} for i in ids}
        elif answer is not None and answer.status_code == 429:
            time.sleep(0.02)
        elif answer is None or answer.status_code == 503:
            self.possible |= {i: self.possible.get(i, {None}) | {after[i]} for i in ids}
            time.sleep(0.02)
        else:
            self.surprises.append(f"{answer.status_code} {answer.text[:300]}")


def run_writers(service: Service, possible: dict[int, dict[str, set[State]]], seconds: float) -> list[Writer]:
    stop = threading.Event()
    writers = [Writer(service.url, number, possible.setdefault(number, {}), stop) for number in range(2)]
    for writer in writers:
        writer.start()
    time.sleep(seconds)
    return writers


def join(writers: list[Writer]) -> None:
    writers[0].stop.set()
    for writer in writers:
        writer.join()
        assert not writer.surprises, writer.surprises[:3]


def check(service: Service, possible: dict[int, dict[str, set[State]]]) -> None:
    """What is held is what may be held, counted once, and found by its own vector."""
    expected = {i: states for known in possible.values() for i, states in known.items()}
    with httpx.Client(base_url=f"{service.url}/v1/collections/docs/", timeout=PATIENCE_SECONDS) as client:
        found = client.post("points/get", json={"ids": sorted(expected)}).raise_for_status().json()
        held: dict[str, State] = {point["id"]: point["metadata"]["n"] for point in found["points"]}
        for point_id, states in expected.items():
            assert held.get(point_id) in states, f"{point_id} is {held.get(point_id)}, may be {states}"
        for known in possible.values():
            known.update({i: {held.get(i)} for i in known})  # from here on it is certain
        assert client.post("points/count", json={}).json()["count"] == len(held)
        assert scroll_ids(client) == sorted(held)
        described = httpx.get(f"{service.url}/v1/collections/docs", timeout=PATIENCE_SECONDS).json()
        assert described["points"] == len(held), described
        body: dict[str, Any] = {"vector": ROWS[0].tolist(), "limit": 10_000, "with_metadata": False}
        answer = client.post("search", json=body).raise_for_status().json()
        assert sorted(hit["id"] for hit in answer["hits"]) == sorted(held)
        for point_id in sorted(held)[:: max(1, len(held) // 20)]:
            body = {"vector": ROWS[held[point_id] or 0].tolist(), "limit": 30, "with_metadata": False}
            assert point_id in [hit["id"] for hit in client.post("search", json=body).json()["hits"]]


def fit_of(service: Service) -> dict[str, Any]:
    fit: dict[str, Any] = httpx.get(f"{service.url}/v1/collections/docs", timeout=PATIENCE_SECONDS).json()["fit"]
    return fit


def wait_for_done(service: Service) -> dict[str, Any]:
    return wait_for(service, "done")


def wait_for(service: Service, *states: str) -> dict[str, Any]:
    def there() -> dict[str, Any] | None:
        fit = fit_of(service)
        assert fit["state"] != "failed", fit
        return fit if fit["state"] in states else None

    found = wait_until(there, f"a fit that is {states}")
    assert found is not None
    return found


def kill_through_a_fit(service: Service, seed: int, rescore_bytes: int = 0) -> None:
    """Kill while it collects, fits and converts; then once more through a refit."""
    chance = random.Random(seed)
    possible: dict[int, dict[str, set[State]]] = {}
    with service:
        fit = {"bytes": 8, "rescore_bytes": rescore_bytes, "sample": SAMPLE, "dims": DIMS}
        body = {"fit": fit, "filterable": {"n": "integer"}, "shards": 2}
        assert httpx.put(f"{service.url}/v1/collections/docs", json=body).status_code == 200
        killed_in = [kill_in(service, state, possible, chance) for state in ("collecting", "fitting", "converting")]
        assert killed_in[0] == "collecting", killed_in  # a busy machine may look away while it fits
        first = wait_for_done(service)
        check(service, possible)
        assert httpx.post(f"{service.url}/v1/collections/docs/fit", json={"sample": 300}).status_code == 202
        kill_in(service, chance.choice(["fitting", "converting"]), possible, chance)
        second = wait_for_done(service)
        assert second["version"] != first["version"]
        check(service, possible)
        assert service.stop() == 0
        service.start()
        check(service, possible)


def kill_in(service: Service, state: str, possible: dict[int, dict[str, set[State]]], chance: random.Random) -> str:
    """Let writers run until a state is reached, or passed; kill the service in it and start it again.

    -> the state that was seen last.
    """
    writers = run_writers(service, possible, chance.uniform(0, 0.2))
    seen = str(wait_for(service, state, "done")["state"])
    time.sleep(chance.uniform(0, 0.1))
    service.kill()
    join(writers)
    service.start()
    check(service, possible)
    return seen


def test_sqlite_brings_a_fit_to_its_end(tmp_path: Path) -> None:
    kill_through_a_fit(Service(tmp_path / "data", **SHORT_REST), seed=1, rescore_bytes=24)


def test_valkey_brings_a_fit_to_its_end_and_a_lost_folder_costs_nothing(tmp_path: Path) -> None:
    with running_server(ServerKind.VALKEY) as server:
        service = Service(tmp_path / "data", BEBR_REDIS_URL=server.url, **SHORT_REST)
        kill_through_a_fit(service, seed=2)
        with Service(tmp_path / "other", BEBR_REDIS_URL=server.url) as other:
            fit = wait_for_done(other)
            described = httpx.get(f"{other.url}/v1/collections/docs").json()
            assert fit["version"] in described["points_per_version"] and described["encoder_error"] is None
            points = described["points"]
            body = {"vector": ROWS[0].tolist(), "limit": 10_000, "with_metadata": False}
            answer = httpx.post(f"{other.url}/v1/collections/docs/search", json=body, timeout=PATIENCE_SECONDS).json()
            assert len(answer["hits"]) == points > 100
