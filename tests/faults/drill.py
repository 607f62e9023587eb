"""Rounds of work, a kill or a fault, and a comparison of all that is held with what the clients know for certain."""

import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
from tests.waiting import PATIENCE_SECONDS, wait_until

from faults.flight import BusyWriter, Ingestion, OwnFit, PatientClient
from faults.service import Service, State, create_collection, read_all, scroll_ids
from faults.store_faults import STORE_TIMEOUT_SECONDS, Fault
from servers import Server, ServerKind

ROUNDS_PER_COPY = 10
LASTING = ("was emptied", "is another one now", "does not know collections", "the store holds no shard")
"""What the service says when waiting does not help."""


class Drill:
    """On one store, with one service. folder: a short path, where Redis has its socket."""

    def __init__(self, folder: Path, seed: int, faults: Sequence[Fault], *, redis: bool = False) -> None:
        self.data, self.whole, self.older = folder / "data", folder / "whole", folder / "older"
        self.server: Server | None = None
        self.store = self.data / "store"
        environment = {"BEBR_BUNDLES_DIR": str(folder / "bundles")}
        if redis:
            (folder / "redis").mkdir(parents=True)
            self.server = Server(ServerKind.REDIS, folder / "redis")
            self.store = folder / "redis" / "appendonlydir"
            environment |= {
                "BEBR_REDIS_URL": self.server.url,
                "BEBR_STORE_TIMEOUT_SECONDS": str(
                    STORE_TIMEOUT_SECONDS if any(fault.name == "hang" for fault in faults) else 30
                ),
            }
        self.chance = random.Random(seed)
        self.service = Service(self.data, **environment)
        self.begins: Callable[[str], None] = lambda fault: None
        """Told of each fault before its round."""
        self._faults = faults
        self._possible: dict[int, dict[str, set[State]]] = {}
        self._told: dict[str, int] = {}
        self._cut: int | None = None
        """Process id of a Redis that may do something late once it is started again."""

    def run(self, rounds: int) -> Iterator[tuple[str, str]]:
        """(fault, outcome) of each round. Raises AssertionError for a loss that nobody was told of."""
        try:
            if self.server is not None:
                self.server.start()
            self.service.start()
            create_collection(self.service)
            for number in range(rounds):
                if number % ROUNDS_PER_COPY == 0:
                    self._copy(self.older)
                fault = self._faults[number] if rounds <= len(self._faults) else self.chance.choice(self._faults)
                self.begins(fault.name)
                yield fault.name, self._round(fault)
        finally:
            self.service.__exit__()
            if self.server is not None:
                self.server.stop()

    def keep_whole(self) -> None:
        shutil.copytree(self.store, self.whole)

    def _round(self, fault: Fault) -> str:
        work = Work(self.service, self.chance, self._possible)
        work.wait_for_writes()
        time.sleep(self.chance.uniform(0.1, 0.5))
        shutil.rmtree(self.whole, ignore_errors=True)
        if not fault.live:
            self._kill_all()
            work.stop()
            self.keep_whole()
        fault.act(self)
        work.stop()
        if not fault.live:
            self._launch_all()
        refused = not self._comes_back()
        if refused:
            assert not fault.harmless, f"after {fault.name} the service refuses: {self._why()}"
            self._put_back()
        outcome = self._compare(work)
        is_harmless = fault.harmless and self._cut is None
        assert outcome == "whole" or not is_harmless, f"after {fault.name} something is lost, and told"
        if self.server is not None:
            self._cut = self.server.pid if fault.late or self._cut == self.server.pid else None
        return "refused" if refused else outcome

    # -- start and stop ------------------------------------------------------------------------------------------------

    def _launch_all(self) -> None:
        if self.server is not None:
            self.server.start()
        self._told.clear()
        self.service.launch()

    def _start_all(self) -> None:
        self._launch_all()
        assert self._comes_back(), self._why()

    def _kill_all(self) -> None:
        self.service.__exit__()
        if self.server is not None:
            self.server.kill()

    def _comes_back(self) -> bool:
        """Whether the service is ready and serves its collection; False where it says that it will not."""
        return wait_until(self._how_it_starts, "ready, or refuses to start") == "ready" and self._serves()

    def _how_it_starts(self) -> str | None:
        """None: it is not known yet."""
        if not self.service.runs:
            return "stopped"
        try:
            answer = httpx.get(f"{self.service.url}/readyz", timeout=PATIENCE_SECONDS)
        except httpx.TransportError:
            return None
        if answer.status_code == 200:
            return "ready"
        return "refuses" if any(words in answer.text for words in LASTING) else None

    def _serves(self) -> bool:
        with PatientClient(base_url=f"{self.service.url}/v1/collections/", timeout=PATIENCE_SECONDS) as client:
            found = {name: client.post(f"{name}/points/count", json={}).status_code for name in ("docs", "own")}
        return found["docs"] == 200 and found["own"] in (200, 404)

    def _why(self) -> str:
        if not self.service.runs:
            return f"the service has stopped: {self.service.log}"
        return httpx.get(f"{self.service.url}/readyz", timeout=PATIENCE_SECONDS).text

    def _put_back(self) -> None:
        """The operator puts back the store that was there before the fault."""
        self._kill_all()
        shutil.rmtree(self.store, ignore_errors=True)
        shutil.copytree(self.whole, self.store)
        self._start_all()

    def _copy(self, target: Path) -> None:
        shutil.rmtree(target, ignore_errors=True)
        self._kill_all()
        shutil.copytree(self.store, target)
        self._start_all()
        if self._cut is not None and self._new_losses():
            self._wrong()  # what Redis did late, and the service told: it is known from now on
        self._cut = None

    # -- comparing -----------------------------------------------------------------------------------------------------

    def _compare(self, work: "Work") -> str:
        """'whole', or 'told' where something is missing and the service says so."""
        with PatientClient(base_url=self.service.url, timeout=PATIENCE_SECONDS) as client:
            told = self._new_losses()
            failed = work.ingestion.finish(client)
            if "docs" not in told:
                for writer in work.writers:
                    writer.settle(client)
            wrong = self._wrong()
            missing = []
            if work.fit is not None:
                missing = work.fit.missing(client)
                failed |= work.fit.finish(client)
            client.delete("/v1/collections/own")  # also one that is back because its deletion was lost
            told |= self._new_losses()
        assert not wrong or "docs" in told, f"{len(wrong)} acknowledged points were lost unsaid: {wrong[:3]}"
        assert not missing or "own" in told or (missing == ["own"] and told), (
            f"{len(missing)} points before a fit were lost unsaid: {missing[:3]}"
        )
        return "told" if wrong or missing else "failed" if failed else "whole"

    def _wrong(self) -> list[str]:
        """Which points are not as they may be. From then on it is certain what is held."""
        expected = {i: states for known in self._possible.values() for i, states in known.items()}
        with PatientClient(base_url=f"{self.service.url}/v1/collections/docs/", timeout=PATIENCE_SECONDS) as client:
            held = read_all(client, sorted(expected))
            # what was not acknowledged may come a moment later
            wait_until(
                lambda: client.post("points/count", json={}).json() == {"count": len(held)}, f"a count of {len(held)}"
            )
            assert scroll_ids(client) == sorted(held)
        for known in self._possible.values():
            known.update({i: {held.get(i)} for i in known})
        return [f"{i} is {held.get(i)}, may be {states}" for i, states in expected.items() if held.get(i) not in states]

    def _new_losses(self) -> set[str]:
        """The collections of which the service has said, since it was last asked, that the store lost something."""
        before, self._told = self._told, losses(self.service)
        return {name for name, count in self._told.items() if count > before.get(name, 0)}


class Work:
    """What is under way in one round."""

    def __init__(self, service: Service, chance: random.Random, possible: dict[int, dict[str, set[State]]]) -> None:
        self._stop = threading.Event()
        self.writers = [BusyWriter(service.url, n, self._stop, possible.setdefault(n, {})) for n in range(3)]
        self.ingestion = Ingestion(service.url, chance, possible.setdefault(-1, {}))
        self.fit = OwnFit(service.url, chance) if chance.random() < 0.25 else None
        for thread in self._threads():
            thread.start()

    def wait_for_writes(self) -> None:
        """Until each writer was acknowledged something: else nothing could be lost."""
        wait_until(lambda: all(writer.acknowledged or writer.surprises for writer in self.writers), "writes")

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads():
            thread.join()
            assert not thread.surprises, thread.surprises[:3]

    def _threads(self) -> list[BusyWriter | Ingestion | OwnFit]:
        return [*self.writers, self.ingestion, *([self.fit] if self.fit else [])]


def losses(service: Service) -> dict[str, int]:
    """How often the service says, of each collection, that the store had lost something."""
    text = httpx.get(f"{service.url}/metrics", timeout=PATIENCE_SECONDS).text
    found = {}
    for line in text.splitlines():
        if line.startswith('bebr_collection_losses_total{collection="'):
            found[line.split('"')[1]] = round(float(line.split()[-1]))
    return found
