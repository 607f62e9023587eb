"""tokenizer.json of a checkpoint, as its libraries would use it.

Beside it lie switches that they apply when they load it: tokenizer_config.json says how a BERT tokenizer treats case,
accents and Chinese characters, and sentence-transformers may lowercase texts before. They are written into the content
here, so that a bundle's tokenizer.json says everything. Where nothing differs its bytes stay as they are.
"""

import json
from pathlib import Path
from typing import Any

from bebr.encoding.embedding.tokenization import TextTokenizer
from bebr.encoding.importing.files.json_file import JsonFile, read_bytes, read_optional
from bebr.errors import InvalidCheckpoint, InvalidText

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
_BERT_SWITCHES = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
"""Field of tokenizer_config.json -> field of a BertNormalizer."""


def read_tokenizer(folder: Path, *, lowercase: bool, vocabulary: int | None) -> bytes:
    """The content of tokenizer.json with the switches beside it applied.

    lowercase: whether texts are lowercased first. vocabulary: how many token ids the model knows; None: unknown. Raises
    InvalidCheckpoint where the file is no tokenizer, knows more, or makes no token of an empty text.
    """
    content = read_bytes(folder, TOKENIZER)
    _check(content, vocabulary)
    config = read_optional(folder, TOKENIZER_CONFIG)
    config.refuse_unless(truncation_side="right")
    tokenizer = json.loads(content)
    before = json.dumps(tokenizer)
    _apply_switches(tokenizer, config)
    if lowercase and not _lowercases(tokenizer):
        _lowercase_first(tokenizer)
    if json.dumps(tokenizer) == before:
        return content
    changed = json.dumps(tokenizer, ensure_ascii=False).encode()
    _check(changed, vocabulary)
    return changed


def _check(content: bytes, vocabulary: int | None) -> None:
    try:
        tokenizer = TextTokenizer(content)
    except ValueError as error:
        raise InvalidCheckpoint(f"{TOKENIZER} cannot be read: {error}", file=TOKENIZER) from error
    if vocabulary is not None and tokenizer.largest_id >= vocabulary:
        raise InvalidCheckpoint(
            f"{TOKENIZER} has token id {tokenizer.largest_id}, but the model knows {vocabulary} words", file=TOKENIZER
        )
    try:
        empty = tokenizer.encode([""])[0]
    except InvalidText as error:
        raise InvalidCheckpoint(f"{TOKENIZER}: {error.detail}", file=TOKENIZER) from error
    if not empty:
        raise InvalidCheckpoint(
            f"{TOKENIZER} adds no special tokens, so an empty text has nothing to embed; "
            "save it with its post_processor",
            file=TOKENIZER,
        )


def _apply_switches(tokenizer: dict[str, Any], config: JsonFile) -> None:
    """What the class of the tokenizer does with tokenizer_config.json when it is loaded."""
    normalizer, splitter = _part(tokenizer, "normalizer"), _part(tokenizer, "pre_tokenizer")
    if normalizer and normalizer["type"] == "BertNormalizer":
        for key, name in _BERT_SWITCHES.items():
            if key in config.fields:
                is_on = config.flag(key)
                normalizer[name] = is_on if is_on is not None or key == "strip_accents" else normalizer[name]
    if splitter and splitter["type"] == "ByteLevel" and config.flag("add_prefix_space") is not None:
        splitter["add_prefix_space"] = config.flag("add_prefix_space")


def _part(tokenizer: dict[str, Any], key: str) -> dict[str, Any] | None:
    """A step of the tokenizer. The library that reads the file takes some that have no type."""
    part = tokenizer.get(key)
    if part is not None and not (isinstance(part, dict) and isinstance(part.get("type"), str)):
        raise InvalidCheckpoint(f"{TOKENIZER}: '{key}' must be an object with a type, got {part!r:.80}", file=TOKENIZER)
    return part


def _lowercases(tokenizer: dict[str, Any]) -> bool:
    normalizer = _part(tokenizer, "normalizer") or {}
    return normalizer.get("type") == "Lowercase" or bool(normalizer.get("lowercase"))


def _lowercase_first(tokenizer: dict[str, Any]) -> None:
    normalizer = tokenizer.get("normalizer")
    steps = [{"type": "Lowercase"}, *([normalizer] if normalizer else [])]
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": steps}
