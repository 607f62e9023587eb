"""kill -9 of random processes of a service of several, under load, and what is there afterwards.

    python -m bench.kill_rounds --rounds 200 [--store sqlite|valkey|cluster] [--workers 3] [--services 1] [--seed 1]
                                [--only master,...] [--results FILE]
    python -m bench.kill_rounds --rounds 0 --results FILE

In each round clients write and search while followers, the primary, the supervisor, all at once, the store, or a
master whose replica lags are killed, or the service is reloaded. What has ended is started again, and then each worker
is asked for all that it knows. Prints a line for each round, and tables at the end. A round in which something does not
come about says what, is no round, and is repeated.

With --results each round is written down at once: the same command goes on where one that was ended stopped, and the
tables are of all that the file has, of any number of runs. The last line above prints them only.
"""

import argparse
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Self

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parents[1])]

from tests.cluster import Cluster, running_cluster  # noqa: E402
from tests.servers import Server, ServerKind, running_server  # noqa: E402

from faults.rounds import Round, Rounds  # noqa: E402

STORES = ("sqlite", "valkey", "cluster")


@dataclass(frozen=True)
class Entry:
    """A round of a run."""

    store: str
    services: int
    round: Round

    @classmethod
    def read(cls, line: str) -> Self:
        fields = json.loads(line)
        fields["round"]["failed"] = Counter(fields["round"]["failed"])
        return cls(fields["store"], fields["services"], Round(**fields["round"]))

    def line(self) -> str:
        return json.dumps({"store": self.store, "services": self.services, "round": vars(self.round)})

    def of(self, store: str, services: int) -> bool:
        return (self.store, self.services) == (store, services)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200, help="with each store, those in the file included")
    parser.add_argument("--store", choices=STORES, action="append", help="default: all three")
    parser.add_argument("--workers", type=int, default=3, help="processes of each service")
    parser.add_argument("--services", type=int, default=1, help="services that share the store; not with sqlite")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="names of faults, with commas between them")
    parser.add_argument("--results", type=Path, help="where rounds are written down, and read")
    options = parser.parse_args()
    if options.services > 1 and "sqlite" in (options.store or STORES):
        parser.error("several services need --store valkey or --store cluster")
    done = []
    if options.results is not None and options.results.exists():
        done = [Entry.read(line) for line in options.results.read_text("utf-8").splitlines()]
    for store in options.store or STORES:
        before = sum(one.of(store, options.services) and not one.round.unjudged for one in done)
        for entry in run(store, options, before) if before < options.rounds else ():
            done.append(entry)
            if options.results is not None:
                with options.results.open("a", encoding="utf-8") as results:
                    results.write(entry.line() + "\n")
    print_tables(done)
    sys.exit(any(one.round.is_wrong for one in done))


def run(store: str, options: argparse.Namespace, before: int) -> Iterator[Entry]:
    """before: how many rounds there are already."""
    folder = Path(mkdtemp(prefix="bebr-rounds-"))
    only = [name for name in options.only.split(",") if name]
    with opened(store) as server:
        rounds = Rounds(folder, options.seed + before, server, options.workers, options.services, only)
        started, number = time.monotonic(), before
        for one in rounds.run(options.rounds - before, before):
            number += not one.unjudged
            took, started = time.monotonic() - started, time.monotonic()
            print(
                f"{store:8} {number:4} of {options.rounds}  {one.faults:24} {one.acknowledged:5} acknowledged, "
                f"{one.failed.total():4} failed, {len(one.lost)} lost, {len(one.unequal)} unequal, "
                f"{len(one.stale)} stale  {took:5.1f} s",
                flush=True,
            )
            for said in (one.lost + one.unequal + one.stale)[:5]:
                print(f"    {said}", flush=True)
            if one.unjudged:
                print(f"    not judged: {one.unjudged}", flush=True)
            yield Entry(store, options.services, one)
    shutil.rmtree(folder)


@contextmanager
def opened(store: str) -> Iterator[Server | Cluster | None]:
    if store == "sqlite":
        yield None
    elif store == "valkey":
        with running_server(ServerKind.VALKEY, appendfsync="everysec") as server:
            yield server
    else:
        with running_cluster() as cluster:
            yield cluster


def print_tables(done: list[Entry]) -> None:
    print("\n| store | services | killed | rounds | acknowledged | lost | unequal | stale | failed requests |")
    print("|---|---|---|---|---|---|---|---|---|")
    for key in sorted({(one.store, one.services, one.round.faults) for one in done}):
        print_row(key, [one.round for one in done if (one.store, one.services, one.round.faults) == key])
    print("\n| store | services | rounds | acknowledged | lost | unequal | stale | failed requests |")
    print("|---|---|---|---|---|---|---|---|")
    for store, services in sorted({(one.store, one.services) for one in done}):
        print_row((store, services), [one.round for one in done if one.of(store, services)])
    judged = [one.round for one in done if not one.round.unjudged]
    wrong = sum(one.round.is_wrong for one in done)
    said = f"{len(done) - len(judged)} could not be judged and were repeated"
    print(f"\n{len(judged)} rounds, {wrong} of them with something lost, unequal or stale; {said}")


def print_row(key: tuple[object, ...], rounds: list[Round]) -> None:
    failed = sum((one.failed for one in rounds), Counter[str]())
    said = ", ".join(f"{count} {kind}" for kind, count in failed.most_common()) or "0"
    counts = [sum(len(getattr(one, name)) for one in rounds) for name in ("lost", "unequal", "stale")]
    judged = sum(not one.unjudged for one in rounds)
    cells = [*key, judged, sum(one.acknowledged for one in rounds), *counts, said]
    print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
