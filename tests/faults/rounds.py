"""Rounds of a load, a kill and a comparison, on services of several processes and the store that they share."""

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
from tests.cli.server.workers.running import Workers
from tests.cluster import Cluster
from tests.servers import Server
from tests.waiting import PATIENCE_SECONDS, wait_until

from faults.round_load import Prober, RoundWriter
from faults.service import CODE_BYTES, Service, State, read_all

STORE_TIMEOUT_SECONDS = 10
PAGE, HALF = 250, 500_000


class TeamService(Service):
    """A supervisor and its workers."""

    @property
    def workers(self) -> Workers:
        assert self._process is not None
        return Workers(self._process, self._log)

    def kill_all(self) -> None:
        """Every process at once, as when the machine is lost."""
        for pid in [self.pid, *self.workers.pids().values()]:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, signal.SIGKILL)

    def come_back(self, count: int, killed: set[int]) -> None:
        """Return when so many workers serve, none of them killed. A service that has ended is started, as an operator
        does."""

        def is_back() -> bool:
            if not self.runs:
                self.launch()
                time.sleep(0.1)
            pids = self.workers.pids() if self.runs else {}
            if len(pids) < count or killed & set(pids.values()):
                return False
            try:
                return httpx.get(f"{self.url}/readyz", timeout=PATIENCE_SECONDS).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(is_back, "all workers serve")


@dataclass
class Round:
    """What one round had. lost: acknowledged writes that are not there; unequal: what a worker answers that the store
    does not hold; stale: reads that did not know what was acknowledged before."""

    faults: str
    acknowledged: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)


class Rounds:
    """On one store. folder: a short path. services: several of them share the store."""

    def __init__(self, folder: Path, seed: int, store: Server | Cluster | None, workers: int = 3, services: int = 1):
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
        self._possible: dict[str, set[State]] = {}
        self._strong = {"consistency": "strong"} if services > 1 else {}

    def run(self, rounds: int) -> Iterator[Round]:
        with ExitStack() as stack:
            for service in self.services:
                stack.enter_context(service)
            answer = httpx.put(
                f"{self.services[0].url}/v1/collections/docs",
                json={"code": f"{CODE_BYTES * 8}x1", "shards": 6, "filterable": {"n": "integer"}},
                timeout=PATIENCE_SECONDS,
            )
            assert answer.status_code in (200, 201), answer.text
            faults = faults_on(self.store)
            for number in range(rounds):
                chosen = (
                    [faults[number]]
                    if number < len(faults)
                    else self.chance.sample(faults, self.chance.choice([1, 1, 2]))
                )
                yield self._round(chosen)

    def _round(self, faults: list["Fault"]) -> Round:
        done = Round("+".join(fault.__name__ for fault in faults))
        writers = [RoundWriter(service.url, n, self._possible) for n, service in enumerate(self.services * 2)]
        probers = [Prober(service.url, f"probe{n}", self._possible) for n, service in enumerate(self.services)]
        load = [*writers, *probers]
        for thread in load:
            thread.start()
        self._wait_for_acknowledged(load)
        time.sleep(self.chance.uniform(0, 0.5))
        killed: set[int] = set()
        for fault in faults:
            killed |= fault(self, self.chance.choice(self.services)) or set()
        for service in self.services:
            service.come_back(self.workers, killed)
        self._wait_for_acknowledged(load)
        for thread in load:
            thread.done.set()
        for thread in load:
            thread.join()
            done.acknowledged += thread.acknowledged
            done.failed += thread.failed
        done.stale = [said for prober in probers for said in prober.stale]
        self._compare(done)
        return done

    def _wait_for_acknowledged(self, load: list[Any]) -> None:
        before = [thread.acknowledged for thread in load]

        def went_on() -> bool:
            return all(thread.acknowledged > n + 2 for thread, n in zip(load, before, strict=True))

        wait_until(went_on, "writes are acknowledged")

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
            connection.request("POST", f"/v1/collections/docs/{path}", json.dumps(body), headers)
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status == 200, said
            return json.loads(said)

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


# -- faults ------------------------------------------------------------------------------------------------------------

Fault = Callable[[Rounds, TeamService], set[int] | None]
"""What it kills, and which processes must have been replaced afterwards."""


def follower(rounds: Rounds, service: TeamService) -> set[int]:
    return _kill(service, rounds.chance.randrange(1, rounds.workers))


def primary(rounds: Rounds, service: TeamService) -> set[int]:
    return _kill(service, 0)


def supervisor(rounds: Rounds, service: TeamService) -> set[int]:
    """Its workers end with it; the next one is started at once."""
    pids = set(service.workers.pids().values())
    if service.runs:
        service.kill()
    service.launch()
    return pids


def everything(rounds: Rounds, service: TeamService) -> set[int]:
    """The machine; its data folder is whole."""
    pids = set(service.workers.pids().values())
    service.kill_all()
    return pids


def reload(rounds: Rounds, service: TeamService) -> set[int]:
    pids = set(service.workers.pids().values())
    if service.runs:
        os.kill(service.pid, signal.SIGHUP)
    return pids


def folder(rounds: Rounds, service: TeamService) -> set[int]:
    """The machine with its data folder; another one takes its place."""
    pids = everything(rounds, service)
    wait_until(lambda: not service.runs and not any(map(_lives, pids)) and not service.workers.pids(), "all have ended")
    path = rounds.folders[rounds.services.index(service)]

    def is_gone() -> bool:
        """A worker that had only begun may make a file meanwhile."""
        shutil.rmtree(path, ignore_errors=True)
        return not path.exists()

    wait_until(is_gone, "the folder is gone")
    return pids


def server(rounds: Rounds, service: TeamService) -> None:
    assert isinstance(rounds.store, Server)
    rounds.store.kill()
    time.sleep(rounds.chance.uniform(0, 0.3))
    rounds.store.start()


def master(rounds: Rounds, service: TeamService) -> None:
    """Its replica, which lags behind, takes over."""
    assert isinstance(rounds.store, Cluster)
    place = rounds.chance.randrange(len(rounds.store.masters))
    rounds.store.cut_off(place)
    time.sleep(rounds.chance.uniform(0, 1))
    rounds.store.fail_over(place)
    rounds.store.heal(place)


def replica(rounds: Rounds, service: TeamService) -> None:
    assert isinstance(rounds.store, Cluster)
    place = rounds.chance.randrange(len(rounds.store.masters))
    rounds.store.replicas[place].kill()
    time.sleep(rounds.chance.uniform(0, 1))
    rounds.store.replicas[place].start()
    rounds.store.wait_for_replica(place)


def faults_on(store: Server | Cluster | None) -> list[Fault]:
    of_services: list[Fault] = [follower, primary, supervisor, everything, reload]
    if store is None:
        return of_services
    return [*of_services, folder, *([server] if isinstance(store, Server) else [master, replica])]


def _kill(service: TeamService, number: int) -> set[int]:
    """One worker, where it is there: another fault may just have taken it."""
    pid = service.workers.pids().get(number) if service.runs else None
    if pid is None:
        return set()
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return {pid}


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
