"""A sentence-transformers checkpoint folder -> an embedding model for a bundle. No torch, no network.

config.json, model.safetensors and tokenizer.json must be there; `sentence_files` and `tokenizer_file` read the others.
Whatever would change embeddings is taken over, or refused with the name of its file and field.
"""

import hashlib
from pathlib import Path
from typing import Any

from bebr.core.arrays import Floats
from bebr.encoding.bundles.contents import EmbeddingFiles
from bebr.encoding.bundles.manifest import EmbeddingSettings, Pooling, Precision, SourceHashes, canonical_sha256
from bebr.encoding.importing.architecture import FAMILIES, Transformer, read_transformer
from bebr.encoding.importing.files.json_file import JsonFile, existing, read_json_file
from bebr.encoding.importing.files.sentence_files import SentenceSettings, known_files, read_sentence_settings
from bebr.encoding.importing.files.tensors import Tensors
from bebr.encoding.importing.files.tokenizer_file import TOKENIZER, TOKENIZER_CONFIG, read_tokenizer
from bebr.encoding.importing.head import Dense, Head
from bebr.encoding.importing.modern import MODEL_TYPE, ModernTransformer, build_modern, read_modern
from bebr.encoding.importing.options import ImportedModel, ImportOptions
from bebr.encoding.importing.transformer import BUILDER, build_graph
from bebr.encoding.progress import Progress, silent
from bebr.errors import InvalidCheckpoint, InvalidOption

CONFIG, WEIGHTS = "config.json", "model.safetensors"
SMALL_FILES = (CONFIG, TOKENIZER, TOKENIZER_CONFIG, *known_files())
"""Patterns of the files that an import reads beside the model itself; nothing else needs to be fetched."""
SUPPORTED = (*FAMILIES, MODEL_TYPE)
"""What `model_type` may say."""
PRECISIONS = (Precision.FP32, Precision.INT8)
"""Of the graphs that are built here."""
MAX_WEIGHTS_BYTES = 1_900_000_000
_STEPS = ("read weights", "build graph", "done")


def import_checkpoint(
    folder: Path, options: ImportOptions | None = None, progress: Progress | None = None
) -> ImportedModel:
    """Build the embedding model of a checkpoint folder.

    Raises InvalidCheckpoint where the folder is incomplete, damaged or of an unsupported kind, InvalidOption where an
    option does not fit the model.
    """
    options, progress = options or ImportOptions(), progress or silent
    precision = options.precision or Precision.FP32
    _check_options(options, precision)
    config = read_json_file(folder, CONFIG)
    progress(0, len(_STEPS) - 1, _STEPS[0])
    tensors, weights_sha256 = _read_weights(folder)
    model = _read_model(config, tensors, options.layers)
    said = read_sentence_settings(folder)
    tokenizer = read_tokenizer(folder, lowercase=said.lowercase, vocabulary=len(model.words))
    head = head_of(said, options, model.dims, said.pooling or Pooling.MEAN)
    settings = EmbeddingSettings(
        pooling=head.pooling,
        max_length=_max_length(options, said.max_length, model.max_tokens),
        precision=precision,
        source=SourceHashes(
            weights_sha256, hashlib.sha256(tokenizer).hexdigest(), canonical_sha256(model.facts() | dense_facts(head))
        ),
        builder=BUILDER,
        prefixes={**said.prefixes, **options.prefixes},
    )
    progress(1, len(_STEPS) - 1, _STEPS[1])
    graph = _build(model, head, precision)
    progress(2, len(_STEPS) - 1, _STEPS[2])
    return ImportedModel(EmbeddingFiles(graph, tokenizer, settings), head.width(model.dims))


def _check_options(options: ImportOptions, precision: Precision) -> None:
    """Raise InvalidOption for what only a ready graph can give."""
    if precision not in PRECISIONS:
        raise InvalidOption(f"of a checkpoint a graph is built as fp32 or int8; {precision} needs a ready ONNX file")
    if options.pooling is Pooling.GRAPH:
        raise InvalidOption("pooling 'graph' needs a ready ONNX file that has an embedding among its outputs")


def _read_model(config: JsonFile, tensors: Tensors, layers: int | None) -> Transformer | ModernTransformer:
    is_modern = config.fields.get("model_type") == MODEL_TYPE
    depth_of = FAMILIES.get(str(config.fields.get("model_type")))
    if layers is not None and (is_modern or depth_of is not None):
        depth = config.count(depth_of.depth if depth_of else "num_hidden_layers")
        if not 1 <= layers <= depth:
            raise InvalidOption(f"layers must be 1 .. {depth} for this model, got {layers}")
    return read_modern(config, tensors, layers) if is_modern else read_transformer(config, tensors, layers)


def _build(model: Transformer | ModernTransformer, head: Head, precision: Precision) -> bytes:
    if isinstance(model, ModernTransformer):
        return build_modern(model, head, precision)
    return build_graph(model, head, precision)


def head_of(said: SentenceSettings, options: ImportOptions, dims: int, pooling: Pooling) -> Head:
    """What makes one embedding of token vectors (tokens, dims): the options, else what the files say, else `pooling`.

    Raises InvalidCheckpoint where the files say other dims, InvalidOption where more dims are wanted than there are.
    """
    if said.pooled_dims not in (None, dims):
        raise InvalidCheckpoint(
            f"1_Pooling/config.json: word_embedding_dimension is {said.pooled_dims}, the model has {dims} dims"
        )
    width = dims
    for layer in said.dense:
        if len(layer.weight) != width:
            raise InvalidCheckpoint(f"modules.json: a Dense layer takes {len(layer.weight)} dims, but gets {width}")
        width = layer.weight.shape[1]
    kept = options.dims or said.dims
    if kept is not None and kept > width:
        raise InvalidOption(f"dims must be 1 .. {width} for this model, got {kept}")
    return Head(options.pooling or pooling, said.dense, None if kept == width else kept)


def dense_facts(head: Head) -> dict[str, Any]:
    """What of a head beside pooling and dims determines the embeddings; nothing where there is no Dense layer."""

    def facts(layer: Dense) -> list[Any]:
        arrays: list[Floats] = [layer.weight, *([] if layer.bias is None else [layer.bias])]
        return [str(layer.activation), *(hashlib.sha256(array.tobytes()).hexdigest() for array in arrays)]

    return {"dense": [facts(layer) for layer in head.dense]} if head.dense else {}


def _max_length(options: ImportOptions, stated: float | None, positions: int) -> int:
    """Tokens that are kept of a text: the option, else what the checkpoint says, else all positions."""
    if options.max_length is None:
        return int(min(stated or positions, positions))
    if not 3 <= options.max_length <= positions:
        raise InvalidOption(f"max_length must be 3 .. {positions} for this model, got {options.max_length}")
    return options.max_length


def _read_weights(folder: Path) -> tuple[Tensors, str]:
    """The tensors of model.safetensors, and its SHA-256."""
    if not (folder / WEIGHTS).is_file() and any(folder.glob("pytorch_model*.bin")):
        raise InvalidCheckpoint(
            f"{folder} has no {WEIGHTS}; weights in pytorch_model.bin are not read, convert them to safetensors",
            file=WEIGHTS,
        )
    path = existing(folder, WEIGHTS)
    if path.stat().st_size > MAX_WEIGHTS_BYTES:
        raise InvalidCheckpoint("the model has more than 1.9 GB of weights; an ONNX file holds at most 2 GB")
    with path.open("rb") as file:
        return Tensors(path), hashlib.file_digest(file, "sha256").hexdigest()
