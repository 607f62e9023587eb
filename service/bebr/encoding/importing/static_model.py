"""An embedding model without a transformer: the weighted mean of word-piece vectors, as static embeddings are made.

    f(text) = unit((sum of idf v / sum of idf) - mean) (1 - C'C) R

v are the input vectors of a transformer's word pieces, idf says how rare a piece is in the texts that the model was
fitted to, `mean` and the first principal axes C are those of the texts (Arora et al., 2017). R is a random rotation: it
changes no inner product, and leaves nothing in common with the space of the transformer. Such a model is fast and
plain: what a service may have begun with, and what the demo of an upgrade begins with.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bebr.core.arrays import TINY, Floats
from bebr.encoding.bundles.contents import EmbeddingFiles
from bebr.encoding.bundles.manifest import Pooling, Precision, SourceHashes, canonical_sha256
from bebr.encoding.embedding.tokenization import TextTokenizer
from bebr.encoding.importing.architecture import read_transformer
from bebr.encoding.importing.checkpoint import CONFIG, WEIGHTS
from bebr.encoding.importing.files.json_file import existing, read_json_file
from bebr.encoding.importing.files.tensors import Tensors
from bebr.encoding.onnx.graph import Graph, Signature
from bebr.encoding.onnx.session import ATTENTION_MASK, EMBEDDING, INPUT_IDS

BUILDER = 1
"""Number of this builder, part of the fingerprint; a change that alters embeddings raises it."""
COMPONENTS = 3
"""Principal axes of the texts that are taken out."""


@dataclass(frozen=True)
class StaticModel:
    """The model fitted to some texts."""

    pieces: Floats
    """(vocabulary, dims) float32: the word-piece vectors, with (1 - C'C) R applied."""
    idf: Floats
    """(vocabulary,) float32: how rare each piece is."""
    mean: Floats
    """(dims,) float32: the mean of the texts, with (1 - C'C) R applied."""


def read_pieces(checkpoint: Path) -> Floats:
    """The input vectors (vocabulary, dims) float32 of a checkpoint's word pieces. Raises InvalidCheckpoint."""
    return read_transformer(read_json_file(checkpoint, CONFIG), Tensors(existing(checkpoint, WEIGHTS))).words


def fit_static(pieces: Floats, tokens: Sequence[Sequence[int]], seed: int = 0) -> StaticModel:
    """pieces (vocabulary, dims), tokens: the ids of each text -> the model fitted to these texts."""
    seen = np.zeros(len(pieces))
    for ids in tokens:
        seen[np.unique(ids)] += 1
    idf = np.log((1 + len(tokens)) / (1 + seen)).astype(np.float32)  # what is in every text, as [CLS], counts nothing
    means = np.stack([(idf[list(ids)] @ pieces[list(ids)]) / max(idf[list(ids)].sum(), TINY) for ids in tokens])
    mean = means.mean(axis=0)
    axes = np.linalg.svd(means - mean, full_matrices=False)[2][:COMPONENTS]
    dims = pieces.shape[1]
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((dims, dims)))[0]
    turn = ((np.eye(dims) - axes.T @ axes) @ rotation).astype(np.float32)
    return StaticModel(pieces @ turn, idf, mean @ turn)


def static_files(pieces: Floats, embedding: EmbeddingFiles, texts: Sequence[str], seed: int = 0) -> EmbeddingFiles:
    """A static model fitted to texts, to be written into a bundle.

    embedding: the transformer whose word pieces (vocabulary, dims) these are; its tokenizer is taken over.
    """
    tokens = TextTokenizer(embedding.tokenizer, embedding.settings.max_length).encode(texts)
    graph = build_static_graph(fit_static(pieces, tokens, seed))
    source = SourceHashes(
        weights=hashlib.sha256(graph).hexdigest(),
        tokenizer=hashlib.sha256(embedding.tokenizer).hexdigest(),
        config=canonical_sha256({"static": BUILDER}),
    )
    settings = replace(
        embedding.settings, pooling=Pooling.MEAN, precision=Precision.FP32, source=source, builder=BUILDER
    )
    return EmbeddingFiles(graph, embedding.tokenizer, settings)


def build_static_graph(model: StaticModel) -> bytes:
    """The bytes of the ONNX file. Inputs (batch, tokens) int64; output (batch, dims) float32, unit rows."""
    graph = Graph()
    graph.constant("pieces", model.pieces)
    graph.constant("idf", model.idf)
    graph.constant("mean", model.mean)
    graph.constant("tiny", TINY)
    graph.constant("middle", np.array([1]))
    graph.node("Gather", ["idf", INPUT_IDS], "all_weights")
    graph.cast(ATTENTION_MASK, "mask", np.float32)
    graph.node("Mul", ["all_weights", "mask"], "weights")
    graph.node("Gather", ["pieces", INPUT_IDS], "vectors")
    graph.node("Unsqueeze", ["weights", "middle"], "row_weights")
    graph.node("MatMul", ["row_weights", "vectors"], "row_sums")
    graph.node("Squeeze", ["row_sums", "middle"], "sums")
    graph.node("ReduceSum", ["weights", "middle"], "total", keepdims=1)
    graph.node("Max", ["total", "tiny"], "some_total")
    graph.node("Div", ["sums", "some_total"], "means")
    graph.node("Sub", ["means", "mean"], "centred")
    graph.node("ReduceL2", ["centred", "middle"], "length", keepdims=1)
    graph.node("Max", ["length", "tiny"], "some_length")
    graph.node("Div", ["centred", "some_length"], EMBEDDING)
    inputs: Signature = dict.fromkeys((INPUT_IDS, ATTENTION_MASK), (np.int64, ("batch", "tokens")))
    outputs: Signature = {EMBEDDING: (np.float32, ("batch", model.pieces.shape[1]))}
    return graph.serialize("static_model", inputs, outputs)
