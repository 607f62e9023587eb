"""Tokenizers: what a checkpoint stored about padding and truncation does not count, and bad texts are named."""

import pytest
from tests.encoding.importing.checkpoints import tiny_tokenizer

from bebr.encoding.embedding.tokenization import TextTokenizer
from bebr.errors import InvalidText

TEXT = "parse a date string " * 20


def content(*, padding: int | None = None, truncation: int | None = None) -> bytes:
    """tokenizer.json, with what its last user left in it."""
    tokenizer = tiny_tokenizer()
    if padding is not None:
        tokenizer.enable_padding(length=padding)
    if truncation is not None:
        tokenizer.enable_truncation(truncation)
    return tokenizer.to_str().encode()


@pytest.mark.parametrize("stored", [{}, {"padding": 100}, {"truncation": 3}, {"padding": 9, "truncation": 9}])
def test_stored_padding_and_truncation_do_not_count(stored: dict[str, int]) -> None:
    plain = tiny_tokenizer()
    plain.no_padding()
    plain.no_truncation()
    whole = TextTokenizer(content(**stored)).encode([TEXT, "date"])
    assert whole == [plain.encode(text).ids for text in (TEXT, "date")] and len(whole[0]) > 60
    cut = TextTokenizer(content(**stored), 12).encode([TEXT, "date"])
    assert [len(ids) for ids in cut] == [12, len(whole[1])]


def test_one_text_has_the_ids_that_it_has_among_many() -> None:
    tokenizer = TextTokenizer(content(), 24)
    texts = [TEXT, "date", "", "日本語 and ünïcödé"]
    assert [tokenizer.encode([text])[0] for text in texts] == tokenizer.encode(texts)
    assert tokenizer.encode([]) == []


def test_the_largest_id_is_of_the_vocabulary() -> None:
    assert TextTokenizer(content()).largest_id == max(tiny_tokenizer().get_vocab().values())


@pytest.mark.parametrize("texts", [["\ud800"], ["fine", "\ud800"]])
def test_a_text_that_is_not_unicode_is_named(texts: list[str]) -> None:
    tokenizer = TextTokenizer(content())
    with pytest.raises(InvalidText, match=f"text {6 + len(texts)} is not valid Unicode"):
        tokenizer.encode(texts, 7)


@pytest.mark.parametrize("damaged", [b"no JSON", b"{}", b"\xff\xfe", b""])
def test_what_is_no_tokenizer_is_refused(damaged: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        TextTokenizer(damaged)
