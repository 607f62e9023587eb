"""The ONNX graph of a recurrent binarizer. Built with onnx alone; nothing is run here.

Input `embedding` (n, embedding_dims) float32. Outputs `projected` (n, dims) float32, `levels` (n, dims) uint8 and
`gain` (n,) float16, as `Recurrent.project` and `.quantize` define them, with their order of float operations. The
initializer `mean` (embedding_dims,) float32 is there too: what every code represents lies around it.
"""

import numpy as np

from bebr.core.arrays import TINY
from bebr.encoding.bundles.contents import BinarizerFiles
from bebr.encoding.onnx.graph import Graph
from bebr.encoding.quantization import residual_graph
from bebr.encoding.quantization.recurrent import Moves, Recurrent


def to_onnx(binarizer: Recurrent) -> bytes:
    """The bytes of the graph's file; the same binarizer gives the same bytes."""
    graph = Graph()
    _add_inputs(graph, binarizer)
    blocks = _add_initial(graph, binarizer)
    for number, hardness in enumerate(binarizer.hardness):
        blocks = _add_loop(graph, binarizer.moves, blocks, loop=number, hardness=np.float32(hardness))
    _add_outputs(graph, binarizer, blocks)
    return graph.to_bytes("recurrent_binarizer", binarizer.embedding_dims, binarizer.spec.dims)


def files_of(binarizer: Recurrent) -> BinarizerFiles:
    """What a bundle holds of it."""
    rescore = None if binarizer.residual is None else residual_graph.to_onnx(binarizer.residual)
    return BinarizerFiles(to_onnx(binarizer), binarizer.record_spec, binarizer.steps, binarizer.gain, rescore)


def _add_inputs(graph: Graph, binarizer: Recurrent) -> None:
    """embedding -> unit rows, and projected."""
    graph.constant("tiny", TINY)
    graph.constant("last_axis", np.array([1], np.int64))
    graph.constant("half", np.float32(0.5))
    graph.node("ReduceL2", ["embedding", "last_axis"], "length", keepdims=1)
    graph.node("Max", ["length", "tiny"], "safe_length")
    graph.node("Div", ["embedding", "safe_length"], "unit")
    graph.constant("decoder", binarizer.decoder)
    graph.node("Gemm", ["unit", "decoder"], "projected", transB=1)


def _add_initial(graph: Graph, binarizer: Recurrent) -> list[str]:
    """unit -> the points without a grid, a tensor for each block, and targets likewise.

    Where the error has no metric and the query side learned nothing of its own, the encoder is the decoder transposed:
    then the residuals are what the query side computes.
    """
    moves = binarizer.moves
    encoded = "projected"
    if not np.array_equal(binarizer.encoder, binarizer.decoder.T):
        graph.constant("encoder", binarizer.encoder)
        encoded = graph.node("MatMul", ["unit", "encoder"], "encoded")
    graph.constant("offset", binarizer.offset)
    graph.constant("initial", binarizer.initial)
    graph.constant("to_targets", moves.to_targets)
    graph.node("Sub", [encoded, "offset"], "residuals")
    graph.node("MatMul", ["residuals", "initial"], "relaxed")
    graph.node("Mul", ["residuals", "to_targets"], "targets")
    for number, (block, pull) in enumerate(zip(moves.blocks, moves.pulls, strict=True)):
        graph.constant(f"pull{number}", pull)
        graph.constant(f"lowest{number}", -moves.halves[block])
        graph.constant(f"highest{number}", moves.halves[block] - 1)
        graph.constant(f"soft_lowest{number}", np.float32(0.5) - moves.halves[block])
        graph.constant(f"soft_highest{number}", moves.halves[block] - np.float32(0.5))
        graph.constant(f"start{number}", np.array([block.start], np.int64))
        graph.constant(f"end{number}", np.array([block.stop], np.int64))
        graph.node("Slice", ["targets", f"start{number}", f"end{number}", "last_axis"], f"targets{number}")
        graph.node("Slice", ["relaxed", f"start{number}", f"end{number}", "last_axis"], f"relaxed{number}")
    return [f"relaxed{number}" for number in range(len(moves.blocks))]


def _add_loop(graph: Graph, moves: Moves, blocks: list[str], *, loop: int, hardness: np.float32) -> list[str]:
    """One loop over the blocks: decode all of them, correct one, go on to the next."""
    blocks = list(blocks)
    for number in range(len(moves.blocks)):
        tag = f"loop{loop}_block{number}"
        points = graph.node("Concat", blocks, f"{tag}_points", axis=1) if len(blocks) > 1 else blocks[0]
        graph.node("MatMul", [points, f"pull{number}"], f"{tag}_decoded")
        graph.node("Sub", [f"targets{number}", f"{tag}_decoded"], f"{tag}_aims")
        graph.node("Floor", [f"{tag}_aims"], f"{tag}_floor")
        graph.node("Max", [f"{tag}_floor", f"lowest{number}"], f"{tag}_from_lowest")
        graph.node("Min", [f"{tag}_from_lowest", f"highest{number}"], f"{tag}_cell")
        blocks[number] = graph.node("Add", [f"{tag}_cell", "half"], f"{tag}_grid")
        if hardness != 1:
            graph.constant(f"{tag}_hardness", hardness)
            graph.node("Max", [f"{tag}_aims", f"soft_lowest{number}"], f"{tag}_from_soft_lowest")
            graph.node("Min", [f"{tag}_from_soft_lowest", f"soft_highest{number}"], f"{tag}_soft")
            graph.node("Sub", [f"{tag}_grid", f"{tag}_soft"], f"{tag}_to_grid")
            graph.node("Mul", [f"{tag}_to_grid", f"{tag}_hardness"], f"{tag}_step")
            blocks[number] = graph.node("Add", [f"{tag}_soft", f"{tag}_step"], f"{tag}_next")
    return blocks


def _add_outputs(graph: Graph, binarizer: Recurrent, blocks: list[str]) -> None:
    """The points of the last loop -> levels and gain."""
    points = graph.node("Concat", blocks, "points", axis=1)
    if binarizer.whole is not None:
        graph.constant("first", np.array([0], np.int64))
        graph.constant("kept_dims", np.array([binarizer.spec.dims], np.int64))
        points = graph.node("Slice", [points, "first", "kept_dims", "last_axis"], "kept_points")
    graph.constant("to_levels", binarizer.halves - np.float32(0.5))
    graph.constant("mean", binarizer.mean)
    graph.node("Add", [points, "to_levels"], "float_levels")
    graph.cast("float_levels", "levels", np.uint8)
    graph.node("MatMul", [points, "decoder"], "reconstruction")
    graph.node("Sub", ["unit", "mean"], "deviation")
    if binarizer.felt is not None:
        graph.constant("felt", binarizer.felt)
    for rows in ("deviation", "reconstruction"):
        graph.node("ReduceL2", [rows, "last_axis"], f"{rows}_length", keepdims=0)
        graph.node("Max", [f"{rows}_length", "tiny"], f"safe_{rows}_length")
        _add_felt_length(graph, rows, is_felt=binarizer.felt is not None)
    graph.node("Div", ["felt_deviation_length", "felt_reconstruction_length"], "full_gain")
    _add_shrink(graph, binarizer.shrink)
    graph.cast("float_gain", "gain", np.float16)


def _add_felt_length(graph: Graph, rows: str, *, is_felt: bool) -> None:
    """`Recurrent.felt_length` of some rows."""
    if not is_felt:
        graph.node("Identity", [f"safe_{rows}_length"], f"felt_{rows}_length")
        return
    graph.node("MatMul", [rows, "felt"], f"felt_{rows}")
    graph.node("ReduceSumSquare", [f"felt_{rows}", "last_axis"], f"felt_{rows}_square", keepdims=0)
    graph.node("ReduceSumSquare", [rows, "last_axis"], f"{rows}_square", keepdims=0)
    graph.node("Add", [f"{rows}_square", f"felt_{rows}_square"], f"{rows}_squares")
    graph.node("Sqrt", [f"{rows}_squares"], f"{rows}_root")
    graph.node("Max", [f"{rows}_root", "tiny"], f"felt_{rows}_length")


def _add_shrink(graph: Graph, shrink: float) -> None:
    """full_gain -> float_gain: less for a code that is far from its embedding."""
    if not shrink:
        graph.node("Identity", ["full_gain"], "float_gain")
        return
    graph.constant("shrink", np.float32(shrink))
    graph.node("Mul", ["deviation", "reconstruction"], "products")
    graph.node("ReduceSum", ["products", "last_axis"], "dot", keepdims=0)
    graph.node("Mul", ["safe_deviation_length", "safe_reconstruction_length"], "lengths")
    graph.node("Div", ["dot", "lengths"], "cosine")
    graph.node("Max", ["cosine", "tiny"], "safe_cosine")
    graph.node("Pow", ["safe_cosine", "shrink"], "shrinking")
    graph.node("Mul", ["full_gain", "shrinking"], "float_gain")
