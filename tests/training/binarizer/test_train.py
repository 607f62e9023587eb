"""Training: never worse than its start, the same by seed, resumed as if never stopped, and held to its graph."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.encoding.quantization.embeddings import DIMS, text_like

from bebr.core.codes import CodeSpec
from bebr.encoding import BinarizerFiles
from bebr.encoding.quantization.recurrent import Recurrent
from bebr.encoding.quantization.recurrent_fit import FIT_HARDNESS, Effort, fit_recurrent
from bebr.errors import DamagedBundle, InvalidEmbeddings, InvalidOption
from bebr_training.binarizer.export import boundary_margins, check_export
from bebr_training.binarizer.model import Learned, Published
from bebr_training.binarizer.objectives import Queue, contrastive, distillation
from bebr_training.binarizer.presets import PRESETS, Preset
from bebr_training.binarizer.train import Trained, train
from bebr_training.data.held_out import HeldOut, HeldOutPairs
from bebr_training.data.pairs import Pairs

ROWS = text_like(1500)
HELD_OUT = HeldOut(ROWS)
SPEC = CodeSpec.parse("32x2+16x1")
START = fit_recurrent(HELD_OUT.training, SPEC, effort=Effort(warm=3, full=1))
QUICK = Preset(steps=30, evaluate_every=10, seeds=16, neighbors=5)


def numbers(trained: Trained) -> list[float]:
    return [value for point in trained.curve for value in (point.step, point.held_out)]


def test_held_out_rows_are_not_for_training() -> None:
    assert len(HELD_OUT.queries) == 150 and len(HELD_OUT.training) == 1350
    both = np.vstack([HELD_OUT.queries, HELD_OUT.training])
    assert len(np.unique(both, axis=0)) == len(np.unique(ROWS, axis=0))


def test_training_beats_a_hasty_start_and_keeps_the_best_step() -> None:
    trained = train(HELD_OUT, START, replace(QUICK, steps=60))
    assert trained.recall > trained.start_recall
    best = max(trained.curve, key=lambda point: point.held_out)
    assert trained.shipped == {"learn": best.step} and trained.recall == pytest.approx(best.held_out)


def test_what_does_not_help_is_not_shipped() -> None:
    ruinous = train(HELD_OUT, START, replace(QUICK, learning_rate=50.0))
    assert ruinous.shipped == {"learn": 0} and ruinous.recall == ruinous.start_recall
    assert min(point.held_out for point in ruinous.curve) < ruinous.start_recall - 0.1
    assert isinstance(ruinous.reference, Recurrent)
    np.testing.assert_allclose(ruinous.reference.decoder, START.decoder, atol=1e-6)


def test_training_ends_early_when_nothing_gets_better() -> None:
    trained = train(HELD_OUT, START, replace(QUICK, steps=1000, learning_rate=50.0, patience=2))
    assert max(point.step for point in trained.curve) == 20


def test_the_seed_decides() -> None:
    one, same, other = (train(HELD_OUT, START, replace(QUICK, seed=seed)) for seed in (1, 1, 2))
    assert one.files.graph == same.files.graph and numbers(one) == numbers(same)
    assert one.files.graph != other.files.graph


@pytest.mark.parametrize("preset", ["distil", "contrastive"])
def test_a_run_that_was_stopped_goes_on_as_if_it_never_was(preset: str, tmp_path: Path) -> None:
    recipe = replace(PRESETS[preset], steps=20, evaluate_every=10, seeds=16, neighbors=5, queue=0)
    whole = train(HELD_OUT, START, recipe)

    class Stop(Exception):
        pass

    def stop_after_first_save(done: int, total: int, label: str) -> None:
        if done == 15:
            raise Stop

    checkpoint = tmp_path / "run.pt"
    with pytest.raises(Stop):
        train(HELD_OUT, START, recipe, checkpoint=checkpoint, progress=stop_after_first_save)
    resumed = train(HELD_OUT, START, recipe, checkpoint=checkpoint)
    assert resumed.files.graph == whole.files.graph and numbers(resumed) == pytest.approx(numbers(whole))


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.pt"
    train(HELD_OUT, START, QUICK, checkpoint=checkpoint)
    assert torch.load(checkpoint, weights_only=True)["preset"]["neighbours"] == QUICK.neighbors, "named as in format 1"
    with pytest.raises(InvalidOption, match="other settings"):
        train(HELD_OUT, START, replace(QUICK, seed=7), checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(InvalidOption, match="not a checkpoint"):
        train(HELD_OUT, START, QUICK, checkpoint=checkpoint)


def test_judged_pairs_teach_queries_what_floats_do_not_know() -> None:
    """Relevance is cosine after a turn of the query that floats know nothing of; codes of documents must not change."""
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(DIMS, DIMS)))[0].astype(np.float32)
    known = text_like(1200, seed=3)
    queries = known + 1.2 * known @ turn
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    nearest = (known @ ROWS.T).argmax(axis=1)
    pairs = Pairs(queries, ROWS, {query: {int(row): 1.0} for query, row in enumerate(nearest)})
    recipe = replace(QUICK, steps=0, pair_steps=90, evaluate_every=30)
    trained = train(HELD_OUT, START, recipe, pairs=pairs)
    assert trained.ndcg is not None and trained.ndcg[1] > trained.ndcg[0] + 0.1
    assert isinstance(trained.reference, Recurrent)
    levels = [binarizer.quantize(ROWS[:200])[0] for binarizer in (trained.reference, START)]
    assert (levels[0] != levels[1]).any(axis=1).sum() <= 2


def test_held_out_pairs_are_not_taught() -> None:
    pairs = Pairs(text_like(50, seed=4), ROWS, {query: {query: 1.0, query + 100: 0.0} for query in range(50)})
    judged = HeldOutPairs(pairs)
    assert len(judged.training_queries) == 40
    chosen, documents, positive = judged.batch(16, 4, np.random.default_rng(0))
    assert positive.shape == (len(chosen), len(documents)) and (positive.sum(axis=1) == 1).all()


@pytest.mark.parametrize("code", ["32x2", "24x4", "48x1"])
def test_the_published_recipe_learns_and_its_graph_equals_it(code: str) -> None:
    start = fit_recurrent(HELD_OUT.training, CodeSpec.parse(code), effort=Effort(1, 1))
    recipe = replace(PRESETS["published"], steps=30, seeds=128, evaluate_every=15)
    trained = train(HELD_OUT, start, recipe)
    assert isinstance(trained.reference, Published) and trained.files.spec == start.spec
    curve = [point.held_out for point in trained.curve]
    assert trained.recall == max(curve) > 0.02
    assert check_export(trained.files, trained.reference, HELD_OUT.queries).rows == 150


def test_the_twin_gives_the_codes_of_the_reference() -> None:
    model = Learned(START)
    rows = HELD_OUT.queries
    (stands_for,) = (codes.detach().numpy() for codes in model.codes(torch.from_numpy(rows)))
    decoded = replace(START, hardness=FIT_HARDNESS).quantized_values(rows) @ START.decoder
    agree = np.isclose(stands_for, decoded, atol=2e-3).all(axis=1)
    assert agree.mean() > 0.98  # the others had a value on a boundary
    np.testing.assert_allclose(START.felt_length(stands_for), START.felt_length(rows), rtol=1e-5)


def test_the_twin_of_a_nested_code_gives_all_prefixes_and_learns_them() -> None:
    start = fit_recurrent(HELD_OUT.training, SPEC, nested=True, effort=Effort(warm=3, full=1))
    rows = HELD_OUT.queries
    whole, prefix = (codes.detach().numpy() for codes in Learned(start).codes(torch.from_numpy(rows)))
    for stands_for, binarizer in ((whole, start), (prefix, start.prefix(1))):
        decoded = replace(binarizer, hardness=FIT_HARDNESS).quantized_values(rows) @ binarizer.decoder
        assert np.isclose(stands_for, decoded, atol=2e-3).all(axis=1).mean() > 0.98
    trained = train(HELD_OUT, start, replace(QUICK, steps=60))
    assert isinstance(trained.reference, Recurrent) and trained.reference.nested
    assert HELD_OUT.recall(trained.reference.prefix(1)) > HELD_OUT.recall(start.prefix(1)) - 0.005
    check_export(trained.files, trained.reference, rows)


def test_an_export_that_differs_is_refused() -> None:
    model = Learned(START)
    files, binarizer = model.files(), model.binarizer()
    check = check_export(files, binarizer, ROWS[:300])
    assert check.rows == 300 and check.boundary_rows <= 3
    other = replace(binarizer, decoder=binarizer.decoder * 1.01, encoder=binarizer.encoder * 0.9)
    with pytest.raises(DamagedBundle, match="different levels"):
        check_export(files, other, ROWS[:300])
    longer = replace(binarizer, decoder=binarizer.decoder * 1.5)
    with pytest.raises(DamagedBundle, match="different gains"):
        check_export(BinarizerFiles(files.graph, files.spec, files.steps, files.gain), longer, ROWS[:300])


def test_margins_tell_which_rows_hang_on_a_boundary() -> None:
    margins = boundary_margins(START, ROWS[:200])
    assert margins.shape == (200,) and (margins >= 0).all() and np.median(margins) < 0.01


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(InvalidEmbeddings, match="too few to train on"):
        HeldOut(ROWS[:60])


def test_distillation_is_zero_for_the_same_scores_and_ignores_same_items() -> None:
    rows = torch.from_numpy(ROWS[:20])
    cosines, same = rows @ rows.T, torch.eye(20, dtype=torch.bool)
    assert float(distillation(cosines, cosines, same, 0.04)) == pytest.approx(0, abs=1e-5)
    worse = float(distillation(cosines.flip(0), cosines, same, 0.04))
    assert worse > 1
    changed = cosines.clone()
    changed[same] = 5.0
    assert float(distillation(changed, cosines, same, 0.04)) == pytest.approx(0, abs=1e-5)


def test_contrast_equals_a_slow_loop() -> None:
    scores = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 9)).astype(np.float32))
    positive = torch.zeros(6, 9, dtype=torch.bool)
    positive[torch.arange(6), torch.arange(6)] = True
    positive[0, 7] = True
    for hardest in (None, 3):
        expected = []
        for query in range(6):
            logits = scores[query].double() / 0.1
            negatives = sorted(logits[~positive[query]].tolist(), reverse=True)[: hardest or 99]
            against = sum(np.exp(negatives))
            losses = [-np.log(np.exp(p) / (np.exp(p) + against)) for p in logits[positive[query]].tolist()]
            expected.append(np.mean(losses))
        assert float(contrastive(scores, positive, 0.1, hardest)) == pytest.approx(np.mean(expected), rel=1e-4)


def test_the_queue_holds_the_latest_codes() -> None:
    queue = Queue(4)
    first = queue.extend(torch.ones(3, 2), torch.arange(3))
    assert len(first[0]) == 3
    rows, items = queue.extend(torch.full((2, 2), 2.0), torch.tensor([7, 8]))
    assert items.tolist() == [7, 8, 0, 1, 2] and len(rows) == 5
    assert queue.items.tolist() == [7, 8, 0, 1]
