"""Several processes on one port beside a single one: searches per second, processor time and memory of all of them.

    python -m bench.workers DATA [--points 1000000] [--workers 1,2,4] [--seconds 3] [--rounds 3]
        [--texts BUNDLES BUNDLE]

DATA is that of `bench.lists`. One data folder is filled, and its lists are measured, by one process; then each number
of workers serves it in turn. 32 clients search by vectors, on the same cores as the service, so that what more workers
gain is bounded by what the clients leave them. Memory is the sum of the proportional set sizes, in which a page that
several processes share counts once. Then the primary is killed: how long until a write is acknowledged again. Medians
of rounds. With --texts also searches by text of few points, where memory has the model: BUNDLES is a folder with a
BUNDLE that embeds texts.
"""

import argparse
import json
import math
import os
import re
import signal
import statistics
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
from bench._client import send
from bench._load import request
from bench.hot_path import TEXT_POINTS, sentences
from bench.http import COLLECTION, Process, print_table, running
from bench.lists import data_of
from bench.lists_http import CLIENTS, QUERIES, fill, searches, wait_for_lists

MIB = 1024
PAUSE_SECONDS = 0.01


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


def away_seconds(service: Process, point: dict[str, object]) -> float:
    """How long no write is acknowledged after the primary is killed."""
    primaries = [pid for pid in family(service.pid) if b"worker=0" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    if not primaries:
        return math.nan
    started = time.monotonic()
    os.kill(primaries[0], signal.SIGKILL)
    while True:
        with suppress(httpx.HTTPError):
            service.client.post(f"{COLLECTION}/points", json={"points": [point]}).raise_for_status()
            return time.monotonic() - started
        time.sleep(PAUSE_SECONDS)


def compare(
    folder: Path, requests: list[bytes], point: dict[str, object], arguments: argparse.Namespace, **settings: str
) -> None:
    """Serve a filled folder with each number of workers in turn, and print what was measured."""
    found: dict[int, list[tuple[float, ...]]] = {}
    for _ in range(arguments.rounds):
        for workers in map(int, arguments.workers.split(",")):
            with running(folder, workers=str(workers), **settings) as service:
                send(service.port, requests, connections=CLIENTS, seconds=1)
                figures = measured(service, requests, arguments.seconds)
                memory = pss_mib(service)
                found.setdefault(workers, []).append((*figures, memory, away_seconds(service, point)))
    rows = [["workers", "searches/s", "CPU a search", "p50", "memory", "writes again after"]]
    for workers, rounds in found.items():
        rate, cpu, p50, pss, away = map(statistics.median, zip(*rounds, strict=True))
        row = f"{rate:.0f}", f"{cpu * 1e6:.0f} us", f"{p50 * 1e3:.2f} ms", f"{pss:.0f} MiB", f"{away:.2f} s"
        rows.append([str(workers), *row])
    print_table(rows)


def compare_texts(bundles: str, bundle: str, arguments: argparse.Namespace) -> None:
    with TemporaryDirectory() as folder:
        with running(Path(folder), bundles_dir=bundles) as service:
            service.client.put(COLLECTION, json={"bundle": bundle}).raise_for_status()
            points = [{"id": f"p{n}", "text": text} for n, text in enumerate(sentences(TEXT_POINTS))]
            service.client.post(f"{COLLECTION}/points", json={"points": points}).raise_for_status()
        bodies = [json.dumps({"text": text}).encode() for text in sentences(QUERIES)]
        requests = [request("POST", f"{COLLECTION}/search", body) for body in bodies]
        compare(Path(folder), requests, points[0], arguments, bundles_dir=bundles)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texts", nargs=2, metavar=("BUNDLES", "BUNDLE"))
    arguments = parser.parse_args()
    real, _, asked = data_of(arguments.data, arguments.points)
    real = real[np.random.default_rng(0).permutation(len(real))]
    every = np.concatenate(list(asked.values()))
    requests = searches(every[np.random.default_rng(1).permutation(len(every))[:QUERIES]])
    with TemporaryDirectory() as folder:
        with running(Path(folder)) as service:
            fill(service, real, arguments.points)
            wait_for_lists(service, arguments.points)
        point = {"id": "document-0", "vector": real[0].tolist()}
        compare(Path(folder), requests, point, arguments)
    if arguments.texts:
        compare_texts(*arguments.texts, arguments)


if __name__ == "__main__":
    main()
