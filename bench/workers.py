"""Several processes on one port beside a single one: searches per second, processor time and memory of all of them.

    python -m bench.workers DATA [--points 1000000] [--workers 1,2,4] [--seconds 3] [--rounds 3]

DATA is that of `bench.lists`. One data folder is filled, and its lists are measured, by one process; then each number
of workers serves it in turn. 32 clients search by vectors, on the same cores as the service, so that what more workers
gain is bounded by what the clients leave them. Memory is the sum of the proportional set sizes, in which a page that
several processes share counts once. Medians of rounds.
"""

import argparse
import os
import re
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from bench._client import send
from bench.http import Process, print_table, running
from bench.lists import data_of
from bench.lists_http import CLIENTS, QUERIES, fill, searches, wait_for_lists

MIB = 1024


def family(pid: int) -> list[int]:
    """A process and all that it has started."""
    children = [
        int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()
    ]
    return [pid, *(one for child in children for one in family(child))]


def cpu_seconds(service: Process) -> float:
    seconds = 0
    for pid in family(service.pid):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        seconds += int(fields[11]) + int(fields[12])
    return seconds / os.sysconf("SC_CLK_TCK")


def pss_mib(service: Process) -> float:
    rolled = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in family(service.pid)]
    return sum(int(re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE)[0]) for text in rolled) / MIB


def measured(service: Process, requests: list[bytes], seconds: float) -> tuple[float, float, float]:
    """Searches per second, CPU seconds of a search, p50 seconds."""
    before = cpu_seconds(service)
    load = send(service.port, requests, connections=CLIENTS, seconds=seconds)
    return load.per_second, (cpu_seconds(service) - before) / len(load.latencies), load.percentile(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    real, _, asked = data_of(arguments.data, arguments.points)
    real = real[np.random.default_rng(0).permutation(len(real))]
    every = np.concatenate(list(asked.values()))
    requests = searches(every[np.random.default_rng(1).permutation(len(every))[:QUERIES]])
    found: dict[int, list[tuple[float, float, float, float]]] = {}
    with TemporaryDirectory() as folder:
        with running(Path(folder)) as service:
            fill(service, real, arguments.points)
            wait_for_lists(service, arguments.points)
        for _ in range(arguments.rounds):
            for workers in map(int, arguments.workers.split(",")):
                with running(Path(folder), workers=str(workers)) as service:
                    send(service.port, requests, connections=CLIENTS, seconds=1)
                    figures = measured(service, requests, arguments.seconds)
                    found.setdefault(workers, []).append((*figures, pss_mib(service)))
    rows = [["workers", "searches/s", "CPU a search", "p50", "memory"]]
    for workers, rounds in found.items():
        rate, cpu, p50, pss = map(statistics.median, zip(*rounds, strict=True))
        rows.append([str(workers), f"{rate:.0f}", f"{cpu * 1e6:.0f} us", f"{p50 * 1e3:.2f} ms", f"{pss:.0f} MiB"])
    print_table(rows)


if __name__ == "__main__":
    main()
