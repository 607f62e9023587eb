"""Collects the nodes and constants of an embedding model's graph; every tensor is named by what adds it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bebr.core.arrays import Floats
from bebr.encoding.bundles.manifest import Precision
from bebr.encoding.onnx.session import ATTENTION_MASK, EMBEDDING, INPUT_IDS

OPSET, MICROSOFT_OPSET, IR_VERSION = 17, 1, 8
WEIGHT_LEVELS = 63
"""Largest magnitude of a weight in int8."""
ACTIVATION_LEVELS = 127
"""Largest magnitude of an activation in int8."""
SMALLEST_NORM = 1e-12

Linear = tuple[Floats, Floats | None]
"""weight (inputs, outputs) float32 and bias (outputs,) float32."""
Norm = tuple[Floats, Floats | None]
"""scale (dims,) float32 and bias (dims,) float32."""


@dataclass
class GraphBuilder:
    """Collects nodes and initializers; every method returns the name of the tensor it added."""

    precision: Precision = Precision.FP32
    opset: int = OPSET
    """Of the standard operators."""
    prefix: str = ""
    """Of the names of all tensors that are added."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    scalars: dict[float, str] = field(default_factory=dict)

    def add(self, operator: str, inputs: list[str], *, output: str = "", domain: str = "", **attributes: Any) -> str:
        name = f"{self.prefix}{operator}_{len(self.nodes)}"
        output = output or name
        self.nodes.append(helper.make_node(operator, inputs, [output], name=name, domain=domain, **attributes))
        return output

    def reduce(self, operator: str, x: str, axis: int, *, keep: bool) -> str:
        """A reduction over one axis, which newer operators take as an input and older ones as an attribute."""
        if self.opset >= (13 if operator == "ReduceSum" else 18):
            return self.add(operator, [x, self.constant(np.array([axis]))], keepdims=int(keep))
        return self.add(operator, [x], axes=[axis], keepdims=int(keep))

    def split(self, x: str, sizes: str, parts: int = 3) -> list[str]:
        name = f"{self.prefix}Split_{len(self.nodes)}"
        outputs = [f"{name}_{part}" for part in range(parts)]
        self.nodes.append(helper.make_node("Split", [x, sizes], outputs, name=name, axis=-1))
        return outputs

    def constant(self, array: NDArray[Any]) -> str:
        name = f"{self.prefix}constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def scalar(self, value: float) -> str:
        if value not in self.scalars:
            self.scalars[value] = self.constant(np.array(value, np.float32))
        return self.scalars[value]

    def norm(self, x: str, weights: Norm, epsilon: float) -> str:
        """Layer normalization over the last axis."""
        given = [self.constant(part) for part in weights if part is not None]
        return self.add("LayerNormalization", [x, *given], axis=-1, epsilon=epsilon)

    def linear(self, x: str, weight: Floats, bias: Floats | None) -> str:
        """x (..., inputs) @ weight (inputs, outputs) + bias (outputs,)."""
        if self.precision is Precision.INT8:
            product = self._integer_product(x, weight)
        else:
            product = self.add("MatMul", [x, self.constant(weight)])
        return product if bias is None else self.add("Add", [product, self.constant(bias)])

    def _integer_product(self, x: str, weight: Floats) -> str:
        column_scales = np.maximum(np.abs(weight).max(axis=0), np.float32(SMALLEST_NORM)) / np.float32(WEIGHT_LEVELS)
        levels = np.rint(weight / column_scales).astype(np.int8)
        zero = self.constant(np.array(ACTIVATION_LEVELS + 1, np.uint8))
        largest = self.add("ReduceMax", [self.add("Abs", [x])], axes=[-1], keepdims=1)
        largest = self.add("Max", [largest, self.scalar(SMALLEST_NORM)])
        scaled = self.add("Mul", [x, self.add("Div", [self.scalar(float(ACTIVATION_LEVELS)), largest])])
        integers = self.add("QuantizeLinear", [scaled, self.scalar(1.0), zero])
        inputs = [integers, self.constant(levels), self.scalar(1.0), self.constant(column_scales), zero]
        product = self.add("MatMulIntegerToFloat", inputs, domain="com.microsoft")
        return self.add("Mul", [product, self.add("Mul", [largest, self.scalar(1 / ACTIVATION_LEVELS)])])

    def serialize(self, dims: int) -> bytes:
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
            for name in (INPUT_IDS, ATTENTION_MASK)
        ]
        outputs = [helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["batch", dims])]
        graph = helper.make_graph(self.nodes, "embedding_model", inputs, outputs, self.initializers)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", MICROSOFT_OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="bebr")
        data: bytes = model.SerializeToString()
        return data
