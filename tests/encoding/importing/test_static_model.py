"""The static model: its graph against plain numpy, one text at a time, and what it is made of."""

from pathlib import Path

import numpy as np
import pytest
from tests.encoding.importing.checkpoints import DIMS, TEXT, write_checkpoint
from tokenizers import Tokenizer

from bebr.encoding import EmbeddingFiles, TextKind, write_bundle
from bebr.encoding.encoder import Encoder
from bebr.encoding.importing.checkpoint import import_checkpoint
from bebr.encoding.importing.static_model import COMPONENTS, fit_static, read_pieces, static_files

WORDS = TEXT.split()[:19]
RNG = np.random.default_rng(0)
TEXTS = [" ".join(RNG.choice(WORDS, int(RNG.integers(2, 12)))) for _ in range(200)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def transformer(checkpoint: Path) -> EmbeddingFiles:
    return import_checkpoint(checkpoint).files


def tokens_of(files: EmbeddingFiles, texts: list[str]) -> list[list[int]]:
    tokenizer = Tokenizer.from_str(files.tokenizer.decode())
    tokenizer.no_padding()
    tokenizer.enable_truncation(files.settings.max_length)
    return [tokenizer.encode(text).ids for text in texts]


def reference(pieces: np.ndarray, tokens: list[list[int]], seed: int) -> np.ndarray:
    """(texts, dims) float64: the formula as it stands in the docstring, on the texts that it is fitted to."""
    vectors = pieces.astype(np.float64)
    idf = {
        piece: np.log((1 + len(tokens)) / (1 + sum(piece in ids for ids in tokens))) for ids in tokens for piece in ids
    }
    rows = np.stack(
        [sum(idf[piece] * vectors[piece] for piece in ids) / sum(idf[piece] for piece in ids) for ids in tokens]
    )
    centered = rows - rows.mean(axis=0)
    moments = centered.T @ centered
    axes = np.linalg.eigh(moments)[1][:, -COMPONENTS:]
    centered = centered - centered @ axes @ axes.T
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((DIMS, DIMS)))[0]
    return centered @ rotation / np.linalg.norm(centered, axis=1, keepdims=True)


def test_the_graph_is_the_formula(checkpoint: Path, transformer: EmbeddingFiles, tmp_path: Path):
    pieces = read_pieces(checkpoint)
    files = static_files(pieces, transformer, TEXTS, seed=3)
    encoder = Encoder(write_bundle(tmp_path, "static", "1", embedding_dims=DIMS, embedding=files))
    expected = reference(pieces, tokens_of(transformer, TEXTS), seed=3)
    assert np.allclose(encoder.embed(TEXTS, TextKind.PASSAGE), expected, atol=2e-5)
    # Padding changes nothing: a text alone is what it is beside longer ones.
    assert np.allclose(encoder.embed(TEXTS[:1], TextKind.QUERY), expected[:1], atol=2e-5)


def test_a_text_without_words_has_an_embedding(checkpoint: Path, transformer: EmbeddingFiles, tmp_path: Path):
    files = static_files(read_pieces(checkpoint), transformer, TEXTS)
    encoder = Encoder(write_bundle(tmp_path, "static", "1", embedding_dims=DIMS, embedding=files))
    assert np.linalg.norm(encoder.embed([" "], TextKind.QUERY)) == pytest.approx(1, abs=1e-5)


def test_its_space_is_no_other_and_its_name_says_what_it_was_fitted_to(checkpoint: Path, transformer: EmbeddingFiles):
    pieces, tokens = read_pieces(checkpoint), tokens_of(transformer, TEXTS)
    one, other = fit_static(pieces, tokens, seed=0), fit_static(pieces, tokens, seed=1)
    assert not np.allclose(one.pieces, other.pieces, atol=0.1)
    assert np.allclose(one.pieces @ one.pieces.T, other.pieces @ other.pieces.T, atol=1e-3)
    made = [static_files(pieces, transformer, texts).settings for texts in (TEXTS, TEXTS, TEXTS[:100])]
    assert made[0] == made[1] != made[2]
    assert made[0].source != transformer.settings.source
