"""What can happen to a stopped store and to the files beside it, and whether the service says so afterwards."""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from faults.service import Service, State, create_collection, join, read_all, run_writers

Fault = Callable[["Drill"], None]


def nothing(drill: "Drill") -> None:
    """Only the kill."""


def older_store(drill: "Drill") -> None:
    """The copy of some rounds ago."""
    shutil.rmtree(drill.data / "store")
    shutil.copytree(drill.copy / "store", drill.data / "store")


def cut_log(drill: "Drill") -> None:
    for path in (drill.data / "store" / "collections").glob("*-wal"):
        data = path.read_bytes()
        path.write_bytes(data[: drill.chance.randrange(len(data) + 1)])


def no_log(drill: "Drill") -> None:
    for path in (drill.data / "store").rglob("*-wal"):
        path.unlink()


def cut_segments(drill: "Drill") -> None:
    for path in (drill.data / "collections").rglob("*.seg"):
        path.write_bytes(path.read_bytes()[: drill.chance.randrange(path.stat().st_size)])


def no_segments(drill: "Drill") -> None:
    for path in (drill.data / "collections").rglob("*.seg"):
        path.unlink()


def no_catalog(drill: "Drill") -> None:
    for path in (drill.data / "store").glob("catalog.db*"):
        path.unlink()


FAULTS: tuple[Fault, ...] = (older_store, no_log, no_catalog, cut_segments, no_segments, cut_log, nothing)


class Drill:
    """Rounds of writes, a kill, a fault and a comparison, on one data folder."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.data, self.copy, self._whole = folder / "data", folder / "copy", folder / "whole"
        self.chance = random.Random(seed)
        self._possible: dict[int, dict[str, set[State]]] = {}
        self._service = Service(self.data)

    def run(self, rounds: int) -> Iterator[tuple[str, str]]:
        """(fault, outcome) of each round. Raises AssertionError for a loss that nobody was told of."""
        with self._service as service:
            create_collection(service)
            join(run_writers(service, 0.2, self._possible))
        shutil.copytree(self.data, self.copy)
        for number in range(rounds):
            fault = FAULTS[number % len(FAULTS)] if rounds <= len(FAULTS) else self.chance.choice(FAULTS)
            self._service.start()
            writers = run_writers(self._service, self.chance.uniform(0.1, 0.4), self._possible)
            self._service.kill()
            join(writers)
            shutil.rmtree(self._whole, ignore_errors=True)
            shutil.copytree(self.data, self._whole)
            fault(self)
            yield fault.__name__, self._compare()
            if not number % 5:
                shutil.rmtree(self.copy)
                shutil.copytree(self.data, self.copy)

    def _compare(self) -> str:
        """How the service came back: 'whole', 'told' or 'refused'."""
        try:
            self._service.start()
        except AssertionError:
            self._service.__exit__()
            return self._restore()
        expected = {i: states for known in self._possible.values() for i, states in known.items()}
        with httpx.Client(base_url=f"{self._service.url}/v1/collections/docs/", timeout=30) as client:
            count = client.post("points/count", json={})
            if count.status_code != 200:
                self._service.kill()
                return self._restore()
            held = read_all(client, sorted(expected))
            assert count.json()["count"] == len(held), f"the index has {count.json()} and the store {len(held)}"
        wrong = [i for i, states in expected.items() if held.get(i) not in states]
        told = losses(self._service)
        assert not wrong or told, f"{len(wrong)} acknowledged points were lost unsaid: {wrong[:3]}"
        for known in self._possible.values():
            known.update({i: {held.get(i)} for i in known})
        self._service.kill()
        return "told" if wrong else "whole"

    def _restore(self) -> str:
        """The operator puts back what was there before the fault."""
        shutil.rmtree(self.data)
        shutil.copytree(self._whole, self.data)
        return "refused"


def losses(service: Service) -> int:
    """How often the service says that the store had lost something."""
    text = httpx.get(f"{service.url}/metrics", timeout=10).text
    lines = [line for line in text.splitlines() if line.startswith("bebr_collection_losses_total")]
    return sum(round(float(line.split()[-1])) for line in lines)
