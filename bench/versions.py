"""What several versions in one collection cost: searches over two of them, promotion, rollback, a backfill under load.

    python -m bench.versions [--points 100000] [--seconds 10] [--parts cost,batch,switch,backfill]

cost      server CPU of a search by vector over two versions of half the points each, against one version of all of them
batch     latency of a batch of searches by vector, in the same two collections
switch    latency of promotion and rollback while searches go on; one failed search ends the run
backfill  latency of searches by text with a backfill at its default rate and without, in turn

All but the last bring vectors of no meaning, 384 dims and 64 bytes a code; the last embeds texts with minilm, which
`make setup` installs.
"""

import argparse
import base64
import json
import statistics
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from bench._load import Load, generate, request
from bench.encoder import texts_of
from bench.http import BINARY, DIMS, FRAME_POINTS, Process, running, vectors
from tests.engine.two_models import adapter, adapters, text_bundle

from bebr.core.codes import CodeSpec
from bebr.encoding import CompatibilityFiles, write_bundle
from bebr.encoding.adapters.adapter import Reference
from bebr.encoding.importing.pull import pull
from bebr.encoding.quantization.recurrent_fit import Effort, fit_recurrent
from bebr.encoding.quantization.recurrent_graph import files_of

CODE = "256x2"
OLD, NEW = "old@1", "new@1"
ONE, TWO = "/v1/collections/one", "/v1/collections/two"
REQUESTS = 400
SWITCHES = 50
QUERIES = 64
BATCH, BATCHES = 256, 15
TEXT_PAGE = 1000
ROUNDS = 3


def write_vector_bundles(folder: Path) -> None:
    """old@1 and new@1: binarizers of 64 bytes, with closed-form adapters between embeddings that are turned copies."""
    rows = vectors(2000, seed=1)
    turn = np.linalg.qr(np.random.default_rng(2).standard_normal((DIMS, DIMS)))[0].astype(np.float32)
    turned = rows @ turn
    fits = [fit_recurrent(r, CodeSpec.parse(CODE), effort=Effort(2, 1)) for r in (turned, rows)]
    old = write_bundle(folder, "old", "1", embedding_dims=DIMS, binarizer=files_of(fits[0]))
    reference = Reference(rows[:512], turned[:512])
    both = adapter(rows, turned, reference), adapter(turned, rows, reference.turned())
    compatible = CompatibilityFiles(old.id, old.fingerprint, DIMS, *both, reference.to_bytes(), {})
    write_bundle(folder, "new", "1", embedding_dims=DIMS, binarizer=files_of(fits[1]), compatible_with=[compatible])


def fill(service: Process, collection: str, numbers: range) -> None:
    for first in range(numbers.start, numbers.stop, FRAME_POINTS):
        count = min(FRAME_POINTS, numbers.stop - first)
        ids = [f"document-{n}" for n in range(first, first + count)]
        header = json.dumps({"dims": DIMS, "count": count, "ids": ids, "metadata": None}).encode()
        frame = struct.pack("<Q", len(header)) + header + vectors(count, seed=first + 10).tobytes()
        headers = {"content-type": BINARY}
        service.client.post(f"{collection}/points/vectors", content=frame, headers=headers).raise_for_status()


def searches(collection: str) -> list[bytes]:
    bodies = [
        {"vector_b64": base64.b64encode(row.tobytes()).decode(), "limit": 10} for row in vectors(QUERIES, seed=2**31)
    ]
    return [request("POST", f"{collection}/search", json.dumps(body).encode()) for body in bodies]


def promote(service: Process, collection: str, version: str = NEW) -> float:
    """-> seconds."""
    started = time.perf_counter()
    body = {"version": version, "force": True}
    service.client.post(f"{collection}/versions/promote", json=body).raise_for_status()
    return time.perf_counter() - started


@contextmanager
def two_versions(points: int) -> Iterator[Process]:
    """A service with the same points twice: in one version, and half in each of two."""
    with TemporaryDirectory() as folder:
        bundles = Path(folder) / "bundles"
        write_vector_bundles(bundles)
        with running(Path(folder) / "data", bundles_dir=str(bundles)) as service:
            service.client.put(ONE, json={"bundle": NEW}).raise_for_status()
            fill(service, ONE, range(points))
            service.client.put(TWO, json={"bundle": OLD}).raise_for_status()
            fill(service, TWO, range(points // 2))
            service.client.post(f"{TWO}/versions", json={"bundle": NEW}).raise_for_status()
            promote(service, TWO)
            fill(service, TWO, range(points // 2, points))
            for collection in (ONE, TWO):  # what is sealed in the background must not be counted
                generate(service.port, searches(collection), connections=1, seconds=5, most=100)
            yield service


def measure_cost(arguments: argparse.Namespace) -> list[list[str]]:
    with two_versions(arguments.points) as service:
        cpu: dict[str, list[float]] = {ONE: [], TWO: []}
        for _ in range(ROUNDS):
            for collection, samples in cpu.items():
                before = service.cpu_seconds()
                load = generate(service.port, searches(collection), connections=1, seconds=60, most=REQUESTS)
                samples.append((service.cpu_seconds() - before) / len(load.latencies) * 1e6)
    one, two = (statistics.median(samples) for samples in cpu.values())
    what = f"CPU of a search by vector among {arguments.points:,} points"
    return [[f"{what}: one version", f"{one:.0f} us"], [f"{what}: two versions", f"{two:.0f} us, {two / one:.2f}x"]]


def measure_batch(arguments: argparse.Namespace) -> list[list[str]]:
    body = {"searches": [{"vector": row.tolist(), "limit": 10} for row in vectors(BATCH, seed=2**31)]}
    with two_versions(arguments.points) as service:
        taken: dict[str, list[float]] = {ONE: [], TWO: []}
        for _ in range(BATCHES):
            for collection, samples in taken.items():
                started = time.perf_counter()
                service.client.post(f"{collection}/search/batch", json=body).raise_for_status()
                samples.append((time.perf_counter() - started) * 1e3)
    one, two = (statistics.median(samples) for samples in taken.values())
    what = f"a batch of {BATCH} searches by vector among {arguments.points:,} points"
    return [[f"{what}: one version", f"{one:.0f} ms"], [f"{what}: two versions", f"{two:.0f} ms"]]


def measure_switch(arguments: argparse.Namespace) -> list[list[str]]:
    with two_versions(arguments.points) as service:
        loads: list[Load] = []
        run: Callable[[], None] = lambda: loads.append(  # noqa: E731
            generate(service.port, searches(TWO), connections=2, seconds=arguments.seconds)
        )
        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(2)  # the load is a process, which takes a moment to start
        forth, back = [], []
        for _ in range(SWITCHES):
            started = time.perf_counter()
            service.client.post(f"{TWO}/versions/rollback").raise_for_status()
            back.append(time.perf_counter() - started)
            forth.append(promote(service, TWO))
            time.sleep(max(0.0, (arguments.seconds - 4) / SWITCHES))
        thread.join()
        (load,) = loads
    found = f"{len(load.latencies):,} searches, none failed"
    return [
        [f"{name} under load", f"median {statistics.median(t) * 1e3:.1f} ms, longest {max(t) * 1e3:.1f} ms; {found}"]
        for name, t in (("promotion", forth), ("rollback", back))
    ]


def measure_backfill(arguments: argparse.Namespace) -> list[list[str]]:
    texts = texts_of((8, 30), arguments.points)
    with TemporaryDirectory() as folder:
        bundles = Path(folder) / "bundles"
        old = text_bundle(bundles, OLD, seed=0)
        plain = pull("minilm", bundles)
        parts = plain.read_binarizer(), plain.read_embedding()
        dims = plain.embedding_dims
        reach = [adapters(plain, old)]
        write_bundle(
            bundles, "new", "1", embedding_dims=dims, binarizer=parts[0], embedding=parts[1], compatible_with=reach
        )
        with running(Path(folder) / "data", bundles_dir=str(bundles)) as service:
            service.client.put(TWO, json={"bundle": OLD, "text_field": "text"}).raise_for_status()
            for first in range(0, len(texts), TEXT_PAGE):
                page = [{"id": f"d{first + n}", "text": t} for n, t in enumerate(texts[first : first + TEXT_PAGE])]
                service.client.post(f"{TWO}/points", json={"points": page}).raise_for_status()
            service.client.post(f"{TWO}/versions", json={"bundle": NEW}).raise_for_status()
            promote(service, TWO)
            bodies = [json.dumps({"text": text, "limit": 10}).encode() for text in texts_of((4, 10), QUERIES)]
            asked = [request("POST", f"{TWO}/search", body) for body in bodies]
            generate(service.port, asked, connections=1, seconds=3)
            job = service.client.post(f"{TWO}/versions/backfill", json={}).raise_for_status().json()["job"]
            with_it, without = [], []
            for _ in range(ROUNDS):
                with_it.append(generate(service.port, asked, connections=1, seconds=arguments.seconds))
                service.client.post(f"/v1/jobs/{job}/pause").raise_for_status()
                without.append(generate(service.port, asked, connections=1, seconds=arguments.seconds))
                service.client.post(f"/v1/jobs/{job}/resume").raise_for_status()
            state = service.client.get(f"/v1/jobs/{job}").json()
    busy, quiet = (statistics.median(load.percentile(0.5) for load in loads) * 1e3 for loads in (with_it, without))
    rate = state["applied"] / (ROUNDS * arguments.seconds)
    return [
        [f"search by text among {len(texts):,} points, p50 without a backfill", f"{quiet:.1f} ms"],
        [f"the same with a backfill of {state['rate_limit']:.0f} points/s", f"{busy:.1f} ms, {busy / quiet:.2f}x"],
        ["points backfilled meanwhile", f"{state['applied']:,}, about {rate:.0f}/s"],
    ]


PARTS = {"cost": measure_cost, "batch": measure_batch, "switch": measure_switch, "backfill": measure_backfill}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--parts", default=",".join(PARTS))
    arguments = parser.parse_args()
    for part in arguments.parts.split(","):
        for what, found in PARTS[part](arguments):
            print(f"{what:70s} {found}", flush=True)


if __name__ == "__main__":
    main()
