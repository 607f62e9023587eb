"""A sentence-transformers checkpoint folder -> an embedding model for a bundle. No torch, no network.

config.json, model.safetensors and tokenizer.json must be there; `sentence_files` and `tokenizer_file` read the others.
Whatever would change embeddings is taken over, or refused with the name of its file and field.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bebr.encoding.bundles.contents import EmbeddingFiles
from bebr.encoding.bundles.manifest import (
    EmbeddingSettings,
    Pooling,
    Precision,
    SourceHashes,
    TextKind,
    canonical_sha256,
)
from bebr.encoding.importing.architecture import Tensors, read_transformer
from bebr.encoding.importing.json_file import existing, read_json_file
from bebr.encoding.importing.sentence_files import known_files, read_sentence_settings
from bebr.encoding.importing.tokenizer_file import TOKENIZER, TOKENIZER_CONFIG, read_tokenizer
from bebr.encoding.importing.transformer import BUILDER, build_graph
from bebr.encoding.progress import Progress, silent
from bebr.errors import InvalidCheckpoint, InvalidOption

CONFIG, WEIGHTS = "config.json", "model.safetensors"
CHECKPOINT_FILES = (CONFIG, WEIGHTS, TOKENIZER, TOKENIZER_CONFIG, *known_files())
"""Patterns of the files that an import reads; nothing else needs to be fetched."""
MAX_WEIGHTS_BYTES = 1_900_000_000
_STEPS = ("read weights", "build graph", "done")


@dataclass(frozen=True)
class ImportOptions:
    """What to do differently from what the checkpoint says."""

    precision: Precision = Precision.FP32
    pooling: Pooling | None = None
    """None: as the checkpoint says."""
    max_length: int | None = None
    """Tokens that are kept of a text. None: as the checkpoint says."""
    prefixes: Mapping[TextKind, str] = field(default_factory=dict)
    """Those that are missing are as the checkpoint says."""


@dataclass(frozen=True)
class ImportedModel:
    """An embedding model that was built from a checkpoint."""

    files: EmbeddingFiles
    dims: int
    """Dims of its embeddings."""


def import_checkpoint(
    folder: Path, options: ImportOptions | None = None, progress: Progress | None = None
) -> ImportedModel:
    """Build the embedding model of a checkpoint folder.

    Raises InvalidCheckpoint where the folder is incomplete, damaged or of an unsupported kind, InvalidOption where an
    option does not fit the model.
    """
    options, progress = options or ImportOptions(), progress or silent
    config = read_json_file(folder, CONFIG)
    progress(0, len(_STEPS) - 1, _STEPS[0])
    tensors, weights_sha256 = _read_weights(folder)
    model = read_transformer(config, tensors)
    said = read_sentence_settings(folder, model.dims)
    tokenizer = read_tokenizer(folder, lowercase=said.lowercase, vocabulary=len(model.words))
    settings = EmbeddingSettings(
        pooling=options.pooling or said.pooling,
        max_length=_max_length(options, said.max_length, len(model.positions)),
        precision=options.precision,
        source=SourceHashes(weights_sha256, hashlib.sha256(tokenizer).hexdigest(), canonical_sha256(model.facts())),
        builder=BUILDER,
        prefixes={**said.prefixes, **options.prefixes},
    )
    progress(1, len(_STEPS) - 1, _STEPS[1])
    graph = build_graph(model, settings.pooling, settings.precision)
    progress(2, len(_STEPS) - 1, _STEPS[2])
    return ImportedModel(EmbeddingFiles(graph, tokenizer, settings), model.dims)


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
