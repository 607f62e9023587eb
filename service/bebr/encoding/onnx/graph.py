"""Collects the nodes and constants of an ONNX graph. Built with onnx alone; nothing is run here."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

Signature = Mapping[str, tuple[DTypeLike, Sequence[int | str]]]
"""Name -> dtype and shape, in order; an axis of any size has a name."""

OPSET = 18
IR_VERSION = 9
"""The oldest pair that has what the graphs need, so that every supported ONNX Runtime reads them."""


class Graph:
    """Nodes and constants in the order in which they were added; every node names its one output."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, name: str, value: ArrayLike) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: int | str) -> str:
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))  # type: ignore[arg-type]
        return output

    def cast(self, value: str, output: str, dtype: DTypeLike) -> str:
        return self.node("Cast", [value], output, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def to_bytes(self, name: str, embedding_dims: int, dims: int) -> bytes:
        """The file of a binarizer: the input `embedding`, the outputs `projected`, `levels` and `gain`."""
        outputs: Signature = {
            "projected": (np.float32, ["n", dims]),
            "levels": (np.uint8, ["n", dims]),
            "gain": (np.float16, ["n"]),
        }
        return self.serialize(name, {"embedding": (np.float32, ["n", embedding_dims])}, outputs)

    def serialize(self, name: str, inputs: Signature, outputs: Signature) -> bytes:
        """The bytes of the graph's file; the same graph gives the same bytes."""
        body = helper.make_graph(self.nodes, name, _values(inputs), _values(outputs), self.constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(body, opset_imports=opsets, ir_version=IR_VERSION, producer_name="bebr")
        return bytes(model.SerializeToString(deterministic=True))


def _values(signature: Signature) -> list[ValueInfoProto]:
    return [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
        for name, (dtype, shape) in signature.items()
    ]
