"""The ONNX graph of an adapter: input `embedding`, outputs of the kinds compatible and linear.

`bebr.encoding.adapters.adapter.Adapter` opens it. Rows of the outputs may have any length.
"""

import numpy as np

from bebr.core.arrays import Floats
from bebr.encoding import AdapterKind
from bebr.encoding.adapters.adapter import INPUT, OUTPUTS
from bebr.encoding.onnx.graph import Graph
from bebr_training.adapters.maps import EmbeddingMap


def adapter_to_onnx(basis: Floats, linear: EmbeddingMap) -> bytes:
    """The bytes of the graph's file. basis (dims, their dims): the map of kind compatible; linear: of kind linear."""
    graph, output = Graph(), OUTPUTS[AdapterKind.LINEAR]
    graph.constant("basis", basis)
    graph.constant("matrix", linear.matrix)
    graph.node("MatMul", [INPUT, "basis"], OUTPUTS[AdapterKind.COMPATIBLE])
    if (residual := linear.residual) is None:
        graph.node("MatMul", [INPUT, "matrix"], output)
    else:
        graph.constant("into", residual.into)
        graph.constant("offset", residual.offset)
        graph.constant("out", residual.out)
        graph.constant("bias", residual.bias)
        graph.node("MatMul", [INPUT, "matrix"], "linear")
        graph.node("Gemm", [INPUT, "into", "offset"], "hidden")
        graph.node("Relu", ["hidden"], "active")
        graph.node("Gemm", ["active", "out", "bias"], "correction")
        graph.node("Add", ["linear", "correction"], output)
    dims, theirs = basis.shape
    outputs = dict.fromkeys(OUTPUTS.values(), (np.float32, ("n", theirs)))
    return graph.serialize("bridge", {INPUT: (np.float32, ("n", dims))}, outputs)
