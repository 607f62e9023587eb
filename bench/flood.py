"""Flood the service: ten times what it can do, of each kind of load, and see what becomes of everybody.

    python -m bench.flood [--points 100000] [--seconds 10] [--times 10]
        [--parts vectors,texts,embeddings,writes,ingest]

For each kind: the latency without other load, the capacity (closed loop), then an open loop of ten
times that, with probes and searches of an idle neighbour collection beside it. The service runs in a process of its
own; the load comes from others on the same machine and takes its part of it.

goodput   answers with 200 per second that came within 2 s, and their share of the capacity
p99 200   of the accepted, from when they were due; also in multiples of the unloaded p99
p99 429   of the refused
stopped   the longest time for which the service looked at no socket
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from bench._load import generate, request
from bench._open_loop import Flood, Generators
from bench.http import BUNDLE, COLLECTION, Process, fill, print_table, running, searches, vectors

from bebr.encoding.importing.pull import PullOptions, pull

NEIGHBOUR = "/v1/collections/neighbour"
CAPACITY_CONNECTIONS = {"vectors": 32, "texts": 16, "embeddings": 4, "writes": 32}
"""Enough to keep the service busy, and too few to be refused."""
PROBES_PER_S, NEIGHBOURS_PER_S = 50, 20
UNLOADED_SECONDS = 5.0
PATIENCE_SECONDS = 2.0
"""Callers' deadline, of those who do not say: an answer that comes later is not counted."""
INGEST_SECONDS = 30.0
"""A job counts what it wrote by batches of several seconds."""
WORDS = ["retrieval", "of", "binary", "codes", "needs", "few", "bytes", "for", "each", "point", "and", "finds"]


def texts(count: int, words: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, words)) + f" {n}" for n in range(count)]


def post(path: str, body: Any) -> bytes:
    return request("POST", path, json.dumps(body).encode())


def text_searches() -> list[bytes]:
    return [post(f"{COLLECTION}/search", {"text": text, "limit": 10}) for text in texts(500, 12)]


def embeddings() -> list[bytes]:
    return [post("/v1/embeddings", {"input": texts(4, 40, seed=n)}) for n in range(100)]


def writes() -> list[bytes]:
    """Small writes of vectors."""
    rows = vectors(200, seed=7).round(4).tolist()
    return [
        post(f"{COLLECTION}/points", {"points": [{"id": f"w{n}", "vector": row, "metadata": {"title": f"title {n}"}}]})
        for n, row in enumerate(rows)
    ]


KINDS: dict[str, Callable[[], list[bytes]]] = {
    "vectors": searches,
    "texts": text_searches,
    "embeddings": embeddings,
    "writes": writes,
}


def neighbour_searches() -> list[bytes]:
    return [body.replace(b"/v1/collections/bench/", b"/v1/collections/neighbour/") for body in searches()]


def stopped_seconds(service: Process) -> float:
    """The longest time since the last look for which the loop stood still."""
    for line in service.client.get("/metrics").text.splitlines():
        if line.startswith("bebr_loop_stopped_max_seconds "):
            return float(line.split()[1])
    return float("nan")


def prepare(service: Process, points: int) -> None:
    service.put_collection()
    fill(service, points)
    service.client.put(NEIGHBOUR, json={"bundle": BUNDLE}).raise_for_status()
    body = {"points": [{"id": f"n{n}", "vector": row} for n, row in enumerate(vectors(1000, seed=3).tolist())]}
    service.client.post(f"{NEIGHBOUR}/points", json=body).raise_for_status()


def beside(service: Process, generators: Generators, seconds: float) -> "Callable[[], tuple[Flood, Flood]]":
    """Probes and a neighbour's searches while something else happens; call it for what came of them."""
    probes = generators.start(
        service.port, [request("GET", "/livez")], rate=PROBES_PER_S, seconds=seconds, connections=50
    )
    neighbours = generators.start(
        service.port, neighbour_searches(), rate=NEIGHBOURS_PER_S, seconds=seconds, connections=50
    )
    return lambda: (probes.result(), neighbours.result())


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"


def measure(
    service: Process, generators: Generators, name: str, requests: Sequence[bytes], arguments: argparse.Namespace
) -> list[str]:
    generate(service.port, requests, connections=1, seconds=1)
    load = generate(service.port, requests, connections=CAPACITY_CONNECTIONS[name], seconds=arguments.seconds)
    rate = max(1.0, min(20.0, load.per_second / 10))
    quiet = beside(service, generators, UNLOADED_SECONDS)
    unloaded = generators.start(service.port, requests, rate=rate, seconds=UNLOADED_SECONDS).result()
    _, neighbour_before = quiet()
    stopped_seconds(service)
    loud = beside(service, generators, arguments.seconds)
    flood = generators.start(
        service.port, requests, rate=load.per_second * arguments.times, seconds=arguments.seconds
    ).result()
    probes, neighbour = loud()
    stopped = stopped_seconds(service)
    goodput = flood.goodput(PATIENCE_SECONDS)
    others = {status: len(found) for status, found in flood.latencies.items() if status not in (200, 429)}
    accepted, before = flood.percentile(0.99, 200), unloaded.percentile(0.99, 200)
    return [
        name,
        f"{ms(unloaded.percentile(0.5, 200))} / {ms(before)}",
        f"{load.per_second:.0f}",
        f"{flood.due / flood.seconds:.0f}",
        f"{goodput:.0f} ({goodput / load.per_second:.0%})",
        f"{ms(flood.percentile(0.5, 200))} / {ms(accepted)} ({accepted / before:.1f}x)",
        f"{ms(flood.percentile(0.5, 429))} / {ms(flood.percentile(0.99, 429))}",
        ms(probes.percentile(0.99, *probes.latencies)),
        f"{ms(neighbour_before.percentile(0.99, 200))} -> {ms(neighbour.percentile(0.99, *neighbour.latencies))}",
        ms(stopped),
        str(others or ""),
    ]


HEAD = [
    "load",
    "unloaded p50 / p99 ms",
    "capacity /s",
    "offered /s",
    "goodput /s",
    "200: p50 / p99 ms",
    "429: p50 / p99 ms",
    "livez p99 ms",
    "neighbour p99 ms",
    "stopped ms",
    "other",
]


def measure_ingest(service: Process, generators: Generators, seconds: float) -> list[list[str]]:
    """Searches by vector, alone and while texts are ingested as fast as that goes."""
    found = []
    rate = 50
    generate(service.port, searches(), connections=1, seconds=1)
    for busy in (False, True):
        job = None
        if busy:
            lines = [json.dumps({"id": f"t{n}", "text": text}) for n, text in enumerate(texts(200_000, 40))]
            headers = {"content-type": "application/x-ndjson"}
            answer = service.client.post(f"{COLLECTION}/ingest", content="\n".join(lines).encode(), headers=headers)
            job = answer.raise_for_status().json()["job"]
            time.sleep(2)
            before = service.client.get(f"/v1/jobs/{job}").json()["applied"]
        stopped_seconds(service)
        probes = beside(service, generators, seconds)
        load = generators.start(service.port, searches(), rate=rate, seconds=seconds, connections=32).result()
        livez, _ = probes()
        speed = ""
        if job is not None:
            speed = f"{(service.client.get(f'/v1/jobs/{job}').json()['applied'] - before) / seconds:.0f} texts/s"
            service.client.delete(f"/v1/jobs/{job}")
        found.append(
            [
                "searches while texts are ingested" if busy else "searches alone",
                f"{ms(load.percentile(0.5, 200))} / {ms(load.percentile(0.99, 200))}",
                ms(livez.percentile(0.99, 200)),
                ms(stopped_seconds(service)),
                speed,
            ]
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--times", type=float, default=10)
    parser.add_argument("--parts", default=",".join([*KINDS, "ingest"]))
    arguments = parser.parse_args()
    generators = Generators(3)
    with TemporaryDirectory() as folder:
        pull("minilm", Path(folder) / "bundles", PullOptions(version="1"))
        with running(Path(folder)) as service:
            run(service, generators, arguments)
    generators.close()


def run(service: Process, generators: Generators, arguments: argparse.Namespace) -> None:
    rows = []
    parts = arguments.parts.split(",")
    prepare(service, arguments.points)
    for name in KINDS:
        if name in parts:
            rows.append(measure(service, generators, name, KINDS[name](), arguments))
    if rows:
        print_table([HEAD, *rows])
    if "ingest" in parts:
        head = ["", "p50 / p99 ms", "livez p99 ms", "stopped ms", "ingested"]
        print_table([head, *measure_ingest(service, generators, max(INGEST_SECONDS, arguments.seconds))])


if __name__ == "__main__":
    main()
