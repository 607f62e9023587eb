"""Measures the training-free code beside others that need no training, at equal bytes, on the evaluation collections.

    python -m bench.training_free [DATA_FOLDER] [--bytes 64] [--rescore-bytes 128] [--queries 1000]

recall@10: the share of the 10 nearest documents by float cosine that are found, by float queries:
    training-free   what a collection made by {"dims": n, "fit": false} has; then after its rescore codes
    RaBitQ          of faiss, 1 bit a dim, of vectors turned at random in as many dims as there are bits; its two
                    factors of 4 bytes each do not count
    sign            signs of the same turned vectors, with the gain that makes them unbiased
Nothing sees the documents before it encodes them.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
from bench.bundles.data import DEFAULT_FOLDER, collections_in
from numpy.typing import NDArray

from bebr.core.codes import code_values
from bebr.encoding.quantization.rotation import rotation
from bebr.encoding.quantization.training_free import TrainingFree, layout_of
from bebr_training.baselines.faiss_methods import rabitq_grid
from bebr_training.search.metrics import recall_per_query
from bebr_training.search.ranking import Rows, Search, dot_search

Floats = NDArray[np.float32]
METHODS = ("training-free", "rescored", "RaBitQ", "sign")


def training_free(rows: Floats, size_bytes: int, rescore_bytes: int, rescored: bool) -> Search:
    """A search by scan codes, or by what scan and rescore codes say together."""
    codec = TrainingFree(rows.shape[1], layout_of(rows.shape[1], size_bytes, rescore_bytes))
    records = codec.encode(rows)
    if rescored:
        return dot_search(codec.decode(records))
    return dot_search(code_values(records, codec.spec, codec.steps), codec.project)


def turned(dims: int, bits: int) -> Callable[[Floats], Floats]:
    """Rows as `bits` dims: the first of a rotation, or all of one with zeros behind the rows."""
    whole = rotation(max(bits, dims))
    return lambda rows: np.ascontiguousarray(whole.turn(rows)[:, :bits])


def rabitq(rows: Floats, size_bytes: int) -> Search:
    turn = turned(rows.shape[1], 8 * size_bytes)
    stored = turn(rows)
    index = faiss.IndexRaBitQ(stored.shape[1], faiss.METRIC_INNER_PRODUCT)
    index.train(stored)
    values = rabitq_grid(index.sa_encode(stored), 1, stored.shape[1])
    deviations = stored - faiss.vector_to_array(index.center)
    along = np.einsum("ij,ij->i", values, deviations)
    values *= (np.einsum("ij,ij->i", deviations, deviations) / np.maximum(along, 1e-12))[:, None]
    return dot_search(values, turn)


def signs(rows: Floats, size_bytes: int) -> Search:
    turn = turned(rows.shape[1], 8 * size_bytes)
    stored = turn(rows)
    return dot_search(np.sign(stored) / np.abs(stored).sum(axis=1, keepdims=True), turn)


def measure(rows: Floats, queries: Floats, size_bytes: int, rescore_bytes: int) -> dict[str, float]:
    """recall@10 by method."""
    truth: Rows = dot_search(rows)(queries, 10)
    searches = {
        "training-free": lambda: training_free(rows, size_bytes, rescore_bytes, False),
        "rescored": lambda: training_free(rows, size_bytes, rescore_bytes, True),
        "RaBitQ": lambda: rabitq(rows, size_bytes),
        "sign": lambda: signs(rows, size_bytes),
    }
    return {name: float(recall_per_query(search()(queries, 10), truth, 10).mean()) for name, search in searches.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=DEFAULT_FOLDER, help="folder of the collections")
    parser.add_argument("--bytes", type=int, default=64, help="bytes per scan code")
    parser.add_argument("--rescore-bytes", type=int, default=128, help="bytes per rescore code")
    parser.add_argument("--queries", type=int, default=1_000, help="queries of each collection, at most")
    options = parser.parse_args()
    if not (found := collections_in(options.data)):
        parser.exit(0, f"skipped: no collections in {options.data}\n")
    print(f"| collection | documents | queries | {' | '.join(METHODS)} |")
    print(f"|---|--:|--:|{'--:|' * len(METHODS)}")
    recalls = []
    for one in found:
        queries = one.queries[: options.queries]
        by_name = measure(one.documents, queries, options.bytes, options.rescore_bytes)
        recalls.append([by_name[name] for name in METHODS])
        cells = " | ".join(f"{recall:.3f}" for recall in recalls[-1])
        print(f"| {one.name} | {len(one.documents):,} | {len(queries):,} | {cells} |", flush=True)
    print(f"| mean | | | {' | '.join(f'{mean:.3f}' for mean in np.mean(recalls, axis=0))} |")


if __name__ == "__main__":
    main()
