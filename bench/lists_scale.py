"""Lists of many codes: what it costs to make them, to put rows into them and to search, with cells and without.

    python -m bench.lists_scale [--points 10000000] [--lists N] [--rows-per-list N] [--data DATA]

Codes of real embeddings as far as they go, then copies with an eighth of the bits flipped: for costs, not for recall.
One thread; times are processor time of it. Queries are real ones that nobody stored, alone and in batches of 32.
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
from bench._scale_data import BUNDLE, QUERIES, real_codes, stored
from bench.bundles.data import DEFAULT_FOLDER
from bench.lists import cpu_ms
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.codes import join_records
from bebr.core.lists import Centroids
from bebr.core.scoring import DotQueries
from bebr.encoding import BundleRegistry, shipped_bundles
from bebr.encoding.encoder import Encoder
from bebr.index import CodeSpace, cluster, lists_for, quantize, sample_rows_for
from bebr.index.lists.assigning import assign_lists

REAL_ROWS = 400_000
K, BATCH, ROUNDS = 10, 32, 3
DELTAS = (0.1, 0.14, 0.18, 0.22)
SOME = 192


class Searches:
    """Of codes that are sorted by list, with the cells of these centroids or without."""

    def __init__(self, codes: NDArray[np.uint8], begin: NDArray[np.uint32], centroids: Centroids, cells: bool) -> None:
        """codes: blocked."""
        spec, rows, parts = centroids.spec, int(begin[-1]), kernel.Parts()
        of = centroids.cells if cells else None
        table = kernel.CentroidTable(spec, centroids.values, centroids.scales, cells=of)
        ids = np.zeros(rows + 1, np.uint64), np.zeros(0, np.uint8), np.zeros(rows, np.uint64)
        parts.add_sorted(codes, np.ones(rows, np.float16), rows, spec, None, ids, False, (table, begin))
        self._selection = parts.select([0])

    def exact(self, queries: DotQueries) -> kernel.Candidates:
        return kernel.dot_candidates(self._selection, queries, K)

    def by_lists(
        self, queries: DotQueries, delta: float
    ) -> tuple[kernel.Candidates, NDArray[np.int64], NDArray[np.int64]]:
        deltas, stop_at = np.full(len(queries), delta, np.float32), np.full(len(queries), K, np.int32)
        return kernel.list_candidates(self._selection, queries, K, deltas=deltas, stop_at=stop_at)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=10_000_000)
    parser.add_argument("--lists", type=int, help="left out: as many as the service makes")
    parser.add_argument("--rows-per-list", type=int, help="of which lists are made; left out: as the service does it")
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER)
    args = parser.parse_args()
    encoder = Encoder(BundleRegistry([shipped_bundles()]).get(BUNDLE), threads=1)
    spec, lists = encoder.spec.scan, args.lists or lists_for(args.points)
    with tempfile.TemporaryDirectory() as folder:
        real = real_codes(args.data, REAL_ROWS, Path(folder) / "real.npy")
    codes = np.empty((args.points, spec.code_size_bytes), np.uint8)
    at = 0
    for some in stored(real, args.points):
        codes[at : at + len(some)] = some
        at += len(some)
    sample_rows = lists * args.rows_per_list if args.rows_per_list else sample_rows_for(lists)
    space = CodeSpace(spec, encoder.steps, encoder.metric)
    began = time.process_time()
    which = np.random.default_rng(0).permutation(len(codes))[:sample_rows]
    records = join_records(codes[which], np.ones(len(which), np.float16))
    centroids = cluster(records, space, lists, version=0, generation=1, rows=len(codes))
    cells = 0 if centroids.cells is None else len(centroids.cells)
    print(
        f"{len(codes):,} rows, {min(len(codes), len(real) - QUERIES):,} of them real; {lists:,} lists in {cells} cells",
        flush=True,
    )
    print(f"clustering {len(which):,} rows: {time.process_time() - began:.0f} s of CPU", flush=True)
    del records
    blocked = packed(codes, centroids)
    began = time.process_time()
    numbers, _ = assign_lists(blocked, len(codes), centroids)
    print(f"assigning: {(time.process_time() - began) / len(codes) * 1e6:.1f} us a row of CPU", flush=True)
    del blocked
    begin = np.concatenate([[0], np.cumsum(np.bincount(numbers, minlength=lists))]).astype(np.uint32)
    codes = codes[np.argsort(numbers, kind="stable")]
    blocked = packed(codes, centroids)
    del codes
    print_searches(blocked, begin, centroids, real, encoder)


def packed(codes: NDArray[np.uint8], centroids: Centroids) -> NDArray[np.uint8]:
    blocked = kernel.allocate(kernel.blocked_size_bytes(centroids.spec, len(codes)))
    kernel.pack(codes, centroids.spec, blocked, 0)
    return blocked


def print_searches(
    blocked: NDArray[np.uint8],
    begin: NDArray[np.uint32],
    centroids: Centroids,
    real: NDArray[np.uint8],
    encoder: Encoder,
) -> None:
    queries = queries_of(real[-QUERIES:][:SOME], encoder)
    ways = {"all centroids scored": Searches(blocked, begin, centroids, cells=False)}
    if centroids.cells is not None:
        ways["by cells"] = Searches(blocked, begin, centroids, cells=True)
    first = next(iter(ways.values()))
    few = DotQueries(queries.values[:BATCH], queries.scales[:BATCH])
    flat = np.median([cpu_ms(first.exact, few, 1) for _ in range(3)]), cpu_ms(first.exact, few, BATCH)
    print(f"all rows: {flat[0]:.2f} ms a query alone, {flat[1]:.2f} in batches of {BATCH}", flush=True)
    exact = hits_of(first.exact(queries))
    for delta in DELTAS:
        for name, way in ways.items():
            found, read, rows = way.by_lists(queries, delta)
            recall = np.mean([len(ours & theirs) / K for ours, theirs in zip(hits_of(found), exact, strict=True)])
            run = lambda some, way=way, delta=delta: way.by_lists(some, delta)  # noqa: E731
            alone = np.median([cpu_ms(run, queries, 1) for _ in range(ROUNDS)])
            together = np.median([cpu_ms(run, queries, BATCH) for _ in range(ROUNDS)])
            print(
                f"delta {delta:.2f} {name:20s} recall@10 {recall:.4f}, {rows.mean():,.0f} rows, "
                f"{read.mean():.0f} lists, "
                f"{alone:.3f} ms (x{flat[0] / alone:.0f}), {together:.3f} in batches (x{flat[1] / together:.0f})",
                flush=True,
            )


def queries_of(codes: NDArray[np.uint8], encoder: Encoder) -> DotQueries:
    """What these codes stand for, as embeddings are searched for."""
    records = join_records(codes, np.ones(len(codes), np.float16))
    return quantize(encoder.code_query(records), encoder.spec, encoder.steps)


def hits_of(found: kernel.Candidates) -> list[set[int]]:
    return [set(found.rows[start:stop][:K].tolist()) for start, stop in itertools.pairwise(found.starts.tolist())]


if __name__ == "__main__":
    main()
