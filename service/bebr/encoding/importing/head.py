"""From the vectors of tokens to one embedding: pooling, Dense layers, truncation, unit length.

One head for the graphs that bebr builds and for those that come ready-made, so that words mean the same in both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from onnx import TensorProto

from bebr.core.arrays import Floats
from bebr.encoding.bundles.manifest import Pooling
from bebr.encoding.importing.builder import SMALLEST_NORM, GraphBuilder
from bebr.encoding.onnx.session import EMBEDDING

LOWEST = -1e30
"""What padding counts as for a maximum."""


class Activation(StrEnum):
    """What a Dense layer applies to its sums, under the name of torch's class."""

    IDENTITY = "Identity"
    TANH = "Tanh"
    RELU = "ReLU"
    SIGMOID = "Sigmoid"
    GELU = "GELU"


@dataclass(frozen=True)
class Dense:
    """A Dense module of sentence-transformers, after the pooling."""

    weight: Floats
    """(inputs, outputs) float32."""
    bias: Floats | None
    """(outputs,) float32."""
    activation: Activation


@dataclass(frozen=True)
class Head:
    """What makes one embedding of the vectors of a text's tokens."""

    pooling: Pooling
    dense: tuple[Dense, ...] = ()
    dims: int | None = None
    """Only the first so many numbers are kept (Matryoshka); None: all."""

    def width(self, dims: int) -> int:
        """Dims of the embedding where the model has `dims`."""
        if self.dense:
            dims = self.dense[-1].weight.shape[1]
        return min(dims, self.dims or dims)


def pool(graph: GraphBuilder, hidden: str, mask: str, head: Head) -> str:
    """hidden (batch, tokens, dims), mask (batch, tokens) int64 -> (batch, dims).

    Tokens that count may stand at any places, padding on either side. Where no Dense layer follows, a mean is a sum:
    its length is made 1 in any case.
    """
    pooling = head.pooling
    if pooling is Pooling.MAX:
        by_row = graph.add("Reshape", [mask, graph.constant(np.array([0, -1, 1]))])
        counts = graph.add("Cast", [by_row], to=TensorProto.BOOL)
        return graph.reduce("ReduceMax", graph.add("Where", [counts, hidden, graph.scalar(LOWEST)]), 1, keep=False)
    weights = graph.add("Cast", [_weights(graph, mask, pooling)], to=TensorProto.FLOAT)
    if head.dense:
        weights = graph.add("Div", [weights, graph.reduce("ReduceSum", weights, 1, keep=True)])
    row_weights = graph.add("Reshape", [weights, graph.constant(np.array([0, 1, -1]))])
    return _squeezed(graph, graph.add("MatMul", [row_weights, hidden]))


def _squeezed(graph: GraphBuilder, rows: str) -> str:
    """(batch, 1, dims) -> (batch, dims)."""
    return graph.add("Reshape", [rows, graph.constant(np.array([0, -1]))])


def _weights(graph: GraphBuilder, mask: str, pooling: Pooling) -> str:
    """(batch, tokens) int64: how much each token counts; 0 for padding."""
    if pooling is Pooling.MEAN:
        return mask
    axis = graph.constant(np.array(1))
    place = graph.add("CumSum", [mask, axis], reverse=int(pooling is Pooling.LAST))
    if pooling is Pooling.WEIGHTED_MEAN:
        return graph.add("Mul", [place, mask])
    first = graph.add("Cast", [graph.add("Equal", [place, graph.constant(np.array(1))])], to=TensorProto.INT64)
    return graph.add("Mul", [first, mask])


def finish(graph: GraphBuilder, pooled: str, dense: Sequence[Dense], dims: int | None) -> None:
    """pooled (batch, model's dims) float32 -> the graph's output: Dense layers, the first `dims`, unit length."""
    for layer in dense:
        pooled = _activate(graph, graph.linear(pooled, layer.weight, layer.bias), layer.activation)
    if dims is not None:
        zero, end, axis = (graph.constant(np.array([number])) for number in (0, dims, 1))
        pooled = graph.add("Slice", [pooled, zero, end, axis])
    length = graph.reduce("ReduceL2", pooled, -1, keep=True)
    graph.add("Div", [pooled, graph.add("Max", [length, graph.scalar(SMALLEST_NORM)])], output=EMBEDDING)


def gelu(graph: GraphBuilder, x: str) -> str:
    """x / 2 * (1 + erf(x / sqrt 2)), in the order of operations that ONNX Runtime recognizes and fuses."""
    error = graph.add("Erf", [graph.add("Div", [x, graph.scalar(float(np.sqrt(2)))])])
    return graph.add("Mul", [graph.add("Mul", [x, graph.add("Add", [error, graph.scalar(1.0)])]), graph.scalar(0.5)])


def _activate(graph: GraphBuilder, x: str, activation: Activation) -> str:
    if activation is Activation.IDENTITY:
        return x
    if activation is Activation.GELU:
        return gelu(graph, x)
    return graph.add({Activation.RELU: "Relu"}.get(activation, str(activation)), [x])
