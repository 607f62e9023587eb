"""Filters over tight clusters, whose best hits without a filter lie in one list each: what searches by lists find.

    python -m bench.lists_filters [--rows 100000] [--clusters 200] [--noise 0.7] [--recall 0.98]

Random clusters of equal size, coded by `minilm@1`. The rule is measured as the service does it, with points and
without a filter; then searches with filters, and for more hits, read lists with the delta of that alone, and with the
one that deep hits need, too. All by lists, also where the service scans what is left.
"""

import argparse

import numpy as np
from bench.lists import BATCH, Corpus, K, measured, points_of, records_of, rows_of
from numpy.typing import NDArray

from bebr.core.list_calibration import filtered_recall, recall_of
from bebr.encoding import BundleRegistry, shipped_bundles
from bebr.encoding.encoder import Encoder
from bebr.engine.search.probing import measured_for
from bebr.index import quantize
from bebr.index.columns import pack_mask

DIMS, QUERIES = 384, 8 * BATCH
COMMON = 0.6
"""How much of one direction all centers share, as embeddings of one model do."""


class Clusters:
    """Where clusters lie, and what is drawn of them."""

    def __init__(self, count: int, noise: float) -> None:
        self.random, self.noise = np.random.default_rng(0), noise
        centers, common = self.random.normal(size=(count, DIMS)), self.random.normal(size=DIMS)
        centers = _unit(centers) + COMMON * _unit(common)
        self.centers = _unit(centers)

    def draw(self, clusters: NDArray[np.int64]) -> NDArray[np.float32]:
        rows = self.centers[clusters] + self.noise * self.random.normal(size=(len(clusters), DIMS)) / DIMS**0.5
        return _unit(rows).astype(np.float32)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    units: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return units


def filters_of(cluster: NDArray[np.int64], clusters: int) -> dict[str, NDArray[np.bool_]]:
    """Rows that filters keep."""
    random = np.random.default_rng(1)
    member = np.empty(len(cluster), np.int64)
    for number in range(clusters):
        rows = np.flatnonzero(cluster == number)
        member[rows] = random.permutation(len(rows))
    found = {f"{count} of each cluster": member < count for count in (4, 8, 25)}
    found |= {f"random {share:.0%}": random.random(len(cluster)) < share for share in (0.3, 0.1, 0.01)}
    found |= {f"{share:.0%} of the clusters": cluster < share * clusters for share in (0.8, 0.5)}
    found["half of the clusters, 4 of each other"] = (cluster < 0.5 * clusters) | (member < 4)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--clusters", type=int, default=200)
    parser.add_argument("--noise", type=float, default=0.7)
    parser.add_argument("--recall", type=float, default=0.98)
    args = parser.parse_args()
    encoder = Encoder(BundleRegistry([shipped_bundles()]).get("minilm@1"), threads=1)
    clusters = Clusters(args.clusters, args.noise)
    cluster = np.arange(args.rows) % args.clusters
    records = records_of(encoder, clusters.draw(cluster))
    asked = clusters.draw(np.random.default_rng(2).integers(args.clusters, size=QUERIES))
    queries = quantize(encoder.project(asked), encoder.spec, encoder.steps)
    corpus = Corpus(encoder, records)
    calibration = measured(corpus, points_of(encoder, records))
    print(f"{args.rows:,} rows, {corpus.lists:,} lists, {args.clusters} clusters; recall {args.recall}")
    print(f"{'':40} {'kept':>7} {'without deep needs':>24} {'with them':>24}")

    def show(name: str, k: int, kept: NDArray[np.bool_] | None) -> None:
        mask = None if kept is None else pack_mask(kept)
        plain = args.recall if kept is None else filtered_recall(args.recall)
        count = args.rows if kept is None else int(kept.sum())
        exact, columns = rows_of(corpus.exact(queries, k, mask), k), []
        for delta in (calibration.delta(plain), measured_for(calibration, args.recall, k, kept is not None).delta):
            found, _, rows = corpus.by_lists(queries, delta, k, mask, count // 2)
            columns.append(f"{recall_of(rows_of(found, k), exact):.3f}, {rows.mean():9,.0f} rows")
        print(f"{name:40} {count:7,} {columns[0]:>24} {columns[1]:>24}", flush=True)

    for name, kept in filters_of(cluster, args.clusters).items():
        show(name, K, kept[corpus.order])
    for k in (K, 3 * args.rows // args.clusters):
        show(f"no filter, {k:,} hits", k, None)


if __name__ == "__main__":
    main()
