"""What few dims cost: recall@10 and nDCG@10 kept by codes of equal bytes and different widths, over several fits.

    python -m bench.widths [DATA_FOLDER] [--only NAME ...] [--bytes 32,64,128] [--fits 5]

The codes are fitted to the documents of each collection. One fit says little about nDCG, which depends on the seed of
the fit (the column 'from fit to fit' is its standard deviation). `encoding.quantization.layout` prefers wide codes
because of this.
"""

import argparse
from pathlib import Path

import numpy as np
from bench.bundles.data import DEFAULT_FOLDER, NAMES, collections_in
from tqdm import tqdm

from bebr.core.codes import CodeSpec
from bebr.encoding.quantization.recurrent_fit import Effort, fit_recurrent
from bebr_training.baselines.methods import parse_sizes
from bebr_training.data.collections import Collection
from bebr_training.search.metrics import ndcg_per_query, recall_per_query
from bebr_training.search.ranking import Rows, dot_search

CODES = {
    32: ("256x1", "64x2+128x1", "16x4+32x2+128x1", "96x2+64x1", "32x4+32x2+64x1", "32x4+64x2"),
    64: ("128x2+256x1", "192x2+128x1", "32x4+128x2+128x1", "256x2", "32x4+192x2", "64x4+128x2"),
    128: ("128x4+256x2", "192x4+128x2", "256x4"),
}
"""Widest first."""
EFFORT = Effort(warm=20, full=8, rows=20_000)


def measure(collection: Collection, truth: Rows, spec: CodeSpec, seed: int) -> tuple[float, float]:
    """One fit -> recall@10 of adc, and mean nDCG@10."""
    binarizer = fit_recurrent(collection.documents, spec, effort=EFFORT, seed=seed)
    found = dot_search(binarizer.quantized_values(collection.documents), binarizer.project)(collection.queries, 10)
    ndcg = ndcg_per_query(found, collection.judgments or {})[0]
    return float(recall_per_query(found, truth, 10).mean()), float(ndcg.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=DEFAULT_FOLDER, help="folder of the collections")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help="collections to take")
    parser.add_argument("--bytes", default="32,64,128", help="sizes, of 32, 64 and 128")
    parser.add_argument("--fits", type=int, default=5, help="fits of each code, with seeds of their own")
    options = parser.parse_args()
    if not (found := [one for one in collections_in(options.data) if one.name in options.only]):
        parser.exit(0, f"skipped: {options.data} holds none of {', '.join(options.only)}\n")
    print("| collection | bytes | code | dims | recall@10 | nDCG@10 kept | from fit to fit |")
    print("|---|--:|---|--:|--:|--:|--:|")
    for name, collection in ((one.name, one.opened) for one in found):
        truth = dot_search(collection.documents)(collection.queries, 10)
        floats = ndcg_per_query(truth, collection.judgments or {})[0].mean()
        for size_bytes in parse_sizes(options.bytes):
            for spec in map(CodeSpec.parse, CODES[size_bytes]):
                seeds = tqdm(range(options.fits), desc=f"{name} {spec}", leave=False)
                recall, ndcg = np.array([measure(collection, truth, spec, seed) for seed in seeds]).T
                kept = 100 * ndcg / floats
                print(
                    f"| {name} | {size_bytes} | `{spec}` | {spec.dims} | {recall.mean():.3f} | {kept.mean():.1f} % "
                    f"| {kept.std():.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
