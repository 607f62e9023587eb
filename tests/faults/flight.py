"""What is under way when a kill comes: writes with keys, changes of metadata, an ingestion, a collection's own fit.

Each knows what must be there afterwards, and brings to its end what was interrupted.
"""

import json
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from tests.waiting import PATIENCE_SECONDS, wait_until

from faults.service import State, Writer, new_point, state_of

LINES = 300
SAMPLE, DIMS = 130, 16


class PatientClient(httpx.Client):
    """Sends again what is refused because there is too much to do."""

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (answer := super().send(request, **options)).status_code == 429 and time.monotonic() < deadline:
            time.sleep(0.05)
        return answer


@dataclass
class Keyed:
    """A write with an idempotency key. answer: None where none came."""

    key: str
    body: dict[str, Any]
    answer: Any


@dataclass
class BusyWriter(Writer):
    """Writes, deletes, changes metadata, and inserts with a key. unequal: counts that only a loss explains."""

    keyed: list[Keyed] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)

    __hash__ = Writer.__hash__

    def _choose(self) -> list[str]:
        """Not what waits for its retry: nobody could say in which order the writes came."""
        waiting = {point["id"] for one in self.keyed if one.answer is None for point in one.body["points"]}
        return [i for i in super()._choose() if i not in waiting]

    def _step(self, client: httpx.Client) -> None:
        kind = self._random.random()
        if kind < 0.2:
            self._change(client)
        elif kind < 0.5:
            self._insert(client)
        else:
            super()._step(client)

    def _change(self, client: httpx.Client) -> None:
        ids, n = self._choose(), self._random.randrange(10**6)
        states = {i: self.possible.get(i, {None}) for i in ids}
        after: dict[str, set[State]] = {i: {(s[0], n) if s else None for s in held} for i, held in states.items()}
        answer = self._send(client, "points/metadata", {"ids": ids, "set": {"n": n}}, after)
        if answer is None or answer.status_code != 200 or any(len(held) > 1 for held in states.values()):
            return
        if answer.json()["updated"] != sum(held != {None} for held in states.values()):
            self.unequal.append(f"{answer.text[:300]} for {states!s:.300}")

    def _insert(self, client: httpx.Client) -> None:
        """Only points that are not there: without its key, a second time would be refused."""
        ids = [i for i in self._choose() if self.possible.get(i, {None}) == {None}][:5]
        points = [new_point(i, self._random) for i in ids]
        if not points:
            return
        keyed = Keyed(f"{self.number}-{self._random.randrange(10**9)}", {"points": points}, None)
        after: dict[str, set[State]] = {point["id"]: {state_of(point)} for point in points}
        before = {i: self.possible.get(i) for i in ids}
        answer = self._send(client, "points", keyed.body, after, **with_key(keyed))
        if answer is not None and answer.status_code == 200:
            keyed.answer = answer.json()
        if {i: self.possible.get(i) for i in ids} != before:  # else nothing was done
            self.keyed.append(keyed)

    def settle(self, client: httpx.Client) -> None:
        """Send once more what had no answer, and some of what had one: each is applied once. Not after a loss."""
        assert not self.unequal, self.unequal[:3]
        unanswered = [one for one in self.keyed if one.answer is None]
        answered = [one for one in self.keyed if one.answer is not None]
        for one in answered[-3:] + unanswered:
            found = client.post("/v1/collections/docs/points", json=one.body, **with_key(one)).raise_for_status().json()
            assert found["applied"] == len(one.body["points"]) and not found["rejected"], (one, found)
            assert one.answer in (None, found), (one, found)
            again = client.post("/v1/collections/docs/points", json=one.body, **with_key(one)).raise_for_status().json()
            assert again == found, (again, found)
        for one in unanswered:
            self.possible |= {point["id"]: {state_of(point)} for point in one.body["points"]}


def with_key(keyed: Keyed) -> dict[str, Any]:
    return {"headers": {"idempotency-key": keyed.key}, "params": {"mode": "insert_only"}}


class Ingestion(threading.Thread):
    """One bulk ingestion, which is sent a moment after the start."""

    def __init__(self, url: str, chance: random.Random, possible: dict[str, set[State]]) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._possible = possible
        self._delay = chance.uniform(0, 0.2)
        self._points = [new_point(f"j-{i}", chance) for i in range(LINES)]
        self._job: str | None = None
        self.surprises: list[str] = []

    def run(self) -> None:
        time.sleep(self._delay)
        for point in self._points:
            self._possible[point["id"]] = self._possible.get(point["id"], {None}) | {state_of(point)}
        lines = "\n".join(json.dumps(point) for point in self._points)
        try:
            answer = httpx.post(
                f"{self._url}/v1/collections/docs/ingest",
                content=lines,
                headers={"content-type": "application/x-ndjson"},
                timeout=PATIENCE_SECONDS,
            )
        except httpx.TransportError:
            return
        if answer.status_code == 202:
            self._job = answer.json()["job"]
        elif answer.status_code not in (429, 503):
            self.surprises.append(f"{answer.status_code} {answer.text[:300]}")

    def finish(self, client: httpx.Client) -> bool:
        """Wait for its end -> whether it is known to have failed. What it was sent is there if it succeeded."""
        wait_until(lambda: all(job["state"] not in ("queued", "running") for job in ingestions(client)), "ingestions")
        if self._job is None:
            return False
        job = client.get(f"/v1/jobs/{self._job}").raise_for_status().json()
        if job["state"] == "failed":
            assert job["detail"], job
            return True
        assert job["state"] == "succeeded" and job["applied"] == LINES and not job["rejected"], job
        self._possible |= {point["id"]: {state_of(point)} for point in self._points}
        return False


class OwnFit(threading.Thread):
    """A new collection that is fitted to the first points it gets."""

    def __init__(self, url: str, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._delay = chance.uniform(0, 0.1)
        self._rows = np.random.default_rng(chance.randrange(10**6)).normal(size=(SAMPLE + 30, DIMS))
        self._acknowledged = 0
        self._created = False
        self.surprises: list[str] = []

    def run(self) -> None:
        time.sleep(self._delay)
        try:
            with httpx.Client(base_url=self._url, timeout=PATIENCE_SECONDS) as client:
                self._create(client)
                for start in range(0, len(self._rows), 50):
                    self._write(client, start)
        except httpx.TransportError:
            return
        except httpx.HTTPStatusError as error:
            if error.response.status_code not in (429, 503):
                self.surprises.append(f"{error.response.status_code} {error.response.text[:300]}")

    def _create(self, client: httpx.Client) -> None:
        body = {"fit": {"bytes": 2, "sample": SAMPLE, "dims": DIMS}, "shards": 2}
        client.put("/v1/collections/own", json=body).raise_for_status()
        self._created = True

    def _write(self, client: httpx.Client, start: int) -> None:
        rows = list(enumerate(self._rows.tolist()))[start : start + 50]
        points = [{"id": f"o{n}", "vector": row, "metadata": {"n": n}} for n, row in rows]
        client.post("/v1/collections/own/points", json={"points": points}).raise_for_status()
        self._acknowledged = start + len(points)

    def missing(self, client: httpx.Client) -> list[str]:
        """The acknowledged points that are not there."""
        if client.get("/v1/collections/own").status_code == 404:
            return ["own"] if self._created else []
        if not self._acknowledged:
            return []
        ids = [f"o{n}" for n in range(self._acknowledged)]
        points = client.post("/v1/collections/own/points/get", json={"ids": ids}).raise_for_status().json()["points"]
        held = {point["id"]: point["metadata"]["n"] for point in points}
        return [i for i in ids if held.get(i) != int(i[1:])]

    def finish(self, client: httpx.Client) -> bool:
        """Write the rest, wait for the fit, search -> whether it is known to have failed. The collection is dropped."""
        if client.get("/v1/collections/own").status_code == 404:
            self._create(client)
        for start in range(0, len(self._rows), 50):
            self._write(client, start)
        url = "/v1/collections/own"
        wait_until(lambda: client.get(url).raise_for_status().json()["fit"]["state"] in ("done", "failed"), "the fit")
        fit = client.get(url).json()["fit"]
        assert client.post(f"{url}/points/count", json={}).json() == {"count": len(self._rows)}
        body = {"vector": self._rows[0].tolist(), "limit": len(self._rows) + 10}
        hits = client.post(f"{url}/search", json=body).raise_for_status().json()["hits"]
        assert sorted(hit["id"] for hit in hits) == sorted(f"o{n}" for n in range(len(self._rows)))
        assert fit["state"] == "done" or fit["detail"], fit
        return bool(fit["state"] == "failed")


def ingestions(client: httpx.Client) -> list[dict[str, Any]]:
    return [job for job in client.get("/v1/jobs").raise_for_status().json()["jobs"] if job["kind"] == "ingest"]
