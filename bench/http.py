"""Measure the service over HTTP, as its users see it: a real process, loopback, clients in a process of their own.

    python -m bench.http [--points 1000000] [--bulk-points 200000] [--seconds 10] [--parts cpu,bulk,rescore,batching]

cpu       server CPU per request of a search by base64 vector, among 1,000 points, one connection; nothing left out
bulk      vectors through /points/vectors to durable and searchable, on SQLite and on Redis
rescore   the same on SQLite, by bundles without and with rescore codes, in turns
batching  searches per second among many points, 32 connections, with searches batched into one scan and without

Server and clients share the machine, so on few cores the clients take their part of every figure but `cpu`.
"""

import argparse
import base64
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
from bench._load import Load, generate, request
from tests.servers import ServerKind, running_server

BUNDLE, RESCORED = "minilm@1", "minilm@2"
ROUNDS = 3
"""Of each bundle; the best counts, for what disturbs a run makes it slower."""
DIMS = 384
CPU_POINTS = 1000
CPU_REQUESTS = 4000
FRAME_POINTS = 2000
FRAMES_AT_ONCE = 64
BULK_CONNECTIONS = 4
SEARCH_CONNECTIONS = 32
QUERIES = 64
START_SECONDS = 120
JSON, BINARY = "application/json", "application/octet-stream"
COLLECTION = "/v1/collections/bench"


class Process:
    """A running service."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=START_SECONDS)

    def cpu_seconds(self) -> float:
        """User and system time of all its threads so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def put_collection(self, bundle: str = BUNDLE) -> None:
        self.client.put(COLLECTION, json={"bundle": bundle}).raise_for_status()

    def points(self) -> int:
        count: int = self.client.post(f"{COLLECTION}/points/count").json()["count"]
        return count


@contextmanager
def running(folder: Path, **settings: str) -> Iterator[Process]:
    """`bebr serve` in a process of its own, ready; it ends with the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {f"BEBR_{name.upper()}": value for name, value in settings.items()}
    command = [
        sys.executable,
        "-c",
        "from bebr.cli import main; main()",
        "serve",
        "--port",
        str(port),
        "--data-dir",
        str(folder),
    ]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    service = Process(port, process.pid)
    try:
        wait_until_ready(service, process)
        yield service
    finally:
        service.client.close()
        process.terminate()
        process.wait(START_SECONDS)


def wait_until_ready(service: Process, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        try:
            if service.client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass  # it does not listen yet
        time.sleep(0.05)
    raise RuntimeError("the service did not become ready; run the command above by hand to see why")


def vectors(count: int, seed: int) -> np.ndarray:
    """Unit vectors (count, DIMS) float32 of no meaning."""
    rows = np.random.default_rng(seed).standard_normal((count, DIMS), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def frames(points: int) -> Iterator[bytes]:
    """Requests that write `points` points with small metadata."""
    for first in range(0, points, FRAME_POINTS):
        count = min(FRAME_POINTS, points - first)
        numbers = range(first, first + count)
        metadata = [{"title": f"title of document {n}", "year": 2000 + n % 25} for n in numbers]
        header = {"dims": DIMS, "count": count, "ids": [f"document-{n}" for n in numbers], "metadata": metadata}
        text = json.dumps(header).encode()
        rows = vectors(count, seed=first).tobytes()
        yield request("POST", f"{COLLECTION}/points/vectors", struct.pack("<Q", len(text)) + text + rows, BINARY)


def searches() -> list[bytes]:
    """Requests that search by base64 vector, ten hits each."""
    bodies = [
        {"vector_b64": base64.b64encode(row.tobytes()).decode(), "limit": 10} for row in vectors(QUERIES, seed=2**31)
    ]
    return [request("POST", f"{COLLECTION}/search", json.dumps(body).encode()) for body in bodies]


def fill(service: Process, points: int) -> float:
    """Write points over several connections and return points per second. Requests are built in advance, in rounds."""
    remaining, seconds = frames(points), 0.0
    while batch := list(islice(remaining, FRAMES_AT_ONCE)):
        load = generate(service.port, batch, connections=BULK_CONNECTIONS, seconds=1e9, most=len(batch))
        seconds += load.seconds
    assert service.points() == points, "not every point that was answered is there"
    return points / seconds


def measure_cpu(_: argparse.Namespace) -> list[list[str]]:
    with TemporaryDirectory() as folder, running(Path(folder)) as service:
        service.put_collection()
        fill(service, CPU_POINTS)
        rows = []
        for name, requests in (("search, base64 vector", searches()), ("/livez", [request("GET", "/livez")])):
            generate(service.port, requests, connections=1, seconds=60, most=500)
            samples = []
            for _ in range(3):
                before = service.cpu_seconds()
                load = generate(service.port, requests, connections=1, seconds=60, most=CPU_REQUESTS)
                samples.append((service.cpu_seconds() - before) / len(load.latencies) * 1e6)
            rows.append([f"{name}: server CPU per request", f"{statistics.median(samples):.0f} us", describe(load)])
        return rows


def measure_bulk(arguments: argparse.Namespace) -> list[list[str]]:
    rows = []
    for name in ("SQLite", "Redis"):
        with TemporaryDirectory() as folder, store(name) as settings, running(Path(folder), **settings) as service:
            service.put_collection()
            before = service.cpu_seconds()
            rate = fill(service, arguments.bulk_points)
            cpu = (service.cpu_seconds() - before) / arguments.bulk_points * 1e6
            found = f"{arguments.bulk_points} points, {cpu:.0f} us of server CPU each"
            rows.append([f"bulk vectors, {name}: durable and searchable", f"{rate:.0f} points/s", found])
    return rows


@contextmanager
def store(name: str) -> Iterator[dict[str, str]]:
    """The settings of a store; a Redis server that syncs every write is started for it."""
    if name == "SQLite":
        yield {}
    else:
        with running_server(ServerKind.REDIS) as server:
            yield {"redis_url": server.url}


def measure_batching(arguments: argparse.Namespace) -> list[list[str]]:
    rates: dict[str, list[Load]] = {"true": [], "false": []}
    with TemporaryDirectory() as folder:
        with running(Path(folder)) as service:
            service.put_collection()
            filled = fill(service, arguments.points)
        for batching in ("true", "false") * 2:
            with running(Path(folder), batching=batching) as service:
                generate(service.port, searches(), connections=SEARCH_CONNECTIONS, seconds=1)
                load = generate(service.port, searches(), connections=SEARCH_CONNECTIONS, seconds=arguments.seconds)
                rates[batching].append(load)
    on, off = (max(rates[batching], key=lambda load: load.per_second) for batching in ("true", "false"))
    what = f"search among {arguments.points} points, {SEARCH_CONNECTIONS} connections"
    return [
        [f"{what}: batching on", f"{on.per_second:.0f}/s", describe(on)],
        [f"{what}: batching off", f"{off.per_second:.0f}/s", describe(off)],
        [f"{what}: on against off", f"{on.per_second / off.per_second:.2f}x", f"filled at {filled:.0f} points/s"],
    ]


def describe(load: Load) -> str:
    p50, p99 = (load.percentile(share) * 1000 for share in (0.5, 0.99))
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, {len(load.latencies)} requests"


def print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), flush=True)


def measure_rescore(arguments: argparse.Namespace) -> list[list[str]]:
    """Bulk vectors without and with rescore codes, in turns."""
    rates: dict[str, list[float]] = {BUNDLE: [], RESCORED: []}
    cpus: dict[str, list[float]] = {BUNDLE: [], RESCORED: []}
    for _ in range(ROUNDS):
        for bundle in rates:
            with TemporaryDirectory() as folder, running(Path(folder)) as service:
                service.put_collection(bundle)
                before = service.cpu_seconds()
                rates[bundle].append(fill(service, arguments.bulk_points))
                cpus[bundle].append((service.cpu_seconds() - before) / arguments.bulk_points * 1e6)
    shown = [
        [bundle, f"{max(rates[bundle]):.0f} points/s", f"{min(cpus[bundle]):.1f} us of CPU each"] for bundle in rates
    ]
    rate = max(rates[RESCORED]) / max(rates[BUNDLE])
    return [*shown, ["with rescore codes / without", f"{rate:.2f}", f"{min(cpus[BUNDLE]) / min(cpus[RESCORED]):.2f}"]]


PARTS: dict[str, Any] = {
    "cpu": measure_cpu,
    "bulk": measure_bulk,
    "rescore": measure_rescore,
    "batching": measure_batching,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--bulk-points", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--parts", default=",".join(PARTS))
    arguments = parser.parse_args()
    for part in arguments.parts.split(","):
        print_table(PARTS[part](arguments))


if __name__ == "__main__":
    main()
