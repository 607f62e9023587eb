"""Recall against bytes in memory, for several sizes of rescore codes on disk.

    python -m bench.rescoring [DATA_FOLDER] [--only scifact,climate-fever] [--plot docs/images/rescoring.png]

One fit of moderate effort for each size in memory, to the documents of the collection itself. `bebr evaluate --fit`
makes the fits that a collection gets. Candidates: as many as the service takes where nothing was measured.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
from bench.bundles.data import DEFAULT_FOLDER, TextCollection, collections_in
from matplotlib.figure import Figure

from bebr.core.codes import CodeSpec
from bebr.core.scoring import Scorer
from bebr.encoding.quantization.recurrent import RESCORED_HARDNESS
from bebr.encoding.quantization.recurrent_fit import Effort, fit_recurrent
from bebr.encoding.quantization.recurrent_graph import files_of
from bebr.encoding.quantization.residual import fit_residual
from bebr_training.reports.recall_plot import CODES, PANEL_INCHES, STYLE
from bebr_training.search.coded import Candidate, CodedDocuments
from bebr_training.search.metrics import recall_per_query
from bebr_training.search.ranking import dot_search

CANDIDATES = {"256x1": 200, "256x2": 50, "192x4+128x2": 20}
"""Code in memory -> candidates."""
ON_DISK = (0, 64, 128, 160, 256, 384)
EFFORT = Effort(warm=15, full=4, rows=15_000)
Recalls = dict[int, dict[int, float]]
"""Bytes on disk -> bytes in memory -> recall@10."""


def measure(collection: TextCollection, queries: int) -> Recalls:
    documents, asked = collection.documents, collection.queries[:queries]
    truth = dot_search(documents)(asked, 10)
    recalls: Recalls = {size: {} for size in ON_DISK}
    for code, candidates in CANDIDATES.items():
        scan = replace(fit_recurrent(documents, CodeSpec.parse(code), effort=EFFORT), hardness=RESCORED_HARDNESS)
        left = scan.left_over(documents)
        for size in ON_DISK:
            fitted = replace(scan, residual=fit_residual(documents, left, size) if size else None)
            candidate = Candidate.of_files(code, files_of(fitted), documents.shape[1], candidates=candidates)
            coded = CodedDocuments(candidate, documents)
            found = (coded.rescored(10) if size else coded.search(Scorer.ADC))(asked, 10)
            in_memory = scan.spec.code_size_bytes
            recalls[size][in_memory] = float(recall_per_query(found, truth, 10).mean())
            print(f"{collection.name}: {in_memory} + {size} bytes, {recalls[size][in_memory]:.3f}", flush=True)
    return recalls


def draw(measured: dict[str, Recalls], path: Path) -> None:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PANEL_INCHES[0] * len(measured), PANEL_INCHES[1]), layout="constrained")
        panels = figure.subplots(1, len(measured), squeeze=False).ravel().tolist()
        for panel, (name, recalls) in zip(panels, measured.items(), strict=True):
            for (size, points), style in zip(recalls.items(), CODES, strict=False):
                label = f"+ {size} bytes on disk" if size else "memory alone"
                sizes = sorted(points)
                panel.plot(
                    sizes, [points[one] for one in sizes], label=label, color=style.color, marker=style.marker,
                    linestyle=style.dashes, linewidth=style.width,
                )  # fmt: skip
            panel.set_xscale("log", base=2)
            panel.set_xticks(sorted(recalls[0]), [str(one) for one in sorted(recalls[0])])
            panel.minorticks_off()
            panel.set_xlabel("bytes per document in memory")
            panel.set_ylabel("recall@10 of the float neighbors")
            panel.set_title(name, fontsize=10, loc="left")
            panel.set_ylim(top=1.0)
        panels[0].legend(frameon=False, fontsize=8, loc="lower right")
        figure.savefig(path, dpi=180)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=DEFAULT_FOLDER, help="folder of collections")
    parser.add_argument("--only", help="names of collections, separated by commas")
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--plot", type=Path, help="write the plot to this file")
    options = parser.parse_args(arguments)
    names = options.only.split(",") if options.only else None
    chosen = [one for one in collections_in(options.data) if names is None or one.name in names]
    measured = {one.name: measure(one, options.queries) for one in chosen}
    if options.plot is not None and measured:
        draw(measured, options.plot)


if __name__ == "__main__":
    main()
