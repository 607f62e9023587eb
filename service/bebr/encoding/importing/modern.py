"""ModernBERT (arXiv:2412.13663): its weights under our names, and its graph.

Layers normalize before they compute, have no biases, rotate queries and keys by place, gate their wide half, and most
of them see only the tokens that are near.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from bebr.core.arrays import Floats
from bebr.encoding.bundles.manifest import Precision
from bebr.encoding.importing.builder import GraphBuilder, Linear, Norm
from bebr.encoding.importing.files.json_file import JsonFile
from bebr.encoding.importing.files.tensors import Tensors
from bebr.encoding.importing.head import Head, gelu
from bebr.encoding.importing.transformer import MASKED, add_head, score_bias, token_count
from bebr.encoding.onnx.session import INPUT_IDS
from bebr.errors import InvalidCheckpoint

MODEL_TYPE = "modernbert"
_GLOBAL, _LOCAL = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class ModernLayer:
    """One layer."""

    attention_norm: Norm | None
    """None in the first layer."""
    attention: Linear
    """Queries, keys and values, side by side."""
    attention_out: Linear
    norm: Norm
    up: Linear
    """What is activated, and what it is multiplied by, side by side."""
    down: Linear
    is_local: bool
    """Whether it sees only the tokens within the window."""


@dataclass(frozen=True)
class ModernTransformer:
    """A ModernBERT encoder."""

    words: Floats
    """(vocabulary, dims) float32: the input vector of each token."""
    embedding_norm: Norm
    layers: tuple[ModernLayer, ...]
    final_norm: Norm
    heads: int
    epsilon: float
    window: int
    """How far a local layer sees, to each side."""
    max_tokens: int
    theta: dict[bool, float]
    """Base of the rotation's wave lengths: of local layers (True), and of the others."""

    @property
    def dims(self) -> int:
        return int(self.words.shape[1])

    def facts(self) -> dict[str, Any]:
        """What determines the arithmetic beside the weights; goes into the fingerprint."""
        local = [layer.is_local for layer in self.layers]
        theta = [self.theta[False], self.theta[True]]
        return {"heads": self.heads, "epsilon": self.epsilon, "window": self.window, "local": local, "theta": theta}


def read_modern(config: JsonFile, tensors: Tensors, layers: int | None = None) -> ModernTransformer:
    """The weights of a checkpoint, of all layers or the first few.

    Raises InvalidCheckpoint naming what does not fit.
    """
    dims, heads = config.count("hidden_size"), config.count("num_attention_heads")
    if dims % (2 * heads):
        raise InvalidCheckpoint(f"config.json: hidden_size {dims} is not a multiple of 2 * num_attention_heads {heads}")
    config.refuse_unless(hidden_activation="gelu", quantization_config=None, auto_map=None, pruned_heads={})
    widened = config.count("intermediate_size")
    local = _are_local(config)

    def linear(name: str, inputs: int, outputs: int) -> Linear:
        weight = np.ascontiguousarray(tensors.take(f"{name}.weight", outputs, inputs).T)
        return weight, tensors.take(f"{name}.bias", outputs) if f"{name}.bias" in tensors else None

    def norm(name: str) -> Norm:
        bias = tensors.take(f"{name}.bias", dims) if f"{name}.bias" in tensors else None
        return tensors.take(f"{name}.weight", dims), bias

    def layer(number: int) -> ModernLayer:
        prefix = f"layers.{number}."
        return ModernLayer(
            attention_norm=norm(f"{prefix}attn_norm") if number else None,
            attention=linear(f"{prefix}attn.Wqkv", dims, 3 * dims),
            attention_out=linear(f"{prefix}attn.Wo", dims, dims),
            norm=norm(f"{prefix}mlp_norm"),
            up=linear(f"{prefix}mlp.Wi", dims, 2 * widened),
            down=linear(f"{prefix}mlp.Wo", widened, dims),
            is_local=local[number],
        )

    return ModernTransformer(
        words=tensors.take("embeddings.tok_embeddings.weight", config.count("vocab_size"), dims),
        embedding_norm=norm("embeddings.norm"),
        layers=tuple(map(layer, range(len(local) if layers is None else layers))),
        final_norm=norm("final_norm"),
        heads=heads,
        epsilon=config.number("norm_eps", 1e-5),
        window=config.count("local_attention", 128, low=2) // 2,
        max_tokens=config.count("max_position_embeddings"),
        theta={is_local: _theta(config, is_local) for is_local in (False, True)},
    )


def _are_local(config: JsonFile) -> list[bool]:
    """Of each layer, whether it is local: as its list says, else all but every third or so."""
    depth, every = config.count("num_hidden_layers"), config.count("global_attn_every_n_layers", 3)
    kinds = config.fields.get("layer_types")
    if kinds is None:
        return [number % every != 0 for number in range(depth)]
    if not isinstance(kinds, list) or len(kinds) != depth or not all(kind in (_GLOBAL, _LOCAL) for kind in kinds):
        raise config.wrong("layer_types", f"must say {_GLOBAL} or {_LOCAL} for each of the {depth} layers")
    return [kind == _LOCAL for kind in kinds]


def _theta(config: JsonFile, is_local: bool) -> float:
    rope = config.object("rope_parameters").object(_LOCAL if is_local else _GLOBAL)
    rope.refuse_unless(rope_type="default")
    old = config.number(*(("local_rope_theta", 10_000.0) if is_local else ("global_rope_theta", 160_000.0)))
    return rope.number("rope_theta", old)


def build_modern(model: ModernTransformer, head: Head, precision: Precision) -> bytes:
    """The serialized ONNX model, as `transformer.build_graph` makes those of BERT-like encoders."""
    graph = GraphBuilder(precision)
    hidden = graph.norm(
        graph.add("Gather", [graph.constant(model.words), INPUT_IDS]), model.embedding_norm, model.epsilon
    )
    everywhere = score_bias(graph)
    bias = {False: everywhere, True: _near(graph, everywhere, model.window)}
    turns = {is_local: _turn(graph, model, is_local) for is_local in {layer.is_local for layer in model.layers}}
    for layer in model.layers:
        normed = hidden if layer.attention_norm is None else graph.norm(hidden, layer.attention_norm, model.epsilon)
        attended = _attention(graph, layer, normed, bias[layer.is_local], turns[layer.is_local], heads=model.heads)
        hidden = graph.add("Add", [hidden, attended])
        wide = graph.linear(graph.norm(hidden, layer.norm, model.epsilon), *layer.up)
        width = layer.up[0].shape[1] // 2
        active, gate = graph.split(wide, graph.constant(np.array([width, width])), 2)
        gated = graph.add("Mul", [gelu(graph, active), gate])
        hidden = graph.add("Add", [hidden, graph.linear(gated, *layer.down)])
    add_head(graph, graph.norm(hidden, model.final_norm, model.epsilon), head)
    return graph.serialize(head.width(model.dims))


def _near(graph: GraphBuilder, everywhere: str, window: int) -> str:
    """(batch, 1, tokens, tokens): MASKED also where two tokens are farther apart than the window."""
    tokens = graph.add("Squeeze", [token_count(graph), graph.constant(np.array([0]))])
    places = graph.add("Range", [graph.constant(np.array(0)), tokens, graph.constant(np.array(1))])
    row, column = (graph.add("Unsqueeze", [places, graph.constant(np.array([axis]))]) for axis in (0, 1))
    distance = graph.add("Abs", [graph.add("Sub", [row, column])])
    far = graph.add("Cast", [graph.add("Greater", [distance, graph.constant(np.array(window))])], to=TensorProto.FLOAT)
    return graph.add("Add", [everywhere, graph.add("Mul", [far, graph.scalar(MASKED)])])


def _turn(graph: GraphBuilder, model: ModernTransformer, is_local: bool) -> tuple[str, str]:
    """cos and sin (tokens, dims of a head) of every place's rotation."""
    size = model.dims // model.heads
    waves = model.theta[is_local] ** (-np.arange(0, size, 2) / size)
    angles = np.arange(model.max_tokens)[:, None] * np.hstack([waves, waves])
    zero, tokens = graph.constant(np.array([0])), token_count(graph)
    cos, sin = (
        graph.add("Slice", [graph.constant(table.astype(np.float32)), zero, tokens, zero])
        for table in (np.cos(angles), np.sin(angles))
    )
    return cos, sin


def _attention(
    graph: GraphBuilder, layer: ModernLayer, hidden: str, bias: str, turn: tuple[str, str], *, heads: int
) -> str:
    dims = layer.attention_out[0].shape[1]
    size = dims // heads
    parts = graph.split(graph.linear(hidden, *layer.attention), graph.constant(np.array([dims] * 3)))
    by_head = graph.constant(np.array([0, 0, heads, size]))
    query, key, value = (
        graph.add("Transpose", [graph.add("Reshape", [part, by_head])], perm=[0, 2, 1, 3]) for part in parts
    )
    halves = graph.constant(np.array([size // 2] * 2))

    def turned(x: str) -> str:
        left, right = graph.split(x, halves, 2)
        across = graph.add("Concat", [graph.add("Neg", [right]), left], axis=-1)
        return graph.add("Add", [graph.add("Mul", [x, turn[0]]), graph.add("Mul", [across, turn[1]])])

    query = graph.add("Mul", [turned(query), graph.scalar(float(1 / np.sqrt(size)))])
    scores = graph.add("MatMul", [query, graph.add("Transpose", [turned(key)], perm=[0, 1, 3, 2])])
    shares = graph.add("Softmax", [graph.add("Add", [scores, bias])], axis=-1)
    context = graph.add("Transpose", [graph.add("MatMul", [shares, value])], perm=[0, 2, 1, 3])
    return graph.linear(graph.add("Reshape", [context, graph.constant(np.array([0, 0, dims]))]), *layer.attention_out)
