"""The ONNX graph of a residual binarizer. Built with onnx alone; nothing is run here.

Input `embedding` (n, embedding_dims) float32: a query for `projected`, a residual for the others. Outputs `projected`
(n, dims) float32, `levels` (n, dims) uint8 and `gain` (n,) float16, as `Residual.project` and `.quantize` define them,
with their order of float operations.
"""

import numpy as np

from bebr.core.arrays import TINY
from bebr.encoding.onnx.graph import Graph
from bebr.encoding.quantization.residual import Residual


def to_onnx(residual: Residual) -> bytes:
    """The bytes of the graph's file; the same binarizer gives the same bytes."""
    graph = Graph()
    graph.constant("last_axis", np.array([1], np.int64))
    _add_projection(graph, residual)
    _add_cells(graph, residual)
    _add_levels(graph, residual)
    _add_gain(graph, residual)
    return graph.to_bytes("residual_binarizer", residual.embedding_dims, residual.spec.dims)


def _add_projection(graph: Graph, residual: Residual) -> None:
    graph.constant("query_axes", residual.query_axes)
    graph.constant("factors", residual.factors)
    graph.node("MatMul", ["embedding", "query_axes"], "query")
    _add_parts(graph, residual, "query")
    graph.node("Mul", ["query_parts", "factors"], "projected")


def _add_cells(graph: Graph, residual: Residual) -> None:
    """embedding -> z, and the number of each axis's cell, from the lowest, negative one on."""
    graph.constant("encoder", residual.encoder)
    graph.constant("tiny", TINY)
    graph.constant("to_cells", 1 / residual.cells)
    graph.constant("lowest", -residual.halves)
    graph.constant("highest", residual.halves - 1)
    graph.node("MatMul", ["embedding", "encoder"], "z")
    graph.node("ReduceL2", ["z", "last_axis"], "length", keepdims=1)
    graph.node("Max", ["length", "tiny"], "safe_length")
    graph.node("Div", ["z", "safe_length"], "unit")
    graph.node("Mul", ["unit", "to_cells"], "scaled")
    graph.node("Floor", ["scaled"], "floor")
    graph.node("Max", ["floor", "lowest"], "from_lowest")
    graph.node("Min", ["from_lowest", "highest"], "cell")


def _add_levels(graph: Graph, residual: Residual) -> None:
    graph.constant("halves", residual.halves)
    graph.constant("shifts", residual.shifts)
    graph.constant("masks", residual.masks)
    graph.node("Add", ["cell", "halves"], "float_whole")
    graph.cast("float_whole", "whole", np.uint8)
    _add_parts(graph, residual, "whole")
    graph.node("BitShift", ["whole_parts", "shifts"], "shifted", direction="RIGHT")
    graph.node("BitwiseAnd", ["shifted", "masks"], "levels")


def _add_parts(graph: Graph, residual: Residual, source: str) -> None:
    """source (n, axes) -> source_parts (n, dims): that of the axis for each part. A Gather takes far longer."""
    axes = residual.axes
    runs = np.split(axes, np.flatnonzero(np.diff(axes) != 1) + 1)
    names = []
    for number, run in enumerate(runs):
        tag = f"{source}_run{number}"
        graph.constant(f"{tag}_start", np.array([run[0]], np.int64))
        graph.constant(f"{tag}_end", np.array([run[-1] + 1], np.int64))
        names.append(graph.node("Slice", [source, f"{tag}_start", f"{tag}_end", "last_axis"], tag))
    graph.node("Concat", names, f"{source}_parts", axis=1)


def _add_gain(graph: Graph, residual: Residual) -> None:
    graph.constant("half", np.float32(0.5))
    graph.constant("cells", residual.cells)
    graph.node("Add", ["cell", "half"], "points")
    graph.node("Mul", ["points", "cells"], "middles")
    graph.node("Mul", ["middles", "z"], "products")
    graph.node("ReduceSum", ["products", "last_axis"], "along", keepdims=0)
    graph.node("Mul", ["middles", "middles"], "squares")
    graph.node("ReduceSum", ["squares", "last_axis"], "square", keepdims=0)
    graph.node("Div", ["along", "square"], "float_gain")
    graph.cast("float_gain", "gain", np.float16)
