"""What the files of sentence-transformers say beside the model itself: pooling, Dense layers, length, prefixes, case.

modules.json, 1_Pooling/config.json        how to pool
2_Dense/config.json, model.safetensors     Dense layers after that
sentence_bert_config.json                  the maximal length, and whether texts are lowercased first
config_sentence_transformers.json          prefixes ("prompts"), how embeddings are compared and cut short

What changes embeddings or scores is taken over or refused; what does not is left alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bebr.encoding.bundles.manifest import Pooling, TextKind
from bebr.encoding.importing.files.dense_files import read_dense
from bebr.encoding.importing.files.json_file import JsonFile, read_json, read_json_file, read_optional
from bebr.encoding.importing.head import Dense
from bebr.errors import InvalidCheckpoint

MODULES = "modules.json"
FAMILY_FILES = tuple(
    f"sentence_{family}_config.json" for family in ("bert", "roberta", "distilbert", "camembert", "xlm-roberta")
)
"""The first that is there is read, as sentence-transformers does."""
PROMPTS = "config_sentence_transformers.json"
_BY_ROOT = "mean_sqrt_len_tokens"
"""Of the same direction as the mean."""
_POOLINGS = {
    "mean_tokens": Pooling.MEAN,
    "mean": Pooling.MEAN,
    _BY_ROOT: Pooling.MEAN,
    "cls_token": Pooling.CLS,
    "cls": Pooling.CLS,
    "max_tokens": Pooling.MAX,
    "max": Pooling.MAX,
    "lasttoken": Pooling.LAST,
    "weightedmean_tokens": Pooling.WEIGHTED_MEAN,
    "weightedmean": Pooling.WEIGHTED_MEAN,
}
_PASSAGE_PROMPTS = ("document", "passage", "corpus")
"""Names of a passage's prompt; the first that is there counts."""


@dataclass(frozen=True)
class SentenceSettings:
    """What a checkpoint says of its embeddings."""

    pooling: Pooling | None
    """None where nothing is said."""
    pooled_dims: int | None
    """Dims of what is pooled; None where nothing is said."""
    dense: tuple[Dense, ...]
    dims: int | None
    """Only the first so many numbers of an embedding are kept; None: all."""
    max_length: float | None
    """Tokens that are kept of a text; None where nothing is said."""
    lowercase: bool
    """Whether texts are lowercased before they are tokenized."""
    prefixes: Mapping[TextKind, str]


def read_sentence_settings(folder: Path) -> SentenceSettings:
    """Read the files of a checkpoint. Raises InvalidCheckpoint naming file and field."""
    modules = _read_modules(folder)
    sentence = read_optional(
        folder, next((name for name in FAMILY_FILES if (folder / name).is_file()), FAMILY_FILES[0])
    )
    sentence.refuse_unless(transformer_task="feature-extraction", module_output_name="last_hidden_state")
    sentence.refuse_unless(model_args={}, tokenizer_args={}, config_args={}, processor_args={})
    pooling, pooled_dims = _read_pooling(folder, modules) if modules is not None else (None, None)
    prompts = read_optional(folder, PROMPTS)
    normalizes = modules is None or modules[-1].text("type").endswith(".Normalize")
    return SentenceSettings(
        pooling=pooling,
        pooled_dims=pooled_dims,
        dense=tuple(
            read_dense(folder, module.text("path"))
            for module in modules or ()
            if module.text("type").endswith(".Dense")
        ),
        dims=prompts.count("truncate_dim") if prompts.fields.get("truncate_dim") is not None else None,
        max_length=_stated_length(sentence, read_optional(folder, "tokenizer_config.json")),
        lowercase=sentence.flag("do_lower_case") or False,
        prefixes=_read_prefixes(prompts, normalizes=normalizes),
    )


def _read_modules(folder: Path) -> list[JsonFile] | None:
    """The modules of modules.json: Transformer > Pooling > any Dense > Normalize or not; None without such a file.

    Whether it normalizes does not matter: bebr always does.
    """
    if not (folder / MODULES).is_file():
        return None
    found = read_json(folder, MODULES)
    if not isinstance(found, list) or not all(isinstance(module, dict) for module in found):
        raise InvalidCheckpoint(f"{MODULES}: expected an array of objects", file=MODULES)
    modules = [JsonFile(MODULES, module) for module in found]
    kinds = [module.text("type").rpartition(".")[2] for module in modules]
    after = kinds[2:-1] if kinds[2:] and kinds[-1] == "Normalize" else kinds[2:]
    if kinds[:2] != ["Transformer", "Pooling"] or set(after) - {"Dense"} or modules[0].text("path"):
        raise InvalidCheckpoint(
            f"{MODULES}: the modules {' > '.join(kinds)} are not supported, only Transformer > Pooling > Dense > "
            "Normalize with the transformer in the folder itself",
            file=MODULES,
        )
    return modules


def _read_pooling(folder: Path, modules: list[JsonFile]) -> tuple[Pooling, int | None]:
    """How to pool, and the dims of what is pooled, where that is said."""
    config = read_json_file(folder, f"{modules[1].text('path') or '1_Pooling'}/config.json")
    flags = [key for key in config.fields if key.startswith("pooling_mode_") and config.flag(key)]
    modes = {key.removeprefix("pooling_mode_") for key in flags}
    modes |= {config.text("pooling_mode")} if "pooling_mode" in config.fields else set()
    if len(modes) != 1 or not modes <= set(_POOLINGS) or config.flag("include_prompt") is False:
        raise InvalidCheckpoint(
            f"{config.name}: pooling {sorted(modes)} is not supported; only one of {', '.join(_POOLINGS)} over all "
            "tokens is",
            file=config.name,
        )
    if modes == {_BY_ROOT} and len(modules) > 2 and not modules[2].text("type").endswith(".Normalize"):
        raise InvalidCheckpoint(
            f"{config.name}: pooling {_BY_ROOT} before a Dense layer is not supported", file=config.name
        )
    stated = [key for key in ("word_embedding_dimension", "embedding_dimension") if config.fields.get(key) is not None]
    return _POOLINGS[modes.pop()], config.count(stated[0]) if stated else None


def _stated_length(sentence: JsonFile, tokenizer: JsonFile) -> float | None:
    """The maximal length that the checkpoint states. A tokenizer without a limit states 10^30."""
    for file, key in ((sentence, "max_seq_length"), (tokenizer, "model_max_length")):
        if file.fields.get(key) is not None:
            stated = file.number(key, 0)
            if stated < 3:
                raise file.wrong(key, "must be at least 3; give max_length")
            return stated
    return None


def _read_prefixes(config: JsonFile, *, normalizes: bool) -> dict[TextKind, str]:
    if not normalizes and config.text("similarity_fn_name") not in ("", "cosine"):
        raise config.wrong("similarity_fn_name", "is not supported without a Normalize module: bebr compares by cosine")
    prompts = config.object("prompts")
    default = config.text("default_prompt_name")
    if default and default not in prompts.fields:
        raise config.wrong("default_prompt_name", f"must be one of {', '.join(prompts.fields) or 'no prompts'}")

    def prompt(*names: str) -> str:
        return prompts.text(next((name for name in names if name in prompts.fields), default))

    return {TextKind.QUERY: prompt("query"), TextKind.PASSAGE: prompt(*_PASSAGE_PROMPTS)}


def known_files() -> tuple[str, ...]:
    """Patterns of the files that are read here."""
    return (MODULES, "*/config.json", "*_Dense/model.safetensors", *FAMILY_FILES, PROMPTS)
