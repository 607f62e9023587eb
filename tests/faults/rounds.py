"""Rounds of a load, a kill and a comparison, on services of several processes and the store that they share."""

import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import httpx
from tests.cluster import Cluster
from tests.servers import Server
from tests.waiting import PATIENCE_SECONDS, wait_until

from faults.round_faults import Fault, faults_on
from faults.round_load import Prober, RoundWriter
from faults.service import CODE_BYTES, State, read_all
from faults.team_service import TeamService

STORE_TIMEOUT_SECONDS = 10
PAGE, HALF = 250, 500_000
MORE_THAN_A_START = 30
"""So many times as long as the first start took a service may take to be back, on a machine whose load changes."""


@dataclass
class Round:
    """What one round had. lost: acknowledged writes that are not there; unequal: what a worker answers that the store
    does not hold; stale: reads that did not know what was acknowledged before; unjudged: what did not come about, so
    that the round says nothing of the rest."""

    faults: str
    acknowledged: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    unjudged: str = ""

    @property
    def is_wrong(self) -> bool:
        return bool(self.lost or self.unequal or self.stale)


class Rounds:
    """On one store. folder: a short path. services: several of them share the store."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        store: Server | Cluster | None,
        workers: int = 3,
        services: int = 1,
        only: Sequence[str] = (),
    ) -> None:
        """only: names of faults; none: all that there are on such a store."""
        environment = {"BEBR_WORKERS": str(workers), "BEBR_STORE_TIMEOUT_SECONDS": str(STORE_TIMEOUT_SECONDS)}
        if store is not None:
            environment["BEBR_REDIS_URL"] = store.url
        if services > 1:
            environment["BEBR_SHARED_STORE"] = "true"
        self.store = store
        self.chance = random.Random(seed)
        self.folders = [folder / f"data{n}" for n in range(services)]
        self.services = [TeamService(folder, **environment) for folder in self.folders]
        self.workers = workers
        self._only = only
        self._patience_seconds = PATIENCE_SECONDS
        self._possible: dict[str, set[State]] = {}
        self._strong = {"consistency": "strong"} if services > 1 else {}

    def run(self, rounds: int, done: int = 0) -> Iterator[Round]:
        """So many that can be judged, and those that cannot, each of which is repeated. done: how many there were."""
        with ExitStack() as stack:
            for service in self.services:
                stack.callback(service.end_all)
            started = time.monotonic()
            for service in self.services:
                service.launch()
            for service in self.services:
                service.come_back(self.workers, set(), PATIENCE_SECONDS * MORE_THAN_A_START)
            self._patience_seconds = max(PATIENCE_SECONDS, MORE_THAN_A_START * (time.monotonic() - started))
            answer = httpx.put(
                f"{self.services[0].url}/v1/collections/docs",
                json={"code": f"{CODE_BYTES * 8}x1", "shards": 6, "filterable": {"n": "integer"}},
                timeout=PATIENCE_SECONDS,
            )
            assert answer.status_code in (200, 201), answer.text
            for number in range(done, done + rounds):
                faults = self._choose(number)
                while True:
                    one = self._round(faults)
                    yield one
                    if not one.unjudged:
                        break

    def _choose(self, number: int) -> Sequence[Fault]:
        """Each fault first alone, then by chance."""
        faults = [fault for fault in faults_on(self.store) if fault.__name__ in self._only] or faults_on(self.store)
        if number < len(faults):
            return [faults[number]]
        return self.chance.sample(faults, min(len(faults), self.chance.choice([1, 1, 2])))

    def _round(self, faults: Sequence[Fault]) -> Round:
        done = Round("+".join(fault.__name__ for fault in faults))
        writers = [RoundWriter(service.url, n, self._possible) for n, service in enumerate(self.services * 2)]
        probers = [Prober(service.url, f"probe{n}", self._possible) for n, service in enumerate(self.services)]
        load: list[Any] = [*writers, *probers]
        try:
            try:
                self._harm(faults, load)
            finally:
                for thread in load:
                    thread.done.set()
                for thread in load:
                    thread.join()
            self._compare(done)
        except (AssertionError, OSError, httpx.HTTPError, HTTPException) as error:
            states = "\n".join(service.state() for service in self.services)
            done.unjudged = f"{type(error).__name__}: {error}\n{states}"
            self._begin_again()
            self._compare(done)
        done.acknowledged = sum(thread.acknowledged for thread in load)
        done.failed = sum((thread.failed for thread in load), Counter[str]())
        done.stale = [said for prober in probers for said in prober.stale]
        return done

    def _harm(self, faults: Sequence[Fault], load: list[Any]) -> None:
        for thread in load:
            thread.start()
        self._wait_for_acknowledged(load)
        time.sleep(self.chance.uniform(0, 0.5))
        killed: set[int] = set()
        for fault in faults:
            killed |= fault(self, self.chance.choice(self.services)) or set()
        for service in self.services:
            service.come_back(self.workers, killed, self._patience_seconds)
        self._wait_for_acknowledged(load)

    def _begin_again(self) -> None:
        """End all that does not work, and start it: what was acknowledged must be there all the same."""
        for service in self.services:
            service.end_all()
        if isinstance(self.store, Cluster):
            self.store.revive()
        elif self.store is not None and not self.store.runs:
            self.store.start()
        for service in self.services:
            service.come_back(self.workers, set(), self._patience_seconds)

    def _wait_for_acknowledged(self, load: list[Any]) -> None:
        before = [thread.acknowledged for thread in load]

        def went_on() -> bool:
            return all(thread.acknowledged > n + 2 for thread, n in zip(load, before, strict=True))

        wait_until(went_on, "writes are acknowledged", self._patience_seconds)

    # -- comparing -----------------------------------------------------------------------------------------------------

    def _compare(self, done: Round) -> None:
        with httpx.Client(base_url=f"{self.services[0].url}/v1/collections/docs/", timeout=PATIENCE_SECONDS) as client:
            while True:
                held = read_all(client, sorted(self._possible))
                unequal = list(self._unequal(held))
                if not unequal or read_all(client, sorted(self._possible)) == held:
                    break  # else a write whose answer was lost came only now
        done.unequal = unequal
        for point_id, states in self._possible.items():
            if held.get(point_id) not in states:
                done.lost.append(f"{point_id} is {held.get(point_id)}, may be {states}")
                self._possible[point_id] = {held.get(point_id)}

    def _unequal(self, held: dict[str, State]) -> Iterator[str]:
        for number, service in enumerate(self.services):
            for worker in range(self.workers):
                connection = service.workers.connection(worker)
                try:
                    for said in self._differences(connection, held):
                        yield f"worker {worker} of {number}: {said}"
                finally:
                    connection.close()

    def _differences(self, connection: HTTPConnection, held: dict[str, State]) -> Iterator[str]:
        """What one worker answers otherwise than the store: ids, codes, filterable metadata, the points themselves."""

        def ask(path: str, body: dict[str, Any]) -> Any:
            headers = {"content-type": "application/json"}
            until = time.monotonic() + self._patience_seconds
            while True:
                connection.request("POST", f"/v1/collections/docs/{path}", json.dumps(body), headers)
                answer = connection.getresponse()
                said = answer.read()
                if answer.status == 200:
                    return json.loads(said)
                assert answer.status == 503 and time.monotonic() < until, said
                time.sleep(0.1)

        found: list[tuple[str, int]] = []
        cursor = None
        while cursor or not found:
            page = ask("points/scroll", {"limit": 1000, "cursor": cursor} | self._strong)
            found += [(point["id"], point["metadata"]["n"]) for point in page["points"]]
            if (cursor := page["cursor"]) is None:
                break
        known = {point_id: state for point_id, state in held.items() if state is not None}
        if found != sorted((point_id, n) for point_id, (_, n) in known.items()):
            yield f"scrolled {len(found)} of {len(known)}"
        small = {"must": [{"key": "n", "range": {"lt": HALF}}]}
        counted = ask("points/count", {"filter": small} | self._strong)["count"]
        if counted != sum(n < HALF for _, n in known.values()):
            yield f"counted {counted} with small n"
        for some in batches(list(known.items())):
            searches = [{"code_b64": code, "limit": 3, "scorer": "hamming"} | self._strong for _, (code, _) in some]
            results = ask("search/batch", {"searches": searches})["results"]
            for (point_id, (_, n)), result in zip(some, results, strict=True):
                if (point_id, 0, n) not in [
                    (hit["id"], hit["distance"], hit["metadata"]["n"]) for hit in result["hits"]
                ]:
                    yield f"{point_id} is not found by its code"


def batches(points: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(points), PAGE):
        yield points[start : start + PAGE]
