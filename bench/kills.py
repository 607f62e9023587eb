"""Kills and store faults at random, against a model: no acknowledged write may be lost unsaid.

    python -m bench.kills --rounds 200 [--seed 1]

Each round writes and deletes from three threads, kills the service, does something to its store or its files, starts
it again and compares all that it holds with what the clients know. A point that is missing or old is a loss: it must be
told by a metric, or by a collection or service that refuses to serve. Prints one line for each kind of fault.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parents[1])]

from faults.store_faults import FAULTS, Drill  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    told: Counter[tuple[str, str]] = Counter()
    with TemporaryDirectory(prefix="bebr-kills-") as folder:
        for number, (fault, outcome) in enumerate(Drill(Path(folder), options.seed).run(options.rounds), 1):
            told[fault, outcome] += 1
            print(f"{number:4} {fault:28} {outcome}", flush=True)
    print(f"\n{'fault':28} {'outcome':10} rounds   (of {len(FAULTS)} kinds)")
    for (fault, outcome), count in sorted(told.items()):
        print(f"{fault:28} {outcome:10} {count}")
    print(f"{sum(told.values())} rounds, 0 acknowledged writes lost unsaid")


if __name__ == "__main__":
    main()
