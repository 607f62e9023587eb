"""Plots recall@10 against bytes: one panel per collection, readable in print and with any kind of color vision.

Methods differ in marker and dash as well as in color.
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
# Okabe and Ito's palette, which works for all common kinds of color vision.
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
"""The y axis never starts below this."""
MAY_FALL_OUT = ("PCA, float16", "PCA, float32")
"""Methods that the y axis need not cover: their recall at few bytes would squeeze everything else into a corner."""
PANEL_INCHES = (4.6, 4.4)
SPREAD = 0.016
"""Horizontal distance of points of one size, as a factor of the bytes, so that error bars do not overlap."""


@dataclass(frozen=True)
class LineStyle:
    """How a line is drawn."""

    color: str
    marker: str
    dashes: Any = "-"
    width: float = 1.3


BASELINES = {
    "OPQ": LineStyle(VERMILLION, "s"),
    "PQ": LineStyle(VERMILLION, "s", ":"),
    "RaBitQ, factors free": LineStyle(GREEN, "^"),
    "RaBitQ": LineStyle(GREEN, "^", ":"),
    "PCA, SQ4": LineStyle(PURPLE, "D"),
    "ITQ": LineStyle(ORANGE, "v"),
    "sign, centered": LineStyle(GREY, "x"),
    "sign": LineStyle(GREY, "+", ":"),
    "PCA, float16": LineStyle(BLACK, "1", ":", 0.9),
    "PCA, float32": LineStyle(BLACK, "2", ":", 0.9),
}
CODES = (
    LineStyle(BLUE, "o", "-", 2.4),
    LineStyle(SKY, "o", "-", 2.4),
    LineStyle(BLUE, "P", "--", 2.0),
    LineStyle(SKY, "P", "--", 2.0),
    LineStyle(GREEN, "o", "-", 2.0),
    LineStyle(ORANGE, "P", "--", 2.0),
    LineStyle(PURPLE, "D", "-.", 2.0),
    LineStyle(VERMILLION, "s", ":", 2.0),
)
BOUNDS = {BOUND: LineStyle(BLACK, "", (0, (6, 2)), 1.2), BOUND_LENGTH_ONE: LineStyle(BLACK, "", (0, (1, 1.5)), 1.2)}


def check_suffix(path: Path) -> None:
    """Raise InvalidOption unless the suffix is that of a format that figures can be written in."""
    if path.suffix not in SUFFIXES:
        raise InvalidOption(f"--plot: expected a file that ends in {', '.join(SUFFIXES)}, got '{path}'")


def plot(evaluations: Sequence[Evaluation], path: Path) -> None:
    """Write the figure to a file. Raises InvalidOption as `check_suffix` does."""
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
    for place, (label, style, rows) in enumerate(lines):
        shift = 1 if rows[0].kind is Kind.BOUND else 1 + SPREAD * (place - middle)
        means = [row.recall_10.mean for row in rows]
        below = [row.recall_10.mean - row.recall_10.low for row in rows]
        above = [row.recall_10.high - row.recall_10.mean for row in rows]
        panel.errorbar(
            [row.size_bytes * shift for row in rows],
            means,
            None if rows[0].kind is Kind.BOUND else [below, above],
            label=label,
            color=style.color,
            marker=style.marker or ("_" if len(rows) == 1 else ""),  # a line of one point shows nothing
            linestyle=style.dashes,
            linewidth=style.width,
            markersize=5.5 if rows[0].kind is Kind.CODE else 4.5,
            elinewidth=0.9,
            capsize=2,
            zorder=3 if rows[0].kind is Kind.CODE else 2,
        )
    sizes = sorted({row.size_bytes for row in evaluation.rows if row.kind is not Kind.FLOAT})
    panel.set_xscale("log", base=2)
    panel.set_xticks(sizes, [str(size) for size in sizes])
    panel.minorticks_off()
    panel.set_xlabel("bytes per document in memory")
    panel.set_ylabel("recall@10 of the float neighbors")
    panel.set_title(f"{evaluation.collection} ({evaluation.documents:,} documents)", fontsize=10, loc="left")
    means = [row.recall_10.mean for _, _, rows in lines for row in rows if row.method not in MAY_FALL_OUT]
    panel.set_ylim(bottom=max(LOWEST_RECALL, min(means, default=0.0) - 0.03), top=1.0)


def _lines(evaluation: Evaluation) -> Iterator[tuple[str, LineStyle, list[Row]]]:
    """(label, style, rows by size) of the bounds, codes and baselines, each with its best scorer."""
    rows = [row for row in evaluation.rows if row.kind is not Kind.FLOAT]
    codes = list(dict.fromkeys(_method(row) for row in rows if row.kind is Kind.CODE))
    styles = {**BOUNDS, **{code: CODES[i % len(CODES)] for i, code in enumerate(codes)}, **BASELINES}
    for method, style in styles.items():
        best: dict[int, Row] = {}
        for row in rows:
            if _method(row) == method and (
                row.size_bytes not in best or row.recall_10.mean > best[row.size_bytes].recall_10.mean
            ):
                best[row.size_bytes] = row
        if best:
            ordered = [best[size] for size in sorted(best)]
            yield _label(method, ordered), style, ordered


def _method(row: Row) -> str:
    """The method; of rescored codes a method for each size on disk."""
    return row.method if not row.disk_bytes else f"{row.method} + {row.disk_bytes} B on disk"


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
