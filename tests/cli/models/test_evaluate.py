"""`bebr evaluate` from the command line to tables, JSON, Markdown and figures."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.cli.test_commands import run
from tests.client.running import tiny_text_bundle
from tests.encoding.quantization.embeddings import DIMS, text_like
from tests.training.evaluated import write_collection
from tests.waiting import PATIENCE_SECONDS

from bebr.core.codes import CodeSpec
from bebr.encoding import BinarizerFiles, Bundle, write_bundle
from bebr.encoding.quantization.closed_form import fit
from bebr.encoding.quantization.closed_form_graph import to_onnx
from bebr.encoding.quantization.recurrent_fit import Effort, fit_recurrent
from bebr.encoding.quantization.recurrent_graph import files_of
from bebr.encoding.quantization.residual import fit_residual

BOUNDS = ("Gaussian bound", "Gaussian bound, length one")
QUICK = ("--threads", "1", "--baselines", "sign,sq4")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("BEBR_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_collection(tmp_path / "mine")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    fitted = fit(text_like(1000, seed=2), CodeSpec.parse("16x4+32x2"), center=False)
    files = BinarizerFiles(to_onnx(fitted), fitted.spec, fitted.steps, fitted.gain)
    return write_bundle(tmp_path / "data" / "bundles", "small", "1", embedding_dims=DIMS, binarizer=files)


def test_a_bundle_a_fitted_binarizer_and_baselines_in_one_table(
    folder: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str]
):
    assert run("evaluate", str(folder), "-b", "small@1", "--fit", "--bytes", "8,16", *QUICK, "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)["evaluations"]
    assert (found["collection"], found["documents"], found["queries"], found["judged"]) == ("mine", 400, 40, 40)
    rows = {(row["method"], row["scorer"], row["size_bytes"]): row for row in found["rows"]}
    methods = {(method, size) for method, _, size in rows}
    expected = {(m, s) for m in ("fitted binarizer", "sign", "PCA, SQ4", *BOUNDS) for s in (8, 16)}
    assert methods == expected | {("small@1", 16), ("float", 4 * DIMS)}
    adc, sdc, hamming = (rows["small@1", scorer, 16] for scorer in ("adc", "sdc", "hamming"))
    assert adc["recall_10"]["mean"] > sdc["recall_10"]["mean"] > hamming["recall_10"]["mean"]
    for scorer in ("adc", "sdc"):
        bound = rows[BOUNDS[1], scorer, 16]
        best = max(rows[code, scorer, 16]["recall_10"]["mean"] for code in ("small@1", "fitted binarizer"))
        assert bound["lead"]["mean"] == pytest.approx(best - bound["recall_10"]["mean"])
    assert adc["recall_10"]["low"] < adc["recall_10"]["mean"] < adc["recall_10"]["high"]
    assert adc["lead"] is None
    sign, full = rows["sign", "hamming", 16], rows["float", None, 4 * DIMS]
    assert sign["lead"]["low"] > 0
    assert full["recall_10"]["mean"] == full["ndcg_kept"]["mean"] == 1
    assert adc["ndcg_kept"]["mean"] == pytest.approx(adc["ndcg_10"]["mean"] / full["ndcg_10"]["mean"])


def test_recall_of_the_scan_and_rescored_stand_side_by_side(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    scan = fit_recurrent(text_like(1000, seed=2), CodeSpec.parse("32x2"), effort=Effort(3, 1, 1000))
    rows = text_like(1000, seed=2)
    files = files_of(replace(scan, residual=fit_residual(rows, scan.left_over(rows), 32)))
    write_bundle(tmp_path / "data" / "bundles", "finer", "1", embedding_dims=DIMS, binarizer=files)
    figure = tmp_path / "figure.svg"
    arguments = (
        "evaluate",
        str(folder),
        "-b",
        "finer@1",
        "--fit",
        "--bytes",
        "8,16",
        "--rescore-bytes",
        "16,64",
        *QUICK,
    )
    assert run(*arguments, "--plot", str(figure), "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)["evaluations"]
    rows_of = {
        (row["method"], row["size_bytes"], row["disk_bytes"]): row for row in found["rows"] if row["scorer"] == "adc"
    }
    assert rows_of["finer@1", 8, 32]["recall_10"]["mean"] > rows_of["finer@1", 8, 0]["recall_10"]["mean"] + 0.1
    for size in (8, 16):
        recalls = [rows_of["fitted binarizer", size, disk]["recall_10"]["mean"] for disk in (0, 16, 64)]
        assert recalls == sorted(recalls) and recalls[2] > 0.98
        assert rows_of["fitted binarizer", size, 64]["ndcg_kept"]["mean"] > 0.97
        best = max(
            rows_of[method, size, 0]["recall_10"]["mean"] for method in ("fitted binarizer", "finer@1")[: 17 // size]
        )
        lead = next(row for row in found["rows"] if row["method"] == "PCA, SQ4" and row["size_bytes"] == size)
        assert lead["lead"]["mean"] == pytest.approx(best - lead["recall_10"]["mean"])  # codes that are not rescored
    assert "B on disk" in figure.read_text("utf-8")
    assert run(*arguments) == 0
    assert "on disk" in capsys.readouterr().out
    assert run("evaluate", str(folder), "-b", "finer@1", "--rescore-bytes", "16", *QUICK) == 1
    assert "add --fit" in capsys.readouterr().err
    assert run("evaluate", str(folder), "--fit", "--rescore-bytes", "x", *QUICK) == 1
    assert "--rescore-bytes: expected sizes" in capsys.readouterr().err


def test_tables_markdown_and_figures(folder: Path, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    other = write_collection(tmp_path / "other", qrels=False)
    for suffix in ("png", "svg"):
        page, figure = tmp_path / "out" / "page.md", tmp_path / "out" / f"figure.{suffix}"
        arguments = (str(folder), str(other), "-b", str(bundle.path), *QUICK, "--plot", str(figure))
        assert run("evaluate", *arguments, "--markdown", str(page)) == 0
        assert figure.stat().st_size > 5_000
    shown = capsys.readouterr().out
    assert "mine: 400 documents of 64 dims, 40 queries, 40 with relevance judgments" in shown
    assert "other: 400 documents of 64 dims, 40 queries, no relevance judgments" in shown
    assert "mine, 16 bytes: small@1 (16x4+32x2) is" in shown
    written = page.read_text("utf-8")
    assert "| **16** | **small@1** | **adc** | **16x4+32x2** |" in written
    assert written.count("## ") == 2
    assert "OPQ" not in written


def test_texts_need_a_bundle_that_embeds_them(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    tiny_text_bundle(tmp_path / "data" / "bundles", tmp_path / "checkpoint", "tiny")
    for name in ("docs.npy", "queries.npy"):
        (folder / name).unlink()
    assert run("evaluate", str(folder), *QUICK) == 1
    assert "give a bundle with --base to embed its texts" in capsys.readouterr().err
    cache = tmp_path / "cache"
    arguments = "--base", "tiny@1", "--cache", str(cache), "-b", "tiny@1", *QUICK, "--no-bound", "--json"
    assert run("evaluate", str(folder), *arguments) == 0
    (found,) = json.loads(capsys.readouterr().out)["evaluations"]
    assert {row["method"] for row in found["rows"]} == {"tiny@1", "sign", "PCA, SQ4", "float"}
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--baselines", "lsh"), "--baselines: expected all, none or some of sign"),
        (("--bytes", "64,big"), "--bytes: expected sizes such as 64 or 32,64,128, got '64,big'"),
        (("--bytes", "0"), "at least 1 byte"),
        (("-b", "none@1"), "no bundle 'none@1'"),
        (("-b", "./none"), "no bundle at none"),
        (("--base", "small@1"), "--base does not apply"),
        (("--cache", "x"), "--base is missing"),
        (("--model", "new"), "--model does not apply"),
        (("--plot", "x.bmp"), "--plot: expected a file that ends in .png, .svg, .pdf, got 'x.bmp'"),
        (("-b", "minilm@1"), "bundle 'minilm@1' takes embeddings of 384 dims, the collection has 64"),
    ],
)
def test_wrong_options(
    folder: Path, bundle: Bundle, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
):
    if "--base" in arguments:
        tiny_text_bundle(bundle.path.parent, folder.parent / "checkpoint", "tiny")
        arguments = ("--base", "tiny@1")
    assert run("evaluate", str(folder), *QUICK, *arguments) == 1
    assert message in capsys.readouterr().err


def test_fewer_documents_than_recall_at_100_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run("evaluate", str(write_collection(tmp_path / "few", rows=99, qrels=False)), *QUICK) == 1
    assert "has 99 documents and 40 queries; recall@100 needs at least 100 documents" in capsys.readouterr().err
    np.save(tmp_path / "few" / "docs.npy", np.ones((0, DIMS), np.float32))
    assert run("evaluate", str(tmp_path / "few"), *QUICK) == 1
    assert "expected a 2-D array (rows, dims), got shape (0, 64)" in capsys.readouterr().err


def test_documents_that_are_all_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = write_collection(tmp_path / "same", qrels=False)
    np.save(folder / "docs.npy", np.ones((300, DIMS), np.float32))
    assert run("evaluate", str(folder), *QUICK) == 1
    assert "collection 'same': all documents are the same" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(folder: Path):
    script = f"import sys; sys.modules['faiss'] = None\nfrom bebr.cli import main; main(['evaluate', {str(folder)!r}])"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert ended.returncode == 1
    assert "this command needs faiss, which is not installed: install bebr with the extra [train]" in ended.stderr
