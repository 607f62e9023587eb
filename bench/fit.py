"""What a fit costs and finds within its CPU seconds, against one that nothing bounds.

    OMP_NUM_THREADS=1 python -m bench.fit [DATA_FOLDER] [--dims 384,1536,3072] [--rows 20000] [--bounded-only]
                                          [--rescore]

384 dims are those of oewn in the data folder, where it is; all others, and these without the folder, are synthetic:
clusters of 40 rows, whose middles and spread fall off as text embeddings' principal axes do. Codes have a bit a dim, at
least 64 bytes, as in a collection of own vectors. recall@10 of 1,000 queries that no fit saw, among all rows. With more
than one BLAS thread, CPU seconds are those of all together.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from bench.bundles.data import DEFAULT_FOLDER, collections_in
from numpy.typing import NDArray

from bebr.encoding.quantization.budget import default_cpu_seconds
from bebr.encoding.quantization.layout import UNBOUNDED, fit_bytes
from bebr.encoding.quantization.training_free import default_bytes
from bebr_training.search.metrics import recall_per_query
from bebr_training.search.ranking import dot_search

Floats = NDArray[np.float32]
QUERIES = 1_000
CLUSTER_ROWS = 40


def clustered(rows: int, dims: int, seed: int = 0) -> Floats:
    """(rows, dims) float32 of length one, in random order."""
    rng = np.random.default_rng(seed)
    spectrum = (np.arange(dims) + 10.0) ** -0.6
    spectrum /= np.linalg.norm(spectrum)
    middles = rng.standard_normal((rows // CLUSTER_ROWS, dims), np.float32)
    own = rng.standard_normal((rows, dims), np.float32)
    made = (middles[rng.integers(0, len(middles), rows)] + 0.8 * own) * spectrum.astype(np.float32)
    turned = made @ np.linalg.qr(rng.standard_normal((dims, dims), np.float32))[0]
    unit: Floats = turned / np.linalg.norm(turned, axis=1, keepdims=True)
    return unit


def data(folder: Path, dims: int, rows: int) -> tuple[str, Floats, Floats]:
    """Where they are from, rows and queries."""
    real = next((one for one in collections_in(folder) if one.name == "oewn"), None) if dims == 384 else None
    if real is None:
        made = clustered(rows + QUERIES, dims)
        return "clusters", made[:rows], made[rows:]
    drawn = np.random.default_rng(0).permutation(len(real.documents))[: rows + QUERIES]
    return "oewn", real.documents[drawn[:rows]], real.documents[drawn[rows:]]


def measure(rows: Floats, queries: Floats, cpu_seconds: float, rescore: bool) -> tuple[float, str]:
    """CPU seconds, and what else there is to say."""
    size_bytes, rescore_bytes = default_bytes(rows.shape[1])
    began = time.process_time()
    fitted, report = fit_bytes(rows, size_bytes, rescore_bytes=rescore_bytes if rescore else 0, cpu_seconds=cpu_seconds)
    spent = time.process_time() - began
    truth = dot_search(rows)(queries, 10)
    found = dot_search(fitted.quantized_values(rows), fitted.project)(queries, 10)
    recall = float(recall_per_query(found, truth, 10).mean())
    trials = len(report.trials)
    return spent, f"{recall:.4f} | {trials} | {report.fitted_to:,} | `{fitted.spec}`"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=DEFAULT_FOLDER, help="folder of the collections")
    parser.add_argument("--dims", default="384,1536,3072", help="dims of the rows")
    parser.add_argument("--rows", type=int, default=20_000, help="rows that are fitted to")
    parser.add_argument("--bounded-only", action="store_true", help="leave out the fits that nothing bounds")
    parser.add_argument("--unbounded-only", action="store_true", help="leave out the fits within their CPU seconds")
    parser.add_argument("--rescore", action="store_true", help="with rescore codes")
    options = parser.parse_args()
    print("| dims | rows | budget, CPU s | CPU s | recall@10 | layouts measured | fitted to | code |")
    print("|--:|---|--:|--:|--:|--:|--:|---|")
    for dims in map(int, options.dims.split(",")):
        name, rows, queries = data(options.data, dims, options.rows)
        bounds = [] if options.unbounded_only else [default_cpu_seconds(dims)]
        for bound in bounds + ([] if options.bounded_only else [UNBOUNDED]):
            spent, rest = measure(rows, queries, bound, options.rescore)
            shown = "none" if bound == UNBOUNDED else f"{bound:.0f}"
            print(f"| {dims} | {len(rows):,} of {name} | {shown} | {spent:.0f} | {rest} |", flush=True)


if __name__ == "__main__":
    main()
