"""Graphs that torch exports from models of many kinds, and checkpoints of some, embed as transformers itself does."""

from pathlib import Path

import numpy as np
import pytest
from tests.encoding.importing.checkpoints import tiny_tokenizer
from tests.encoding.importing.ready.exports import (
    ARCHITECTURES,
    CHECKPOINTS,
    make_model,
    reference,
    write_folder,
)

from bebr.encoding import TextKind
from bebr.encoding.embedding.model import EmbeddingModel
from bebr.encoding.importing.options import ImportOptions
from bebr.encoding.importing.pull import PullOptions, pull

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
