"""Every field of a checkpoint's files that changes embeddings is taken over or refused; none is a traceback."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.encoding.importing.checkpoints import DIMS, write_checkpoint, write_json

from bebr.encoding import Pooling, TextKind
from bebr.encoding.embedding.tokenization import TextTokenizer
from bebr.encoding.importing.checkpoint import import_checkpoint
from bebr.encoding.importing.options import ImportedModel
from bebr.errors import InvalidCheckpoint, InvalidText

TEXTS = ["The Quick BROWN fox", "the quick brown fox"]
ODD: list[Any] = [None, -1, 0, 1, 2.5, 10**40, 1e400, True, False, "", "x", "../..", [], [1], {}, {"a": 1}, "\ud800"]
FILES = [
    "config.json",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "config_sentence_transformers.json",
]
WHOLE = {
    "tokenizer_config.json": {
        "do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True, "model_max_length": 20,
        "truncation_side": "right", "add_prefix_space": False,
    },
    "config_sentence_transformers.json": {
        "prompts": {"query": "q: ", "document": "d: "}, "default_prompt_name": None, "similarity_fn_name": "cosine",
    },
}  # fmt: skip


def whole_checkpoint(folder: Path, **config: Any) -> Path:
    write_checkpoint(folder, **config)
    for name, content in WHOLE.items():
        write_json(folder / name, content)
    return folder


def change(path: Path, **changes: Any) -> None:
    write_json(path, {**(json.loads(path.read_text()) if path.exists() else {}), **changes})


def tokens(model: ImportedModel) -> list[list[int]]:
    return TextTokenizer(model.files.tokenizer, model.files.settings.max_length).encode(TEXTS)


def cased(folder: Path) -> None:
    """Make the tokenizer tell upper case from lower case, as in a cased model."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    write_json(folder / "tokenizer.json", tokenizer)


@pytest.mark.parametrize("name", ["sentence_bert_config.json", "sentence_roberta_config.json"])
@pytest.mark.parametrize("normalizer", ["bert", "none"])
def test_a_model_that_lowercases_gives_one_embedding_to_two_casings(tmp_path: Path, name: str, normalizer: str) -> None:
    cased(write_checkpoint(tmp_path))
    if normalizer == "none":
        tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
        write_json(tmp_path / "tokenizer.json", {**tokenizer, "normalizer": None})
    upper, lower = tokens(import_checkpoint(tmp_path))
    assert upper != lower, "the tokenizer alone tells them apart"
    (tmp_path / "sentence_bert_config.json").unlink()
    write_json(tmp_path / name, {"max_seq_length": 24, "do_lower_case": True})
    model = import_checkpoint(tmp_path)
    assert tokens(model) == [lower, lower]
    assert model.files.settings.max_length == 24


def test_the_tokenizers_own_configuration_counts(tmp_path: Path) -> None:
    """As in transformers, where tokenizer_config.json overrides what tokenizer.json stores."""
    cased(write_checkpoint(tmp_path))
    change(tmp_path / "tokenizer_config.json", do_lower_case=True)
    upper, lower = tokens(import_checkpoint(tmp_path))
    assert upper == lower
    change(tmp_path / "tokenizer_config.json", do_lower_case=False)
    upper, lower = tokens(import_checkpoint(tmp_path))
    assert upper != lower


def test_a_tokenizer_that_needs_no_change_keeps_its_bytes(tmp_path: Path) -> None:
    whole_checkpoint(tmp_path)
    change(tmp_path / "sentence_bert_config.json", do_lower_case=True)
    assert import_checkpoint(tmp_path).files.tokenizer == (tmp_path / "tokenizer.json").read_bytes()


def test_prompts_are_chosen_as_sentence_transformers_does(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    said = tmp_path / "config_sentence_transformers.json"
    for content, query, passage in (
        ({"prompts": {"query": "q", "passage": "p", "document": "d"}}, "q", "d"),
        ({"prompts": {"corpus": "c"}}, "", "c"),
        ({"prompts": {"all": "a", "query": "q"}, "default_prompt_name": "all"}, "q", "a"),
        ({"prompts": None, "default_prompt_name": None}, "", ""),
    ):
        write_json(said, content)
        prefixes = import_checkpoint(tmp_path).files.settings.prefixes
        assert prefixes == {TextKind.QUERY: query, TextKind.PASSAGE: passage}, content


def test_fields_that_change_nothing_are_left_alone(tmp_path: Path) -> None:
    whole_checkpoint(
        tmp_path, is_decoder=False, pruned_heads={}, torch_dtype="float32", use_cache=True, rope_scaling=None
    )
    change(tmp_path / "sentence_bert_config.json", model_args={}, transformer_task="feature-extraction")
    change(tmp_path / "1_Pooling/config.json", include_prompt=True)
    assert import_checkpoint(tmp_path).files.settings.pooling is Pooling.MEAN


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("config.json", {"is_decoder": True}),
        ("config.json", {"add_cross_attention": True}),
        ("config.json", {"pruned_heads": {"0": [1]}}),
        ("config.json", {"quantization_config": {"bits": 4}}),
        ("config.json", {"auto_map": {"AutoModel": "modeling.Model"}}),
        ("config.json", {"layer_norm_eps": None}),
        ("config.json", {"layer_norm_eps": "1e-6"}),
        ("config.json", {"layer_norm_eps": -1e-6}),
        ("1_Pooling/config.json", {"word_embedding_dimension": DIMS * 2}),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": "yes"}),
        ("sentence_bert_config.json", {"do_lower_case": "yes"}),
        ("sentence_bert_config.json", {"max_seq_length": "24"}),
        ("sentence_bert_config.json", {"max_seq_length": 2}),
        ("sentence_bert_config.json", {"model_args": {"trust_remote_code": True}}),
        ("tokenizer_config.json", {"do_lower_case": 1}),
        ("tokenizer_config.json", {"truncation_side": "left"}),
        ("config_sentence_transformers.json", {"prompts": ["q"]}),
        ("config_sentence_transformers.json", {"prompts": {"query": 7}}),
        ("config_sentence_transformers.json", {"default_prompt_name": "missing"}),
    ],
)
def test_what_cannot_be_taken_over_is_refused_by_file_and_field(
    tmp_path: Path, name: str, changes: dict[str, Any]
) -> None:
    change(whole_checkpoint(tmp_path) / name, **changes)
    with pytest.raises(InvalidCheckpoint) as caught:
        import_checkpoint(tmp_path)
    (key,) = changes
    assert name in str(caught.value)
    assert key in str(caught.value) or "query" in str(caught.value)


def test_embeddings_that_are_not_compared_by_cosine_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    change(tmp_path / "config_sentence_transformers.json", similarity_fn_name="dot")
    import_checkpoint(tmp_path)  # it normalizes, so the dot product is the cosine
    modules = json.loads((tmp_path / "modules.json").read_text())
    write_json(tmp_path / "modules.json", modules[:2])
    with pytest.raises(InvalidCheckpoint, match="similarity_fn_name"):
        import_checkpoint(tmp_path)


@pytest.mark.parametrize("pad", [None, -1, 39, 40, 10**9, True, "1", 1.0])
def test_a_padding_id_that_leaves_no_positions_is_refused(tmp_path: Path, pad: Any) -> None:
    write_checkpoint(tmp_path, family="roberta", pad_token_id=pad)
    with pytest.raises(InvalidCheckpoint, match=r"config\.json: pad_token_id"):
        import_checkpoint(tmp_path)


def test_a_tokenizer_without_special_tokens_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    write_json(tmp_path / "tokenizer.json", {**tokenizer, "post_processor": None})
    with pytest.raises(InvalidCheckpoint, match="no special tokens"):
        import_checkpoint(tmp_path)


def test_a_tokenizer_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    """The library panics over it, with what is no Exception."""
    write_checkpoint(tmp_path)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    del tokenizer["post_processor"]["special_tokens"]["[CLS]"]
    write_json(tmp_path / "tokenizer.json", tokenizer)
    with pytest.raises(InvalidCheckpoint, match="contradicts itself"):
        import_checkpoint(tmp_path)
    with pytest.raises(InvalidText, match="contradicts itself"):
        TextTokenizer(json.dumps(tokenizer).encode()).encode(["a", "b"])


@pytest.mark.parametrize("name", FILES)
def test_no_value_of_any_field_is_a_traceback(tmp_path: Path, name: str) -> None:
    """One field at a time gets a value that nobody expects: the import works, or names what is wrong."""
    whole_checkpoint(tmp_path, family="roberta")
    path = tmp_path / name
    sound = json.loads(path.read_text())
    fields = [(sound, key) for key in sound] if isinstance(sound, dict) else [(m, key) for m in sound for key in m]
    refused = 0
    for owner, key in fields:
        kept = owner[key]
        for odd in ODD:
            owner[key] = odd
            write_json(path, sound)
            refused += is_refused(tmp_path)
        owner[key] = kept
    assert refused > len(fields)


@pytest.mark.parametrize("name", [*FILES, "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"{}", b"[" * 50_000, b'{"a":' * 50_000, b"\xff\xfe\x00", b"7" * 5000, b"NaN", bytes(64)],
    ids=range(10),
)
def test_no_content_of_any_file_is_a_traceback(tmp_path: Path, name: str, content: bytes) -> None:
    whole_checkpoint(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert is_refused(tmp_path) or content in (b"{}", b"[]")


def test_a_module_outside_the_folder_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "model")
    write_checkpoint(tmp_path / "other")
    modules = json.loads((tmp_path / "model" / "modules.json").read_text())
    modules[1]["path"] = "../other/1_Pooling"
    write_json(tmp_path / "model" / "modules.json", modules)
    with pytest.raises(InvalidCheckpoint, match="outside"):
        import_checkpoint(tmp_path / "model")


def is_refused(folder: Path) -> bool:
    try:
        import_checkpoint(folder)
    except InvalidCheckpoint as error:
        assert "Traceback" not in error.detail
        return True
    return False
