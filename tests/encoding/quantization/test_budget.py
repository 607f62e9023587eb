"""Fits within CPU seconds: what they cost, how they are chosen then, and that they find nearly as much."""

from dataclasses import replace

import numpy as np
import pytest
from tests.encoding.quantization.embeddings import nearest, recall, text_like

from bebr.core.codes import CodeSpec
from bebr.encoding.quantization.budget import (
    LAST_SHARE,
    STAGES,
    default_cpu_seconds,
    fit_seconds,
    paid_effort,
    paid_stage,
    trial_seconds,
)
from bebr.encoding.quantization.candidates import candidates
from bebr.encoding.quantization.layout import estimate, fit_bytes
from bebr.encoding.quantization.recurrent_fit import Effort
from bebr.encoding.quantization.training import estimate_own, fit_own

ROWS = text_like(3000)
QUERIES = text_like(200, seed=1)
FEW = 0.01
"""CPU seconds that pay for a part of a fit to ROWS only."""


def test_the_default_grows_with_the_dims() -> None:
    assert [default_cpu_seconds(dims) for dims in (1, 384, 768, 1536, 3072)] == [60, 60, 60, 120, 240]


@pytest.mark.parametrize(("dims", "size_bytes"), [(384, 64), (1536, 192), (3072, 384)])
def test_stages_and_the_last_fit_cost_no_more_than_is_paid(dims: int, size_bytes: int) -> None:
    specs, seconds = list(candidates(size_bytes, dims)), default_cpu_seconds(dims)
    assert estimate(20_000, dims, specs) > seconds, (dims, estimate(20_000, dims, specs))
    for stage, some in zip(STAGES, (specs, specs[:5], specs[:2]), strict=True):
        paid = paid_stage(stage, some, dims, 1_000, stage.share * seconds)
        cost = sum(trial_seconds(spec, dims, paid.effort, paid.searched, 1_000) for spec in some)
        assert cost <= 1.3 * stage.share * seconds, (stage, paid, cost)
    for spec in specs:
        effort = paid_effort(spec, dims, replace(Effort(), rows=20_000), LAST_SHARE * seconds)
        assert fit_seconds(spec, dims, effort) <= LAST_SHARE * seconds and effort.warm + effort.full > 0, (spec, effort)


def test_few_cpu_seconds_find_nearly_as_much_and_say_what_was_left_out() -> None:
    seen: list[tuple[int, int]] = []
    whole, whole_report = fit_bytes(ROWS, 8)
    few, report = fit_bytes(ROWS, 8, lambda done, total, label: seen.append((done, total)), cpu_seconds=FEW)
    assert report.estimated_cpu_seconds == FEW < whole_report.estimated_cpu_seconds
    assert report.fitted_to < report.rows == whole_report.fitted_to == 3000
    assert seen[-1][0] == seen[-1][1] and [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert few.spec.code_size_bytes == 8
    truth = nearest(QUERIES, ROWS)
    found = [recall(nearest(one.project(QUERIES), one.quantized_values(ROWS)), truth) for one in (few, whole)]
    assert found[0] > found[1] - 0.05, found


def test_the_same_rows_give_the_same_bounded_fit() -> None:
    one, two = (fit_bytes(ROWS[:1500], 8, cpu_seconds=FEW / 2) for _ in range(2))
    assert one[1] == two[1] and (one[0].decoder == two[0].decoder).all()


def test_enough_cpu_seconds_change_nothing() -> None:
    specs = list(candidates(8, 64))
    free, paid = fit_bytes(ROWS[:600], 8), fit_bytes(ROWS[:600], 8, cpu_seconds=estimate(600, 64, specs) + 1)
    assert free[1] == paid[1] and (free[0].decoder == paid[0].decoder).all()


def test_fits_of_collections_say_what_they_were_fitted_to_also_with_a_rescore_code() -> None:
    assert estimate_own(3000, 64, 8, FEW) == FEW
    assert estimate_own(200, 64, 8) < 60
    files, metrics = fit_own(ROWS, 8, 16, cpu_seconds=FEW)
    assert files.spec.rescore is not None and metrics["fitted_to"] < 3000
    assert metrics["rescored_recall_at_10"] > metrics["recall_at_10"]


def test_nothing_is_too_little() -> None:
    fitted, report = fit_bytes(ROWS, 8, cpu_seconds=0.01)
    assert np.isfinite(fitted.quantized_values(ROWS)).all() and report.chosen.recall > 0.2
    assert CodeSpec.parse(report.chosen.code).code_size_bytes == 8
