"""The real service in a process of its own, to be killed and started again; and what its clients know for certain."""

import base64
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.waiting import PATIENCE_SECONDS, wait_until

CODE_BYTES = 16


class Service:
    """`bebr serve` on a folder and a free port of the loopback interface."""

    program: Sequence[str | Path] = (Path(sys.executable).with_name("bebr"),)
    """What is told to `serve`."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith("BEBR_")} | {
            "BEBR_DATA_DIR": str(folder),
            "BEBR_PORT": str(self.port),
            "BEBR_HEAD_ROWS": "64",
            "BEBR_REQUEST_TIMEOUT_SECONDS": "120",
            "BEBR_STORE_TIMEOUT_SECONDS": "60",
            **environment,
        }
        self._log = folder.parent / f"{folder.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """Its end."""
        return self._log.read_text()[-2000:]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start it without waiting."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*self.program, "serve"], env=self._environment, stdout=log, stderr=log)

    def start(self) -> None:
        """Returns when /readyz says ready."""
        self.launch()
        assert self._process is not None
        wait_until(self._is_ready, "/readyz")

    def _is_ready(self) -> bool:
        assert self.runs, self._log.read_text()
        try:
            return httpx.get(f"{self.url}/readyz", timeout=PATIENCE_SECONDS).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """kill -9, as the out-of-memory killer does it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """A polite stop; the exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout=PATIENCE_SECONDS)

    def __enter__(self) -> "Service":
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.runs:
            self.kill()


def free_port() -> int:
    """One that no client is given for its own end while the service is away."""
    while True:
        with socket.socket() as probe:
            port = random.SystemRandom().randrange(20_000, 32_000)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


_WRITERS = itertools.count()
State = tuple[str, int] | None
"""(code_b64, value of the metadata field 'n'), or None for a point that does not exist."""


@dataclass
class Writer(threading.Thread):
    """Writes to ids of its own until told to stop, and knows for each what the service may hold.

    possible: after an acknowledged write one state; after one whose answer never came, the old and the new.
    """

    url: str
    number: int
    stop: threading.Event
    possible: dict[str, set[State]] = field(default_factory=dict)
    acknowledged: int = 0
    unavailable: int = 0
    surprises: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self._random = random.Random(next(_WRITERS))  # no two write the same, or what is lost would not be missed

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        with httpx.Client(base_url=f"{self.url}/v1/collections/docs/", timeout=PATIENCE_SECONDS) as client:
            while not self.stop.is_set():
                self._step(client)

    def _step(self, client: httpx.Client) -> None:
        ids = self._choose()
        if self._random.random() < 0.25:
            self._send(client, "points/delete", {"ids": ids}, {i: {None} for i in ids})
        else:
            points = [new_point(i, self._random) for i in ids]
            self._send(client, "points", {"points": points}, {point["id"]: {state_of(point)} for point in points})

    def _choose(self) -> list[str]:
        chosen = self._random.sample(range(400), self._random.choice([1, 3, 40]))
        return [f"w{self.number}-{i}" for i in chosen]

    def _send(
        self, client: httpx.Client, path: str, body: dict[str, Any], after: dict[str, set[State]], **options: Any
    ) -> httpx.Response | None:
        """One write, after which the points have these states -> its answer, if it came."""
        try:
            answer = client.post(path, json=body, **options)
        except httpx.ConnectError:  # it was not sent
            time.sleep(0.02)
            return None
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.status_code == 200:
            self.acknowledged += 1
            self.possible |= after
        elif answer is not None and answer.status_code == 429:  # nothing was done
            time.sleep(0.02)
        elif answer is None or answer.status_code == 503:
            self.unavailable += answer is not None
            for i, states in after.items():
                self.possible[i] = self.possible.get(i, {None}) | states
            time.sleep(0.02)
        else:
            self.surprises.append(f"{answer.status_code} {answer.text[:300]}")
        return answer


def new_point(point_id: str, chance: random.Random) -> dict[str, Any]:
    code = base64.b64encode(chance.randbytes(CODE_BYTES)).decode()
    return {"id": point_id, "code_b64": code, "metadata": {"n": chance.randrange(10**6), "text": "x" * 300}}


def state_of(point: dict[str, Any]) -> State:
    return point["code_b64"], point["metadata"]["n"]


def run_writers(
    service: Service, seconds: float, possible: dict[int, dict[str, set[State]]], count: int = 3
) -> list[Writer]:
    """Start writers that go on from what is known, let them run until something was acknowledged and so long more, and
    leave them running."""
    stop = threading.Event()
    writers = [Writer(service.url, number, stop, possible.setdefault(number, {})) for number in range(count)]
    for writer in writers:
        writer.start()
    wait_until(lambda: all(writer.acknowledged >= 10 or writer.surprises for writer in writers), "writes")
    time.sleep(seconds)
    return writers


def join(writers: list[Writer]) -> None:
    writers[0].stop.set()
    for writer in writers:
        writer.join()
        assert not writer.surprises, writer.surprises[:3]


def check(service: Service, possible: dict[int, dict[str, set[State]]]) -> int:
    """Hold the store, the index and the counts of the service to what its writers know; the number of points."""
    expected = {i: states for known in possible.values() for i, states in known.items()}
    with httpx.Client(base_url=f"{service.url}/v1/collections/docs/", timeout=PATIENCE_SECONDS) as client:
        held = read_all(client, sorted(expected))
        for point_id, states in expected.items():
            assert held.get(point_id) in states, f"{point_id} is {held.get(point_id)}, may be {states}"
        for known in possible.values():
            known.update({i: {held.get(i)} for i in known})  # from here on it is certain
        assert client.post("points/count", json={}).json()["count"] == len(held)
        assert scroll_ids(client) == sorted(held)
        for point_id in sorted(held)[:: max(1, len(held) // 20)]:
            code, _ = held[point_id] or ("", 0)
            hits = client.post("search", json={"code_b64": code, "limit": 3, "scorer": "hamming"}).json()["hits"]
            assert hits[0]["distance"] == 0 and point_id in [hit["id"] for hit in hits]
    return len(held)


def read_all(client: httpx.Client, ids: list[str]) -> dict[str, State]:
    held: dict[str, State] = {}
    for start in range(0, len(ids), 500):
        body: dict[str, Any] = {"ids": ids[start : start + 500], "with_code": True}
        answer = client.post("points/get", json=body).raise_for_status().json()
        for point in answer["points"]:
            record = base64.b64decode(point["code_b64"])
            held[point["id"]] = (base64.b64encode(record[:CODE_BYTES]).decode(), point["metadata"]["n"])
    return held


def scroll_ids(client: httpx.Client) -> list[str]:
    ids: list[str] = []
    cursor = None
    while True:
        page = client.post("points/scroll", json={"limit": 1000, "cursor": cursor}).raise_for_status().json()
        ids += [point["id"] for point in page["points"]]
        if (cursor := page["cursor"]) is None:
            return ids


def create_collection(service: Service) -> None:
    answer = httpx.put(f"{service.url}/v1/collections/docs", json={"code": f"{CODE_BYTES * 8}x1", "shards": 2})
    assert answer.status_code in (200, 201), answer.text
