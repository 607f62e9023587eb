"""One query at a time on one thread, in this process: lists over codes with rescore codes on disk, against the indexes
of others, each at the fastest of its settings that find enough.

    python -m bench.peers DATA [--rows 400000] [--recall 0.95] [--rounds 7] [--cache FOLDER] [--only hnswlib,faiss]

DATA is as for `bench.lists`. recall@10 is the share of the float top 10 that is found, of up to 32 queries a kind;
settings are chosen by the same queries. p50: the wall time of a query from its embedding to ids, the median of rounds
that take turns. Memory: what the process grew by while the index was loaded and answered the queries once; disk: its
files. Build: processor time; for ours with encoding and clustering. Needs `pip install -e .[bench]`; an index whose
package is missing is left out, and said. A cache keeps what was built.
"""

import argparse
import ctypes
import gc
import itertools
import os
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from bench._peers import PEERS, Peer, Rows, Setting
from bench.lists import CHUNK, data_of
from numpy.typing import NDArray

from bebr.core.lists import ListRule
from bebr.core.types import Puts
from bebr.encoding import BundleRegistry, shipped_bundles
from bebr.encoding.encoder import Encoder
from bebr.index import CodeSpace, Rescoring, ScanQueries, centroid_files, cluster, lists_for, quantize
from bebr.index.lists.clustering import sample_rows_for
from bebr.index.probe import probe
from bebr.index.rescoring import rescore_hits
from bebr.index.scan_view import ScanView, table_of
from bebr.index.shard import Shard

K = 10
QUERIES_PER_KIND = 32
TIE = 1e-6
"""Float scores this close count as equal."""


class Ours(Peer):
    """A shard of one sealed segment with lists, as the service writes it."""

    package, setting_names = "bebr", ("delta", "candidates")
    settings: Sequence[Setting] = [
        (delta, candidates) for delta in (0.1, 0.14, 0.18, 0.22, 0.26, 0.3, 0.35) for candidates in (15, 20, 30, 50, 80)
    ]

    def __init__(self, bundle: str) -> None:
        super().__init__(f"bebr, {bundle}")
        self.encoder = Encoder(BundleRegistry([shipped_bundles()]).get(bundle), threads=1)

    def build(self, rows: Rows, path: Path) -> None:
        encoder, spec = self.encoder, self.encoder.spec
        records = np.concatenate([encoder.encode(rows[i : i + CHUNK]) for i in range(0, len(rows), CHUNK)])
        lists = lists_for(len(rows))
        sample = np.random.default_rng(1).permutation(len(rows))[: sample_rows_for(lists)]
        space = CodeSpace(spec.scan, encoder.steps, encoder.metric)
        centroids = cluster(records[sample], space, lists, version=0, generation=1, rows=len(rows))
        shutil.rmtree(path, ignore_errors=True)
        shard = Shard(path, {0: spec}, {}, len(rows), {0: centroids})
        shard.open()
        shard.apply([(Puts([f"{row:08}" for row in range(len(rows))], 0, records, []), {})], [], len(rows))
        shard.flush()
        path.with_suffix(".centroids").write_bytes(centroid_files.pack(centroids))

    def load(self, path: Path) -> None:
        shard = Shard(path, {0: self.encoder.spec}, {}, 1)
        shard.open()
        centroids = centroid_files.unpack(np.fromfile(path.with_suffix(".centroids"), np.uint8))
        self.index = ScanView.of([shard.view], {(0, 1): table_of(centroids, self.encoder.spec)})

    def use(self, setting: Setting) -> None:
        self.delta, self.rescoring = np.array([setting[0]], np.float32), Rescoring(int(setting[1]), 0, K)

    def search(self, query: Rows, k: int) -> NDArray[np.int64]:
        encoder, view = self.encoder, self.index
        queries = ScanQueries(
            0,
            quantize(encoder.project(query), encoder.spec, encoder.steps),
            self.rescoring.limit,
            (None,),
            np.array([-np.inf], np.float32),
            rescore=encoder.rescore_queries(query),
            lists=ListRule(self.delta, np.array([k], np.int32)),
        )
        candidates, _ = probe(view.of_version[0], view.parts, queries, view.lists[0])
        (found,), _ = rescore_hits(view, candidates, [queries], [self.rescoring])
        return np.array([int(one) for one in found.ids])


@dataclass(frozen=True, slots=True)
class Loaded:
    """An index at its fastest setting that finds enough."""

    peer: Peer
    setting: Setting
    recall: float
    build_seconds: float
    memory_bytes: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries and what they should find."""

    rows: Rows
    queries: Rows
    kth_scores: NDArray[np.float32]
    """(queries,): the float score of the last one of each top 10."""

    @classmethod
    def of(cls, rows: Rows, queries: Rows) -> "Asked":
        best = [np.partition(rows @ some.T, -K, axis=0)[-K] for some in np.array_split(queries, -(-len(queries) // 32))]
        return cls(rows, queries, np.concatenate(best))

    def recall(self, found: Sequence[NDArray[np.int64]]) -> float:
        hits = [
            (self.rows[np.unique(rows[rows >= 0])] @ query >= kth - TIE).sum()
            for rows, query, kth in zip(found, self.queries, self.kth_scores, strict=True)
        ]
        return float(np.minimum(hits, K).mean()) / K

    def run(self, peer: Peer) -> tuple[float, list[NDArray[np.int64]]]:
        """The median of a query in microseconds, and what was found."""
        taken, found = [], []
        for row in range(len(self.queries)):
            query = self.queries[row : row + 1]
            began = time.perf_counter_ns()
            found.append(peer.search(query, K))
            taken.append(time.perf_counter_ns() - began)
        return statistics.median(taken) / 1000, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cache", type=Path, help="keep what was built in this folder")
    parser.add_argument("--only", help="parts of names of indexes, separated by commas")
    args = parser.parse_args()
    rows, _, kinds = data_of(args.data, args.rows)
    asked = Asked.of(rows, np.concatenate([some[:QUERIES_PER_KIND] for some in kinds.values()]))
    print(f"{len(rows):,} rows, {len(asked.queries)} queries of {len(kinds)} kinds, float top {K}", flush=True)
    wanted = args.only.split(",") if args.only else [""]
    with TemporaryDirectory() as temporary:
        folder = args.cache or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        peers = [
            one for one in (Ours("minilm-64-384@2"), Ours("minilm@2"), *PEERS) if any(w in one.name for w in wanted)
        ]
        loaded = [found for peer in peers if (found := prepared(peer, asked, folder, args.recall)) is not None]
        print_table(loaded, asked, args.rounds)


def prepared(peer: Peer, asked: Asked, folder: Path, recall: float) -> Loaded | None:
    """None, and a line that says why, where it cannot take part."""
    if not peer.is_installed:
        print(f"{peer.name}: {peer.package} is not installed (pip install -e '.[bench]')", flush=True)
        return None
    path = folder / f"{peer.name.replace(' ', '-')}-{len(asked.rows)}.index"
    if not path.with_suffix(".seconds").exists():
        path.with_suffix(".dims").write_text(str(asked.rows.shape[1]))
        began = time.process_time()
        peer.build(asked.rows, path)
        path.with_suffix(".seconds").write_text(str(time.process_time() - began))
    before = resident_bytes()
    peer.load(path)
    peer.use(peer.settings[-1])
    asked.run(peer)
    memory = resident_bytes() - before
    best, reached = fastest(peer, asked, recall)
    if best is None:
        print(f"{peer.name}: no setting finds {recall}; the best finds {reached:.3f}", flush=True)
        return None
    print(f"{peer.name}: {best[0]:.0f} us at recall {best[1]:.3f}", flush=True)
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    disk = sum(one.stat().st_size for one in files)
    return Loaded(peer, best[2], best[1], float(path.with_suffix(".seconds").read_text()), memory, disk)


def fastest(peer: Peer, asked: Asked, recall: float) -> tuple[tuple[float, float, Setting] | None, float]:
    """The time, the recall and the setting of the fastest that finds enough; and the best recall that was seen.

    Settings ascend: of those that differ in the last number alone, the first that finds enough is the fastest.
    """
    best: tuple[float, float, Setting] | None = None
    reached = 0.0
    for _, group in itertools.groupby(peer.settings, lambda setting: setting[:-1]):
        quickest = float("inf")
        for setting in group:
            peer.use(setting)
            microseconds, found = asked.run(peer)
            quickest = min(quickest, microseconds)
            reached = max(reached, got := asked.recall(found))
            if got >= recall:
                best = min(best or (microseconds, got, setting), (microseconds, got, setting))
                break
        if best is not None and quickest > best[0]:
            break
    return best, reached


def resident_bytes() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def print_table(loaded: Sequence[Loaded], asked: Asked, rounds: int) -> None:
    taken: list[list[float]] = [[] for _ in loaded]
    for _ in range(rounds):
        for one, of_one in zip(loaded, taken, strict=True):  # in turns: what disturbs one disturbs the others
            one.peer.use(one.setting)
            of_one.append(asked.run(one.peer)[0])
    print("\n| index | setting | recall@10 | p50 us | times ours | memory B | disk B | build s |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for one, of_one in zip(loaded, taken, strict=True):
        setting = ", ".join(
            f"{name} {value:g}" for name, value in zip(one.peer.setting_names, one.setting, strict=True)
        )
        ratio = statistics.median(a / b for a, b in zip(of_one, taken[0], strict=True))
        memory, disk = one.memory_bytes / len(asked.rows), one.disk_bytes / len(asked.rows)
        print(
            f"| {one.peer.name} | {setting} | {one.recall:.3f} | {statistics.median(of_one):.0f} | {ratio:.2f} | "
            f"{memory:.0f} | {disk:.0f} | {one.build_seconds:.0f} |"
        )


if __name__ == "__main__":
    main()
