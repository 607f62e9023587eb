"""ONNX graph of a BERT-like encoder, pooled and normalized: input_ids, attention_mask -> embedding.

Only standard operators are written; ONNX Runtime fuses them when it loads the graph, which is as fast as writing its
fused Attention, SkipLayerNormalization and BiasGelu operators by hand. The exception is int8:

weights become 7-bit integers with one scale per column, activations 8-bit integers with one scale per *token*. One
scale per tensor, as dynamic quantization usually has it, would make the embedding of a text depend on the texts that
share its batch. Seven bits, because the byte products of processors without VNNI saturate at eight: so every machine
computes the same codes. How close int8 comes to fp32: docs/benchmarks.md#embedding-model.
"""

import numpy as np
from onnx import TensorProto

from bebr.encoding.bundles.manifest import Pooling, Precision
from bebr.encoding.importing.architecture import Layer, Transformer
from bebr.encoding.importing.builder import GraphBuilder
from bebr.encoding.importing.head import Head, finish, gelu, pool
from bebr.encoding.onnx.session import ATTENTION_MASK, INPUT_IDS

BUILDER = 1
"""Number of this builder; it is part of the fingerprint. Raise it when a change alters embeddings beyond rounding."""
MASKED = -10_000.0
"""Added to the scores of padding; its exponential is 0 in float32."""


def build_graph(model: Transformer, head: Head, precision: Precision) -> bytes:
    """The serialized ONNX model. Inputs (batch, tokens) int64; output (batch, dims) float32, unit rows.

    Every row must have at least one token that is not masked. All texts are of token type 0.
    """
    graph = GraphBuilder(precision)
    hidden = _token_vectors(graph, model)
    bias = score_bias(graph)
    if model.distances is not None:
        bias = graph.add("Add", [bias, _distance_bias(graph, model)])
    for layer in model.layers:
        attended = _attention(graph, layer, hidden, bias, heads=model.heads)
        hidden = graph.norm(graph.add("Add", [attended, hidden]), layer.attention_norm, model.epsilon)
        widened = gelu(graph, graph.linear(hidden, *layer.up))
        hidden = graph.norm(graph.add("Add", [graph.linear(widened, *layer.down), hidden]), layer.norm, model.epsilon)
    add_head(graph, hidden, head)
    return graph.serialize(head.width(model.dims))


def score_bias(graph: GraphBuilder) -> str:
    """(batch, 1, 1, tokens): 0 where a token counts, MASKED where it is padding."""
    mask = graph.add("Cast", [ATTENTION_MASK], to=TensorProto.FLOAT)
    absent = graph.add("Sub", [graph.scalar(1.0), graph.add("Unsqueeze", [mask, graph.constant(np.array([1, 2]))])])
    return graph.add("Mul", [absent, graph.scalar(MASKED)])


def add_head(graph: GraphBuilder, hidden: str, head: Head) -> None:
    """The end of every graph: hidden (batch, tokens, dims) -> the output. Padding is on the right."""
    if head.pooling is Pooling.CLS:
        pooled = graph.add("Gather", [hidden, graph.constant(np.array(0))], axis=1)
    else:
        pooled = pool(graph, hidden, ATTENTION_MASK, head)
    finish(graph, pooled, head.dense, head.dims)


def token_count(graph: GraphBuilder) -> str:
    """(1,) int64: the length of the tokens' axis."""
    return graph.add("Gather", [graph.add("Shape", [INPUT_IDS]), graph.constant(np.array([1]))])


def _token_vectors(graph: GraphBuilder, model: Transformer) -> str:
    tokens = token_count(graph)
    zero = graph.constant(np.array([0]))
    # The type row is the same for every token, so it is part of the positions.
    positions = graph.add("Slice", [graph.constant(model.positions), zero, tokens, zero])
    words = graph.add("Gather", [graph.constant(model.words), INPUT_IDS])
    return graph.norm(graph.add("Add", [words, positions]), model.embedding_norm, model.epsilon)


def _distance_bias(graph: GraphBuilder, model: Transformer) -> str:
    """(1, heads, tokens, tokens): what the distance of two tokens adds to their score."""
    assert model.distances is not None, "asked for where there are some"
    tokens = graph.add("Squeeze", [token_count(graph), graph.constant(np.array([0]))])
    places = graph.add("Range", [graph.constant(np.array(0)), tokens, graph.constant(np.array(1))])
    row, column = (graph.add("Unsqueeze", [places, graph.constant(np.array([axis]))]) for axis in (0, 1))
    middle = graph.constant(np.array(model.distances.shape[1] // 2))
    index = graph.add("Add", [graph.add("Sub", [row, column]), middle])
    bias = graph.add("Gather", [graph.constant(model.distances), index], axis=1)
    return graph.add("Unsqueeze", [bias, graph.constant(np.array([0]))])


def _attention(graph: GraphBuilder, layer: Layer, hidden: str, score_mask: str, *, heads: int) -> str:
    """Multi-head self-attention and its output projection, without the residual."""
    dims = layer.query[0].shape[1]
    scale = np.float32(1 / np.sqrt(dims // heads))  # In the weights, so that it costs nothing.
    weights = np.hstack([layer.query[0] * scale, layer.key[0], layer.value[0]])
    biases = np.hstack([layer.query[1] * scale, layer.key[1], layer.value[1]])
    sizes = graph.constant(np.array([dims] * 3))
    query, key, value = graph.split(graph.linear(hidden, weights, biases), sizes)
    by_head = graph.constant(np.array([0, 0, heads, dims // heads]))
    query, value = (
        graph.add("Transpose", [graph.add("Reshape", [x, by_head])], perm=[0, 2, 1, 3]) for x in (query, value)
    )
    key = graph.add("Transpose", [graph.add("Reshape", [key, by_head])], perm=[0, 2, 3, 1])
    scores = graph.add("Add", [graph.add("MatMul", [query, key]), score_mask])
    context = graph.add("MatMul", [graph.add("Softmax", [scores], axis=-1), value])
    joined = graph.add(
        "Reshape", [graph.add("Transpose", [context], perm=[0, 2, 1, 3]), graph.constant(np.array([0, 0, dims]))]
    )
    return graph.linear(joined, *layer.attention_out)
