"""The ONNX graph of the published binarizer: perceptrons with batch norm folded into their first layer.

The published search is symmetric, so the output `projected` has the values of the query's own code, at length one.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from bebr.encoding.onnx.graph import Graph


def published_to_onnx(
    first: nn.Sequential, loops: Sequence[tuple[nn.Sequential, nn.Sequential]], embedding_dims: int, dims: int
) -> bytes:
    """The bytes of the graph's file. first: embedding -> first signs; loops: (reconstruction, residual) of each."""
    graph = Graph()
    graph.constant("tiny", np.float32(1e-12))
    graph.constant("last_axis", np.array([1], np.int64))
    graph.constant("zero", np.float32(0))
    graph.constant("one", np.float32(1))
    graph.constant("minus_one", np.float32(-1))
    _add_unit(graph, "embedding", "unit")
    total = _add_signs(graph, _add_perceptron(graph, first, "unit", "first"), "first")
    for loop, (reconstruct, residual) in enumerate(loops, 1):
        tag = f"loop{loop}"
        _add_perceptron(graph, reconstruct, total, f"{tag}_reconstruct")
        _add_unit(graph, f"{tag}_reconstruct", f"{tag}_decoded")
        graph.node("Sub", ["unit", f"{tag}_decoded"], f"{tag}_missing")
        _add_perceptron(graph, residual, f"{tag}_missing", f"{tag}_residual")
        signs = _add_signs(graph, f"{tag}_residual", tag)
        graph.constant(f"{tag}_weight", np.float32(2.0**-loop))
        graph.node("Mul", [signs, f"{tag}_weight"], f"{tag}_plane")
        total = graph.node("Add", [total, f"{tag}_plane"], f"{tag}_values")
    _add_outputs(graph, total, len(loops) + 1)
    return graph.to_bytes("published_binarizer", embedding_dims, dims)


def _add_unit(graph: Graph, rows: str, output: str) -> None:
    graph.node("ReduceL2", [rows, "last_axis"], f"{output}_length", keepdims=1)
    graph.node("Max", [f"{output}_length", "tiny"], f"{output}_safe_length")
    graph.node("Div", [rows, f"{output}_safe_length"], output)


def _add_perceptron(graph: Graph, layers: nn.Sequential, rows: str, tag: str) -> str:
    """Linear, ReLU, linear. After training, the batch norm between them is a scale and a shift of the first layer."""
    first, norm, last = (layers[i] for i in (0, 1, 3))
    assert isinstance(first, nn.Linear) and isinstance(norm, nn.BatchNorm1d) and isinstance(last, nn.Linear)
    with torch.no_grad():
        scale = norm.weight / torch.sqrt(cast(Tensor, norm.running_var) + norm.eps)
        weights = (first.weight * scale[:, None]).T.numpy()
        bias = ((first.bias - cast(Tensor, norm.running_mean)) * scale + norm.bias).numpy()
    graph.constant(f"{tag}_weights0", np.ascontiguousarray(weights))
    graph.constant(f"{tag}_bias0", bias)
    graph.constant(f"{tag}_weights1", np.ascontiguousarray(last.weight.detach().numpy().T))
    graph.constant(f"{tag}_bias1", last.bias.detach().numpy())
    graph.node("Gemm", [rows, f"{tag}_weights0", f"{tag}_bias0"], f"{tag}_hidden")
    graph.node("Relu", [f"{tag}_hidden"], f"{tag}_active")
    return graph.node("Gemm", [f"{tag}_active", f"{tag}_weights1", f"{tag}_bias1"], tag)


def _add_signs(graph: Graph, values: str, tag: str) -> str:
    """+1 from zero upward, else -1."""
    graph.node("Less", [values, "zero"], f"{tag}_negative")
    return graph.node("Where", [f"{tag}_negative", "minus_one", "one"], f"{tag}_signs")


def _add_outputs(graph: Graph, values: str, bits: int) -> None:
    graph.constant("to_steps", np.float32(2.0 ** (bits - 1)))
    graph.constant("levels_offset", np.float32(2**bits - 1))
    graph.constant("half", np.float32(0.5))
    graph.node("Mul", [values, "to_steps"], "grid")
    graph.node("Add", ["grid", "levels_offset"], "double_levels")
    graph.node("Mul", ["double_levels", "half"], "float_levels")
    graph.cast("float_levels", "levels", np.uint8)
    graph.node("ReduceL2", [values, "last_axis"], "values_length", keepdims=0)
    graph.node("Reciprocal", ["values_length"], "float_gain")
    graph.cast("float_gain", "gain", np.float16)
    _add_unit(graph, values, "projected")
