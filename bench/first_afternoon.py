"""From a Parquet file of own vectors to searches, by the commands that a newcomer types: minutes, and recall@10.

    python -m bench.first_afternoon [--rows 200000] [--dims 1536]

Data: unit vectors around rows / 200 centers. Centers lie in a subspace of dims / 8 dimensions whose variances fall like
1 / k; each vector adds to its center as long a vector of that subspace, and a fifth of it of noise in all dims. Queries
are such vectors that are not in the file. The commands: `bebr serve`, `bebr ingest vectors.parquet -c mine`, and a
search. Recall is the share of the 10 nearest by float cosine among the 10 hits, by the scan codes alone and as searches
answer by default: right after the ingestion, and after the fit if there are enough rows. Times are wall clock.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from bebr.client import Client

QUERIES = 200
K = 10
CHUNK = 5_000
PORT = 8765
Floats = NDArray[np.float32]


class Data:
    """Vectors around centers."""

    def __init__(self, rows: int, dims: int) -> None:
        rng = np.random.default_rng(0)
        inner = max(4, dims // 8)
        scale = 1 / np.sqrt(np.arange(1, inner + 1))
        basis = np.linalg.qr(rng.standard_normal((dims, inner)))[0]
        centers = (rng.standard_normal((max(1, rows // 200), inner)) * scale) @ basis.T
        self.centers = (centers / np.linalg.norm(centers, axis=1, keepdims=True)).astype(np.float32)
        self._basis, self._scale = basis.astype(np.float32), scale.astype(np.float32)

    def draw(self, count: int, seed: int) -> Floats:
        """(count, dims) float32 of length 1."""
        rng = np.random.default_rng(seed)
        inner = rng.standard_normal((count, len(self._scale)), np.float32) * self._scale
        noise = inner @ self._basis.T
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        noise += 0.2 * rng.standard_normal(noise.shape, np.float32) / np.sqrt(noise.shape[1])
        found = self.centers[rng.integers(len(self.centers), size=count)] + noise
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def chunks(self, rows: int) -> Iterator[Floats]:
        for number, start in enumerate(range(0, rows, CHUNK)):
            yield self.draw(min(CHUNK, rows - start), number)


def write(path: Path, data: Data, rows: int, queries: Floats) -> NDArray[np.int64]:
    """The file, and the rows nearest to each query (queries, K)."""
    schema = arrow.schema([("id", arrow.string()), ("embedding", arrow.list_(arrow.float32())), ("n", arrow.int64())])
    best = np.full((len(queries), 0), 0, np.float32)
    which = np.zeros((len(queries), 0), np.int64)
    with parquet.ParquetWriter(path, schema) as writer:
        first = 0
        for chunk in data.chunks(rows):
            numbers = np.arange(first, first + len(chunk))
            offsets = np.arange(0, chunk.size + 1, chunk.shape[1], dtype=np.int32)
            vectors = arrow.ListArray.from_arrays(offsets, chunk.reshape(-1))
            columns = [arrow.array([f"v{n}" for n in numbers]), vectors, arrow.array(numbers)]
            writer.write_table(arrow.table(columns, schema=schema))
            best = np.hstack([best, queries @ chunk.T])
            which = np.hstack([which, np.broadcast_to(numbers, (len(queries), len(chunk)))])
            order = np.argsort(-best, axis=1, kind="stable")[:, :K]
            best, which = np.take_along_axis(best, order, 1), np.take_along_axis(which, order, 1)
            first += len(chunk)
    return which


def recall(client: Client, queries: Floats, nearest: NDArray[np.int64], **options: object) -> float:
    """Share of the K nearest that searches find."""
    found = 0
    for query, rows in zip(queries, nearest, strict=True):
        hits = client.search("mine", vector=query, limit=K, **options).hits  # type: ignore[arg-type]
        found += len({hit.id for hit in hits} & {f"v{row}" for row in rows})
    return found / nearest.size


def measure(folder: Path, rows: int, dims: int) -> None:
    data = Data(rows, dims)
    queries = data.draw(QUERIES, 1 << 20)
    nearest = write(folder / "vectors.parquet", data, rows, queries)
    print(f"{rows:,} x {dims}: {(folder / 'vectors.parquet').stat().st_size / 2**20:,.0f} MiB of Parquet")
    bebr = [str(Path(sys.executable).with_name("bebr"))]
    url = f"http://127.0.0.1:{PORT}"
    variables = os.environ | {"BEBR_URL": url}
    began = time.perf_counter()
    serve = [*bebr, "serve", "--port", str(PORT), "--data-dir", str(folder / "data"), "--log-level", "error"]
    with subprocess.Popen(serve, env=variables) as service, Client(url, timeout_seconds=600, retries=40) as client:
        try:
            client.list_collections()
            started = time.perf_counter()
            subprocess.run([*bebr, "ingest", str(folder / "vectors.parquet"), "-c", "mine"], env=variables, check=True)
            ingested = time.perf_counter()
            print(f"serve {started - began:.1f} s, ingest {(ingested - started) / 60:.2f} minutes")
            _print_recall("after the ingestion", client, queries, nearest)
            before, plan = time.perf_counter(), client.describe_collection("mine")["fit"]
            if plan["state"] == "collecting" and plan["collected"] < plan["sample"]:
                return
            fit = client.wait_fit("mine")
            print(f"fit {fit['state']} {(time.perf_counter() - before) / 60:.2f} minutes later")
            _print_recall("after the fit", client, queries, nearest)
        finally:
            service.terminate()
            service.wait()
    print(f"CPU seconds: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime:,.0f}")


def _print_recall(when: str, client: Client, queries: Floats, nearest: NDArray[np.int64]) -> None:
    described = client.describe_collection("mine")
    has_rescore = "/" in described["code"]
    scan = recall(client, queries, nearest, **({"rescore": False} if has_rescore else {}))
    said = f"{when}: {described['code_bytes']} bytes per code, recall@{K} {scan:.3f}"
    print(said + (f", {recall(client, queries, nearest):.3f} rescored" if has_rescore else ""))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dims", type=int, default=1536)
    given = parser.parse_args()
    with TemporaryDirectory(prefix="bebr-afternoon-") as scratch:
        measure(Path(scratch), given.rows, given.dims)
