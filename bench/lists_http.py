"""Searches over HTTP by lists beside those that compare all codes: processor time, latency, rate.

    python -m bench.lists_http DATA [--points 100000,1000000] [--seconds 3] [--rounds 5]

DATA is that of `bench.lists`. For each number of points one service is filled with real embeddings, and with copies of
them that differ by noise where there are too few: those are for costs only. Once its lists are measured and change no
more, searches with the collection's recall of .98 and with none, which compares all codes, take turns: server CPU of a
search and p50 of one client; server CPU and searches per second of 32 clients on the same cores. Medians of rounds.
Before that, what each kind of query finds of its exact hits, and which share of the codes it reads.
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
OF_A_KIND = 100
WAIT_SECONDS = 1800
SETTLED_SECONDS = 60.0
"""Lists that were not changed for this long, and segments, change no more."""
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


def wait_for_lists(service: Process, points: int) -> None:
    """Until nearly all points are in lists that were measured, and nothing changes any more."""
    until, since, last = time.monotonic() + WAIT_SECONDS, time.monotonic(), None
    while time.monotonic() < until:
        lists = service.client.get(COLLECTION).json()["lists"]
        if lists != last:
            last, since = lists, time.monotonic()
        is_ready = any(
            one["state"] == "ready" and one["points"] > 0.9 * points and one["share"] is not None
            for one in lists.values()
        )
        if is_ready and time.monotonic() - since > SETTLED_SECONDS:
            return
        time.sleep(1)
    raise SystemExit(f"the lists of {points:,} points were not measured within {WAIT_SECONDS} s")


def found_by(service: Process, rows: NDArray[np.float32]) -> tuple[float, float]:
    """-> share of the exact hits that searches find, and of the codes that they read."""
    shared = hits = 0
    read = 0.0
    for row in rows:
        body = {"vector_b64": base64.b64encode(row.astype("<f4").tobytes()).decode(), "limit": 10}
        answers = [
            service.client.post(f"{COLLECTION}/search", json=body | options).raise_for_status().json()
            for options in ({"exact": True}, {"explain": True})
        ]
        exact, found = ({hit["id"] for hit in answer["hits"]} for answer in answers)
        shared, hits = shared + len(exact & found), hits + len(exact)
        lists = list(answers[1]["explain"]["lists"].values())
        read += lists[0]["rows_read"] / lists[0]["rows"] if lists else 1.0
    return shared / hits, read / len(rows)


def print_recall(service: Process, asked: dict[str, NDArray[np.float32]]) -> None:
    recalls = []
    for kind, rows in asked.items():
        recall, share = found_by(service, rows[:OF_A_KIND])
        recalls.append(recall)
        print(f"{kind:24} recall {recall:.3f}, {share:6.2%} of the codes", flush=True)
    print(f"mean of the kinds {statistics.mean(recalls):.3f}, worst {min(recalls):.3f}")


def measured(service: Process, requests: Sequence[bytes], clients: int, seconds: float) -> tuple[float, float, float]:
    """CPU seconds of the server a search, p50 seconds, searches per second."""
    before = service.cpu_seconds()
    load = send(service.port, requests, connections=clients, seconds=seconds)
    return (service.cpu_seconds() - before) / len(load.latencies), load.percentile(0.5), load.per_second


def measure(
    real: NDArray[np.float32], asked: dict[str, NDArray[np.float32]], points: int, arguments: argparse.Namespace
) -> None:
    every = np.concatenate(list(asked.values()))
    requests = searches(every[np.random.default_rng(1).permutation(len(every))[:QUERIES]])
    found: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    with TemporaryDirectory() as folder, running(Path(folder)) as service:
        fill(service, real, points)
        wait_for_lists(service, points)
        print_recall(service, asked)
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
        together, _, rate = map(statistics.median, zip(*found[way, CLIENTS], strict=True))
        figures = [f"{cpu * 1e6:.0f} us", f"{p50 * 1e3:.2f} ms", f"{together * 1e6:.0f} us", f"{rate:.0f}/s"]
        rows.append([f"{points:,}", way, *figures])
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
    real = real[np.random.default_rng(0).permutation(len(real))]
    print(f"{len(real):,} real embeddings; points, way, CPU and p50 of 1 client, CPU and rate of {CLIENTS}")
    for points in sizes:
        measure(real, asked, points, arguments)


if __name__ == "__main__":
    main()
