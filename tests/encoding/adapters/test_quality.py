"""What an upgrade changes, summarized."""

import numpy as np
import pytest

from bebr.encoding import AdapterKind
from bebr.encoding.adapters.quality import AdapterQuality, Interval, MeanQuality, Quality, UpgradeMatrix, paired


def test_figures_of_the_upgrade() -> None:
    def quality(*values: float) -> Quality:
        return Quality(np.array(values), np.array(values))

    old, crossed, new = quality(0.2, 0.4, 0.6, 0.0), quality(0.4, 0.3, 0.8, 0.1), quality(0.6, 0.4, 0.8, 0.2)
    matrix = UpgradeMatrix(
        judged=True,
        points=9,
        old_to_old=old,
        new_to_old={AdapterKind.DUAL: old, AdapterKind.LINEAR: crossed},
        new_to_new=new,
        mixed={50: crossed},
        kind=AdapterKind.LINEAR,
    )
    summary = matrix.summary()
    assert summary.update_gain == pytest.approx(0.5) and summary.negative_flips == 0.25
    assert summary.gain is not None and summary.gain.mean == pytest.approx(0.1)
    assert summary.adapters[AdapterKind.DUAL] == AdapterQuality(0.3, 0.3, Interval(0, 0, 0))
    assert (summary.old_to_old, summary.mixed) == (MeanQuality(0.3, 0.3), {"50": MeanQuality(0.4, 0.4)})
    assert (summary.queries, summary.points, summary.adapter) == (4, 9, AdapterKind.LINEAR)


def test_intervals_hold_the_mean_and_are_paired() -> None:
    rng = np.random.default_rng(0)
    one = rng.random(400)
    interval = paired(one + 0.1, one)
    assert interval.low == pytest.approx(0.1) and interval.high == pytest.approx(0.1)
    noisy = paired(one, rng.random(400))
    assert noisy.low < noisy.mean < noisy.high and 0.05 < noisy.high - noisy.low < 0.12
    assert paired(one, one[::-1]) == paired(one, one[::-1])
