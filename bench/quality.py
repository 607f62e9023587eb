"""Measures what codes of 64 bytes keep: recall of the float neighbours, and nDCG@10 on judged queries.

    python -m bench.quality [DATA_FOLDER ...] [--bytes 64] [--sweep]

Three binarizers on every collection, each measured through its ONNX graph and the kernel, as in the service:
    general     the bundle that comes with bebr (only where it has that size)
    left out    fitted like it, without the collection that is measured: what a new collection may expect
    own         `bebr fit --bytes` on the documents of the collection itself
The float top 10 and top 100 by cosine of the first 1,000 queries are the truth; nothing is rescored. nDCG@10 is of adc,
on all judged queries, in percent of what float cosine reaches. `--sweep` compares codes for the general bundle instead.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from bench.bundles.data import DEFAULT_FOLDER, TextCollection, collections_in
from bench.bundles.minilm import NAME, SHIPPED, VERSION, fit_general
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.codes import CodeSpec, split_records
from bebr.core.scoring import Scorer, prepare_adc, prepare_hamming, prepare_sdc
from bebr.encoding import Bundle
from bebr.encoding.binarizer import Binarizer
from bebr.encoding.choose import fit_bytes
from bebr.encoding.closed_form import ClosedForm
from bebr.encoding.closed_form_graph import to_onnx

RECALL_QUERIES = 1_000
DEPTH = 100
NDCG_DEPTH = 10
SWEEP = [
    "256x2",
    "224x2+64x1",
    "16x4+224x2",
    "16x4+192x2+64x1",
    "32x4+192x2",
    "32x4+160x2+64x1",
    "48x4+128x2+64x1",
    "64x4+128x2",
    "128x4",
]
Rows = NDArray[np.int64]


class Coded:
    """The documents of one collection as codes, ready to be searched by any scorer."""

    def __init__(self, documents: NDArray[np.float32], binarizer: Binarizer, steps: NDArray[np.float32]) -> None:
        self.binarizer, self.spec, self.steps, self.count = binarizer, binarizer.spec, steps, len(documents)
        codes, self.gains = split_records(binarizer.encode(documents))
        self.blocked = kernel.allocate(kernel.blocked_size_bytes(self.spec, self.count))
        kernel.pack(codes, self.spec, self.blocked, 0)

    def search(self, queries: NDArray[np.float32], scorer: Scorer, k: int) -> Rows:
        """queries (queries, dims) float32 -> rows (queries, k) int64, best first."""
        if scorer is Scorer.ADC:
            prepared = prepare_adc(self.binarizer.project(queries), self.spec, self.steps)
            return kernel.dot_top_k(self.blocked, self.gains, self.count, self.spec, prepared, k)[1]
        codes, gains = split_records(self.binarizer.encode(queries))
        if scorer is Scorer.SDC:
            prepared = prepare_sdc(codes, gains, self.spec, self.steps)
            return kernel.dot_top_k(self.blocked, self.gains, self.count, self.spec, prepared, k)[1]
        return kernel.hamming_top_k(self.blocked, self.count, self.spec, prepare_hamming(codes), k)[1]


def float_top_k(queries: NDArray[np.float32], documents: NDArray[np.float32], k: int) -> Rows:
    """Rows (queries, k) int64 of the largest cosines, best first."""
    found = np.empty((len(queries), k), np.int64)
    for start in range(0, len(queries), 200):
        scores = queries[start : start + 200] @ documents.T
        best = np.argpartition(-scores, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        found[start : start + 200] = np.take_along_axis(best, order, axis=1)
    return found


def recall(found: Rows, truth: Rows, k: int) -> float:
    """Mean share of the true top k that the found top k holds."""
    return float(np.mean([np.isin(f[:k], t[:k]).mean() for f, t in zip(found, truth, strict=True)]))


def ndcg(found: Rows, judgements: Mapping[int, Mapping[int, float]]) -> float:
    """nDCG@10 with the grades as gains, mean over the judged queries; found (queries, at least 10)."""
    discounts = 1 / np.log2(np.arange(2, NDCG_DEPTH + 2))
    values = []
    for query, grades in judgements.items():
        got = np.array([grades.get(int(row), 0.0) for row in found[query, :NDCG_DEPTH]])
        ideal = np.sort(list(grades.values()))[::-1][:NDCG_DEPTH]
        values.append((got * discounts).sum() / (ideal * discounts[: len(ideal)]).sum() if len(ideal) else 0.0)
    return float(np.mean(values))


def open_binarizer(fitted: ClosedForm) -> tuple[Binarizer, NDArray[np.float32]]:
    """Export and open a binarizer that was just fitted."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "binarizer.onnx"
        path.write_bytes(to_onnx(fitted))
        return Binarizer(path, fitted.spec, fitted.embedding_dims), fitted.steps


def shipped() -> tuple[Binarizer, NDArray[np.float32]]:
    """The binarizer of the bundle that comes with bebr."""
    bundle = Bundle.load(SHIPPED / f"{NAME}@{VERSION}")
    binarizer = Binarizer(bundle.path / bundle.binarizer.graph, bundle.spec, bundle.embedding_dims)
    return binarizer, bundle.steps


def report(folder: Path, size_bytes: int) -> None:
    """Print one line for each binarizer and collection."""
    collections = collections_in(folder)
    columns = ("adc@10", "adc@100", "sdc@10", "hamming@10", "nDCG float", "nDCG adc", "kept %")
    print(f"{'collection':14s} {'binarizer':9s} {'code':18s} " + " ".join(f"{column:>10s}" for column in columns))
    for collection in collections:
        truth = float_top_k(collection.queries, collection.documents, DEPTH)
        binarizers = {}
        general = shipped()
        if general[0].spec.code_size_bytes == size_bytes:
            binarizers["general"] = general
            others = [other for other in collections if other.name != collection.name]
            if others:
                binarizers["left out"] = open_binarizer(fit_general(others, general[0].spec))
        binarizers["own"] = open_binarizer(fit_bytes(collection.documents, size_bytes)[0])
        for label, (binarizer, steps) in binarizers.items():
            cells = measure(collection, Coded(collection.documents, binarizer, steps), truth)
            line = " ".join(f"{cell:10.4f}" for cell in cells)
            print(f"{collection.name:14s} {label:9s} {binarizer.spec!s:18s} {line}", flush=True)


def measure(collection: TextCollection, coded: Coded, truth: Rows) -> list[float]:
    """The figures of one line."""
    sample, sample_truth = collection.queries[:RECALL_QUERIES], truth[:RECALL_QUERIES]
    adc = coded.search(collection.queries, Scorer.ADC, DEPTH)
    others = [recall(coded.search(sample, s, 10), sample_truth, 10) for s in (Scorer.SDC, Scorer.HAMMING)]
    ndcg_float, ndcg_adc = ndcg(truth, collection.judgements), ndcg(adc, collection.judgements)
    recalls = [recall(adc[:RECALL_QUERIES], sample_truth, k) for k in (10, DEPTH)]
    return [*recalls, *others, ndcg_float, ndcg_adc, 100 * ndcg_adc / ndcg_float]


def sweep(folder: Path, codes: Sequence[str]) -> None:
    """Print recall@10 of adc for general binarizers, fitted without and with the collection that is measured."""
    collections = collections_in(folder)
    queries = {c.name: c.queries[:RECALL_QUERIES] for c in collections}
    truth = {c.name: float_top_k(queries[c.name], c.documents, 10) for c in collections}
    print(f"recall@10 of adc, mean of {', '.join(truth)}\n{'code':18s} centred  left out  included")
    for code in codes:
        spec = CodeSpec.parse(code)
        for centre in (False, True):
            means = []
            for included in (False, True):
                found = []
                for c in collections:
                    mixture = [other for other in collections if included or other.name != c.name]
                    coded = Coded(c.documents, *open_binarizer(fit_general(mixture, spec, centre=centre)))
                    found.append(recall(coded.search(queries[c.name], Scorer.ADC, 10), truth[c.name], 10))
                means.append(np.mean(found))
            print(f"{code:18s} {centre!s:7s} {means[0]:9.4f} {means[1]:9.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", type=Path, default=[DEFAULT_FOLDER], help="folders of collections")
    parser.add_argument("--bytes", type=int, default=64, help="size of a code")
    parser.add_argument("--sweep", action="store_true", help="compare codes for the general bundle")
    options = parser.parse_args()
    for folder in options.data:
        if not collections_in(folder):
            print(f"skipped: no collections in {folder}; name the folder that holds {', '.join(('oewn', 'scifact'))}")
        elif options.sweep:
            sweep(folder, SWEEP)
        else:
            report(folder, options.bytes)


if __name__ == "__main__":
    main()
