"""Draws recall@10 against bytes: one panel for each collection, readable in print and with any kind of colour vision.

Methods differ in marker and dash as well as in colour, and lines are named at their ends instead of in a legend alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from bebr.core.scoring import Scorer
from bebr.errors import InvalidOption
from bebr_training.evaluation.measure import BOUND, BOUND_LENGTH_ONE
from bebr_training.evaluation.results import Evaluation, Kind, Row

SUFFIXES = (".png", ".svg", ".pdf")
# Okabe and Ito's palette: told apart by all common kinds of colour vision.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE, GREY = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F",
)  # fmt: skip
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "bebr",
}
LOWEST_RECALL = 0.35
MAY_FALL_OUT = ("PCA, float16", "PCA, float32")
"""What these find at few bytes would press all that matters into one corner of the panel, as would anything lower."""
PANEL_INCHES = (4.6, 4.4)
SPREAD = 0.016
"""How far lines of one size stand apart, as a factor of the bytes, so that whiskers do not hide each other."""


@dataclass(frozen=True)
class Look:
    """How one line is drawn."""

    colour: str
    marker: str
    dashes: Any = "-"
    width: float = 1.3


BASELINES = {
    "OPQ": Look(VERMILLION, "s"),
    "PQ": Look(VERMILLION, "s", ":"),
    "RaBitQ, factors free": Look(GREEN, "^"),
    "RaBitQ": Look(GREEN, "^", ":"),
    "PCA, SQ4": Look(PURPLE, "D"),
    "ITQ": Look(ORANGE, "v"),
    "sign, centred": Look(GREY, "x"),
    "sign": Look(GREY, "+", ":"),
    "PCA, float16": Look(BLACK, "1", ":", 0.9),
    "PCA, float32": Look(BLACK, "2", ":", 0.9),
}
CODES = (Look(BLUE, "o", "-", 2.4), Look(SKY, "o", "-", 2.4), Look(BLUE, "P", "--", 2.0), Look(SKY, "P", "--", 2.0))
BOUNDS = {BOUND: Look(BLACK, "", (0, (6, 2)), 1.2), BOUND_LENGTH_ONE: Look(BLACK, "", (0, (1, 1.5)), 1.2)}


def check_suffix(path: Path) -> None:
    """The suffix chooses the format of the figure. Raises InvalidOption on one that is not known."""
    if path.suffix not in SUFFIXES:
        raise InvalidOption(f"--plot: expected a file that ends in {', '.join(SUFFIXES)}, got '{path}'")


def plot(evaluations: Sequence[Evaluation], path: Path) -> None:
    """Write the figure. Raises InvalidOption as `check_suffix` does."""
    check_suffix(path)
    with matplotlib.rc_context(STYLE):
        columns = min(2, len(evaluations))
        rows = -(-len(evaluations) // columns)
        figure = Figure(figsize=(PANEL_INCHES[0] * columns + 0.4, PANEL_INCHES[1] * rows + 0.9), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
        for panel, evaluation in zip(panels, evaluations, strict=False):
            _draw(panel, evaluation)
        for panel in panels[len(evaluations) :]:
            panel.set_visible(False)
        _legend(figure, panels[: len(evaluations)])
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=180, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw(panel: Any, evaluation: Evaluation) -> None:
    lines = list(_lines(evaluation))
    middle = (len(lines) - 1) / 2
    for place, (label, look, rows) in enumerate(lines):
        shift = 1 if rows[0].kind is Kind.BOUND else 1 + SPREAD * (place - middle)
        means = [row.recall_10.mean for row in rows]
        below = [row.recall_10.mean - row.recall_10.low for row in rows]
        above = [row.recall_10.high - row.recall_10.mean for row in rows]
        panel.errorbar(
            [row.size_bytes * shift for row in rows],
            means,
            None if rows[0].kind is Kind.BOUND else [below, above],
            label=label,
            color=look.colour,
            marker=look.marker,
            linestyle=look.dashes,
            linewidth=look.width,
            markersize=5.5 if rows[0].kind is Kind.CODE else 4.5,
            elinewidth=0.9,
            capsize=2,
            zorder=3 if rows[0].kind is Kind.CODE else 2,
        )
    sizes = sorted({row.size_bytes for row in evaluation.rows if row.kind is not Kind.FLOAT})
    panel.set_xscale("log", base=2)
    panel.set_xticks(sizes, [str(size) for size in sizes])
    panel.minorticks_off()
    panel.set_xlabel("bytes a document")
    panel.set_ylabel("recall@10 of the float neighbours")
    panel.set_title(f"{evaluation.collection} ({evaluation.documents:,} documents)", fontsize=10, loc="left")
    means = [row.recall_10.mean for _, _, rows in lines for row in rows if row.method not in MAY_FALL_OUT]
    panel.set_ylim(bottom=max(LOWEST_RECALL, min(means, default=0.0) - 0.03), top=1.0)


def _lines(evaluation: Evaluation) -> Iterator[tuple[str, Look, list[Row]]]:
    """(label, look, rows by size) for the bound, codes and baselines; of each the scorer that finds most."""
    rows = [row for row in evaluation.rows if row.kind is not Kind.FLOAT]
    codes = list(dict.fromkeys(row.method for row in rows if row.kind is Kind.CODE))
    looks = {**BOUNDS, **{code: CODES[i % len(CODES)] for i, code in enumerate(codes)}, **BASELINES}
    for method, look in looks.items():
        best: dict[int, Row] = {}
        for row in rows:
            if row.method == method and (
                row.size_bytes not in best or row.recall_10.mean > best[row.size_bytes].recall_10.mean
            ):
                best[row.size_bytes] = row
        if best:
            ordered = [best[size] for size in sorted(best)]
            yield _label(method, ordered), look, ordered


def _label(method: str, rows: Sequence[Row]) -> str:
    hamming_only = all(row.scorer is Scorer.HAMMING for row in rows)
    return f"{method}, hamming" if hamming_only else method


def _legend(figure: Figure, panels: Sequence[Any]) -> None:
    found: dict[str, Any] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    figure.legend(
        list(found.values()),
        list(found),
        loc="outside lower center",
        ncols=min(4, len(found)),
        frameon=False,
        fontsize=8,
    )
