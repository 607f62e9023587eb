"""Searches by lists on real embeddings: what they find of exact searches, what they read, and how much faster they are.

    python -m bench.lists DATA [--rows 400000] [--recall 0.98] [--rounds 5]

DATA holds folders of collections (`db.new.i8.npy` or `docs.new.i8.npy`, `queries.new.i8.npy`, `*.scale.npy`). Their
codes are clustered as the service does it, the rule is measured with 400 of the points, and every kind of query is
searched for exactly and by lists, in one native call each, on one thread. Times are processor time of that thread;
medians of rounds that take turns.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.codes import split_records
from bebr.core.list_calibration import (
    DEEP_HITS,
    DEEP_ROWS,
    Calibration,
    calibration_of,
    deep_deltas,
    deltas_to_measure,
    needs_of,
    recall_as_queries,
    recall_of,
    sure_recall,
)
from bebr.core.scoring import DotQueries
from bebr.encoding import BundleRegistry, shipped_bundles
from bebr.encoding.encoder import Encoder
from bebr.engine.search.probing import measured_for
from bebr.index import CodeSpace, cluster, lists_for, quantize
from bebr.index.columns import pack_mask
from bebr.index.growing import GrowingSegment, GrowingView
from bebr.index.lists.assigning import assign
from bebr.index.lists.clustering import sample_rows_for
from bebr.index.probe import FLAT_ROWS_PER_LIST
from bebr.index.sealing import seal
from bebr.shards.memory import release_free_memory

K = 10
OWN = 400
CHUNK = 20_000
BATCH = 32
ROUNDS = 5
ALL = 2**62
TABLES = 8
"""Centroids are packed so often to see what one takes."""


class Corpus:
    """Codes sorted by list, as one part of a view."""

    def __init__(
        self, encoder: Encoder, records: NDArray[np.uint8], made_of: NDArray[np.uint8] | None = None, seed: int = 0
    ) -> None:
        """made_of: the records that there were when centroids were made; None: all."""
        spec, began = encoder.spec, time.process_time()
        space = CodeSpace(spec.scan, encoder.steps, encoder.metric)
        known = records if made_of is None else made_of
        self.lists = lists_for(len(known))
        sample = np.random.default_rng(1 + seed).permutation(len(known))[: sample_rows_for(self.lists)]
        centroids = cluster(
            known[sample], space, self.lists, version=0, generation=1 + seed, rows=len(known), seed=seed
        )
        self.clustering_seconds = time.process_time() - began
        codes, gains = split_records(records, spec)
        blocked = kernel.allocate(kernel.blocked_size_bytes(spec, len(records)))
        kernel.pack(codes, spec, blocked, 0)
        began = time.process_time()
        numbers, scores = assign(blocked, len(records), spec, centroids.assigning)
        self.centroids = centroids
        self.score_share = float((scores * gains.astype(np.float32)).mean()) / centroids.mean_score
        """Of the mean score of rows like those that centroids were made of; see `engine/versions/lists.py`."""
        self.assign_seconds = time.process_time() - began
        self.order = np.argsort(numbers, kind="stable")
        self.begin = np.zeros(self.lists + 1, np.uint32)
        np.cumsum(np.bincount(numbers, minlength=self.lists), out=self.begin[1:])
        kernel.pack(codes[self.order], spec, blocked, 0)
        self.table = kernel.CentroidTable(spec, centroids.values, centroids.scales, 1)
        self.rows, parts = len(records), kernel.Parts()
        ids = np.zeros(self.rows + 1, np.uint64), np.zeros(0, np.uint8), np.zeros(self.rows, np.uint64)
        sorted_gains = np.ascontiguousarray(gains[self.order])
        parts.add_sorted(blocked, sorted_gains, self.rows, spec, None, ids, False, (self.table, self.begin))
        self.selection = parts.select([0])

    def exact(self, queries: DotQueries, k: int = K, mask: NDArray[np.uint16] | None = None) -> kernel.Candidates:
        return kernel.dot_candidates(self.selection, queries, k, [] if mask is None else [[mask]])

    def by_lists(
        self, queries: DotQueries, delta: float, k: int = K, mask: NDArray[np.uint16] | None = None, flat: int = ALL
    ) -> tuple[kernel.Candidates, NDArray[np.int64], NDArray[np.int64]]:
        count = len(queries)
        deltas, stop_at = np.full(count, delta, np.float32), np.full(count, k, np.int32)
        return kernel.list_candidates(
            self.selection, queries, k, [] if mask is None else [[mask]],
            deltas=deltas, stop_at=stop_at, flat_rows=np.full(count, flat),
        )  # fmt: skip


def resident_bytes() -> int:
    """Memory of this process that no file stands behind."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


def rows_of(found: kernel.Candidates, k: int = K, skipped: int = 0) -> list[list[int]]:
    starts = found.starts.tolist()
    return [found.rows[a:b][skipped:k].tolist() for a, b in itertools.pairwise(starts)]


def measured(corpus: Corpus, own: DotQueries) -> Calibration:
    """As `engine/search/list_measuring.py` does it, with points of the collection only."""
    exact = corpus.exact(own, K + 1)
    deltas = deltas_to_measure([np.concatenate([needs for _, needs in hits_of(corpus, own, exact, K + 1)])])
    drawn = np.random.default_rng(4).permutation(corpus.rows) < DEEP_ROWS
    sampled = corpus.exact(own, DEEP_HITS, pack_mask(drawn))
    deep = deep_deltas([hits_of(corpus, own, sampled, DEEP_HITS)])
    recalls, shares = [], []
    for delta in deltas.tolist():
        found, _, rows = corpus.by_lists(own, delta, K + 1)
        hits = zip(rows_of(found, K + 1), rows_of(exact, K + 1, 1), strict=True)
        shared = [len(set(one) & set(other)) for one, other in hits]
        recall = recall_as_queries(sure_recall(shared, [K] * len(own)), corpus.rows)
        recalls.append({"points": recall})
        shares.append(float(rows.mean()) / corpus.rows)
    return calibration_of(deltas, recalls, shares, deep)


def hits_of(
    corpus: Corpus, queries: DotQueries, found: kernel.Candidates, k: int
) -> list[tuple[NDArray[np.float64], NDArray[np.float32]]]:
    """Scores and needs of the best k hits of each query."""
    scores, hits = kernel.centroid_scores(corpus.table, queries), []
    for query, (start, stop) in enumerate(itertools.pairwise(found.starts.tolist())):
        some = slice(start, min(stop, start + k))
        lists = np.searchsorted(corpus.begin, found.rows[some], "right") - 1
        hits.append((found.scores[some], needs_of(found.scores[some], scores[query][lists])))
    return hits


def cpu_ms(run: Callable[[DotQueries], object], queries: DotQueries, batch: int) -> float:
    """Of one query."""
    some = [
        DotQueries(queries.values[i : i + batch], queries.scales[i : i + batch])
        for i in range(0, len(queries) - batch + 1, batch)
    ]
    began = time.thread_time()
    for one in some:
        run(one)
    return (time.thread_time() - began) * 1000 / (len(some) * batch)


def records_of(encoder: Encoder, embeddings: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.concatenate([encoder.encode(embeddings[i : i + CHUNK]) for i in range(0, len(embeddings), CHUNK)])


def load(folder: Path, name: str, rows: int) -> NDArray[np.float32]:
    scale = np.load(folder / f"{name}.new.scale.npy")[:rows]
    found = np.load(folder / f"{name}.new.i8.npy", mmap_mode="r")[:rows].astype(np.float32) * scale[:, None]
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def data_of(folder: Path, rows: int) -> tuple[NDArray[np.float32], NDArray[np.int64], dict[str, NDArray[np.float32]]]:
    """Embeddings, the number of the source of each, and queries by kind; titles are rows that are taken out."""
    sources, queries = [], {}
    for one in sorted(path for path in folder.iterdir() if path.is_dir()):
        name = next((name for name in ("db", "docs") if (one / f"{name}.new.i8.npy").exists()), None)
        if name is None:
            continue
        sources.append(load(one, name, rows))
        found = load(one, "queries", 10_000)
        kinds = one / "query_kinds.txt"
        labels = kinds.read_text().split() if kinds.exists() else []
        for label in dict.fromkeys(labels) if len(labels) == len(found) else [""]:
            some = found if not label else found[[n for n, kind in enumerate(labels) if kind == label]]
            queries[f"{one.name} {label}".strip()] = some[:400]
    every = np.concatenate(sources)
    source = np.repeat(np.arange(len(sources)), [len(one) for one in sources])
    order = np.random.default_rng(0).permutation(len(every))[:rows]
    queries["held-out rows"] = every[order[-400:]]
    return every[order[:-400]], source[order[:-400]], queries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--recall", type=float, default=0.98)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    encoder = Encoder(BundleRegistry([shipped_bundles()]).get("minilm@1"), threads=1)
    embeddings, source, kinds = data_of(args.data, args.rows)
    records = records_of(encoder, embeddings)
    asked = {name: quantize(encoder.project(rows), encoder.spec, encoder.steps) for name, rows in kinds.items()}
    corpus = Corpus(encoder, records)
    per_point = corpus.assign_seconds / corpus.rows * 1e6
    print(
        f"{corpus.rows:,} rows, {corpus.lists:,} lists; clustering {corpus.clustering_seconds:.1f} s, "
        f"assigning {per_point:.1f} us a point (CPU)"
    )
    print_memory(corpus, encoder, records)
    points = points_of(encoder, records)
    calibration = measured(corpus, points)
    one = calibration.at(args.recall)
    print(f"recall {args.recall}: delta {one.delta:.3f}, {one.share:.2%} of the rows expected\n")
    asked |= {"points": points}
    print_kinds(corpus, asked, one.delta)
    mixed = np.concatenate([rows[:64] for rows in kinds.values()])
    queries = quantize(encoder.project(mixed), encoder.spec, encoder.steps)
    print_speed(corpus, queries, one.delta, args.rounds)
    filtered = measured_for(calibration, args.recall, K, is_filtered=True).delta
    print_filters(corpus, queries, filtered, filters_of(corpus, embeddings, source), args.rounds)


def points_of(encoder: Encoder, records: NDArray[np.uint8]) -> DotQueries:
    """Some of the points as queries."""
    own = np.random.default_rng(2).permutation(len(records))[:OWN]
    return quantize(encoder.code_query(records[own]), encoder.spec, encoder.steps)


def print_memory(corpus: Corpus, encoder: Encoder, records: NDArray[np.uint8]) -> None:
    """What lists add to a point: in memory for all, and in the files of segments, which are mapped."""
    release_free_memory()
    before, made = resident_bytes(), corpus.centroids
    tables = [kernel.CentroidTable(encoder.spec, made.values, made.scales) for _ in range(TABLES)]
    table_bytes = (resident_bytes() - before) / len(tables)
    resident = (table_bytes + corpus.begin.nbytes) / corpus.rows
    rows, sizes = records[: 32 * corpus.lists], []
    for centroids in (None, corpus.centroids):
        growing = GrowingSegment(0, encoder.spec, {}, len(rows))
        growing.append([f"{n:09}" for n in range(len(rows))], rows, {})
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "one.segment"
            seal(GrowingView.of(growing).extended(), path, centroids)
            sizes.append(path.stat().st_size)
    mapped = (sizes[1] - sizes[0] - corpus.begin.nbytes) / len(rows)
    print(f"lists take {resident:.2f} B a point in memory, and {mapped:.2f} B in files of segments")


def print_kinds(corpus: Corpus, asked: dict[str, DotQueries], delta: float) -> None:
    print(f"{'queries':24} {'n':>5} {'recall@10':>9} {'rows read':>9} {'lists':>6} {'recall@100':>10}")
    recalls = []
    for name, queries in asked.items():
        found, lists, rows = corpus.by_lists(queries, delta)
        recall = recall_of(rows_of(found), rows_of(corpus.exact(queries)))
        many, _, _ = corpus.by_lists(queries, delta, 100)
        deep = recall_of(rows_of(many, 100), rows_of(corpus.exact(queries, 100), 100))
        if name != "points":
            recalls.append(recall)
        share = rows.mean() / corpus.rows
        print(f"{name:24} {len(queries):5} {recall:9.3f} {share:9.2%} {lists.mean():6.0f} {deep:10.3f}")
    print(f"mean of the kinds {statistics.mean(recalls):.3f}, worst {min(recalls):.3f}\n")


def print_speed(corpus: Corpus, queries: DotQueries, delta: float, rounds: int) -> None:
    for batch in (1, BATCH):
        exact, lists = [], []
        for _ in range(rounds):
            exact.append(cpu_ms(corpus.exact, queries, batch))
            lists.append(cpu_ms(lambda one: corpus.by_lists(one, delta), queries, batch))
        ratios = statistics.median(a / b for a, b in zip(exact, lists, strict=True))
        medians = statistics.median(exact), statistics.median(lists)
        print(
            f"batch {batch:2}: exact {medians[0]:.3f} ms, lists {medians[1]:.3f} ms a query, {ratios:.1f} times as fast"
        )
    print()


def filters_of(
    corpus: Corpus, embeddings: NDArray[np.float32], source: NDArray[np.int64]
) -> dict[str, NDArray[np.bool_]]:
    """Rows that filters keep, in the order of the lists."""
    random = np.random.default_rng(3)
    found = {
        f"random {share:.1%}": random.random(corpus.rows) < share for share in (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
    }
    for number in np.unique(source).tolist():
        found[f"source {number}"] = source == number
    topic = embeddings @ embeddings[int(random.integers(corpus.rows))]
    for share in (0.1, 0.01):
        found[f"one topic {share:.0%}"] = topic >= np.quantile(topic, 1 - share)
    return {name: kept[corpus.order] for name, kept in found.items()}


def print_filters(
    corpus: Corpus, queries: DotQueries, delta: float, filters: dict[str, NDArray[np.bool_]], rounds: int
) -> None:
    print(
        f"{'filter':16} {'kept':>8} {'groups':>7} {'chosen':>6} {'recall':>6} "
        f"{'flat ms':>8} {'lists ms':>8} {'ratio':>6}"
    )
    for name, kept in filters.items():
        mask, matching = pack_mask(kept), int(kept.sum())
        groups = int(np.count_nonzero(mask))
        found, _, _ = corpus.by_lists(queries, delta, K, mask, matching // 2)
        recall = recall_of(rows_of(found), rows_of(corpus.exact(queries, K, mask)))
        exact, lists = [], []
        for _ in range(rounds):
            exact.append(cpu_ms(lambda one, m=mask: corpus.exact(one, K, m), queries, 1))
            lists.append(cpu_ms(lambda one, m=mask, n=matching // 2: corpus.by_lists(one, delta, K, m, n), queries, 1))
        is_flat = groups * kernel.GROUP_ROWS <= FLAT_ROWS_PER_LIST * corpus.lists
        ratio = statistics.median(a / b for a, b in zip(lists, exact, strict=True))
        print(
            f"{name:16} {matching:8,} {groups:7,} {'flat' if is_flat else 'lists':>6} {recall:6.3f} "
            f"{statistics.median(exact):8.3f} {statistics.median(lists):8.3f} {ratio:6.2f}"
        )


if __name__ == "__main__":
    main()
