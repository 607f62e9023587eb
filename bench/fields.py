"""Adding filterable fields to points that there are, beside searches and writes: seconds, and what searches take.

    python -m bench.fields [--points 1000000] [--clients 2]

One service is filled with points of random vectors and small metadata; then `year` (integer) and `title` (keyword, no
two alike) are added, one after the other, while clients search and one writes. Any answer but 200 is a failed search.
"""

import argparse
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from bench._load import generate
from bench.http import BULK_CONNECTIONS, COLLECTION, FRAMES_AT_ONCE, Process, frames, print_table, running, vectors

FIELDS = {"year": "integer", "title": "keyword"}
WRITE_POINTS, WRITE_PAUSE_SECONDS = 100, 0.5
CALM_SECONDS = 5.0
POLL_SECONDS = 0.05


@dataclass
class Seen:
    """What the clients saw."""

    latencies: list[float] = field(default_factory=list)
    failed: int = 0
    written: int = 0

    def percentile(self, share: float) -> str:
        ordered = sorted(self.latencies)
        return f"{ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1e3:.1f} ms" if ordered else "-"


@contextmanager
def clients(service: Process, searchers: int, writes: bool) -> Iterator[Seen]:
    """Clients that search, and one that writes, until the block ends."""
    seen, over, rows = Seen(), threading.Event(), vectors(64, seed=7).tolist()

    def search(first: int) -> None:
        with httpx.Client(base_url=str(service.client.base_url), timeout=60) as client:
            number = first
            while not over.is_set():
                began = time.perf_counter()
                answer = client.post(f"{COLLECTION}/search", json={"vector": rows[number % len(rows)], "limit": 10})
                seen.latencies.append(time.perf_counter() - began)
                seen.failed += answer.status_code != 200 or len(answer.json()["hits"]) != 10
                number += 1

    def write() -> None:
        with httpx.Client(base_url=str(service.client.base_url), timeout=60) as client:
            while not over.wait(WRITE_PAUSE_SECONDS):
                points = [
                    {
                        "id": f"new-{seen.written + n}",
                        "vector": rows[n % len(rows)],
                        "metadata": {"year": 1990, "title": f"new {n}"},
                    }
                    for n in range(WRITE_POINTS)
                ]
                client.post(f"{COLLECTION}/points", json={"points": points}).raise_for_status()
                seen.written += WRITE_POINTS

    targets = [threading.Thread(target=search, args=(n,)) for n in range(searchers)]
    targets += [threading.Thread(target=write)] if writes else []
    for thread in targets:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in targets:
            thread.join()


def ended(service: Process, job: str) -> dict[str, Any]:
    while True:
        found: dict[str, Any] = service.client.get(f"/v1/jobs/{job}").json()
        if found["state"] in ("succeeded", "failed", "cancelled"):
            return found
        time.sleep(POLL_SECONDS)


def add(service: Process, key: str, searchers: int) -> list[str]:
    """One field: seconds of the job, and what the clients saw meanwhile."""
    cpu = service.cpu_seconds()
    with clients(service, searchers, writes=True) as seen:
        began = time.perf_counter()
        answer = service.client.patch(COLLECTION, json={"filterable": {key: FIELDS[key]}}).raise_for_status()
        job = ended(service, answer.json()["job"])
        seconds = time.perf_counter() - began
    if job["state"] != "succeeded" or job["rejected"]:
        raise SystemExit(f"the job ended as {json.dumps(job)}")
    asked = {"must_not": [{"is_empty": {"key": key}}]}
    held = service.client.post(f"{COLLECTION}/points/count", json={"filter": asked}).json()["count"]
    if held != service.points():
        raise SystemExit(f"{held:,} points have '{key}', expected all {service.points():,}")
    figures = [
        f"{len(seen.latencies):,}",
        str(seen.failed),
        seen.percentile(0.5),
        seen.percentile(0.99),
        f"{seen.written:,}",
    ]
    return [key, FIELDS[key], f"{seconds:.1f} s", f"{service.cpu_seconds() - cpu:.1f} s", *figures]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=2, help="that search meanwhile, each as fast as it can")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder, running(Path(folder)) as service:
        service.put_collection()
        remaining = frames(arguments.points)
        while batch := list(islice(remaining, FRAMES_AT_ONCE)):
            generate(service.port, batch, connections=BULK_CONNECTIONS, seconds=1e9, most=len(batch))
        with clients(service, arguments.clients, writes=False) as calm:
            time.sleep(CALM_SECONDS)
        print(
            f"{service.points():,} points; before: p50 {calm.percentile(0.5)}, p99 {calm.percentile(0.99)}", flush=True
        )
        rows = [
            ["field", "type", "seconds", "CPU of the service", "searches", "failed", "p50", "p99", "points written"]
        ]
        rows += [add(service, key, arguments.clients) for key in FIELDS]
        print_table(rows)


if __name__ == "__main__":
    main()
