"""Puts a ready graph between bebr's inputs and bebr's output, so that a bundle's graph is always of one kind.

Before it: the ids of padding, token types, positions, empty keys and values, padding on the left where it wants that.
Behind it: pooling, Dense layers, truncation and unit length.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import TensorProto, helper

from bebr.encoding.importing.builder import GraphBuilder
from bebr.encoding.importing.head import Head, finish, pool
from bebr.encoding.importing.ready.interface import Input, Output, Role
from bebr.encoding.importing.ready.reading import opset_of
from bebr.encoding.onnx.session import ATTENTION_MASK, EMBEDDING, INPUT_IDS, all_nodes, graphs_of

PREFIX = "bebr/"
"""Of everything that is added."""


@dataclass(frozen=True)
class Recipe:
    """How a ready graph becomes that of a bundle."""

    inputs: tuple[Input, ...]
    output: Output
    head: Head
    pad_id: int
    """Token id of padding."""
    pads_left: bool = False
    """Whether the model wants padding before the text."""

    @property
    def on_left(self) -> "Recipe":
        return replace(self, pads_left=True)


def prune(model: onnx.ModelProto, output: str) -> None:
    """Remove all that an output does not depend on: other outputs, and the inputs, nodes and weights of these alone."""
    needed, nodes = {output}, []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(_used(node))
    graph = model.graph
    outputs = [value for value in graph.output if value.name == output] or [onnx.ValueInfoProto(name=output)]
    inputs = [value for value in graph.input if value.name in needed]
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    for field, kept in (
        (graph.node, nodes[::-1]), (graph.input, inputs), (graph.output, outputs), (graph.initializer, weights)
    ):  # fmt: skip
        del field[:]
        field.extend(kept)
    del graph.value_info[:]
    del graph.quantization_annotation[:]


def _used(node: onnx.NodeProto) -> set[str]:
    """What a node uses, the graphs within it included."""
    inner = graphs_of(node)
    nodes = [node, *(one for graph in inner for one in all_nodes(graph))]
    return {name for one in nodes for name in one.input} | {value.name for graph in inner for value in graph.output}


def assemble(ready: onnx.ModelProto, recipe: Recipe, dims: int | None) -> onnx.ModelProto:
    """The graph of a bundle. Inputs (batch, tokens) int64; output (batch, dims) float32, unit rows.

    ready: pruned to the output of the recipe. dims: of the embedding; None where that is not known yet.
    """
    graph = GraphBuilder(opset=opset_of(ready), prefix=PREFIX)
    ids, mask = INPUT_IDS, ATTENTION_MASK
    if recipe.pads_left:
        ids, mask = _to_left(graph, ids, mask)
    if recipe.pad_id:
        absent = graph.add("Sub", [graph.constant(np.array(1)), mask])
        padding = graph.add("Mul", [absent, graph.constant(np.array(recipe.pad_id))])
        ids = graph.add("Add", [graph.add("Mul", [ids, mask]), padding])
    fed = {one.name: _feed(graph, one, ids, mask) for one in recipe.inputs}
    before = len(graph.nodes)
    output = _inner(recipe.output.name)
    hidden = graph.add("Cast", [output], to=TensorProto.FLOAT)
    if not recipe.output.is_pooled:
        if recipe.pads_left:  # what a model makes of padding may be no number
            by_row = graph.add("Reshape", [mask, graph.constant(np.array([0, -1, 1]))])
            counts = graph.add("Cast", [by_row], to=TensorProto.BOOL)
            hidden = graph.add("Where", [counts, hidden, graph.scalar(0.0)])
        hidden = pool(graph, hidden, mask, recipe.head)
    finish(graph, hidden, recipe.head.dense, recipe.head.dims)
    return _joined(ready, graph, before, fed, dims)


def _joined(
    ready: onnx.ModelProto,
    graph: GraphBuilder,
    before: int,
    fed: Mapping[str, str],
    dims: int | None,
) -> onnx.ModelProto:
    """The ready graph, after the first `before` nodes of ours, and the rest behind it."""
    names = {name: fed.get(name) or _inner(name) for name in _all_names(ready.graph)}
    nodes = []
    for node in ready.graph.node:
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        _rename(copied, names)
        nodes.append(copied)
    body = helper.make_graph(
        [*graph.nodes[:before], *nodes, *graph.nodes[before:]],
        "embedding_model",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
            for name in (INPUT_IDS, ATTENTION_MASK)
        ],
        [helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["batch", "dims" if dims is None else dims])],
        graph.initializers,
    )
    for tensor in ready.graph.initializer:
        added = body.initializer.add()
        added.CopyFrom(tensor)
        added.name = names[tensor.name]
    return helper.make_model(
        body, opset_imports=list(ready.opset_import), ir_version=ready.ir_version, producer_name="bebr"
    )


def _inner(name: str) -> str:
    """The name of a ready graph's tensor in that of a bundle, so that it is none of ours."""
    return f"model/{name}"


def _all_names(graph: onnx.GraphProto) -> set[str]:
    outer = {value.name for value in (*graph.input, *graph.initializer)}
    return outer.union(*(set(node.input) | set(node.output) | _inside(node) for node in graph.node)) - {""}


def _inside(node: onnx.NodeProto) -> set[str]:
    return set[str]().union(*(_all_names(graph) | {value.name for value in graph.output} for graph in graphs_of(node)))


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    node.input[:] = [names.get(name, name) for name in node.input]
    node.output[:] = [names.get(name, name) for name in node.output]
    for graph in graphs_of(node):
        for inner in graph.node:
            _rename(inner, names)
        for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
            value.name = names.get(value.name, value.name)


def _to_left(graph: GraphBuilder, ids: str, mask: str) -> tuple[str, str]:
    """The same rows with their padding before the text: each is turned by as many places as it has padding."""
    axis = graph.constant(np.array([1]))
    size = graph.add("Gather", [graph.add("Shape", [mask]), axis])
    length = graph.reduce("ReduceSum", mask, 1, keep=True)
    scalar = graph.add("Reshape", [size, graph.constant(np.zeros(0, np.int64))])
    places = graph.add("Range", [graph.constant(np.array(0)), scalar, graph.constant(np.array(1))])
    turned = graph.add("Mod", [graph.add("Add", [graph.add("Sub", [places, size]), length]), size])
    return graph.add("GatherElements", [ids, turned], axis=1), graph.add("GatherElements", [mask, turned], axis=1)


def _feed(graph: GraphBuilder, given: Input, ids: str, mask: str) -> str:
    """The tensor that an input of the ready graph gets."""
    if given.role is Role.PAST:
        batch = graph.add("Gather", [graph.add("Shape", [ids]), graph.constant(np.array([0]))])
        rest = graph.constant(np.array([given.shape[1], 0, given.shape[3]]))
        value = helper.make_tensor("value", given.element_type, [1], [0.0])
        return graph.add("ConstantOfShape", [graph.add("Concat", [batch, rest], axis=0)], value=value)
    if given.role is Role.POSITIONS:
        counted = graph.add("CumSum", [mask, graph.constant(np.array(1))])
        value_name = graph.add("Sub", [graph.add("Mul", [counted, mask]), mask])
    elif given.role is Role.TYPES:
        value_name = graph.add("Sub", [ids, ids])
    else:
        value_name = ids if given.role is Role.IDS else mask
    return graph.add("Cast", [value_name], to=given.element_type)
