"""`bebr models import` of a ready graph: what it prints, and that each of its options changes what is made."""

import shutil
from pathlib import Path

import pytest
from tests.cli.test_commands import run
from tests.encoding.importing.ready.exports import make_model, write_folder

from bebr.encoding import Bundle


def test_a_ready_graph_is_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BEBR_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    folder = write_folder(tmp_path / "tiny", make_model("bert"), "bert")
    shutil.copy(folder / "onnx" / "model.onnx", folder / "onnx" / "model_O3.onnx")
    assert run("models", "import", str(folder)) == 0
    shown = capsys.readouterr().out
    assert "32 dims, pooling mean, 64 tokens of a text, precision fp32" in shown
    assert "taken from onnx/model.onnx, output 'last_hidden_state'" in shown and "--pooling changes it" in shown
    plain = Bundle.load(tmp_path / "data" / "bundles" / "tiny@1")
    made = {plain.fingerprint}
    for number, options in enumerate(
        (
            ("--pooling", "cls"),
            ("--dims", "16"),
            ("--layers", "1"),
            ("--max-length", "9"),
            ("--query-prefix", "query: "),
            ("--passage-prefix", "passage: "),
        )
    ):
        assert run("models", "import", str(folder), "--name", f"other{number}", *options) == 0
        (path,) = (tmp_path / "data" / "bundles").glob(f"other{number}@*")
        made.add(Bundle.load(path).fingerprint)
    assert len(made) == 7
    capsys.readouterr()
    assert run("models", "import", str(folder), "--name", "chosen", "--file", "onnx/model_O3.onnx") == 0
    assert "taken from onnx/model_O3.onnx" in capsys.readouterr().out
    assert run("models", "import", str(folder / "onnx" / "model_O3.onnx"), "--version", "2") == 0
    assert "tiny@2" in capsys.readouterr().out
    assert run("models", "import", str(folder), "--file", "onnx/missing.onnx") == 1
    assert "there are onnx/model.onnx, onnx/model_O3.onnx" in capsys.readouterr().err
