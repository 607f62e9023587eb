"""The weights of BERT-like encoders under one set of names, whatever their family calls them.

Families differ in the names of tensors and config fields, in whether there are token types, and in the first position;
the arithmetic is the same. `modern` has those of another arithmetic.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bebr.core.arrays import Floats
from bebr.encoding.importing.builder import Norm
from bebr.encoding.importing.files.json_file import JsonFile
from bebr.encoding.importing.files.tensors import Tensors
from bebr.errors import InvalidCheckpoint

Linear = tuple[Floats, Floats]
"""weight (inputs, outputs) float32 and bias (outputs,) float32."""

EPSILON = 1e-12
"""Added to variances where config.json does not say."""


@dataclass(frozen=True)
class Layer:
    """One encoder layer."""

    query: Linear
    key: Linear
    value: Linear
    attention_out: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    norm: Norm


@dataclass(frozen=True)
class Transformer:
    """A BERT-like encoder."""

    words: Floats
    """(vocabulary, dims) float32: the input vector of each token."""
    positions: Floats
    """(tokens at most, dims) float32: added by place; the vector of token type 0 is in them."""
    embedding_norm: Norm
    layers: tuple[Layer, ...]
    heads: int
    epsilon: float
    """Added to variances in every norm."""
    distances: Floats | None = None
    """(heads, 2 * tokens at most - 1) float32: added to the score of two tokens by their distance."""

    @property
    def dims(self) -> int:
        return int(self.words.shape[1])

    @property
    def max_tokens(self) -> int:
        return len(self.positions)

    def facts(self) -> dict[str, Any]:
        """What determines the arithmetic beside the weights; goes into the fingerprint."""
        counts = {"layers": len(self.layers), "heads": self.heads, "positions": len(self.positions)}
        distances = {} if self.distances is None else {"distances": self.distances.shape[1]}
        return {**counts, "epsilon": self.epsilon, **distances}


@dataclass(frozen=True)
class _Family:
    """Names of one family. `dims` to `activation` are config fields, the rest are tensors."""

    dims: str = "hidden_size"
    depth: str = "num_hidden_layers"
    heads: str = "num_attention_heads"
    widened: str = "intermediate_size"
    activation: str = "hidden_act"
    layer: str = "encoder.layer.{}."
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    attention_out: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    norm: str = "output.LayerNorm"
    epsilon: str = "layer_norm_eps"
    """Config field; empty where the family has no choice."""
    has_token_types: bool = True
    skips_padding_positions: bool = False
    distances: str = ""
    """Tensor (buckets, heads) of scores by distance; empty where the family has none."""


_BERT = _Family()
_ROBERTA = _Family(skips_padding_positions=True)
_DISTILBERT = _Family(
    dims="dim",
    depth="n_layers",
    heads="n_heads",
    widened="hidden_dim",
    activation="activation",
    layer="transformer.layer.{}.",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attention_out="attention.out_lin",
    attention_norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    norm="output_layer_norm",
    epsilon="",
    has_token_types=False,
)
_MPNET = _Family(
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    attention_out="attention.attn.o",
    attention_norm="attention.LayerNorm",
    has_token_types=False,
    skips_padding_positions=True,
    distances="encoder.relative_attention_bias.weight",
)
FAMILIES: Mapping[str, _Family] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "distilbert": _DISTILBERT,
    "mpnet": _MPNET,
}
"""By the `model_type` of config.json."""


def read_transformer(config: JsonFile, tensors: Tensors, layers: int | None = None) -> Transformer:
    """Bring the tensors of a checkpoint under our names, of all layers or the first few.

    Raises InvalidCheckpoint naming what does not fit.
    """
    family = _family(config)
    dims, heads = config.count(family.dims), config.count(family.heads)
    if dims % heads:
        raise InvalidCheckpoint(f"config.json: {family.dims} {dims} is not a multiple of {family.heads} {heads}")
    positions = tensors.take("embeddings.position_embeddings.weight", config.count("max_position_embeddings"), dims)
    if family.skips_padding_positions:
        # RoBERTa counts positions from one past the id of its padding token.
        first = config.count("pad_token_id", 1, low=0) + 1
        if first >= len(positions):
            raise config.wrong("pad_token_id", f"must be below max_position_embeddings {len(positions)} less one")
        positions = positions[first:]
    if family.has_token_types:
        positions = (
            positions
            + tensors.take("embeddings.token_type_embeddings.weight", config.count("type_vocab_size"), dims)[0]
        )
    return Transformer(
        words=tensors.take("embeddings.word_embeddings.weight", config.count("vocab_size"), dims),
        positions=positions,
        embedding_norm=_norm(tensors, "embeddings.LayerNorm", dims),
        layers=tuple(
            _layer(tensors, family, number, dims=dims, widened=config.count(family.widened))
            for number in range(config.count(family.depth) if layers is None else layers)
        ),
        heads=heads,
        epsilon=config.number(family.epsilon, EPSILON) if family.epsilon else EPSILON,
        distances=_distances(config, tensors, family.distances, heads, len(positions)) if family.distances else None,
    )


def _distances(config: JsonFile, tensors: Tensors, name: str, heads: int, tokens: int) -> Floats:
    """The scores of all distances (heads, 2 * tokens - 1): T5's buckets (arXiv:1910.10683), of which half are for each
    direction, half of these for one distance each, and the rest for ever wider ranges, up to 128."""
    buckets = config.count("relative_attention_num_buckets", 32, low=4)
    table = tensors.take(name, buckets, heads)
    distance = np.arange(1 - tokens, tokens)
    half, away = buckets // 2, np.abs(distance)
    exact = half // 2
    # In float32, as transformers computes it: at some distances the last bit decides the bucket.
    logarithm = np.log(np.maximum(away, 1).astype(np.float32) / np.float32(exact))
    wide = exact + (logarithm / np.float32(np.log(128 / exact)) * np.float32(half - exact)).astype(np.int64)
    bucket = np.where(away < exact, away, np.minimum(wide, half - 1)) + half * (distance > 0)
    return np.ascontiguousarray(table[bucket].T)


def _family(config: JsonFile) -> _Family:
    """The family of a config, after a check that nothing in it asks for other arithmetic."""
    kind = str(config.fields.get("model_type"))
    if kind not in FAMILIES:
        raise InvalidCheckpoint(
            f"config.json: model_type {kind!r} is not supported; supported are {', '.join(FAMILIES)}", model_type=kind
        )
    family = FAMILIES[kind]
    for key, expected in ((family.activation, "gelu"), ("position_embedding_type", "absolute")):
        if config.fields.get(key, expected) != expected:
            raise config.unsupported(key, expected)
    config.refuse_unless(is_decoder=False, add_cross_attention=False, is_encoder_decoder=False, pruned_heads={})
    config.refuse_unless(quantization_config=None, rope_scaling=None, auto_map=None)
    return family


def _layer(tensors: Tensors, family: _Family, number: int, *, dims: int, widened: int) -> Layer:
    prefix = family.layer.format(number)

    def linear(name: str, inputs: int, outputs: int) -> Linear:
        weight = tensors.take(f"{prefix}{name}.weight", outputs, inputs)
        return np.ascontiguousarray(weight.T), tensors.take(f"{prefix}{name}.bias", outputs)

    return Layer(
        query=linear(family.query, dims, dims),
        key=linear(family.key, dims, dims),
        value=linear(family.value, dims, dims),
        attention_out=linear(family.attention_out, dims, dims),
        attention_norm=_norm(tensors, prefix + family.attention_norm, dims),
        up=linear(family.up, dims, widened),
        down=linear(family.down, widened, dims),
        norm=_norm(tensors, prefix + family.norm, dims),
    )


def _norm(tensors: Tensors, name: str, dims: int) -> Norm:
    return tensors.take(f"{name}.weight", dims), tensors.take(f"{name}.bias", dims)
