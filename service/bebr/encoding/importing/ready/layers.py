"""Leaves out the last layers of a ready graph, where the names of its nodes say which layer each belongs to.

What the last layer gives to the rest of the graph is then taken from an earlier layer: from the node that has the same
name there. So a final norm and the pooling stay.
"""

import ast
import re
from collections import Counter
from dataclasses import dataclass

import onnx

from bebr.encoding.onnx.session import all_nodes
from bebr.errors import InvalidOption

_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)(?=\.|$)")
_SCOPES = "pkg.torch.onnx.name_scopes"
"""Where torch writes down which module each node comes from."""


@dataclass(frozen=True)
class _Place:
    """Where a tensor is made."""

    layer: int
    node: tuple[str, str, int, int]
    """What is the same in every layer: the module, the operator, which of these it is, and which output."""


def keep_layers(model: onnx.ModelProto, output: str, layers: int, file: str) -> str:
    """Let the graph end after so many layers; the name of what is its output now.

    Raises InvalidOption where the graph does not say which its layers are, or has fewer.
    """
    places = _places(model)
    depth = max((place.layer for place in places.values()), default=-1) + 1
    if depth == 0:
        raise _refused(file, "its nodes do not say which layer they belong to, as optimizers remove that")
    if not 1 <= layers <= depth:
        raise InvalidOption(f"layers must be 1 .. {depth} for this model, got {layers}", option="layers")
    if layers == depth:
        return output
    ends = {name for name in _used_outside(model, places) | {output} if _is_of(places, name, depth - 1)}
    by_place = {place: name for name, place in places.items()}
    swapped = {name: by_place.get(_Place(layers - 1, places[name].node)) for name in ends}
    if len(swapped) != 1 or None in swapped.values():
        raise _refused(file, "its layers differ, or several of their results are used after them")
    ((last, earlier),) = swapped.items()
    assert earlier is not None, "looked at above"
    for node in all_nodes(model.graph):
        if not any(_is_of(places, name, depth - 1) for name in node.output):
            node.input[:] = [earlier if name == last else name for name in node.input]
    return earlier if output == last else output


def _is_of(places: dict[str, _Place], name: str, layer: int) -> bool:
    return name in places and places[name].layer == layer


def _places(model: onnx.ModelProto) -> dict[str, _Place]:
    """By name of a tensor, those that are made within a layer."""
    places: dict[str, _Place] = {}
    seen: Counter[tuple[int, str, str]] = Counter()
    for node in model.graph.node:
        scope = _scope(node)
        found = _LAYER.search(scope)
        if found is None:
            continue
        layer, inner = int(found[1]), scope[found.end() :]
        seen[layer, inner, node.op_type] += 1
        for number, name in enumerate(node.output):
            places[name] = _Place(layer, (inner, node.op_type, seen[layer, inner, node.op_type], number))
    return places


def _scope(node: onnx.NodeProto) -> str:
    """The module that a node comes from, with dots between its parts."""
    stated = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), None)
    if stated is not None:
        try:
            scopes = ast.literal_eval(stated)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            scopes = []
        named = [str(scope) for scope in scopes if _LAYER.search(str(scope))] if isinstance(scopes, list) else []
        return max(named, key=len, default="")
    return node.name.strip("/").replace("/", ".").rpartition(".")[0]


def _used_outside(model: onnx.ModelProto, places: dict[str, _Place]) -> set[str]:
    """Tensors that nodes outside of all layers use."""
    outside = (node for node in model.graph.node if not any(name in places for name in node.output))
    return {name for node in outside for name in node.input}


def _refused(file: str, why: str) -> InvalidOption:
    return InvalidOption(
        f"{file} cannot end after a layer: {why}; import the weights, or another file", option="layers"
    )
