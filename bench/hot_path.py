"""What one search costs the service, from the bytes of the request to those of the answer, and how many it answers.

    python -m bench.hot_path [--points 1000,100000,1000000] [--seconds 5] [--texts BUNDLES BUNDLE]

For each size: server CPU of a search by base64 vector, one client; what the kernel's own scan of so many rows takes of
it; the latency of one client; searches per second of 16 clients, on the same cores. Medians of three rounds. All
codes are scanned: the vectors are random, and lists are of no use to them. With --texts also searches by text, and what
the encoder takes alone: BUNDLES is a folder with a BUNDLE that embeds texts.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from bench._client import send
from bench._load import request
from bench.http import COLLECTION, QUERIES, Process, fill, print_table, running, searches

from bebr import kernel
from bebr.core.codes import CodeSpec
from bebr.encoding import BundleRegistry, TextKind
from bebr.encoding.encoder import Encoder

SPEC = CodeSpec.parse("256x2")
PARTS = 8
ROUNDS = 3
CLIENTS = 16
TEXT_POINTS = 1000
NO_LISTS = "1000000000"
SENTENCE = "the quick brown fox jumps over a lazy dog how do I parse the date of a month with a time zone"


def scan_seconds(points: int) -> float:
    """What the kernel takes of one thread for one query among so many rows, in as many parts as a collection has."""
    rng, parts, rows = np.random.default_rng(0), kernel.Parts(), points // PARTS
    for _ in range(PARTS):
        blocked = kernel.allocate(kernel.blocked_size_bytes(SPEC, rows))
        blocked[:] = rng.integers(0, 256, len(blocked), dtype=np.uint8)
        gains = rng.uniform(0.5, 1, rows).astype(np.float16)
        parts.add_unsorted(blocked, gains, rows, SPEC, None, [""] * rows)
    selection, steps = parts.select(range(PARTS)), np.ones(1, np.float32)
    queries = [kernel.quantize(q[None], SPEC, steps) for q in rng.standard_normal((64, SPEC.dims), np.float32)]
    taken = []
    for query in queries * 3:
        started = time.thread_time()
        kernel.dot_candidates(selection, query, 10)
        taken.append(time.thread_time() - started)
    return statistics.median(taken)


def measured(service: Process, requests: Sequence[bytes], connections: int, seconds: float) -> tuple[float, ...]:
    """CPU seconds of the server and p50 seconds of a request, and requests per second: medians of rounds."""
    send(service.port, requests, connections=connections, seconds=1)
    rounds = []
    for _ in range(ROUNDS):
        before = service.cpu_seconds()
        load = send(service.port, requests, connections=connections, seconds=seconds)
        cpu = (service.cpu_seconds() - before) / len(load.latencies)
        rounds.append((cpu, load.percentile(0.5), load.per_second))
    return tuple(map(statistics.median, zip(*rounds, strict=True)))


def measure(points: int, seconds: float) -> list[str]:
    with TemporaryDirectory() as folder, running(Path(folder), lists_from_points=NO_LISTS) as service:
        service.put_collection()
        fill(service, points)
        time.sleep(3)  # segments are sealed
        cpu, p50, _ = measured(service, searches(), 1, seconds)
        _, _, rate = measured(service, searches(), CLIENTS, seconds)
    scan = scan_seconds(points)
    return [
        f"{points:,}", micros(cpu), micros(scan), micros(cpu - scan), f"{p50 * 1000:.2f} ms", f"{rate:.0f}/s"
    ]  # fmt: skip


def measure_texts(bundles: Path, bundle: str, seconds: float) -> list[str]:
    with TemporaryDirectory() as folder, running(Path(folder), bundles_dir=str(bundles)) as service:
        service.client.put(COLLECTION, json={"bundle": bundle}).raise_for_status()
        texts = [{"id": f"p{n}", "text": text} for n, text in enumerate(sentences(TEXT_POINTS))]
        service.client.post(f"{COLLECTION}/points", json={"points": texts}).raise_for_status()
        questions = sentences(QUERIES)
        requests = [request("POST", f"{COLLECTION}/search", json.dumps({"text": q}).encode()) for q in questions]
        cpu, p50, _ = measured(service, requests, 1, seconds)
    encoder = Encoder(BundleRegistry([bundles]).get(bundle), 1)
    taken = []
    for question in questions * 3:
        started = time.thread_time()
        encoder.embed([question], TextKind.QUERY)
        taken.append(time.thread_time() - started)
    own = statistics.median(taken)
    return [f"{TEXT_POINTS:,}, by text", micros(cpu), micros(own), micros(cpu - own), f"{p50 * 1000:.2f} ms", ""]


def sentences(count: int) -> list[str]:
    """Texts of the same words in different orders: no two have one embedding, so that no points tie."""
    rng, words = np.random.default_rng(0), SENTENCE.split()
    return [" ".join(rng.permutation(words)[:12]) for _ in range(count)]


def micros(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", default="1000,100000,1000000")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--texts", nargs=2, metavar=("BUNDLES", "BUNDLE"))
    arguments = parser.parse_args()
    rows = [["points", "CPU", "scan or encoder", "the rest", "p50, 1 client", f"{CLIENTS} clients"]]
    rows += [measure(int(points), arguments.seconds) for points in arguments.points.split(",") if points]
    if arguments.texts:
        rows.append(measure_texts(Path(arguments.texts[0]), arguments.texts[1], arguments.seconds))
    print_table(rows)


if __name__ == "__main__":
    main()
