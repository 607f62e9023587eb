"""Base64 is read as Python's strict decoder reads it; whatever that refuses is None, and superfluous padding, too."""

import base64
import binascii
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bebr import kernel
from bebr.engine.inputs import plain_vector, read_vector_b64
from bebr.errors import InvalidVector

DIGITS = string.ascii_letters + string.digits + "+/"


def agrees(text: str) -> bool:
    found, expected = kernel.decode_base64(text), by_python(text)
    return found == expected or (found is None and text.endswith("=") and len(text) % 4 > 0)


def by_python(text: str) -> bytes | None:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return None


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.sampled_from(DIGITS + "==="), max_size=13) | st.text(max_size=9))
def test_any_text_is_read_as_python_reads_it(text: str) -> None:
    assert agrees(text)


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=70), at=st.integers(0, 90), char=st.sampled_from("=-_ \n.é\0\ud800\U0001f600A"))
def test_one_wrong_character_anywhere_is_noticed(data: bytes, at: int, char: str) -> None:
    text = base64.b64encode(data).decode()
    assert kernel.decode_base64(text) == data
    changed = text[:at] + char + text[at + 1 :]
    assert agrees(changed)


def test_every_character_stands_for_its_digit() -> None:
    assert kernel.decode_base64(DIGITS) == binascii.a2b_base64(DIGITS)
    for char in map(chr, range(256)):
        assert (kernel.decode_base64(char * 4) is None) == (char not in DIGITS), repr(char)


def test_vectors_are_what_they_were_or_something_is_said() -> None:
    text = base64.b64encode(b"\0\0\x80?\0\0\0@").decode()
    plain = plain_vector(text)
    assert plain is not None and plain.tolist() == read_vector_b64(text).tolist() == [1.0, 2.0]
    for wrong in ("", text[:-4], "AAA", "AAAA", "!" * 8, text + "\n"):
        assert plain_vector(wrong) is None, wrong
        with pytest.raises(InvalidVector):
            read_vector_b64(wrong)
