"""The operators that a ready graph may use: those of transformers. No custom operators, nothing random, no loops."""

import onnx

from bebr.encoding.onnx.session import all_nodes
from bebr.errors import InvalidCheckpoint

_STANDARD = """
Abs Add And ArgMax ArgMin Attention Cast CastLike Ceil Clip Concat Constant ConstantOfShape Conv Cos
CumSum DequantizeLinear Div Dropout DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike
Flatten Floor FusedMatMul Gather GatherElements GatherND Gelu Gemm GlobalAveragePool Greater
GreaterOrEqual HardSigmoid HardSwish Hardmax Identity If InstanceNormalization IsInf IsNaN
LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization MatMul MatMulInteger
Max Mean MeanVarianceNormalization Min Mish Mod Mul Neg NonZero Not OneHot Or PRelu Pad Pow
QLinearMatMul QuantizeLinear RMSNormalization Range Reciprocal ReduceL1 ReduceL2 ReduceLogSumExp
ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape RotaryEmbedding
Round ScatterElements ScatterND Selu Shape Sigmoid Sign SimplifiedLayerNormalization Sin Size Slice
Softmax Softplus Softsign Split Sqrt Squeeze Sub Sum Swish Tanh ThresholdedRelu Tile TopK Transpose
Trilu Unsqueeze Where Xor
"""
_MICROSOFT = """
Attention BiasGelu BiasSoftmax BiasSplitGelu DequantizeLinear DynamicQuantizeMatMul
EmbedLayerNormalization FastGelu FusedGemm FusedMatMul GatedRelativePositionBias
GatherBlockQuantized Gelu GemmFastGelu GroupQueryAttention MatMulIntegerToFloat MatMulNBits
MultiHeadAttention QAttention QEmbedLayerNormalization QGemm QLinearAdd QLinearMul QLinearSigmoid
QLinearSoftmax QuantizeLinear QuickGelu RelativePositionBias RotaryEmbedding
SimplifiedLayerNormalization SkipLayerNormalization SkipSimplifiedLayerNormalization
"""
ALLOWED = {
    domain: frozenset(names.split())
    for domain, names in (("", _STANDARD), ("ai.onnx", _STANDARD), ("com.microsoft", _MICROSOFT))
}
"""By domain; com.microsoft is that of ONNX Runtime itself, for what its optimizer fuses and quantizes."""
BATCH_WIDE = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul"})
"""These round by the largest number of a whole batch."""


def check_operators(model: onnx.ModelProto, file: str) -> None:
    """Raise InvalidCheckpoint naming the first operator that is not allowed."""
    for node in all_nodes(model.graph):
        if node.op_type not in ALLOWED.get(node.domain, frozenset()):
            domain = f"{node.domain}." if node.domain else ""
            raise InvalidCheckpoint(
                f"{file}: the operator {domain}{node.op_type} is not allowed in an embedding model; bebr runs no "
                "loops, nothing random and no operators of other libraries. Export the model anew without it",
                file=file,
                operator=domain + node.op_type,
            )
