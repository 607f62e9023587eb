"""`bebr models`: bundles are imported, listed and verified."""

import json
from pathlib import Path

import pytest
from tests.cli.test_commands import run
from tests.client.running import tiny_text_bundle
from tests.encoding.importing.checkpoints import write_checkpoint

from bebr.encoding import Bundle


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("BEBR_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    return tmp_path / "data" / "bundles"


def test_a_checkpoint_is_imported_and_listed(tmp_path: Path, bundles: Path, capsys: pytest.CaptureFixture[str]):
    folder = write_checkpoint(tmp_path / "tiny-model")
    options = "--pooling", "cls", "--max-length", "16", "--query-prefix", "query: "
    assert run("models", "import", str(folder), *options) == 0
    assert "tiny-model@1" in capsys.readouterr().out
    settings = Bundle.load(bundles / "tiny-model@1").embedding.settings
    assert (settings.pooling, settings.max_length, settings.prefixes["query"]) == ("cls", 16, "query: ")
    assert run("models", "list") == 0
    assert "tiny-model@1" in capsys.readouterr().out
    assert run("models", "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)["bundles"]
    assert [bundle["text"] for bundle in listed if bundle["id"] == "tiny-model@1"] == [True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--precision", "fp8"), "--precision: expected one of fp32, int8, fp16, uint8, q4, q4f16, got 'fp8'"),
        (("--pooling", "sum"), "--pooling: expected one of mean, cls, max, last, weighted-mean, graph, got 'sum'"),
        (("--name", "Bad Name"), "name"),
    ],
)
def test_wrong_options_of_an_import(
    tmp_path: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
):
    folder = write_checkpoint(tmp_path / "model")
    assert run("models", "import", str(folder), *arguments) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", '{"model_type": "roberta"}'),
        ("config.json", "[" * 100_000),
        ("tokenizer_config.json", '{"do_lower_case": "yes"}'),
        ("model.safetensors", "no weights"),
    ],
)
def test_a_checkpoint_of_any_content_is_refused_in_one_line(
    tmp_path: Path, bundles: Path, capsys: pytest.CaptureFixture[str], name: str, content: str
):
    folder = write_checkpoint(tmp_path / "model")
    (folder / name).write_text(content)
    assert run("models", "import", str(folder)) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ") and name in said
    assert not list(bundles.glob("*"))


def test_secrets_as_flags_are_warned_of(capsys: pytest.CaptureFixture[str]):
    assert run("search", "text", "--api-key", "s3cret", "--url", "http://127.0.0.1:9") == 1
    said = capsys.readouterr().err
    assert "BEBR_API_KEY" in said and "s3cret" not in said


def test_a_model_that_nobody_knows(capsys: pytest.CaptureFixture[str]):
    assert run("models", "pull", "no_such_package_anywhere") == 1
    assert "no known model" in capsys.readouterr().err
    assert run("models", "import", "/nowhere") == 2


def test_a_damaged_bundle_is_found(tmp_path: Path, bundles: Path, capsys: pytest.CaptureFixture[str]):
    bundle = tiny_text_bundle(bundles, tmp_path / "checkpoint", "tiny")
    assert run("models", "verify") == 0
    assert "sound    tiny@1" in capsys.readouterr().out
    graph = bundle.path / "binarizer.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    assert run("models", "verify") == 1
    shown = capsys.readouterr().out
    assert "damaged  tiny@1" in shown
    assert "binarizer.onnx" in shown
    assert run("inspect", str(bundle.path)) == 1
