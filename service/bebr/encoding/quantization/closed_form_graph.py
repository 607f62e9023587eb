"""The ONNX graph of a closed-form binarizer. Built with onnx alone; nothing is run here.

Input `embedding` (n, embedding_dims) float32. Outputs `projected` (n, dims) float32, `levels` (n, dims) uint8 and
`gain` (n,) float16, as `ClosedForm.project` and `.quantize` define them, with their order of float operations.
"""

import numpy as np

from bebr.core.arrays import TINY
from bebr.encoding.bundles.manifest import Gain
from bebr.encoding.onnx.graph import Graph
from bebr.encoding.quantization.closed_form import ClosedForm


def to_onnx(binarizer: ClosedForm) -> bytes:
    """The bytes of the graph's file; the same binarizer gives the same bytes."""
    graph = Graph()
    _add_projection(graph, binarizer)
    _add_closest_points(graph, binarizer)
    _add_gain(graph, binarizer)
    return graph.to_bytes("closed_form_binarizer", binarizer.embedding_dims, binarizer.spec.dims)


def _add_projection(graph: Graph, binarizer: ClosedForm) -> None:
    """embedding -> projected and uncentred, for queries and for points: each a product over the length of the row."""
    graph.constant("last_axis", np.array([1], np.int64))
    graph.constant("tiny", TINY)
    graph.node("ReduceL2", ["embedding", "last_axis"], "length", keepdims=1)
    graph.node("Max", ["length", "tiny"], "safe_length")
    sides = {"projected": binarizer.query_projection, "uncentred": binarizer.point_projection}
    for output, projection in sides.items():
        if output == "uncentred" and np.array_equal(projection, binarizer.query_projection):
            graph.node("Identity", ["projected"], output)
            continue
        graph.constant(f"to_{output}", projection)
        graph.node("MatMul", ["embedding", f"to_{output}"], f"{output}_product")
        graph.node("Div", [f"{output}_product", "safe_length"], output)


def _add_closest_points(graph: Graph, binarizer: ClosedForm) -> None:
    """uncentred -> points (n, dims), the grid points closest in angle, and levels."""
    cells, halves = binarizer.cells, binarizer.halves
    graph.constant("offset", binarizer.offset)
    graph.constant("typical_norm", np.float32(binarizer.typical_norm))
    graph.constant("one_over_cells", 1 / cells)
    graph.constant("weights", cells * cells)
    graph.constant("lowest", -halves)
    graph.constant("highest", halves - 1)
    graph.constant("half", np.float32(0.5))
    graph.constant("to_levels", halves - np.float32(0.5))
    graph.constant("one_over_scales", (1 / binarizer.scales)[:, None])
    graph.node("Sub", ["uncentred", "offset"], "z")
    graph.node("ReduceL2", ["z", "last_axis"], "z_length", keepdims=1)
    graph.node("Max", ["z_length", "tiny"], "safe_z_length")
    graph.node("Div", ["typical_norm", "safe_z_length"], "to_typical")
    graph.node("Mul", ["z", "to_typical"], "typical_z")
    graph.node("Mul", ["typical_z", "one_over_cells"], "unit")
    graph.node("Mul", ["unit", "weights"], "weighted")
    closeness = [_add_closeness(graph, s, scale) for s, scale in enumerate(1 / binarizer.scales)]
    graph.node("Concat", closeness, "closeness", axis=1)
    graph.node("ArgMax", ["closeness"], "best", axis=1, keepdims=0)
    graph.node("Gather", ["one_over_scales", "best"], "best_factor", axis=0)
    graph.node("Mul", ["unit", "best_factor"], "best_scaled")
    points = _add_grid_points(graph, "best_scaled", "best")
    graph.node("Add", [points, "to_levels"], "float_levels")
    graph.cast("float_levels", "levels", np.uint8)


def _add_closeness(graph: Graph, number: int, factor: np.float32) -> str:
    """unit -> (n, 1): the cosine, but for a factor per row, between z and its grid point at one scale."""
    tag = f"scale{number}"
    graph.constant(f"{tag}_factor", np.float32(factor))
    graph.node("Mul", ["unit", f"{tag}_factor"], f"{tag}_scaled")
    points = _add_grid_points(graph, f"{tag}_scaled", tag)
    graph.node("Mul", [points, "weighted"], f"{tag}_products")
    graph.node("ReduceSum", [f"{tag}_products", "last_axis"], f"{tag}_dot", keepdims=1)
    graph.node("Mul", [points, points], f"{tag}_squares")
    graph.node("MatMul", [f"{tag}_squares", _weights_column(graph)], f"{tag}_square_length")
    graph.node("Sqrt", [f"{tag}_square_length"], f"{tag}_length")
    return graph.node("Div", [f"{tag}_dot", f"{tag}_length"], f"{tag}_closeness")


def _weights_column(graph: Graph) -> str:
    """weights as (dims, 1), made once."""
    if all(node.output[0] != "weights_column" for node in graph.nodes):
        graph.node("Unsqueeze", ["weights", "last_axis"], "weights_column")
    return "weights_column"


def _add_grid_points(graph: Graph, scaled: str, tag: str) -> str:
    """(n, dims) -> the middle of the cell in which each value lies."""
    graph.node("Floor", [scaled], f"{tag}_floor")
    graph.node("Max", [f"{tag}_floor", "lowest"], f"{tag}_from_lowest")
    graph.node("Min", [f"{tag}_from_lowest", "highest"], f"{tag}_cell")
    return graph.node("Add", [f"{tag}_cell", "half"], f"{tag}_points")


def _add_gain(graph: Graph, binarizer: ClosedForm) -> None:
    """z, best_points -> gain (n,) float16."""
    graph.constant("cells", binarizer.cells)
    graph.node("Mul", ["best_points", "cells"], "values")
    if binarizer.gain is Gain.COSINE:
        graph.node("ReduceL2", ["values", "last_axis"], "values_length", keepdims=0)
        graph.node("Reciprocal", ["values_length"], "float_gain")
    else:
        graph.node("ReduceSumSquare", ["z", "last_axis"], "z_square_length", keepdims=0)
        graph.node("Mul", ["values", "z"], "value_products")
        graph.node("ReduceSum", ["value_products", "last_axis"], "along", keepdims=0)
        graph.node("Max", ["along", "tiny"], "safe_along")
        graph.node("Div", ["z_square_length", "safe_along"], "float_gain")
    graph.cast("float_gain", "gain", np.float16)
