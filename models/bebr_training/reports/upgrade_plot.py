"""Plots the matrix of an upgrade: the metrics of every kind of query on old, new and mixed codes.

Takes the answer of the service to an evaluation. The straight line shows what mixed codes would find if mixing them
cost nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from bebr_training.reports.recall_plot import BLACK, BLUE, GREY, STYLE, VERMILLION, check_suffix

Evaluation = Mapping[str, Any]
NAMES = {"recall_at_10": "recall@10 of the new float neighbors", "ndcg_at_10": "nDCG@10"}
CODES = ("old codes", "new codes")
COLORS = "cividis"
DARK_BELOW = 0.55
"""Share of the color range below which the text in a cell is white."""


def plot_upgrade(evaluation: Evaluation, path: Path) -> None:
    """Write the figure to a file. Raises InvalidOption for an unknown suffix."""
    check_suffix(path)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 3.6), layout="constrained")
        matrix, mixed = figure.subplots(1, 2, width_ratios=(1.0, 1.15))
        _draw_matrix(matrix, evaluation)
        _draw_mixed(mixed, evaluation)
        queries = f"{evaluation['queries']:,} queries{' with relevance judgments' if evaluation['judged'] else ''}"
        title = f"{evaluation['active']} to {evaluation['version']}: {NAMES[evaluation['measure']]}"
        figure.suptitle(f"{title}, {queries}, {evaluation['points']:,} points", fontsize=10)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)


def cells(evaluation: Evaluation) -> dict[str, tuple[float | None, float | None]]:
    """Kind of query -> its metric on old codes and on new codes; None where it was not measured."""
    measure, new = evaluation["measure"], _value(evaluation, "new_to_new")
    rows: dict[str, tuple[float | None, float | None]] = {"old queries": (_value(evaluation, "old_to_old"), None)}
    for kind, cell in evaluation["adapters"].items():
        used = " *" if kind == evaluation["adapter"] else ""
        rows[f"new, {kind}{used}"] = cell[measure], new
    return rows


def curve(evaluation: Evaluation) -> dict[int, float]:
    """Percentage of points with new codes -> the metric of new queries, with both ends where they were measured."""
    measure, new = evaluation["measure"], _value(evaluation, "new_to_new")
    points = {0: evaluation["new_to_old"][measure]}
    points |= {int(share): cell[measure] for share, cell in evaluation["mixed"].items()}
    return points | ({} if new is None else {100: new})


def _draw_matrix(panel: Any, evaluation: Evaluation) -> None:
    rows = cells(evaluation)
    values = np.array([[np.nan if value is None else value for value in row] for row in rows.values()])
    low, high = np.nanmin(values), np.nanmax(values)
    panel.imshow(values, cmap=COLORS, aspect="auto", vmin=low, vmax=high)
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        dark = value < low + DARK_BELOW * (high - low)
        panel.text(column, row, f"{value:.3f}", ha="center", va="center", color="white" if dark else "black")
    panel.set_xticks(range(len(CODES)), CODES)
    panel.set_yticks(range(len(rows)), rows)
    panel.xaxis.tick_top()
    panel.tick_params(length=0)
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)


def _draw_mixed(panel: Any, evaluation: Evaluation) -> None:
    points, before = curve(evaluation), _value(evaluation, "old_to_old")
    if 100 in points:
        panel.plot([0, 100], [points[0], points[100]], color=GREY, linestyle="--", label="straight line")
    panel.plot(list(points), list(points.values()), color=BLUE, marker="o", linewidth=2, label="new queries")
    if before is not None:
        panel.axhline(before, color=VERMILLION, linestyle=":", label="old queries on old codes")
    panel.set_xlabel("points with new codes, %")
    panel.set_xticks(list(points))
    panel.set_ylabel(NAMES[evaluation["measure"]].split()[0], color=BLACK)
    panel.legend(frameon=False, fontsize=8, loc="best")


def _value(evaluation: Evaluation, cell: str) -> float | None:
    found = evaluation[cell]
    return None if found is None else float(found[evaluation["measure"]])
