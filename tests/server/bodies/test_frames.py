"""The binary frame of vectors, byte by byte."""

import json
import struct
import threading
from typing import Any

import numpy as np
import pytest

from bebr.errors import BebrError, DimensionMismatch, InvalidOption, Malformed
from bebr.server.bodies import large_bodies
from bebr.server.bodies.frames import decode_frame, read_frame

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


async def test_a_large_frame_is_read_item_by_item_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call of the parser for all of it would hold the interpreter, and so everybody, for as long as that takes."""
    sizes, threads = [], set()
    from_json, loads = large_bodies.from_json, large_bodies.parse

    def item(text: bytes) -> Any:
        sizes.append(len(text))
        threads.add(threading.get_ident())
        return from_json(text)

    def rest(model: Any, text: bytes) -> Any:
        sizes.append(len(text))
        return loads(model, text)

    monkeypatch.setattr(large_bodies, "from_json", item)
    monkeypatch.setattr(large_bodies, "parse", rest)
    count = 3000
    metadata = [{"text": "x" * 500, "n": n} if n % 2 else None for n in range(count)]
    header = {"dims": 2, "count": count, "ids": [f"p{n}" for n in range(count)], "metadata": metadata}
    rows = np.arange(count * 2, dtype="<f4")
    read = await read_frame(frame(header, rows.tobytes()))
    assert read.ids == header["ids"] and read.metadata == metadata and (read.vectors.ravel() == rows).all()
    assert threading.get_ident() not in threads and max(sizes) < 100_000
    for name, value in (("ids", ["a"]), ("metadata", metadata[:-1]), ("count", count + 1)):
        with pytest.raises(InvalidOption, match="entries"):
            await read_frame(frame(header | {name: value}, rows.tobytes()))
    bare = {"dims": 1, "count": 10_000, "ids": ["\u00e9" * 200 for _ in range(10_000)]}
    assert (await read_frame(frame(bare, b"0000" * 10_000))).metadata == [None] * 10_000
