"""The binary frame of vectors, byte by byte."""

import json
import struct
from typing import Any

import numpy as np
import pytest

from bebr.errors import BebrError, DimensionMismatch, InvalidOption, Malformed
from bebr.server.bodies.frames import decode_frame

ROWS = np.arange(6, dtype="<f4").reshape(2, 3)
HEADER: dict[str, Any] = {"dims": 3, "count": 2, "ids": ["a", "b"], "metadata": [{"x": 1}, None]}


def frame(header: object = HEADER, rows: bytes = ROWS.tobytes(), padding: int = 0) -> bytes:
    text = json.dumps(header).encode() + b" " * padding
    return struct.pack("<Q", len(text)) + text + rows


@pytest.mark.parametrize("padding", range(9))
def test_a_frame_is_read_at_any_alignment(padding: int) -> None:
    read = decode_frame(frame(padding=padding))
    assert read.ids == ["a", "b"] and read.metadata == [{"x": 1}, None]
    assert (read.vectors == ROWS).all() and read.vectors.dtype == np.float32
    assert read.vectors.flags.aligned and read.vectors.flags.c_contiguous


def test_metadata_may_be_left_out() -> None:
    for header in (HEADER | {"metadata": None}, {k: v for k, v in HEADER.items() if k != "metadata"}):
        assert decode_frame(frame(header)).metadata == [None, None]


def test_a_frame_of_nothing_is_empty() -> None:
    read = decode_frame(frame({"dims": 3, "count": 0, "ids": []}, b""))
    assert read.vectors.shape == (0, 3)


@pytest.mark.parametrize(
    ("body", "error", "key"),
    [
        (b"", Malformed, None),
        (b"\x01\x00", Malformed, None),
        (struct.pack("<Q", 2**63) + b"{}", Malformed, None),
        (struct.pack("<Q", 5) + b"{nope", Malformed, "line"),
        (frame({**HEADER, "dim": 3}), InvalidOption, "key"),
        (frame({**HEADER, "count": 3}), InvalidOption, "key"),
        (frame({**HEADER, "count": -1}), InvalidOption, "key"),
        (frame({**HEADER, "ids": ["a"]}), InvalidOption, "key"),
        (frame({**HEADER, "metadata": [None]}), InvalidOption, "key"),
        (frame({**HEADER, "dims": 2}), DimensionMismatch, "key"),
        (frame({**HEADER, "dims": 2**62, "count": 2}), DimensionMismatch, "key"),
        (frame({"dims": 10**300, "count": 0, "ids": []}, b""), DimensionMismatch, "key"),
        (frame(rows=ROWS.tobytes()[:-1]), DimensionMismatch, "key"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused(body: bytes, error: type[BebrError], key: str | None) -> None:
    with pytest.raises(error) as caught:
        decode_frame(body)
    assert key is None or key in caught.value.fields


def test_every_cut_of_a_frame_is_refused() -> None:
    whole = frame()
    for size in range(len(whole)):
        with pytest.raises((Malformed, DimensionMismatch)):
            decode_frame(whole[:size])
