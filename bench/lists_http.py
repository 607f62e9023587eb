"""Searches over HTTP by lists beside those that compare all codes: processor time, latency, rate.

    python -m bench.lists_http DATA [--points 100000,1000000] [--seconds 3] [--rounds 5]

DATA is that of `bench.lists`. For each number of points one service is filled with real embeddings, and with copies of
them that differ by noise where there are too few: those are for costs only. Once its lists are measured, searches with
the collection's recall of .98 and with none, which compares all codes, take turns: server CPU of a search and p50 of
one client; searches per second of 32 clients on the same cores. Medians of rounds.
"""

import argparse
import base64
import json
import statistics
import struct
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from bench._client import send
from bench._load import generate, request
from bench.http import BINARY, BULK_CONNECTIONS, COLLECTION, FRAME_POINTS, FRAMES_AT_ONCE, Process, print_table, running
from bench.lists import data_of
from numpy.typing import NDArray

CLIENTS = 32
NOISE = 0.35
"""Length of what is added to a copy, beside 1 of the embedding."""
QUERIES = 256
WAIT_SECONDS = 1800
WAYS = {"lists": 0.98, "all codes": None}
"""The collection's recall."""


def frames(real: NDArray[np.float32], points: int) -> Iterator[bytes]:
    """Requests that write `points` points."""
    rng = np.random.default_rng(0)
    for first in range(0, points, FRAME_POINTS):
        numbers = np.arange(first, min(first + FRAME_POINTS, points))
        rows = real[numbers % len(real)]
        if first >= len(real):
            rows = rows + rng.standard_normal(rows.shape, np.float32) * np.float32(NOISE / rows.shape[1] ** 0.5)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        ids, metadata = [f"document-{n}" for n in numbers], [{"title": f"title of document {n}"} for n in numbers]
        header = {"dims": rows.shape[1], "count": len(rows), "ids": ids, "metadata": metadata}
        text = json.dumps(header).encode()
        body = struct.pack("<Q", len(text)) + text + rows.astype("<f4").tobytes()
        yield request("POST", f"{COLLECTION}/points/vectors", body, BINARY)


def searches(queries: NDArray[np.float32]) -> list[bytes]:
    bodies = [{"vector_b64": base64.b64encode(row.astype("<f4").tobytes()).decode(), "limit": 10} for row in queries]
    return [request("POST", f"{COLLECTION}/search", json.dumps(body).encode()) for body in bodies]


def fill(service: Process, real: NDArray[np.float32], points: int) -> None:
    service.put_collection()
    remaining = frames(real, points)
    while batch := list(islice(remaining, FRAMES_AT_ONCE)):
        generate(service.port, batch, connections=BULK_CONNECTIONS, seconds=1e9, most=len(batch))
    assert service.points() == points, "not every point that was answered is there"


def wait_for_lists(service: Process, points: int) -> str:
    """Until nearly all points are in lists that were measured; the share of the codes that searches read then."""
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        for lists in service.client.get(COLLECTION).json()["lists"].values():
            is_ready = lists["state"] == "ready" and lists["points"] > 0.9 * points
            if is_ready and lists.get("share") is not None:
                return f"{lists['share']:.3f}"
        time.sleep(1)
    raise SystemExit(f"the lists of {points:,} points were not measured within {WAIT_SECONDS} s")


def measured(service: Process, requests: Sequence[bytes], clients: int, seconds: float) -> tuple[float, float, float]:
    """CPU seconds of the server a search, p50 seconds, searches per second."""
    before = service.cpu_seconds()
    load = send(service.port, requests, connections=clients, seconds=seconds)
    return (service.cpu_seconds() - before) / len(load.latencies), load.percentile(0.5), load.per_second


def measure(real: NDArray[np.float32], requests: Sequence[bytes], points: int, arguments: argparse.Namespace) -> None:
    found: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    with TemporaryDirectory() as folder, running(Path(folder)) as service:
        fill(service, real, points)
        share = wait_for_lists(service, points)
        for _ in range(arguments.rounds):
            for way, recall in WAYS.items():
                service.client.patch(COLLECTION, json={"recall": recall}).raise_for_status()
                send(service.port, requests, connections=1, seconds=0.5)
                for clients in (1, CLIENTS):
                    result = measured(service, requests, clients, arguments.seconds)
                    found.setdefault((way, clients), []).append(result)
    rows = []
    for way in WAYS:
        cpu, p50, _ = map(statistics.median, zip(*found[way, 1], strict=True))
        _, _, rate = map(statistics.median, zip(*found[way, CLIENTS], strict=True))
        rows.append([f"{points:,}", way, share, f"{cpu * 1e6:.0f} us", f"{p50 * 1e3:.2f} ms", f"{rate:.0f}/s"])
    print_table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--points", default="100000,1000000")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.points.split(",")]
    real, _, asked = data_of(arguments.data, max(sizes))
    every = np.concatenate(list(asked.values()))
    chosen = every[np.random.default_rng(1).permutation(len(every))[:QUERIES]]
    real = real[np.random.default_rng(0).permutation(len(real))]
    print(f"{len(real):,} real embeddings; points, way, share of codes read, CPU, p50 of 1 client, rate of {CLIENTS}")
    for points in sizes:
        measure(real, searches(chosen), points, arguments)


if __name__ == "__main__":
    main()
