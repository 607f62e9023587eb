"""Measures what codes keep, beside other methods at equal bytes, on all evaluation collections that are there.

    python -m bench.quality [DATA_FOLDER ...] [--bytes 32,64,128] [--baselines all] [--markdown FILE] [--plot FILE]

`bebr evaluate` with what only the authors of bundles need. Codes are measured through their ONNX graphs, as in the
service:
    minilm@1    the bundles that come with bebr, at their sizes
    left out    fitted like the shipped one, without the collection that is measured: what a new collection may expect
    own fit     `bebr fit --bytes` on the documents of the collection itself
`--sweep` compares codes for the general bundle instead.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from bench.bundles.data import DEFAULT_FOLDER, NAMES, TextCollection, collections_in
from bench.bundles.minilm import fit_general
from tqdm import tqdm

from bebr.core.codes import CodeSpec
from bebr.encoding import BinarizerFiles, Bundle, BundleCatalog, shipped_bundles
from bebr.encoding.closed_form import ClosedForm
from bebr.encoding.closed_form_graph import to_onnx
from bebr_training import report
from bebr_training.coded import Candidate
from bebr_training.evaluate import Plan, evaluate
from bebr_training.measuring import Measurer
from bebr_training.methods import choose_baselines, parse_sizes, use_threads
from bebr_training.plot import plot
from bebr_training.results import Evaluation, verdicts

LEFT_OUT = "left out"
SWEEP_QUERIES = 1_000
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


def candidates(
    collection: TextCollection, others: Sequence[TextCollection], bundles: Sequence[Bundle]
) -> list[Candidate]:
    """The shipped bundles, and for the code of each the one fitted without this collection."""
    dims = collection.opened.dims
    found = [Candidate.of_bundle(bundle, dims) for bundle in bundles]
    if others:
        specs = dict.fromkeys(bundle.spec for bundle in bundles)
        found += [opened(LEFT_OUT, fit_general(others, spec)) for spec in specs]
    return found


def opened(label: str, fitted: ClosedForm) -> Candidate:
    """A binarizer that was just fitted, opened from its graph."""
    files = BinarizerFiles(to_onnx(fitted), fitted.spec, fitted.steps, fitted.gain)
    return Candidate.of_files(label, files, fitted.embedding_dims)


def measure(collections: Sequence[TextCollection], plan: Plan) -> list[Evaluation]:
    """Everything of the plan, with the bundles that are shipped and those left out, on every collection."""
    catalog = BundleCatalog([shipped_bundles()])
    bundles = [bundle for bundle in catalog.list() if bundle.has_binarizer]
    found = []
    for collection in collections:
        others = [other for other in collections if other.name != collection.name]
        own_plan = replace(plan, candidates=candidates(collection, others, bundles))
        with tqdm(unit="method") as bar:

            def show(done: int, total: int, label: str, bar: "tqdm[int]" = bar) -> None:
                bar.total, bar.n = total, done
                bar.set_description(label)

            found.append(evaluate(collection.opened, own_plan, show))
    return found


def sweep(collections: Sequence[TextCollection], codes: Sequence[str]) -> None:
    """Print recall@10 of adc for general binarizers, fitted without and with the collection that is measured."""
    measurers = {
        c.name: Measurer(replace(c.opened, queries=c.queries[:SWEEP_QUERIES], judgements=None)) for c in collections
    }
    print(f"recall@10 of adc, mean of {', '.join(measurers)}\n{'code':18s} centred  left out  included")
    for code in codes:
        spec = CodeSpec.parse(code)
        for centre in (False, True):
            means = []
            for included in (False, True):
                found = []
                for c in collections:
                    mixture = [other for other in collections if included or other.name != c.name]
                    adc = measurers[c.name].codes(opened(code, fit_general(mixture, spec, centre=centre)))[0]
                    found.append(adc.recall_10.mean())
                means.append(np.mean(found))
            print(f"{code:18s} {centre!s:7s} {means[0]:9.4f} {means[1]:9.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", type=Path, default=[DEFAULT_FOLDER], help="folders of collections")
    parser.add_argument("--bytes", default="32,64,128", help="sizes of own fits, baselines and bound")
    parser.add_argument("--baselines", default="all", help="all, none, or names as `bebr evaluate` takes them")
    parser.add_argument("--threads", type=int, default=0, help="threads of faiss; 0: all cores")
    parser.add_argument("--markdown", type=Path, help="write the tables into this file")
    parser.add_argument("--plot", type=Path, help="draw the figure into this file")
    parser.add_argument("--sweep", action="store_true", help="compare codes for the general bundle")
    options = parser.parse_args()
    collections = [collection for folder in options.data for collection in collections_in(folder)]
    for name in NAMES:
        if name not in {collection.name for collection in collections}:
            print(f"skipped {name}: not in {', '.join(str(folder) for folder in options.data)}")
    if options.sweep:
        sweep(collections, SWEEP)
        return
    use_threads(options.threads)
    plan = Plan((), parse_sizes(options.bytes), True, choose_baselines(options.baselines), True)
    evaluations = measure(collections, plan)
    page = report.markdown(evaluations)
    print(page)
    if options.markdown is not None:
        options.markdown.write_text(page, "utf-8")
    if options.plot is not None and evaluations:
        plot(evaluations, options.plot)
    print("\n".join(sentence for evaluation in evaluations for sentence in verdicts(evaluation)))


if __name__ == "__main__":
    main()
