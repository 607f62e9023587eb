"""ONNX graph of a BERT-like encoder, pooled and normalized: input_ids, attention_mask -> embedding.

Only standard operators are written; ONNX Runtime fuses them when it loads the graph, which is as fast as writing its
fused Attention, SkipLayerNormalization and BiasGelu operators by hand. The exception is int8:

weights become 7-bit integers with one scale per column, activations 8-bit integers with one scale per *token*. One
scale per tensor, as dynamic quantization usually has it, would make the embedding of a text depend on the texts that
share its batch. Seven bits, because the byte products of processors without VNNI saturate at eight: so every machine
computes the same codes. How close int8 comes to fp32: docs/benchmarks.md#embedding-model.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bebr.core.arrays import Floats
from bebr.encoding.bundles.manifest import Pooling, Precision
from bebr.encoding.importing.architecture import Layer, Transformer
from bebr.encoding.onnx.session import ATTENTION_MASK, EMBEDDING, INPUT_IDS

BUILDER = 1
"""Number of this builder; it is part of the fingerprint. Raise it when a change alters embeddings beyond rounding."""
OPSET, MICROSOFT_OPSET, IR_VERSION = 17, 1, 8
WEIGHT_LEVELS = 63
"""Largest magnitude of a weight in int8."""
ACTIVATION_LEVELS = 127
"""Largest magnitude of an activation in int8."""
MASKED = -10_000.0
"""Added to the scores of padding; its exponential is 0 in float32."""
SMALLEST_NORM = 1e-12


def build_graph(model: Transformer, pooling: Pooling, precision: Precision) -> bytes:
    """The serialized ONNX model. Inputs (batch, tokens) int64; output (batch, dims) float32, unit rows.

    Every row must have at least one token that is not masked. All texts are of token type 0.
    """
    graph = _Graph(precision)
    mask = graph.add("Cast", [ATTENTION_MASK], to=TensorProto.FLOAT)
    rows_mask = graph.add("Unsqueeze", [mask, graph.constant(np.array([1]))])
    hidden = _token_vectors(graph, model)
    # (batch, 1, 1, tokens): 0 where a token counts, MASKED where it is padding.
    absent = graph.add("Sub", [graph.scalar(1.0), graph.add("Unsqueeze", [mask, graph.constant(np.array([1, 2]))])])
    score_mask = graph.add("Mul", [absent, graph.scalar(MASKED)])
    for layer in model.layers:
        attended = _attention(graph, layer, hidden, score_mask, heads=model.heads)
        hidden = graph.norm(graph.add("Add", [attended, hidden]), layer.attention_norm, model.epsilon)
        widened = _gelu(graph, graph.linear(hidden, *layer.up))
        hidden = graph.norm(graph.add("Add", [graph.linear(widened, *layer.down), hidden]), layer.norm, model.epsilon)
    pooled = _pool(graph, hidden, rows_mask, pooling)
    length = graph.add("ReduceL2", [pooled], axes=[-1], keepdims=1)
    graph.add("Div", [pooled, graph.add("Max", [length, graph.scalar(SMALLEST_NORM)])], output=EMBEDDING)
    return graph.serialize(model.dims)


def _token_vectors(graph: "_Graph", model: Transformer) -> str:
    tokens = graph.add("Gather", [graph.add("Shape", [INPUT_IDS]), graph.constant(np.array([1]))])
    zero = graph.constant(np.array([0]))
    # The type row is the same for every token, so it is part of the positions.
    positions = graph.add("Slice", [graph.constant(model.positions), zero, tokens, zero])
    words = graph.add("Gather", [graph.constant(model.words), INPUT_IDS])
    return graph.norm(graph.add("Add", [words, positions]), model.embedding_norm, model.epsilon)


def _attention(graph: "_Graph", layer: Layer, hidden: str, score_mask: str, *, heads: int) -> str:
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


def _gelu(graph: "_Graph", x: str) -> str:
    """x / 2 * (1 + erf(x / sqrt 2)), in the order of operations that ONNX Runtime recognizes and fuses."""
    error = graph.add("Erf", [graph.add("Div", [x, graph.scalar(float(np.sqrt(2)))])])
    return graph.add("Mul", [graph.add("Mul", [x, graph.add("Add", [error, graph.scalar(1.0)])]), graph.scalar(0.5)])


def _pool(graph: "_Graph", hidden: str, rows_mask: str, pooling: Pooling) -> str:
    """(batch, tokens, dims) -> (batch, dims), up to a factor, which normalization removes."""
    if pooling is Pooling.CLS:
        return graph.add("Gather", [hidden, graph.constant(np.array(0))], axis=1)
    total = graph.add("MatMul", [rows_mask, hidden])
    return graph.add("Squeeze", [total, graph.constant(np.array([1]))])


@dataclass
class _Graph:
    """Collects nodes and initializers; every method returns the name of the tensor it added."""

    precision: Precision
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    scalars: dict[float, str] = field(default_factory=dict)

    def add(self, operator: str, inputs: list[str], *, output: str = "", domain: str = "", **attributes: Any) -> str:
        name = f"{operator}_{len(self.nodes)}"
        output = output or name
        self.nodes.append(helper.make_node(operator, inputs, [output], name=name, domain=domain, **attributes))
        return output

    def split(self, x: str, sizes: str) -> list[str]:
        name = f"Split_{len(self.nodes)}"
        outputs = [f"{name}_{part}" for part in range(3)]
        self.nodes.append(helper.make_node("Split", [x, sizes], outputs, name=name, axis=-1))
        return outputs

    def constant(self, array: NDArray[Any]) -> str:
        name = f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def scalar(self, value: float) -> str:
        if value not in self.scalars:
            self.scalars[value] = self.constant(np.array(value, np.float32))
        return self.scalars[value]

    def norm(self, x: str, weights: tuple[Floats, Floats], epsilon: float) -> str:
        scale, bias = weights
        return self.add("LayerNormalization", [x, self.constant(scale), self.constant(bias)], axis=-1, epsilon=epsilon)

    def linear(self, x: str, weight: Floats, bias: Floats) -> str:
        """x (..., inputs) @ weight (inputs, outputs) + bias (outputs,)."""
        if self.precision is Precision.INT8:
            product = self._integer_product(x, weight)
        else:
            product = self.add("MatMul", [x, self.constant(weight)])
        return self.add("Add", [product, self.constant(bias)])

    def _integer_product(self, x: str, weight: Floats) -> str:
        column_scales = np.maximum(np.abs(weight).max(axis=0), np.float32(SMALLEST_NORM)) / np.float32(WEIGHT_LEVELS)
        levels = np.rint(weight / column_scales).astype(np.int8)
        zero = self.constant(np.array(ACTIVATION_LEVELS + 1, np.uint8))
        largest = self.add("ReduceMax", [self.add("Abs", [x])], axes=[-1], keepdims=1)
        largest = self.add("Max", [largest, self.scalar(SMALLEST_NORM)])
        scaled = self.add("Mul", [x, self.add("Div", [self.scalar(float(ACTIVATION_LEVELS)), largest])])
        integers = self.add("QuantizeLinear", [scaled, self.scalar(1.0), zero])
        inputs = [integers, self.constant(levels), self.scalar(1.0), self.constant(column_scales), zero]
        product = self.add("MatMulIntegerToFloat", inputs, domain="com.microsoft")
        return self.add("Mul", [product, self.add("Mul", [largest, self.scalar(1 / ACTIVATION_LEVELS)])])

    def serialize(self, dims: int) -> bytes:
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
            for name in (INPUT_IDS, ATTENTION_MASK)
        ]
        outputs = [helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["batch", dims])]
        graph = helper.make_graph(self.nodes, "embedding_model", inputs, outputs, self.initializers)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", MICROSOFT_OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="bebr")
        data: bytes = model.SerializeToString()
        return data
