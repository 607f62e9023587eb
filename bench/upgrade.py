"""What an upgrade of the embedding model gains at once, and during a backfill, on collections with relevance judgments.

    python -m bench.upgrade [DATA_FOLDER] [--rows NEW.npy OLD.npy] [--markdown FILE] [--plot FILE]

The folder has both models' embeddings of scifact, climate-fever and cranfield as docs.old, docs.new and so on. Each
model gets codes of 64 bytes, fitted to the documents. The adapters are trained twice: on the documents themselves,
and, if --rows gives embeddings of other texts by both models, on 20,000 of those. Then mixed points are scaled by
these texts, and once more by 512 points of the collection. Relevance judgments measure and never choose, so the
default kind of adapter is the one that is used without them.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from bench.bundles.data import DEFAULT_FOLDER
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tqdm import tqdm

from bebr.core.codes import CodeSpec
from bebr.encoding import AdapterKind
from bebr.encoding.adapters.adapter import Adapter, Reference
from bebr.encoding.adapters.evaluation import SHARES, Pool, Queries, measure
from bebr.encoding.adapters.quality import Interval, Quality, UpgradeMatrix, paired
from bebr.encoding.quantization.layout import fit_code
from bebr.encoding.quantization.recurrent import Recurrent
from bebr.errors import BebrError
from bebr_training.adapters.train import WEIGHTS, ModelData, TrainedAdapters, open_adapter, train_adapters
from bebr_training.binarizer.presets import Preset
from bebr_training.data.collections import open_collection
from bebr_training.data.pairs import Pairs
from bebr_training.data.rows import aligned_rows, training_rows
from bebr_training.reports.recall_plot import BLUE, GREEN, GREY, ORANGE, PANEL_INCHES, STYLE, check_suffix
from bebr_training.search.metrics import ndcg_per_query
from bebr_training.search.ranking import dot_search

Floats = NDArray[np.float32]
NAMES = ("scifact", "climate-fever", "cranfield")
DOCUMENTS, OTHERS = "its documents", "other texts"
CODE = CodeSpec.parse("256x2")
OTHER_ROWS = 20_000
OWN_POINTS, OWN_QUERIES = 512, 128
"""Points of the collection that give scales, and how many of them stand in for queries."""
SEED = 0


@dataclass(frozen=True)
class Model:
    """One model on one collection. codes (documents, dims): what the codes of the documents represent."""

    pairs: Pairs
    binarizer: Recurrent
    codes: Floats

    @classmethod
    def of(cls, folder: Path, name: str) -> "Model":
        pairs = Pairs.of_collection(open_collection(folder, 1_000_000, model=name))
        binarizer = fit_code(pairs.documents, CODE)[0]
        return cls(pairs, binarizer, stands_for(binarizer, pairs.documents))

    def version(self, rows: Floats) -> ModelData:
        return ModelData(rows, lambda given: stands_for(self.binarizer, given), embeds=True)

    @property
    def asked(self) -> Floats:
        return self.pairs.queries[sorted(self.pairs.judgments)]


@dataclass(frozen=True)
class Measured:
    """One collection with adapters of one training. weighted: the sums, by weight. own: scaled by its points.

    compatible (queries,): nDCG@10 of new->new with a binarizer that is fitted in the basis of the old model
    compatible_gain: of that over new->new.
    """

    collection: str
    texts: str
    seconds: float
    trained: TrainedAdapters
    matrix: UpgradeMatrix
    own: UpgradeMatrix
    weighted: dict[float, UpgradeMatrix]
    compatible: NDArray[np.float64]
    compatible_gain: Interval


def stands_for(binarizer: Recurrent, rows: Floats) -> Floats:
    """Unit rows (rows, dims) -> what their codes represent."""
    return np.asarray(binarizer.mean + binarizer.quantized_values(rows) @ binarizer.decoder, np.float32)


def measured(collection: str, texts: str, new: Model, old: Model, rows: tuple[Floats, Floats]) -> Measured:
    """Train on rows by the new model and by the old one, and measure on the judged queries."""
    started = time.perf_counter()
    with tqdm(desc=f"{collection}, {texts}", unit="step") as bar:

        def show(done: int, total: int, label: str) -> None:
            bar.total, bar.n = total, done
            bar.set_postfix_str(label)

        trained = train_adapters(new.version(rows[0]), old.version(rows[1]), Preset(seed=SEED), show)
    seconds, files = time.perf_counter() - started, trained.forward.files
    asked = Queries(old.asked, new.asked, np.full(len(new.asked), -1))
    judgments = [new.pairs.judgments[query] for query in sorted(new.pairs.judgments)]
    pool = Pool(old.codes, new.codes)
    adapter = open_adapter(files, trained.reference)
    matrix = measure(adapter, pool, asked, judgments, judged=True, kind=files.default, seed=SEED)
    adapter = by_own_points(adapter, new, old)
    own = measure(adapter, pool, asked, judgments, judged=True, kinds=[files.default], kind=files.default, seed=SEED)
    weighted = {
        weight: measure(
            open_adapter(replace(files, weight=weight), trained.reference),
            replace(pool, new=None),
            asked,
            judgments,
            judged=True,
            kinds=[AdapterKind.WEIGHTED],
        )
        for weight in WEIGHTS
    }
    compatible = in_the_basis(new, trained.forward.basis)
    assert matrix.new_to_new is not None
    gain = paired(compatible, matrix.new_to_new.ndcg)
    return Measured(collection, texts, seconds, trained, matrix, own, weighted, compatible, gain)


def by_own_points(adapter: Adapter, new: Model, old: Model) -> Adapter:
    """Scaled by some of the documents, as a service can that re-encodes a few."""
    chosen = np.random.default_rng(SEED).permutation(len(new.codes))[:OWN_POINTS]
    asking, known = chosen[:OWN_QUERIES], chosen[OWN_QUERIES:]
    reference = Reference(new.codes[known], old.codes[known])
    return adapter.calibrated(reference, new.pairs.documents[asking], old.pairs.documents[asking])


def curve(matrix: UpgradeMatrix) -> NDArray[np.float64]:
    """(5,) nDCG@10 with 0, 25, 50, 75 and 100 % of the points re-encoded."""
    assert matrix.new_to_new is not None
    parts = [matrix.new_to_old[matrix.kind], *matrix.mixed.values(), matrix.new_to_new]
    return np.array([part.ndcg.mean() for part in parts])


def line(matrix: UpgradeMatrix) -> NDArray[np.float64]:
    """(5,) the straight line between none and all."""
    ends = curve(matrix)[[0, -1]]
    return np.linspace(ends[0], ends[1], 2 + len(SHARES))


def in_the_basis(new: Model, basis: Floats) -> NDArray[np.float64]:
    """(queries,) nDCG@10 of new->new with a binarizer that is fitted to documents turned by the basis.

    Where the old model has fewer dims, what is orthogonal to its own is kept behind them, as in BT^2.
    """
    if basis.shape[1] < len(basis):
        basis = np.hstack([basis, np.linalg.svd(basis)[0][:, basis.shape[1] :]])
    documents = new.pairs.documents @ basis
    codes = stands_for(fit_code(documents, CODE)[0], documents)
    judgments = new.pairs.judgments
    grades = {place: judgments[query] for place, query in enumerate(sorted(judgments))}
    return ndcg_per_query(dot_search(codes)(new.asked @ basis, 10), grades)[0]


def page(found: list[Measured]) -> str:
    """All tables in Markdown."""
    return "\n".join(line for one in found for line in (*_table(one), ""))


def _table(one: Measured) -> Iterator[str]:
    matrix, forward = one.matrix, one.trained.forward
    assert matrix.old_to_old is not None and matrix.new_to_new is not None
    held_out = ", ".join(f"{method} {recall:.3f}" for method, recall in forward.held_out.items())
    yield f"### {one.collection}, adapters trained on {one.texts}"
    yield ""
    yield (
        f"{matrix.points:,} documents, {len(matrix.old_to_old.ndcg):,} judged queries; both directions trained in "
        f"{one.seconds:.0f} s on {one.trained.rows:,} texts; held-out recall@10: {held_out}."
    )
    yield ""
    yield "| | nDCG@10 | recall@10 | gain | update gain | negative flips |"
    yield "|---|--:|--:|--:|--:|--:|"
    yield f"| old->old | {_quality(matrix.old_to_old)} | | | |"
    for kind in (AdapterKind.COMPATIBLE, AdapterKind.LINEAR):
        yield _row(f"new->old, {kind}", replace(matrix, kind=kind))
    for weight, weighted in one.weighted.items():
        taken = ", taken" if weight == forward.files.weight and matrix.kind is AdapterKind.WEIGHTED else ""
        yield _row(f"new->old, weighted {weight}{taken}", replace(weighted, new_to_new=matrix.new_to_new))
    for scaled, name in ((matrix, one.texts), (one.own, f"{OWN_POINTS} of its points")):
        for share, value, off in zip(SHARES, curve(scaled)[1:], (curve(scaled) - line(scaled))[1:], strict=False):
            recall = scaled.mixed[share].recall.mean()
            yield f"| {share} %, scaled by {name} | {value:.3f} ({off:+.3f} to the line) | {recall:.3f} | | | |"
    yield f"| new->new | {_quality(matrix.new_to_new)} | {_gain(matrix.new_to_new, matrix)} | | |"
    loss = (
        f"{one.compatible_gain.mean:+.3f} [{one.compatible_gain.low:+.3f}, {one.compatible_gain.high:+.3f}] to new->new"
    )
    yield f"| new->new, fitted in the old basis | {one.compatible.mean():.3f} | | {loss} | | |"


def _row(name: str, matrix: UpgradeMatrix) -> str:
    quality, summary = matrix.new_to_old[matrix.kind], matrix.summary()
    gained = f"{summary.update_gain:.2f}" if summary.update_gain is not None else ""
    return f"| {name} | {_quality(quality)} | {_gain(quality, matrix)} | {gained} | {summary.negative_flips:.2f} |"


def _quality(quality: Quality) -> str:
    return f"{quality.ndcg.mean():.3f} | {quality.recall.mean():.3f}"


def _gain(quality: Quality, matrix: UpgradeMatrix) -> str:
    assert matrix.old_to_old is not None
    gain = paired(quality.ndcg, matrix.old_to_old.ndcg)
    return f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


def draw(found: list[Measured], path: Path) -> None:
    """nDCG@10 against the share that is re-encoded: a panel for each collection."""
    names = list(dict.fromkeys(one.collection for one in found))
    with matplotlib.rc_context(STYLE):
        size = (PANEL_INCHES[0] * len(names), PANEL_INCHES[1])
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        for panel, name in zip(panels, names, strict=True):
            _panel(panel, [one for one in found if one.collection == name])
        columns = min(2, len(names))
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=180, metadata={"Date": None} if path.suffix == ".svg" else None)


def _panel(panel: Any, found: list[Measured]) -> None:
    shares = [0, *SHARES, 100]
    old = found[0].matrix.old_to_old
    assert old is not None
    panel.axhline(old.ndcg.mean(), color=GREY, linestyle=":", label="old queries, old codes")
    for one, color, marker in zip(found, (BLUE, ORANGE), ("o", "s"), strict=False):
        label = f"new queries, adapter of {one.texts}"
        panel.plot(shares, curve(one.matrix), color=color, marker=marker, label=f"{label}, scaled by them")
        if one.texts == OTHERS:
            own = f"{label}, scaled by {OWN_POINTS} points"
            panel.plot(shares, curve(one.own), color=GREEN, marker="^", label=own)
        panel.plot(shares, line(one.matrix), color=color, linestyle="--", linewidth=0.9)
    panel.set_title(found[0].collection, loc="left", fontsize=10)
    panel.set_xlabel("% of the points re-encoded")
    panel.set_ylabel("nDCG@10")


def other_rows(paths: list[Path]) -> tuple[Floats, Floats]:
    """20,000 texts by the new model and by the old one."""
    read = training_rows(paths[0])
    both = read.rows, aligned_rows(paths[1], read)
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(read.rows))[:OTHER_ROWS])
    return both[0][chosen], both[1][chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=DEFAULT_FOLDER, help="folder of the collections")
    parser.add_argument("--rows", nargs=2, type=Path, metavar="FILE", help="other texts by the new and the old model")
    parser.add_argument("--markdown", type=Path, help="write the tables into this file")
    parser.add_argument("--plot", type=Path, help="draw the mixed curves into this file")
    options = parser.parse_args()
    if options.plot is not None:
        check_suffix(options.plot)
    others = other_rows(options.rows) if options.rows else None
    found = []
    for name in NAMES:
        try:
            new, old = (Model.of(options.data / name, model) for model in ("new", "old"))
        except BebrError as error:
            print(f"skipped {name}: {error.detail}")
            continue
        found.append(measured(name, DOCUMENTS, new, old, (new.pairs.documents, old.pairs.documents)))
        print(page(found[-1:]), flush=True)
        if others is not None:
            found.append(measured(name, OTHERS, new, old, others))
            print(page(found[-1:]), flush=True)
    if options.markdown is not None:
        options.markdown.write_text(page(found), "utf-8")
    if options.plot is not None and found:
        draw(found, options.plot)


if __name__ == "__main__":
    main()
