"""Bytes that come in: gzip by its magic, other formats by name, and lines by their ends, whatever the pieces."""

import gzip
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bebr.core.decoding import Overlong, Unpacker, check_text, is_gzip, json_lines, split_lines, unpacked
from bebr.errors import Malformed


def cut(data: bytes, seed: int) -> list[bytes]:
    """The data in pieces of random sizes, empty ones included."""
    rng, pieces = random.Random(seed), []
    while data:
        size = rng.randrange(0, 9)
        pieces.append(data[:size])
        data = data[size:]
    return pieces


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([b"a", b"bb", b"\r", b"\n", b"\r\n", b"\x0c", "\u2028\x85".encode()])), st.integers())
def test_lines_end_in_lf_crlf_or_cr_whatever_the_pieces(parts: list[bytes], seed: int) -> None:
    data = b"".join(parts)
    assert list(split_lines(cut(data, seed))) == data.splitlines(keepends=True)
    limited = list(split_lines(cut(data, seed), max_bytes=3))
    assert [len(line) for line in limited] == [len(line) for line in data.splitlines(keepends=True)]
    assert all(isinstance(line, Overlong) == (len(line) > 3) for line in limited)


@pytest.mark.parametrize("seed", range(5))
def test_gzip_is_known_by_its_magic_whatever_the_pieces(seed: int) -> None:
    text = bytes(range(256)) * 20
    members = gzip.compress(text[:700]) + gzip.compress(b"") + gzip.compress(text[700:]) + bytes(40)
    assert b"".join(unpacked(cut(members, seed))) == text
    assert b"".join(unpacked(cut(text, seed))) == text
    assert b"".join(unpacked(cut(b"\x1f", seed))) == b"\x1f"
    for short in (members[:10], members[: len(members) - 80], b"\x1f\x8b"):
        with pytest.raises(Malformed, match="cut short"):
            list(unpacked(cut(short, seed)))
    damaged = bytearray(members)
    damaged[40] ^= 255
    with pytest.raises(Malformed, match="damaged"):
        list(unpacked(cut(bytes(damaged), seed)))


def test_a_frame_is_not_taken_for_gzip() -> None:
    frame = (0x088B1F).to_bytes(8, "little") + b'{"dims": 4'
    assert not is_gzip(frame) and is_gzip(gzip.compress(b"x", mtime=0))


def test_pieces_of_gzip_stay_small() -> None:
    unpacker = Unpacker()
    assert max(map(len, unpacker.push(gzip.compress(bytes(50 << 20))))) <= 1 << 20


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"PK\x03\x04", "zip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh91AY&SY", "bzip2"),
        (b"PAR1\x15", "Parquet"),
        (b"ARROW1\0\0", "Arrow"),
        (b"\x93NUMPY", "npy"),
        ("\ufeff{}".encode("utf-16-le"), "UTF-16"),
        ("\ufeff{}".encode("utf-16-be"), "UTF-16"),
        ("{}".encode("utf-16-le"), "UTF-16"),
        ("\ufeff{}".encode("utf-32-le"), "UTF-32"),
        (gzip.compress(b"{}", mtime=0), "gzip inside gzip"),
    ],
)
def test_what_is_no_text_is_refused_by_name(head: bytes, kind: str) -> None:
    with pytest.raises(Malformed, match=f"got {kind};"):
        check_text(head)


@pytest.mark.parametrize("text", [b"", b"{", b'{"a":1}', b"\xef\xbb\xbf{}", b"PAR1 is a word", b"BZh is one", b"PK"])
def test_text_is_text(text: bytes) -> None:
    check_text(text)


def test_lines_of_a_body() -> None:
    assert json_lines(b"\xef\xbb\xbf{}\r\n \t\r\r1\n\n2") == [b"{}", b"1", b"2"]
