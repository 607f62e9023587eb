"""Measures codes beside other methods at equal bytes, on all evaluation collections that are there.

    python -m bench.quality [DATA_FOLDER ...] [--bytes 32,64,128] [--rescore-bytes 128,384] [--baselines all]
                            [--markdown FILE] [--plot FILE]

`bebr evaluate` for all of them. Codes are measured through their ONNX graphs, as in the service:
    minilm@1, ...     the bundles that come with bebr, which were fitted without these collections
    fitted binarizer  `bebr fit --bytes` on the documents of the collection itself
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.bundles.data import DEFAULT_FOLDER, NAMES, TextCollection, collections_in
from tqdm import tqdm

from bebr.encoding import BundleRegistry, shipped_bundles
from bebr_training.baselines.methods import choose_baselines, parse_sizes, use_threads
from bebr_training.evaluation.evaluate import Plan, evaluate
from bebr_training.evaluation.results import Evaluation, verdicts
from bebr_training.reports import tables as report
from bebr_training.reports.recall_plot import plot
from bebr_training.search.coded import Candidate


def measure(collections: Sequence[TextCollection], plan: Plan) -> list[Evaluation]:
    """Measure everything in the plan, and the shipped bundles, on every collection."""
    bundles = [bundle for bundle in BundleRegistry([shipped_bundles()]).list() if bundle.has_binarizer]
    found = []
    for collection in collections:
        dims = collection.opened.dims
        own_plan = replace(plan, candidates=[Candidate.of_bundle(bundle, dims) for bundle in bundles])
        with tqdm(unit="method") as bar:

            def show(done: int, total: int, label: str, bar: "tqdm[int]" = bar) -> None:
                bar.total, bar.n = total, done
                bar.set_description(label)

            found.append(evaluate(collection.opened, own_plan, show))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", type=Path, default=[DEFAULT_FOLDER], help="folders of collections")
    parser.add_argument(
        "--bytes", default="32,64,128", help="sizes of the fitted binarizers, the baselines and the bound"
    )
    parser.add_argument(
        "--rescore-bytes", default="", help="sizes of rescore codes that the fitted binarizers are also measured with"
    )
    parser.add_argument("--baselines", default="all", help="all, none, or names as in `bebr evaluate`")
    parser.add_argument("--threads", type=int, default=0, help="threads of faiss; 0: all cores")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file")
    parser.add_argument("--plot", type=Path, help="write the plot to this file")
    options = parser.parse_args()
    collections = [collection for folder in options.data for collection in collections_in(folder)]
    if DEFAULT_FOLDER in options.data:
        for name in sorted({*NAMES} - {collection.name for collection in collections}):
            print(f"skipped {name}: not in {DEFAULT_FOLDER}")
    if not collections:
        folders = ", ".join(str(folder) for folder in options.data)
        parser.exit(
            0 if options.data == [DEFAULT_FOLDER] else 1, f"no collections with relevance judgments in {folders}\n"
        )
    use_threads(options.threads)
    finer = parse_sizes(options.rescore_bytes) if options.rescore_bytes else ()
    plan = Plan((), parse_sizes(options.bytes), True, choose_baselines(options.baselines), True, finer)
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
