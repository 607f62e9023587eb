"""kill -9 of random processes of a service of several, under load, and what is there afterwards.

    python -m bench.kill_rounds --rounds 200 [--store sqlite|valkey|cluster] [--workers 3] [--services 1] [--seed 1]

In each round clients write and search while followers, the primary, the supervisor, all at once, the store, or a
master whose replica lags are killed, or the service is reloaded. What has ended is started again, and then each worker
is asked for all that it knows. Prints a line for each round, and a table at the end.
"""

import argparse
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parents[1])]

from tests.cluster import Cluster, running_cluster  # noqa: E402
from tests.servers import Server, ServerKind, running_server  # noqa: E402

from faults.rounds import Round, Rounds  # noqa: E402

STORES = ("sqlite", "valkey", "cluster")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200, help="with each store")
    parser.add_argument("--store", choices=STORES, action="append", help="default: all three")
    parser.add_argument("--workers", type=int, default=3, help="processes of each service")
    parser.add_argument("--services", type=int, default=1, help="services that share the store; not with sqlite")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.services > 1 and "sqlite" in (options.store or STORES):
        parser.error("several services need --store valkey or --store cluster")
    done: list[tuple[str, Round]] = []
    for store in options.store or STORES:
        done += [(store, one) for one in run(store, options)]
    print_table(done)
    wrong = sum(bool(one.lost or one.unequal or one.stale) for _, one in done)
    print(f"{len(done)} rounds, {wrong} of them with something lost, unequal or stale")
    sys.exit(bool(wrong))


def run(store: str, options: argparse.Namespace) -> Iterator[Round]:
    folder = Path(mkdtemp(prefix="bebr-rounds-"))
    with opened(store) as server:
        rounds = Rounds(folder, options.seed, server, options.workers, options.services)
        started = time.monotonic()
        for number, one in enumerate(rounds.run(options.rounds), 1):
            took, started = time.monotonic() - started, time.monotonic()
            print(
                f"{store:8} {number:4} of {options.rounds}  {one.faults:24} {one.acknowledged:5} acknowledged, "
                f"{one.failed.total():4} failed, {len(one.lost)} lost, {len(one.unequal)} unequal, "
                f"{len(one.stale)} stale  {took:5.1f} s",
                flush=True,
            )
            for said in (one.lost + one.unequal + one.stale)[:5]:
                print(f"    {said}", flush=True)
            yield one
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


def print_table(done: list[tuple[str, Round]]) -> None:
    print("\n| store | killed | rounds | acknowledged | lost | unequal | stale | failed requests |")
    print("|---|---|---|---|---|---|---|---|")
    for store, faults in sorted({(store, one.faults) for store, one in done}):
        some = [one for other, one in done if (other, one.faults) == (store, faults)]
        failed = sum((one.failed for one in some), Counter[str]())
        counts = [sum(len(getattr(one, name)) for one in some) for name in ("lost", "unequal", "stale")]
        said = ", ".join(f"{count} {kind}" for kind, count in failed.most_common()) or "0"
        acknowledged = sum(one.acknowledged for one in some)
        print(f"| {store} | {faults} | {len(some)} | {acknowledged} | {' | '.join(map(str, counts))} | {said} |")


if __name__ == "__main__":
    main()
