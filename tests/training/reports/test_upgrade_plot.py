"""The picture of an upgrade: what it shows, and that it can be drawn of whatever was measured."""

from pathlib import Path
from typing import Any

import pytest

from bebr.errors import InvalidOption
from bebr_training.reports.upgrade_plot import cells, curve, plot_upgrade


def cell(value: float) -> dict[str, float]:
    return {"ndcg_at_10": value, "recall_at_10": value / 2}


def measured(**changes: Any) -> dict[str, Any]:
    kinds = {"compatible": cell(0.4), "weighted": cell(0.5)}
    evaluation = {
        "active": "old@1",
        "version": "new@1",
        "measure": "ndcg_at_10",
        "judged": True,
        "queries": 30,
        "points": 1000,
        "adapter": "weighted",
        "old_to_old": cell(0.3),
        "new_to_old": kinds["weighted"],
        "new_to_new": cell(0.8),
        "mixed": {"25": cell(0.55), "50": cell(0.6), "75": cell(0.7)},
        "adapters": kinds,
    }
    return evaluation | changes


def test_it_shows_every_cell_and_the_way_that_is_used():
    assert cells(measured()) == {
        "old queries": (0.3, None),
        "new, compatible": (0.4, 0.8),
        "new, weighted *": (0.5, 0.8),
    }
    assert curve(measured()) == {0: 0.5, 25: 0.55, 50: 0.6, 75: 0.7, 100: 0.8}
    assert curve(measured(measure="recall_at_10"))[100] == 0.4


@pytest.mark.parametrize("missing", [{}, {"old_to_old": None}, {"new_to_new": None, "mixed": {}}])
def test_it_is_drawn_of_what_there_is(missing: dict[str, Any], tmp_path: Path):
    plot_upgrade(measured(**missing), tmp_path / "new folder" / "upgrade.png")
    assert (tmp_path / "new folder" / "upgrade.png").read_bytes().startswith(b"\x89PNG")


def test_the_format_must_be_known(tmp_path: Path):
    with pytest.raises(InvalidOption, match=r"\.png, \.svg, \.pdf"):
        plot_upgrade(measured(), tmp_path / "upgrade.gif")
