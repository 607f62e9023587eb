"""Kills and store faults at random, against a model: no acknowledged write may be lost unsaid.

    python -m bench.kills --rounds 200 [--seed 1] [--stores sqlite,redis]

Each round has writes, changes of metadata, writes with idempotency keys, an ingestion and often a collection's own fit
under way, kills the service or its store or does something to its files, and compares all that is there afterwards with
what the clients know. What is missing is a loss: a metric must tell it, or the collection or service refuse to serve.
Prints a line for each round, and then how often each fault had each outcome.
"""

import argparse
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parents[1])]

from faults.drill import Drill  # noqa: E402
from faults.store_faults import REDIS, SQLITE  # noqa: E402

OUTCOMES = ("whole", "told", "refused", "failed")
FAULTS = {"sqlite": SQLITE, "redis": REDIS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200, help="in all, half of them with each store")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stores", default="sqlite,redis")
    options = parser.parse_args()
    stores = options.stores.split(",")
    counts: Counter[tuple[str, str, str]] = Counter()
    for store, rounds in zip(stores, shares(options.rounds, len(stores)), strict=True):
        for fault, outcome in drill(store, rounds, options.seed):
            counts[store, fault, outcome] += 1
    print_table(counts)
    print(f"{sum(counts.values())} rounds, 0 acknowledged writes lost unsaid")


def shares(total: int, parts: int) -> list[int]:
    return [total // parts + (number < total % parts) for number in range(parts)]


def drill(store: str, rounds: int, seed: int) -> Iterator[tuple[str, str]]:
    folder = Path(mkdtemp(prefix="bebr-kills-"))
    one = Drill(folder, seed, FAULTS[store], redis=store == "redis")
    one.begins = lambda fault: print(f"{store:6} {fault:14} ", end="", flush=True)
    started = time.monotonic()
    try:
        for number, (fault, outcome) in enumerate(one.run(rounds), 1):
            took, started = time.monotonic() - started, time.monotonic()
            print(f"{outcome:8} {took:5.1f} s  {number:4} of {rounds}", flush=True)
            yield fault, outcome
    except BaseException as error:
        error.add_note(f"what the round had is kept in {folder}")
        raise
    shutil.rmtree(folder)


def print_table(counts: Counter[tuple[str, str, str]]) -> None:
    print(f"\n| store | fault | {' | '.join(OUTCOMES)} |\n|---|---|{'---|' * len(OUTCOMES)}")
    for store, fault in sorted({(store, fault) for store, fault, _ in counts}):
        print(f"| {store} | {fault} | {' | '.join(str(counts[store, fault, outcome]) for outcome in OUTCOMES)} |")


if __name__ == "__main__":
    main()
