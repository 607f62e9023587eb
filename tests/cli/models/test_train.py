"""`bebr train`: from a file to a bundle that the service can open, and clear words for what cannot be trained on."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.encoding.quantization.embeddings import DIMS, text_like
from tests.training.evaluated import write_collection
from typer.testing import CliRunner

from bebr.cli.app import app
from bebr.encoding import Bundle
from bebr.encoding.encoder import Encoder
from bebr.errors import BebrError
from bebr_training.data.rows import training_rows

ROWS = text_like(1200)
QUICK = ["--preset", "quick", "--steps", "6", "--threads", "1"]


def run(*arguments: str) -> str:
    """Raises what the command raises."""
    result = CliRunner().invoke(app, ["train", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def saved(folder: Path, rows: np.ndarray, name: str = "rows.npy") -> str:
    np.save(folder / name, rows)
    return str(folder / name)


def test_embeddings_become_a_bundle_with_a_card_and_a_picture(tmp_path: Path) -> None:
    out = run(saved(tmp_path, ROWS), "--code", "32x2", "--out", str(tmp_path / "b"), "--json", *QUICK)
    answer = json.loads(out)
    bundle = Bundle.load(tmp_path / "b" / "rows@1", verify=True)
    assert answer["bundle"]["fingerprint"] == bundle.fingerprint and str(bundle.spec) == "32x2"
    figures = bundle.figures["training"]["held_out_recall_at_10"]
    assert 0.3 < figures["start"] <= figures["shipped"] <= 1
    card = (bundle.path / "card.md").read_text()
    assert "1,080 documents" in card and "Gaussian bound" in card and "within 1e-5 of a boundary" in card
    assert (bundle.path / "recall.png").read_bytes().startswith(b"\x89PNG")
    encoder = Encoder(bundle)
    assert encoder.encode(encoder.check_embeddings(ROWS[:10])).shape == (10, bundle.spec.record_size_bytes)


def test_a_nested_code_becomes_a_bundle_for_each_size(tmp_path: Path) -> None:
    options = ["--code", "16x2+32x1", "--nested", "--out", str(tmp_path / "b"), "--json", *QUICK]
    answer = json.loads(run(saved(tmp_path, ROWS), *options))
    assert [answer["bundle"]["id"], answer["prefixes"][0]["id"]] == ["rows@1", "rows-4@1"]
    whole, prefix = (
        Encoder(Bundle.load(tmp_path / "b" / name, verify=True)).encode(ROWS) for name in ("rows@1", "rows-4@1")
    )
    np.testing.assert_array_equal(whole[:, :4], prefix[:, :4])


def test_the_size_is_chosen_for_a_target(tmp_path: Path) -> None:
    out = run(saved(tmp_path, ROWS), "--target-recall", "0.8", "--out", str(tmp_path), "--json", *QUICK)
    answer = json.loads(out)
    assert answer["training"]["held_out_recall_at_10"]["shipped"] > 0.77
    assert answer["bundle"]["code_bytes"] < DIMS // 2


def test_judged_pairs_are_learned_from(tmp_path: Path) -> None:
    pairs = ["--pairs", str(write_collection(tmp_path / "judged")), "--out", str(tmp_path), "--json", *QUICK]
    before, after = json.loads(run(saved(tmp_path, ROWS), "--code", "32x2", *pairs))["training"]["held_out_ndcg_at_10"]
    assert 0 < before <= after


def broken(value: float) -> np.ndarray:
    rows = ROWS.copy()
    rows[17, 3] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "arguments", "message"),
    [
        (broken(np.nan), ["--code", "32x2"], "row 17: number 3 of the embedding is nan"),
        (broken(np.inf), ["--code", "32x2"], "row 17: number 3 of the embedding is inf"),
        (np.repeat(ROWS[:1], 500, axis=0), ["--code", "32x2"], "all embeddings are the same"),
        (ROWS[: DIMS - 1], ["--code", "32x2"], "63 rows are too few"),
        (ROWS[:, :16], ["--code", "32x2"], "'32x2' has 32 dims, but the embeddings only 16"),
        (ROWS[0], ["--code", "32x2"], "2-D"),
        (ROWS, ["--code", "32x3"], "32x3"),
        (ROWS, ["--bytes", "1000"], "no code of 1000 bytes"),
        (ROWS, ["--bytes", "8", "--code", "32x2"], "exactly one of"),
        (ROWS, [], "exactly one of"),
        (ROWS, ["--target-recall", "1.5"], "between 0 and 1"),
        (ROWS, ["--code", "32x2", "--preset", "best"], "expected one of distil"),
        (ROWS, ["--code", "16x4+16x2", "--preset", "published"], "one uniform block"),
        (ROWS, ["--code", "32x2", "--model", "new"], "--pairs, which is missing"),
        (ROWS, ["--code", "32x2", "--pairs", "nowhere"], "no folder"),
        (ROWS, ["--code", "32x2", "--base", "minilm@1"], "no embedding model"),
    ],
)
def test_what_cannot_be_trained_is_said_and_nothing_is_written(
    rows: np.ndarray, arguments: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BebrError, match=message):
        run(saved(tmp_path, rows), *QUICK, *arguments, "--out", str(tmp_path / "b"))
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("name", ["missing.npy", "rows.txt", "texts.jsonl"])
def test_files_that_hold_no_rows_are_named(name: str, tmp_path: Path) -> None:
    if name != "missing.npy":
        (tmp_path / name).write_text("{}")
    with pytest.raises(BebrError, match=name):
        run(str(tmp_path / name), "--code", "32x2", "--out", str(tmp_path / "b"), *QUICK)


def test_lengths_and_copies_are_repaired_and_noted(tmp_path: Path) -> None:
    mixed = np.vstack([ROWS[:300], ROWS[300:600] * 7, ROWS[:100]])
    read = training_rows(Path(saved(tmp_path, mixed)))
    assert read.rows.shape == (600, DIMS)
    np.testing.assert_allclose(np.linalg.norm(read.rows, axis=1), 1, atol=1e-5)
    assert "300 of 700 rows were not of length one" in read.notes[0] and "100 duplicate rows" in read.notes[1]
    assert training_rows(Path(saved(tmp_path, ROWS * 7))).notes == ()


def test_a_bundle_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    given = [saved(tmp_path, ROWS), "--code", "32x2", "--out", str(tmp_path), *QUICK]
    run(*given)
    with pytest.raises(BebrError, match="already exists"):
        run(*given)
    run(*given, "--replace")
