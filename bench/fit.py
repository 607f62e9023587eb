"""What a fit costs and finds within its CPU seconds, against one that nothing bounds.

    OMP_NUM_THREADS=1 python -m bench.fit [DATA_FOLDER] [--dims 384,1536,3072] [--rows 20000] [--bounded-only]
                                          [--rescore] [--same-layout]

384 dims are those of oewn in the data folder, where it is; all others, and these without the folder, are synthetic:
clusters of 40 rows, whose middles and spread fall off as text embeddings' principal axes do. Codes have a bit a dim, at
least 64 bytes, as in a collection of own vectors. recall@10 of 1,000 queries that no fit saw, among all rows. With more
than one BLAS thread, CPU seconds are those of all together. --same-layout: after the bounded fit, the layout that it
chose with all rows and rounds. That is the unbounded fit but for the choice of the layout, which takes most of its 100
CPU minutes at 3,072 dims.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from bench.bundles.data import DEFAULT_FOLDER, collections_in
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec
from bebr.encoding.quantization.budget import default_cpu_seconds
from bebr.encoding.quantization.layout import UNBOUNDED, fit_bytes
from bebr.encoding.quantization.recurrent import Recurrent
from bebr.encoding.quantization.recurrent_fit import fit_recurrent
from bebr.encoding.quantization.training_free import default_bytes
from bebr.encoding.quantization.trials import CENTERED_WEIGHT, FitReport, Trial
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


def recall_of(fitted: Recurrent, rows: Floats, queries: Floats) -> float:
    """recall@10 of the scan codes."""
    truth = dot_search(rows)(queries, 10)
    found = dot_search(fitted.quantized_values(rows), fitted.project)(queries, 10)
    return float(recall_per_query(found, truth, 10).mean())


def measure(rows: Floats, queries: Floats, cpu_seconds: float, rescore: bool) -> tuple[float, str, FitReport]:
    """CPU seconds, what else there is to say, and how the layout was chosen."""
    size_bytes, rescore_bytes = default_bytes(rows.shape[1])
    began = time.process_time()
    fitted, report = fit_bytes(rows, size_bytes, rescore_bytes=rescore_bytes if rescore else 0, cpu_seconds=cpu_seconds)
    spent = time.process_time() - began
    said = f"{recall_of(fitted, rows, queries):.4f} | {len(report.trials)} | {report.fitted_to:,} | `{fitted.spec}`"
    return spent, said, report


def measure_layout(rows: Floats, queries: Floats, chosen: Trial) -> tuple[float, str]:
    """The same of a fit to all rows with all rounds."""
    spec, weight = CodeSpec.parse(chosen.code), CENTERED_WEIGHT if chosen.centered else 0.0
    began = time.process_time()
    fitted = replace(fit_recurrent(rows, spec, center=chosen.centered, weight=weight), shrink=chosen.shrink)
    spent = time.process_time() - began
    return spent, f"{recall_of(fitted, rows, queries):.4f} | 0 | {len(rows):,} | `{spec}`"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=DEFAULT_FOLDER, help="folder of the collections")
    parser.add_argument("--dims", default="384,1536,3072", help="dims of the rows")
    parser.add_argument("--rows", type=int, default=20_000, help="rows that are fitted to")
    parser.add_argument("--bounded-only", action="store_true", help="leave out the fits that nothing bounds")
    parser.add_argument("--unbounded-only", action="store_true", help="leave out the fits within their CPU seconds")
    parser.add_argument("--rescore", action="store_true", help="with rescore codes")
    parser.add_argument("--same-layout", action="store_true", help="the bounded fit, and its layout unbounded")
    options = parser.parse_args()
    print("| dims | rows | budget, CPU s | CPU s | recall@10 | layouts measured | fitted to | code |")
    print("|--:|---|--:|--:|--:|--:|--:|---|")
    for dims in map(int, options.dims.split(",")):
        name, rows, queries = data(options.data, dims, options.rows)
        bounds = [] if options.unbounded_only else [default_cpu_seconds(dims)]
        bounds += [] if options.bounded_only or options.same_layout else [UNBOUNDED]
        for bound in bounds:
            spent, said, report = measure(rows, queries, bound, options.rescore)
            shown = "none" if bound == UNBOUNDED else f"{bound:.0f}"
            print(f"| {dims} | {len(rows):,} of {name} | {shown} | {spent:.0f} | {said} |", flush=True)
            if options.same_layout:
                spent, said = measure_layout(rows, queries, report.chosen)
                print(f"| {dims} | {len(rows):,} of {name} | none, same layout | {spent:.0f} | {said} |", flush=True)


if __name__ == "__main__":
    main()
