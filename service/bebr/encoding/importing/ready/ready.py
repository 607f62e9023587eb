"""A folder with a ready ONNX graph -> an embedding model for a bundle.

The graph is the arithmetic; what the files beside it say of tokens, pooling and prompts is taken over, or refused with
the name of its file and field. Then the graph is tried, and what does not hold is refused.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from onnx import TensorProto
from onnx.external_data_helper import set_external_data

from bebr.encoding.bundles.contents import EmbeddingFiles
from bebr.encoding.bundles.manifest import EmbeddingSettings, Pooling, Precision, SourceHashes, canonical_sha256
from bebr.encoding.bundles.writer import EMBEDDING_WEIGHTS
from bebr.encoding.importing.checkpoint import CONFIG, dense_facts, head_of
from bebr.encoding.importing.files.json_file import JsonFile, read_optional
from bebr.encoding.importing.files.sentence_files import SentenceSettings, read_sentence_settings
from bebr.encoding.importing.files.tokenizer_file import TOKENIZER, read_tokenizer
from bebr.encoding.importing.head import Head
from bebr.encoding.importing.options import ImportedModel, ImportOptions
from bebr.encoding.importing.ready.assemble import Recipe, assemble, prune
from bebr.encoding.importing.ready.choice import choose_graph, graphs_in
from bebr.encoding.importing.ready.interface import Output, choose_output, inputs_of
from bebr.encoding.importing.ready.layers import keep_layers
from bebr.encoding.importing.ready.operators import BATCH_WIDE
from bebr.encoding.importing.ready.proof import prove
from bebr.encoding.importing.ready.reading import ReadyGraph, has_operator, read_ready
from bebr.encoding.onnx.session import all_tensors
from bebr.encoding.progress import Progress, silent
from bebr.errors import InvalidCheckpoint, InvalidOption

BUILDER = 1
"""Number of this way to make a bundle of a ready graph; it is part of the fingerprint."""
DEFAULT_LENGTH, MOST_BY_DEFAULT = 512, 8192
"""Tokens that are kept of a text where the files say nothing; and at most, unless it is asked for."""
LEAST_COSINE, LEAST_COSINE_HALF = 0.9999, 0.999
"""How close the embedding of a text in a batch is to that of the text alone, in float32 and in less."""
MAX_GRAPH_BYTES = 1_900_000_000
"""An ONNX file holds at most 2 GB; the weights of a larger graph go to a file of their own."""
SMALL_TENSOR_BYTES = 1024
"""Weights of fewer bytes stay in the graph's file."""
MAX_VOCABULARY = 2**31
OFFSET_FAMILIES = ("roberta", "xlm-roberta", "camembert", "mpnet")
"""Whose first place comes after the id of padding."""
_DECODERS = ("qwen", "mistral", "llama", "gemma", "gpt", "phi", "opt", "bloom", "olmo", "smollm")
"""How `model_type` begins where a model reads from left to right, so that its last token has seen the whole text."""
_PRECISIONS: dict[int, Precision] = {
    TensorProto.FLOAT16: Precision.FP16,
    TensorProto.INT8: Precision.INT8,
    TensorProto.UINT8: Precision.UINT8,
}
"""By the type of weights; all others count as fp32."""
_STEPS = ("read graph", "try graph", "done")


@dataclass(frozen=True)
class _Facts:
    """What the files beside a graph say."""

    said: SentenceSettings
    tokenizer: bytes
    max_length: int
    pad_id: int
    kind: str
    """`model_type`."""

    @property
    def is_clip(self) -> bool:
        return "clip" in self.kind

    @property
    def pooling(self) -> Pooling:
        """How tokens are pooled where nothing says it."""
        return Pooling.LAST if self.is_clip or self.kind.startswith(_DECODERS) else Pooling.MEAN


def import_ready(folder: Path, options: ImportOptions, progress: Progress | None = None) -> ImportedModel:
    """Make the embedding model of a folder that has a ready graph.

    Raises InvalidCheckpoint where something in the folder cannot be taken over, InvalidOption where an option does not
    fit the model.
    """
    progress = progress or silent
    file = choose_graph(graphs_in(folder), options)
    progress(0, len(_STEPS) - 1, _STEPS[0])
    ready = read_ready(folder, file)
    facts = _read_facts(folder, file, options)
    output = choose_output(ready.model, options.pooling, file, by_pooler=facts.is_clip)
    end = output
    if options.layers is not None:
        end = replace(output, name=keep_layers(ready.model, output.name, options.layers, file))
    prune(ready.model, end.name)
    pooling = Pooling.GRAPH if output.is_pooled else options.pooling or facts.said.pooling or facts.pooling
    recipe = Recipe(inputs_of(ready.model, file), end, Head(pooling), facts.pad_id)
    alone = has_operator(ready.model, BATCH_WIDE)
    progress(1, len(_STEPS) - 1, _STEPS[1])
    recipe, dims = _try(ready, recipe, facts, alone=alone)
    said = replace(facts.said, dense=(), pooled_dims=None) if output.is_pooled else facts.said
    recipe = replace(recipe, head=head_of(said, replace(options, pooling=pooling), dims, pooling))
    dims = recipe.head.width(dims)
    graph, weights = _serialize(assemble(ready.model, recipe, dims))
    prove(graph, weights, facts.tokenizer, facts.max_length, file)
    progress(2, len(_STEPS) - 1, _STEPS[2])
    settings = EmbeddingSettings(
        pooling=pooling,
        max_length=facts.max_length,
        precision=options.precision or _precision(ready.model),
        source=SourceHashes(ready.sha256, hashlib.sha256(facts.tokenizer).hexdigest(), _sha256(recipe, options)),
        builder=BUILDER,
        prefixes={**facts.said.prefixes, **options.prefixes},
        alone=alone,
    )
    files = EmbeddingFiles(graph, facts.tokenizer, settings, weights)
    return ImportedModel(files, dims, tuple(_notes(file, output, facts, options, settings)))


def _read_facts(folder: Path, file: str, options: ImportOptions) -> _Facts:
    # Exporters write tokenizer and configuration beside the graph, repositories keep them above its folder.
    beside = folder / Path(file).parent
    home = folder if (folder / TOKENIZER).is_file() or not (beside / TOKENIZER).is_file() else beside
    said = read_sentence_settings(home)
    config = read_optional(home, CONFIG)
    text = config.object("text_config") if "text_config" in config.fields else config
    kind = config.text("model_type")
    vocabulary = text.count("vocab_size") if "vocab_size" in text.fields else None
    return _Facts(
        said=said,
        tokenizer=read_tokenizer(home, lowercase=said.lowercase, vocabulary=vocabulary),
        max_length=_max_length(options, said.max_length, text, kind),
        pad_id=_pad_id(text, vocabulary),
        kind=kind,
    )


def _pad_id(config: JsonFile, vocabulary: int | None) -> int:
    """Token id of padding. It is masked, so any will do where the model has none (null or -1)."""
    if config.fields.get("pad_token_id") in (None, -1):
        return 0
    pad_id, below = config.count("pad_token_id", low=0), vocabulary or MAX_VOCABULARY
    if pad_id >= below:
        raise config.wrong("pad_token_id", f"must be below {below}, the number of words")
    return pad_id


def _max_length(options: ImportOptions, stated: float | None, config: JsonFile, kind: str) -> int:
    """Tokens that are kept of a text: the option, else what the files say, else as many places as the model has."""
    key = next(
        (key for key in ("max_position_embeddings", "n_positions", "max_trained_positions") if key in config.fields),
        None,
    )
    places = None if key is None else config.count(key)
    if places is not None and kind in OFFSET_FAMILIES:
        places -= 1 + config.count("pad_token_id", 1, low=0)
    if options.max_length is not None:
        if options.max_length < 3 or (places is not None and options.max_length > places):
            most = "" if places is None else f" .. {places}"
            raise InvalidOption(f"max_length must be 3{most} for this model, got {options.max_length}")
        return options.max_length
    return int(min(stated or places or DEFAULT_LENGTH, places or MOST_BY_DEFAULT, MOST_BY_DEFAULT))


def _try(ready: ReadyGraph, recipe: Recipe, facts: _Facts, *, alone: bool) -> tuple[Recipe, int]:
    """The recipe by which embeddings do not depend on their batch, and their dims before the rest of the head."""
    least = LEAST_COSINE if _precision(ready.model) is Precision.FP32 else LEAST_COSINE_HALF
    found = []
    for tried in (recipe, recipe.on_left):
        graph, weights = _serialize(assemble(ready.model, tried, None))
        proof = prove(graph, weights, facts.tokenizer, facts.max_length, ready.file)
        if alone or proof.least_cosine >= least:
            return tried, proof.dims
        found.append(proof.least_cosine)
    raise InvalidCheckpoint(
        f"{ready.file}: the embedding of a text depends on the texts that share its batch: its cosine to that of the "
        f"text alone is {max(found):.4f}. The graph does not heed attention_mask; export it anew",
        file=ready.file,
    )


def _serialize(model: onnx.ModelProto) -> tuple[bytes, bytes | None]:
    """The content of the graph's file, and that of the file with its weights, where one file cannot hold both."""
    weights = [tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= SMALL_TENSOR_BYTES]
    if sum(len(tensor.raw_data) for tensor in weights) <= MAX_GRAPH_BYTES:
        return model.SerializeToString(), None
    parts: list[bytes] = []
    place = 0
    for tensor in weights:
        parts.append(tensor.raw_data)
        set_external_data(tensor, EMBEDDING_WEIGHTS, offset=place, length=len(tensor.raw_data))
        place += len(tensor.raw_data)
        tensor.ClearField("raw_data")
    return model.SerializeToString(), b"".join(parts)


def _precision(model: onnx.ModelProto) -> Precision:
    """The number format that most of the weights have."""
    if has_operator(model, frozenset({"MatMulNBits"})):
        return Precision.Q4
    sizes = Counter[int]()
    for tensor in all_tensors(model.graph):
        sizes[tensor.data_type] += math.prod(tensor.dims)
    most = max(sizes, key=lambda kind: sizes[kind], default=TensorProto.FLOAT)
    return _PRECISIONS.get(most, Precision.FP32)


def _sha256(recipe: Recipe, options: ImportOptions) -> str:
    """Of what determines the arithmetic beside the graph's file and the settings."""
    facts = {"output": recipe.output.name, "pad_id": recipe.pad_id, "pads_left": recipe.pads_left}
    return canonical_sha256({**facts, "layers": options.layers, **dense_facts(recipe.head)})


def _notes(
    file: str, output: Output, facts: _Facts, options: ImportOptions, settings: EmbeddingSettings
) -> Iterator[str]:
    after = "" if options.layers is None else f", after layer {options.layers}"
    yield f"taken from {file}, output '{output.name}'{after}"
    if not output.is_pooled and options.pooling is None and facts.said.pooling is None:
        yield f"no file says how to pool; taken is {settings.pooling}, --pooling changes it"
    if settings.alone:
        yield "its integers are scaled by the whole batch, so each text is embedded by itself"
