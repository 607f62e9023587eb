"""Texts -> token ids. The one place that reads tokenizer.json and sets up a tokenizer from it.

A checkpoint that is imported, a static model that is fitted, and a bundle that embeds all prepare their tokenizer here,
so that they cannot differ.
"""

from collections.abc import Sequence

from tokenizers import Tokenizer

from bebr.errors import InvalidText


class TextTokenizer:
    """The tokenizer of one embedding model. May be used from several threads at once."""

    def __init__(self, content: bytes, max_length: int | None = None) -> None:
        """content: of tokenizer.json. max_length: tokens kept of a text, special ones included; None: all.

        Raises ValueError where the content is not a tokenizer.
        """
        try:
            self._tokenizer = Tokenizer.from_str(content.decode())
        except BaseException as error:  # The library raises plain Exception, and panics.
            if isinstance(error, Exception) or _is_panic(error):
                raise ValueError(str(error)) from error
            raise
        # Checkpoints often store the padding and truncation of the last time they were used.
        self._tokenizer.no_padding()
        if max_length is None:
            self._tokenizer.no_truncation()
        else:
            self._tokenizer.enable_truncation(max_length)

    @property
    def largest_id(self) -> int:
        """The largest token id, added tokens included; -1 for an empty vocabulary."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)

    def encode(self, texts: Sequence[str], first: int = 0) -> list[list[int]]:
        """The token ids of each text. first: index of the first text, for error messages.

        Raises InvalidText naming the index of a text that is not valid Unicode.
        """
        try:
            if len(texts) == 1:
                return [self._tokenizer.encode(texts[0]).ids]
            return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        except TypeError as error:  # What the library says of a lone surrogate; find out which text it was.
            for index, text in enumerate(texts, first):
                _check_unicode(text, index)
            raise InvalidText(f"the tokenizer refuses a text: {error}") from error
        except BaseException as error:
            if not _is_panic(error):
                raise
            raise InvalidText(f"the tokenizer fails, for its tokenizer.json contradicts itself: {error}") from error


def _is_panic(error: BaseException) -> bool:
    """Whether the library, which is written in Rust, came upon what it takes to be impossible; not an Exception."""
    return type(error).__name__ == "PanicException"


def _check_unicode(text: str, index: int) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidText(f"text {index} is not valid Unicode: {error.reason} at {error.start}", index=index) from error
