"""What the inputs and outputs of a ready graph mean: by name, then by shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import onnx
from onnx import TensorProto

from bebr.encoding.bundles.manifest import Pooling
from bebr.errors import InvalidCheckpoint, InvalidOption


class Role(StrEnum):
    """What an input takes."""

    IDS = "input_ids"
    MASK = "attention_mask"
    TYPES = "token_type_ids"
    POSITIONS = "position_ids"
    PAST = "past_key_values"


_ROLES = {
    Role.IDS: ("input_ids", "ids", "input_word_ids", "token_ids", "tokens", "input"),
    Role.MASK: ("attention_mask", "mask", "input_mask"),
    Role.TYPES: ("token_type_ids", "segment_ids", "input_type_ids", "token_types"),
    Role.POSITIONS: ("position_ids", "positions"),
}
"""Names of the inputs of each role, in small letters."""
POOLED = (
    "sentence_embedding",
    "sentence_embeddings",
    "text_embeds",
    "text_embeddings",
    "text_embedding",
    "embeddings",
    "embedding",
    "dense_vecs",
)
"""Names of outputs that are one embedding for each text, the first that is there counts."""
TOKENS = ("last_hidden_state", "token_embeddings", "hidden_states", "encoder_hidden_states")
"""Names of outputs that are a vector for each token."""
POOLERS = ("pooler_output", "pooled_output")
"""Names of outputs that are a vector for each text, which only some models are trained to be compared by."""
_INTEGERS = (TensorProto.INT64, TensorProto.INT32)
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


@dataclass(frozen=True)
class Input:
    """An input of the graph."""

    name: str
    role: Role
    element_type: int
    shape: tuple[int | None, ...]
    """None: of any size."""


@dataclass(frozen=True)
class Output:
    """The output that becomes the embedding."""

    name: str
    is_pooled: bool
    """Whether it is one vector for each text, and not one for each token."""


def inputs_of(model: onnx.ModelProto, file: str) -> tuple[Input, ...]:
    """All inputs that are no weights. Raises InvalidCheckpoint naming one that bebr has nothing to give to."""
    weights = {tensor.name for tensor in model.graph.initializer}
    values = [value for value in model.graph.input if value.name not in weights]
    found = [_input_of(value, len(values), file) for value in values]
    if Role.IDS not in (one.role for one in found):
        raise InvalidCheckpoint(f"{file} has no input for token ids, only {_names(values)}", file=file)
    roles = [one.role for one in found if one.role is not Role.PAST]
    if len(set(roles)) < len(roles):
        raise InvalidCheckpoint(f"{file}: two of its inputs mean the same: {_names(values)}", file=file)
    return tuple(found)


def _input_of(value: onnx.ValueInfoProto, count: int, file: str) -> Input:
    kind = value.type.tensor_type.elem_type
    shape = tuple(_sizes(value))
    plain = _plain(value.name)
    role = next((role for role, names in _ROLES.items() if plain in names), None)
    if role is None and ("past_key" in plain or "past." in value.name):
        return _past(value.name, kind, shape, file)
    if role is None and count == 1 and kind in _INTEGERS and len(shape) == 2:
        role = Role.IDS
    fits = kind in _INTEGERS if role is not Role.MASK else kind in (*_INTEGERS, *_FLOATS, TensorProto.BOOL)
    if role is None or not fits or len(shape) != 2:
        said = "x".join("?" if size is None else str(size) for size in shape)
        raise InvalidCheckpoint(
            f"{file} needs the input '{value.name}' ({_type_name(kind)}, {said}), which bebr has "
            f"nothing to give to; it gives {', '.join(_ROLES)} (batch, tokens)",
            file=file,
            input=value.name,
        )
    if fixed := [size for size in shape if size is not None]:
        raise InvalidCheckpoint(
            f"{file}: the input '{value.name}' has an axis of fixed size {fixed[0]}; export it with dynamic axes for "
            "batch and tokens",
            file=file,
            input=value.name,
        )
    return Input(value.name, role, kind, shape)


def _past(name: str, kind: int, shape: tuple[int | None, ...], file: str) -> Input:
    """Keys and values of earlier tokens, of which there are none: (batch, heads, 0, dims of a head)."""
    if len(shape) != 4 or shape[1] is None or shape[3] is None or shape[2] is not None or kind not in _FLOATS:
        raise InvalidCheckpoint(
            f"{file} needs the input '{name}' (keys or values of earlier tokens) in a shape that cannot be left empty: "
            f"{list(shape)}; export the model without its cache",
            file=file,
            input=name,
        )
    return Input(name, Role.PAST, kind, shape)


def choose_output(model: onnx.ModelProto, pooling: Pooling | None, file: str, *, by_pooler: bool) -> Output:
    """The output that becomes the embedding.

    pooling: as it was asked for. by_pooler: whether the model is one whose pooler's output is its embedding. Raises
    InvalidOption where the graph has no output to pool like that, InvalidCheckpoint where none is an embedding.
    """
    floats = [value for value in model.graph.output if value.type.tensor_type.elem_type in _FLOATS]
    by_name = {_plain(value.name): value for value in floats}
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in floats}

    def first(names: Sequence[str], rank: int) -> str | None:
        fitting = (by_name[name].name for name in names if name in by_name)
        return next((name for name in fitting if ranks[name] in (rank, 0)), None)

    def only(rank: int) -> str | None:
        rest = [name for name in ranks if ranks[name] == rank and not _plain(name).startswith(("present", "logits"))]
        return rest[0] if len(rest) == 1 else None

    pooled, tokens, pooler = first(POOLED, 2), first(TOKENS, 3) or only(3), first(POOLERS, 2)
    if pooling is Pooling.GRAPH:
        pooled, tokens = pooled or pooler or only(2), None
    elif pooling is not None:
        pooled = None
    elif pooled is None:
        pooled = pooler if by_pooler else None if tokens else only(2)
    if (name := pooled or tokens) is not None:
        return Output(name, is_pooled=name == pooled)
    listed = _names(model.graph.output)
    if pooling is not None:
        what = "one vector for each text" if pooling is Pooling.GRAPH else "a vector for each token"
        raise InvalidOption(f"pooling '{pooling}' needs an output with {what}; {file} has {listed}", option="pooling")
    raise InvalidCheckpoint(
        f"{file} has no output that is an embedding, such as {POOLED[0]} (batch, dims) or {TOKENS[0]} (batch, tokens, "
        f"dims); it has {listed}",
        file=file,
    )


def _type_name(kind: int) -> str:
    return TensorProto.DataType.Name(kind).lower() if kind in TensorProto.DataType.values() else f"type {kind}"


def _plain(name: str) -> str:
    """A name without what exporters put around it."""
    return name.lower().partition(":")[0].rpartition("/")[2].removeprefix("serving_default_")


def _sizes(value: onnx.ValueInfoProto) -> list[int | None]:
    return [axis.dim_value if axis.HasField("dim_value") else None for axis in value.type.tensor_type.shape.dim]


def _names(values: Sequence[onnx.ValueInfoProto]) -> str:
    def shape(value: onnx.ValueInfoProto) -> str:
        return ", ".join("?" if size is None else str(size) for size in _sizes(value))

    return ", ".join(f"'{value.name}' ({shape(value)})" for value in values) or "none"
