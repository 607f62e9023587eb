"""`bebr fit`: sizes, layouts and recall, what it reads, and what it refuses."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from tests.cli.test_commands import run
from tests.client.running import tiny_text_bundle
from tests.encoding.importing.checkpoints import DIMS

from bebr.core.codes import CodeSpec
from bebr.encoding import Bundle


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("BEBR_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    return tmp_path / "data" / "bundles"


@pytest.fixture
def embeddings(tmp_path: Path) -> Path:
    path = tmp_path / "My embeddings.npy"
    np.save(path, np.random.default_rng(0).standard_normal((400, DIMS)).astype(np.float32))
    return path


def test_fit_chooses_blocks_of_a_size(embeddings: Path, bundles: Path, capsys: pytest.CaptureFixture[str]):
    assert run("fit", str(embeddings), "--bytes", "8", "--name", "mine") == 0
    shown = capsys.readouterr().out
    assert "recall@10" in shown
    bundle = Bundle.load(bundles / "mine@1")
    assert bundle.spec.code_size_bytes == 8
    assert bundle.embedding_dims == DIMS
    assert not bundle.has_embedding_model
    assert run("inspect", str(bundle.path)) == 0
    assert "chosen" in capsys.readouterr().out
    assert run("fit", str(embeddings), "--bytes", "8", "--name", "mine") == 1
    said = capsys.readouterr().err
    assert "already exists" in said and "measuring" not in said
    assert run("fit", str(embeddings), "--bytes", "8", "--name", "mine", "--replace") == 0


def test_fit_adds_a_rescore_code(embeddings: Path, bundles: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ("fit", str(embeddings), "--bytes", "8", "--rescore-bytes", "16", "--name", "finer")
    assert run(*arguments) == 0
    assert "rescore code of 16 bytes per point on disk, recall@10" in capsys.readouterr().out
    bundle = Bundle.load(bundles / "finer@1")
    assert (bundle.spec.code_size_bytes, bundle.spec.rescore_code_size_bytes) == (8, 16)
    assert bundle.rescore_candidates in (10, 20, 30, 50, 100, 200, 320)
    assert run(*arguments, "--replace", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (
        shown["bundle"]["rescore_bytes"] == 16 and shown["fit"]["rescored"]["recall"] > shown["fit"]["chosen"]["recall"]
    )
    assert run("inspect", str(bundle.path)) == 0
    assert "rescore.onnx" in capsys.readouterr().out
    assert run("models", "list") == 0
    assert run("fit", str(embeddings), "--code", "8x4", "--rescore-bytes", "16", "--name", "given") == 0
    assert str(Bundle.load(bundles / "given@1").spec).startswith("8x4/")
    capsys.readouterr()
    assert run("fit", str(embeddings), "--bytes", "8", "--rescore-bytes", str(DIMS + 1), "--name", "much") == 1
    assert f"1 to {DIMS} bytes" in capsys.readouterr().err
    assert run("fit", str(embeddings), "--code", "8x4/8x4", "--name", "slash") == 1
    assert "--rescore-bytes" in capsys.readouterr().err


def test_fit_takes_blocks_and_the_model_of_a_base(
    tmp_path: Path, embeddings: Path, bundles: Path, capsys: pytest.CaptureFixture[str]
):
    tiny_text_bundle(bundles, tmp_path / "checkpoint", "tiny")
    out = tmp_path / "elsewhere"
    arguments = "fit", str(embeddings), "--code", "8x4+16x1", "--base", "tiny@1", "--version", "2", "--out", str(out)
    assert run(*arguments, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["bundle"]["id"], shown["bundle"]["code"]) == ("my-embeddings@2", "8x4+16x1")
    assert 0 < shown["fit"]["chosen"]["recall"] <= 1
    assert Bundle.load(out / "my-embeddings@2").has_embedding_model


def test_fit_finds_the_smallest_code_of_a_recall(embeddings: Path, bundles: Path, capsys: pytest.CaptureFixture[str]):
    assert run("fit", str(embeddings), "--target-recall", "0.5", "--name", "mine") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:-1]]
    bundle = Bundle.load(bundles / "mine@1")
    (chosen,) = [row for row in rows if row[0] == "*"]
    assert chosen[1:3] == [str(bundle.spec), str(bundle.spec.code_size_bytes)]
    assert chosen[4] == "full" and float(chosen[-1]) >= 0.5
    efforts = [row[-3] for row in rows]
    assert efforts == sorted(efforts) and set(efforts) == {"cheap", "full"}
    assert {CodeSpec.parse(row[-6]).code_size_bytes for row in rows} == {int(row[-5]) for row in rows}
    assert len({row[-5] for row in rows}) > 1


def test_a_nested_code_is_written_once_for_each_size(
    embeddings: Path, bundles: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = "fit", str(embeddings), "--code", "4x4+12x2+16x1", "--nested", "--name", "mine"
    assert run(*arguments) == 0
    shown = capsys.readouterr().out
    assert "the first 2 bytes of the same codes" in " ".join(shown.split())
    encoded = {name: Bundle.load(bundles / f"{name}@1") for name in ("mine", "mine-2", "mine-5")}
    assert [str(bundle.spec) for bundle in encoded.values()] == ["4x4+12x2+16x1", "4x4", "4x4+12x2"]
    (bundles / "mine@1").rename(bundles / "elsewhere")
    assert run(*arguments) == 1
    assert "'mine-2@1' already exists" in capsys.readouterr().err


def test_fit_reads_what_others_write(tmp_path: Path, embeddings: Path, capsys: pytest.CaptureFixture[str]):
    rows = np.load(embeddings)
    pyarrow.parquet.write_table(pyarrow.table({"embedding": [row.tolist() for row in rows]}), tmp_path / "a.parquet")
    heads = np.full((len(rows), 1), DIMS, "<i4")
    np.hstack([heads, rows.view("<i4")]).tofile(tmp_path / "a.fvecs")
    fitted = []
    for number, path in enumerate([embeddings, tmp_path / "a.parquet", tmp_path / "a.fvecs"]):
        assert run("fit", str(path), "--code", "16x2", "--name", f"m{number}", "--json") == 0
        fitted.append(json.loads(capsys.readouterr().out))
    assert fitted[0]["fit"] == fitted[1]["fit"] == fitted[2]["fit"]
    graphs = [(Path(one["path"]) / "binarizer.onnx").read_bytes() for one in fitted]
    assert graphs[0] == graphs[1] == graphs[2]


def test_what_reads_parquet_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert run("fit", str(tmp_path / "a.parquet"), "--bytes", "8") == 1
    assert "pip install pyarrow" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [(), ("rows.npy", "--wait"), ("rows.npy", "--sample", "9")])
def test_a_fit_takes_a_file_and_no_option_of_a_collection(arguments: tuple[str, ...]):
    assert run("fit", *arguments) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "exactly one of --bytes, --code and --target-recall"),
        (("--bytes", "8", "--code", "8x1"), "exactly one of --bytes, --code and --target-recall"),
        (("--bytes", "8", "--target-recall", "0.8"), "exactly one of --bytes, --code and --target-recall"),
        (("--target-recall", "80"), "between 0 and 1, got 80"),
        (("--target-recall", "0.9999"), "no code reaches a recall of 0.9999"),
        (("--code", "8x3"), "bits 1, 2 or 4"),
        (("--code", "8x2", "--nested"), "at least two blocks, such as 128x2+128x2, got '8x2'"),
        (("--bytes", "8", "--nested"), "--nested needs a layout"),
        (("--bytes", "8", "--base", "none@1"), "no bundle 'none@1'"),
        (("--bytes", "4000"), "no code of 4000 bytes"),
    ],
)
def test_wrong_options_of_a_fit(
    embeddings: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
):
    assert run("fit", str(embeddings), *arguments) == 1
    assert message in capsys.readouterr().err


def test_wrong_embeddings(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    wrong = {
        "text.npy": (b"not an array", "is not a .npy file"),
        "empty.npy": (b"", "is not a .npy file"),
        "short.fvecs": (b"12345", "is not an .fvecs file"),
        "other.parquet": (b"PAR1", "is not a Parquet file"),
    }
    for name, (content, message) in wrong.items():
        (tmp_path / name).write_bytes(content)
        assert run("fit", str(tmp_path / name), "--bytes", "8") == 1
        assert message in capsys.readouterr().err
    np.savez(tmp_path / "several.npy.npz", a=np.ones(3))
    arrays = {"several.npy.npz": "is not a .npy file", "objects.npy": "is not a .npy file", "flat.npy": "2-D"}
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    np.save(tmp_path / "flat.npy", np.ones(10, np.float32))
    for name, message in arrays.items():
        assert run("fit", str(tmp_path / name), "--bytes", "8") == 1
        assert message in capsys.readouterr().err
    assert run("fit", str(tmp_path / "missing.npy"), "--bytes", "8") == 1
    assert "there is no file" in capsys.readouterr().err
