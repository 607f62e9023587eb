"""What a collection's own fit finds when its points come in the order of their file, against points in random order.

    python -m bench.fit_sample [DATA_FOLDER] [--bytes 64] [--queries 1000] [--sample 20000]

oewn comes sorted by part of speech, so that its first points are like few of the others. Each order is written to a
collection of an engine in this process, which draws its sample and fits by itself; then the searches of the collection
are counted against the exact float neighbors. The general bundle codes the same vectors.
"""

import argparse
import asyncio
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from bench.bundles.data import DEFAULT_FOLDER, collections_in
from numpy.typing import NDArray

from bebr.bootstrap import build_engine, build_jobs
from bebr.config import Settings
from bebr.core.types import WriteMode
from bebr.encoding import BundleRegistry, shipped_bundles
from bebr.encoding.encoder import Encoder
from bebr.encoding.quantization.measuring import measure
from bebr.engine import CollectionSettings, Engine, FitSettings, SearchRequest
from bebr.engine.statuses import FitStatus

Floats = NDArray[np.float32]
BATCH = 2_000
SEARCHES = 100
BUNDLES = {32: "minilm-32@1", 64: "minilm@1", 128: "minilm-128@1"}


def nearest(queries: Floats, rows: Floats) -> NDArray[np.int64]:
    """(queries, 10): the exact neighbors."""
    return np.concatenate(
        [
            np.argpartition(-(queries[start : start + SEARCHES] @ rows.T), 10, axis=1)[:, :10]
            for start in range(0, len(queries), SEARCHES)
        ]
    )


async def fitted(engine: Engine, rows: Floats, fit: FitSettings) -> FitStatus:
    """Write the rows, and wait for the end of the fit."""
    await engine.create_collection("docs", CollectionSettings(fit=fit))
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        ids = [str(start + place) for place in range(len(some))]
        await engine.write_vectors("docs", ids, some, None, WriteMode.UPSERT)
    while True:
        status = (await engine.describe_collection("docs")).fit
        assert status is not None and status.state != "failed", status
        if status.state == "done":
            return status
        await asyncio.sleep(0.2)


async def recall(engine: Engine, queries: Floats, truth: NDArray[np.int64]) -> float:
    shared = 0
    for start in range(0, len(queries), SEARCHES):
        some = queries[start : start + SEARCHES]
        results = await engine.search("docs", [SearchRequest(vector=row, with_metadata=False) for row in some])
        for result, expected in zip(results, truth[start : start + SEARCHES], strict=True):
            shared += len({int(hit.id) for hit in result.hits} & set(expected.tolist()))
    return shared / truth.size


async def in_service(rows: Floats, queries: Floats, fit: FitSettings) -> tuple[float, FitStatus, float]:
    """-> recall@10 of the collection's searches, the state of its fit, and seconds from the first write to its end."""
    with TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder))
        engine = build_engine(settings)
        jobs = build_jobs(engine, settings)
        await engine.start()
        await jobs.start()
        await engine.wait_until_ready()
        started = time.perf_counter()
        status = await fitted(engine, rows, fit)
        seconds = time.perf_counter() - started
        found = await recall(engine, queries, nearest(queries, rows))
        await jobs.stop()
        await engine.stop()
        return found, status, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=DEFAULT_FOLDER, help="folder of the collections")
    parser.add_argument("--bytes", type=int, default=64, choices=sorted(BUNDLES), help="bytes per code")
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--sample", type=int, default=20_000)
    options = parser.parse_args()
    if not (found := [one for one in collections_in(options.data) if one.name == "oewn"]):
        parser.exit(0, f"skipped: {options.data} does not hold oewn\n")
    rows, queries = found[0].documents, found[0].queries[: options.queries]
    fit = FitSettings(bytes=options.bytes, sample=options.sample, dims=rows.shape[1])
    print("| codes | recall@10 | reported by the fit | among | code | seconds |\n|---|--:|--:|--:|---|--:|")
    orders = {"sorted": np.arange(len(rows)), "random": np.random.default_rng(0).permutation(len(rows))}
    for order, places in orders.items():
        recall_at_10, status, seconds = asyncio.run(in_service(rows[places], queries, fit))
        reported = f"{status.recall_at_10:.4f} | {status.searched:,} | {status.code}"
        print(f"| own fit, {order} | {recall_at_10:.4f} | {reported} | {seconds:.0f} |", flush=True)
    general = Encoder(BundleRegistry([shipped_bundles()]).get(BUNDLES[options.bytes]))
    quality = measure(general, queries, (rows[start : start + BATCH] for start in range(0, len(rows), BATCH)))
    print(f"| {general.bundle.id} | {quality.recall:.4f} | | {quality.searched:,} | {general.spec} | |")


if __name__ == "__main__":
    main()
