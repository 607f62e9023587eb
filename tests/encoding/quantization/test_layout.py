"""The choice of blocks and centering, and the bundle that comes with bebr."""

import itertools
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from tests.encoding.quantization.embeddings import DIMS, nearest, recall, text_like

from bebr.core.codes import CodeSpec
from bebr.encoding import BinarizerFiles, Bundle, shipped_bundles, write_bundle
from bebr.encoding.encoder import Encoder
from bebr.encoding.quantization.closed_form import Rotation, fit
from bebr.encoding.quantization.layout import (
    MAX_WIDE_MARGIN,
    WIDE_SHARE,
    fit_bytes,
    fit_code,
    fit_target,
    widest_first,
)
from bebr.encoding.quantization.recurrent_graph import to_onnx
from bebr.encoding.quantization.trials import Trial
from bebr.errors import InvalidEmbeddings, InvalidOption

ROWS = text_like(3000)
QUERIES = text_like(200, seed=1)


def test_the_choice_is_measured_and_beats_plain_codes() -> None:
    seen: list[tuple[int, int]] = []
    binarizer, report = fit_bytes(ROWS, 8, lambda done, total, label: seen.append((done, total)))
    total = len(report.trials) + 1  # the last is the fit to all rows
    assert seen == [(i + 1, total) for i in range(total)]
    assert [trial.cheap for trial in report.trials] == sorted((trial.cheap for trial in report.trials), reverse=True)
    assert not report.chosen.cheap and report.chosen in report.trials
    assert str(binarizer.spec) == report.chosen.code and binarizer.spec.code_size_bytes == 8
    assert binarizer.centered == report.chosen.centered
    truth = nearest(QUERIES, ROWS)

    def found(code: str) -> float:
        plain = fit(ROWS, CodeSpec.parse(code), center=True, rotation=Rotation.RANDOM)
        return recall(nearest(plain.project(QUERIES), plain.quantized_values(ROWS)), truth)

    chosen = recall(nearest(binarizer.project(QUERIES), binarizer.quantized_values(ROWS)), truth)
    assert chosen > found("64x1") + 0.05
    assert chosen > max(found("32x2"), found("16x4")) - 0.01
    assert report.chosen.recall == pytest.approx(chosen, abs=0.06)
    assert json.loads(json.dumps(asdict(report)))["chosen"]["code"] == report.chosen.code


@pytest.mark.parametrize("target", [0.3, 0.75])
def test_the_smallest_code_that_reaches_a_target_is_found(target: float) -> None:
    seen: list[tuple[int, int]] = []
    binarizer, report = fit_target(ROWS[:1500], target, lambda done, total, label: seen.append((done, total)))
    size = binarizer.spec.code_size_bytes
    assert report.chosen.recall >= target and str(binarizer.spec) == report.chosen.code and size % 4 == 0
    smaller = [trial for trial in report.trials if CodeSpec.parse(trial.code).code_size_bytes < size]
    assert all(trial.cheap or trial.recall < target for trial in smaller)
    assert size == 4 or any(CodeSpec.parse(trial.code).code_size_bytes == size - 4 for trial in smaller)
    assert seen[-1][0] == seen[-1][1] and all(one[0] <= other[0] for one, other in itertools.pairwise(seen))


def test_targets_that_cannot_be_are_refused() -> None:
    with pytest.raises(
        InvalidOption, match=r"no code reaches a recall of 0\.9999: the largest, 64x4, has 0\.\d+ with 32"
    ):
        fit_target(ROWS[:500], 0.9999)
    for target in (0.0, 1.0, -1.0, 85.0, float("nan")):
        with pytest.raises(InvalidOption, match="between 0 and 1"):
            fit_target(ROWS[:500], target)
    with pytest.raises(InvalidOption, match="too short"):
        fit_target(np.random.default_rng(0).normal(size=(500, 7)), 0.5)


def test_codes_longer_than_the_embeddings_are_refused() -> None:
    with pytest.raises(InvalidEmbeddings, match="'65x1' has 65 dims, but the embeddings only 64"):
        fit_code(ROWS, CodeSpec.parse("65x1"))


def test_embeddings_of_which_half_are_copies_can_be_fitted() -> None:
    binarizer, report = fit_bytes(np.vstack([ROWS[:400], ROWS[:400]]), 8)
    assert 0.2 < report.chosen.recall <= 1 and np.isfinite(binarizer.quantized_values(ROWS)).all()


def test_the_same_rows_give_the_same_choice() -> None:
    one, two = fit_bytes(ROWS[:1000], 8), fit_bytes(ROWS[:1000], 8)
    assert one[1] == two[1] and to_onnx(one[0]) == to_onnx(two[0])


def test_of_codes_that_do_as_well_the_widest_is_taken() -> None:
    report = fit_bytes(ROWS, 8)[1]
    final = [trial for trial in report.trials if not trial.cheap and not trial.centered]
    best = max(trial.recall for trial in final)
    least = best - min(MAX_WIDE_MARGIN, WIDE_SHARE * (1 - best))
    # 48 of the 64 dims are wide enough: with more of them nothing is gained but by recall.
    widths = {trial.code: min(CodeSpec.parse(trial.code).dims, 48) for trial in final if trial.recall >= least}
    widest = [trial for trial in final if widths.get(trial.code) == max(widths.values())]
    assert report.chosen.recall == max(trial.recall for trial in widest)


def test_width_counts_up_to_three_quarters_of_the_dims_and_only_among_near_ties() -> None:
    recalls = {"16x4": 0.905, "32x2": 0.9, "48x1": 0.899, "64x1": 0.898, "40x1": 0.8965, "56x1": 0.8}
    trials = [
        Trial(code, centered=False, shrink=0.0, cheap=False, rows=100, recall=recall)
        for code, recall in recalls.items()
    ]
    assert DIMS == 64, "so 48 are wide enough"
    assert [t.code for t in widest_first(trials, DIMS, 1.0)] == ["48x1", "64x1", "32x2", "16x4"]
    assert [t.code for t in widest_first(trials, DIMS, 0.0)] == ["16x4"]


def test_a_strong_common_mean_is_centered() -> None:
    binarizer, report = fit_code(text_like(2000, common_mean=3), CodeSpec.parse("64x2"))
    assert report.chosen.centered and binarizer.centered
    assert len(report.trials) == 2 and {trial.code for trial in report.trials} == {"64x2"}


def test_without_a_common_mean_nothing_is_centered() -> None:
    assert not fit_code(np.vstack([ROWS, -ROWS]), CodeSpec.parse("64x2"))[0].centered


def test_too_few_rows_to_hold_some_out_are_refused() -> None:
    with pytest.raises(InvalidEmbeddings, match="110 rows are too few to choose by measurement"):
        fit_bytes(ROWS[:110], 8)


def test_a_fitted_binarizer_works_as_a_bundle(tmp_path: Path) -> None:
    binarizer, report = fit_bytes(ROWS[:1000], 8)
    files = BinarizerFiles(to_onnx(binarizer), binarizer.spec, binarizer.steps, binarizer.gain)
    bundle = write_bundle(tmp_path, "mine", "1", embedding_dims=DIMS, binarizer=files, figures={"fit": asdict(report)})
    encoder = Encoder(bundle)
    encoder.warm_up()
    assert (encoder.encode(ROWS[:50]) != binarizer.encode(ROWS[:50])).any(axis=1).sum() <= 1
    np.testing.assert_allclose(encoder.project(ROWS[:50]), binarizer.project(ROWS[:50]), atol=1e-6)


@pytest.mark.parametrize(("name", "size_bytes"), [("minilm-32", 32), ("minilm", 64), ("minilm-128", 128)])
def test_the_shipped_bundles_are_sound_small_and_general(name: str, size_bytes: int) -> None:
    bundle = Bundle.load(shipped_bundles() / f"{name}@1")
    assert bundle.embedding_dims == 384 and bundle.spec.code_size_bytes == size_bytes and not bundle.has_embedding_model
    assert sum(file.stat().st_size for file in bundle.path.iterdir()) < 1_500_000
    assert not {"oewn", "scifact", "cranfield", "climate-fever"} & set(bundle.figures["fit"]["corpora"])
    encoder = Encoder(bundle)
    encoder.warm_up()
    rows = encoder.check_embeddings(np.random.default_rng(0).normal(size=(300, 384)))
    assert encoder.encode(rows).shape == (300, bundle.spec.record_size_bytes)


@pytest.mark.parametrize(
    ("name", "scan", "rescore_bytes", "candidates"),
    [("minilm", "minilm@1", 128, 50), ("minilm-32", "minilm-32@1", 160, 200), ("minilm-64-384", "minilm@1", 384, 50)],
)
def test_the_shipped_rescore_codes_add_to_scan_codes_of_before(
    name: str, scan: str, rescore_bytes: int, candidates: int
) -> None:
    bundle, before = Bundle.load(shipped_bundles() / f"{name}@2"), Bundle.load(shipped_bundles() / scan)
    assert bundle.spec.scan == before.spec and bundle.spec.rescore_code_size_bytes == rescore_bytes
    assert bundle.rescore_candidates == candidates and not bundle.has_embedding_model
    assert sum(file.stat().st_size for file in bundle.path.iterdir()) < 2_500_000
    assert not {"oewn", "scifact", "cranfield", "climate-fever"} & set(bundle.figures["fit"]["corpora"])
    encoder, older = Encoder(bundle), Encoder(before)
    encoder.warm_up()
    rows = encoder.check_embeddings(np.random.default_rng(0).normal(size=(300, 384)))
    records = encoder.encode(rows)
    both = [older.decode(older.encode(rows)), older.decode(records[:, : before.spec.record_size_bytes])]
    scanned = [np.linalg.norm(rows - one, axis=1).mean() for one in both]
    assert scanned[1] == pytest.approx(scanned[0], rel=0.02)  # the same decoder, fewer loops
    errors = [np.linalg.norm(rows - one.decode(one.encode(rows)), axis=1).mean() for one in (older, encoder)]
    assert errors[1] < 0.6 * errors[0]  # rows of noise are unlike texts
