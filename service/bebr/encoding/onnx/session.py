"""How bebr opens an ONNX graph: the one place that sets the options of ONNX Runtime."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnx.utils
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from bebr.encoding.onnx.providers import CPU_ONLY, Device
from bebr.errors import DamagedBundle

if TYPE_CHECKING:
    import onnxruntime

# Names of the inputs and the output of every embedding graph; the last is the input of binarizers and adapters too.
INPUT_IDS, ATTENTION_MASK, EMBEDDING = "input_ids", "attention_mask", "embedding"
FLOAT32 = "tensor(float)"
INT64 = "tensor(int64)"
ENDLESS = frozenset({"Loop", "Scan", "SequenceMap"})
"""Operators that repeat the graph inside them; a loop need not end, not even when the graph is loaded."""


def open_session(
    path: Path,
    threads: int = 1,
    part: bytes | None = None,
    *,
    weights: str | None = None,
    device: Device = CPU_ONLY,
) -> "onnxruntime.InferenceSession":
    """Open the ONNX graph in a file. `threads` compute one call together; calls from several threads may overlap.

    Where `part` is given, it is opened instead: a graph cut out of the one in the file, which errors then name.
    weights: the file beside it that holds its weights, where its own does not. device: where it runs.

    Raises DamagedBundle when ONNX Runtime cannot load the graph, and what `read_graph` raises.
    """
    if part is None:
        read_graph(path, weights)
    import onnxruntime  # here, as its library starts a thread at once, which a process to be forked must not have

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads must sleep: spinning steals the cores from the threads that scan codes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # What goes wrong is raised.
    try:
        return onnxruntime.InferenceSession(part or str(path), options, providers=list(device.providers))
    except Exception as error:  # ONNX Runtime's classes of errors have no common base but Exception.
        raise DamagedBundle(
            f"{path.name} is not a graph that ONNX Runtime {onnxruntime.__version__} can load: {error}",
            path=str(path),
            file=path.name,
        ) from error


def read_graph(path: Path, weights: str | None = None) -> onnx.ModelProto:
    """The graph in a file, which is all there is to it: no loops, no weights in other files but `weights`.

    Raises DamagedBundle for a file that is no graph, or is not of that kind.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's errors, and those of the file
        raise DamagedBundle(
            f"{path.name} is not a graph that ONNX can read: {error}", path=str(path), file=path.name
        ) from error
    if model.functions:
        raise _mismatch(path, "has functions of its own, which are not supported")
    for node in all_nodes(model.graph):
        if node.op_type in ENDLESS:
            raise _mismatch(path, f"has the operator {node.op_type}, which is not supported: it may never end")
    outside = [tensor for tensor in all_tensors(model.graph) if uses_external_data(tensor)]
    if any(ExternalDataInfo(tensor).location != weights for tensor in outside):
        raise _mismatch(path, "has weights in another file, which no checksum covers; save it as one file")
    return model


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of the graphs within it."""
    for node in graph.node:
        yield node
        for inner in graphs_of(node):
            yield from all_nodes(inner)


def all_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that a graph, or one within it, holds."""
    yield from graph.initializer
    for tensor in graph.sparse_initializer:
        yield from (tensor.values, tensor.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
        for inner in graphs_of(node):
            yield from all_tensors(inner)


def graphs_of(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs within a node."""
    single = [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
    return [*single, *(graph for attribute in node.attribute for graph in attribute.graphs)]


def cut_out(whole: onnx.ModelProto, outputs: Sequence[str]) -> bytes:
    """The part of a graph with the input `embedding` that some outputs depend on.

    ONNX Runtime computes every node of a graph whatever is fetched from it. The graph was checked before.
    """
    part: bytes = onnx.utils.Extractor(whole).extract_model([EMBEDDING], list(outputs)).SerializeToString()
    return part


def check_signature(
    session: "onnxruntime.InferenceSession",
    path: Path,
    inputs: Mapping[str, tuple[str, int | None]],
    outputs: Mapping[str, tuple[str, int | None]],
) -> None:
    """Hold a graph to what the manifest says of it: names, types and the size of the last axis (None: any).

    Raises DamagedBundle where they disagree.
    """
    for kind, expected, found in (
        ("input", inputs, session.get_inputs()),
        ("output", outputs, session.get_outputs()),
    ):
        nodes = {node.name: node for node in found}
        if set(nodes) != set(expected):
            raise _mismatch(path, f"has the {kind}s {sorted(nodes)}, expected {sorted(expected)}")
        for name, (element_type, last_axis) in expected.items():
            node = nodes[name]
            if node.type != element_type:
                raise _mismatch(path, f"{kind} '{name}' is a {node.type}, expected {element_type}")
            if last_axis is not None and (not node.shape or node.shape[-1] != last_axis):
                raise _mismatch(path, f"{kind} '{name}' has shape {node.shape}, but the manifest says {last_axis} dims")


def _mismatch(path: Path, message: str) -> DamagedBundle:
    return DamagedBundle(f"{path.name} {message}", path=str(path), file=path.name)
