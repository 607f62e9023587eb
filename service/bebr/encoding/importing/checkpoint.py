"""A sentence-transformers checkpoint folder -> an embedding model for a bundle. No torch, no network.

config.json, model.safetensors, tokenizer.json            must be there
modules.json, 1_Pooling/config.json                       say how to pool; mean without them
sentence_bert_config.json, tokenizer_config.json          say the maximal length
config_sentence_transformers.json                         may give prefixes ("prompts")
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bebr.encoding.bundles.contents import EmbeddingFiles
from bebr.encoding.bundles.manifest import (
    EmbeddingSettings,
    Pooling,
    Precision,
    SourceHashes,
    TextKind,
    canonical_sha256,
)
from bebr.encoding.embedding.tokenization import TextTokenizer
from bebr.encoding.importing.architecture import Tensors, Transformer, read_transformer
from bebr.encoding.importing.transformer import BUILDER, build_graph
from bebr.encoding.progress import Progress, silent
from bebr.errors import InvalidCheckpoint, InvalidOption

CHECKPOINT_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "modules.json",
    "*/config.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "config_sentence_transformers.json",
)
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
    config = _read_json(folder / "config.json")
    pooling = options.pooling or _read_pooling(folder)
    progress(0, len(_STEPS) - 1, _STEPS[0])
    weights_path = _existing(folder / "model.safetensors")
    if weights_path.stat().st_size > MAX_WEIGHTS_BYTES:
        raise InvalidCheckpoint("the model has more than 1.9 GB of weights; an ONNX file holds at most 2 GB")
    model = read_transformer(config, Tensors(weights_path))
    with weights_path.open("rb") as file:
        weights_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    tokenizer = _read_tokenizer(folder / "tokenizer.json", len(model.words))
    settings = EmbeddingSettings(
        pooling=pooling,
        max_length=_max_length(folder, options, model),
        precision=options.precision,
        source=SourceHashes(weights_sha256, hashlib.sha256(tokenizer).hexdigest(), canonical_sha256(model.facts())),
        builder=BUILDER,
        prefixes={**_read_prefixes(folder), **options.prefixes},
    )
    progress(1, len(_STEPS) - 1, _STEPS[1])
    graph = build_graph(model, settings.pooling, settings.precision)
    progress(2, len(_STEPS) - 1, _STEPS[2])
    return ImportedModel(EmbeddingFiles(graph, tokenizer, settings), model.dims)


def _existing(path: Path) -> Path:
    if not path.is_file():
        hint = ""
        if path.name == "model.safetensors" and any(path.parent.glob("pytorch_model*.bin")):
            hint = "; weights in pytorch_model.bin are not read, convert them to safetensors"
        raise InvalidCheckpoint(f"{path.parent} has no {path.name}{hint}", file=path.name)
    return path


def _read_json(path: Path) -> dict[str, Any]:
    value = _parse_json(_existing(path))
    if not isinstance(value, dict):
        raise InvalidCheckpoint(f"{path.name}: expected an object, got {type(value).__name__}", file=path.name)
    return value


def _read_optional(path: Path) -> dict[str, Any]:
    return _read_json(path) if path.is_file() else {}


def _parse_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise InvalidCheckpoint(f"{path.name} is not valid JSON: {error}", file=path.name) from error


def _read_pooling(folder: Path) -> Pooling:
    """How modules.json pools. Whether it also normalizes does not matter: bebr always does."""
    if not (folder / "modules.json").is_file():
        return Pooling.MEAN
    modules = _parse_json(folder / "modules.json")
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise InvalidCheckpoint("modules.json: expected an array of objects", file="modules.json")
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]) or modules[0].get("path"):
        raise InvalidCheckpoint(
            f"modules.json: the modules {' > '.join(kinds)} are not supported, only Transformer > Pooling > Normalize "
            "with the transformer in the folder itself",
            file="modules.json",
        )
    return _pooling_of(_read_json(folder / str(modules[1].get("path", "1_Pooling")) / "config.json"))


def _pooling_of(config: Mapping[str, Any]) -> Pooling:
    modes = {key.removeprefix("pooling_mode_") for key, on in config.items() if key.startswith("pooling_mode_") and on}
    modes |= {str(config["pooling_mode"])} if "pooling_mode" in config else set()
    names = {"mean_tokens": Pooling.MEAN, "mean": Pooling.MEAN, "cls_token": Pooling.CLS, "cls": Pooling.CLS}
    if len(modes) != 1 or not modes <= set(names) or config.get("include_prompt", True) is False:
        raise InvalidCheckpoint(
            f"1_Pooling/config.json: pooling {sorted(modes)} is not supported; only mean or cls over all tokens is",
            file="config.json",
        )
    return names[modes.pop()]


def _max_length(folder: Path, options: ImportOptions, model: Transformer) -> int:
    """Tokens that are kept of a text: the option, else what the checkpoint says, else all positions."""
    positions = len(model.positions)
    if options.max_length is not None:
        if not 3 <= options.max_length <= positions:
            raise InvalidOption(f"max_length must be 3 .. {positions} for this model, got {options.max_length}")
        return options.max_length
    sentence = _read_optional(folder / "sentence_bert_config.json")
    tokenizer = _read_optional(folder / "tokenizer_config.json")
    # A tokenizer without a limit states 10^30.
    stated = sentence.get("max_seq_length") or tokenizer.get("model_max_length") or positions
    if not isinstance(stated, int | float) or stated < 3:
        raise InvalidCheckpoint(f"the checkpoint states a maximal length of {stated!r}; give max_length")
    return int(min(stated, positions))


def _read_prefixes(folder: Path) -> dict[TextKind, str]:
    prompts = _read_optional(folder / "config_sentence_transformers.json").get("prompts") or {}
    passage = prompts.get("passage", prompts.get("document", ""))
    return {TextKind.QUERY: str(prompts.get("query") or ""), TextKind.PASSAGE: str(passage or "")}


def _read_tokenizer(path: Path, vocabulary: int) -> bytes:
    """Bytes of tokenizer.json, after a check that the graph knows all its ids."""
    data = _existing(path).read_bytes()
    try:
        largest = TextTokenizer(data).largest_id
    except ValueError as error:
        raise InvalidCheckpoint(f"tokenizer.json cannot be read: {error}", file=path.name) from error
    if largest >= vocabulary:
        raise InvalidCheckpoint(
            f"tokenizer.json has token id {largest}, but the model knows {vocabulary} words", file=path.name
        )
    return data
