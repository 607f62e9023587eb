"""Collects the nodes and constants of a binarizer's ONNX graph. Built with onnx alone; nothing is run here."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from onnx import NodeProto, TensorProto, helper, numpy_helper

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

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: int) -> str:
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))  # type: ignore[arg-type]
        return output

    def cast(self, value: str, output: str, dtype: DTypeLike) -> str:
        return self.node("Cast", [value], output, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def to_bytes(self, name: str, embedding_dims: int, dims: int) -> bytes:
        """The file of a binarizer: the input `embedding`, the outputs `projected`, `levels` and `gain`."""
        inputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", embedding_dims])]
        outputs = [
            helper.make_tensor_value_info("projected", TensorProto.FLOAT, ["n", dims]),
            helper.make_tensor_value_info("levels", TensorProto.UINT8, ["n", dims]),
            helper.make_tensor_value_info("gain", TensorProto.FLOAT16, ["n"]),
        ]
        body = helper.make_graph(self.nodes, name, inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(body, opset_imports=opsets, ir_version=IR_VERSION, producer_name="bebr")
        return bytes(model.SerializeToString(deterministic=True))
