"""Bodies that the client makes: vectors, frames, NDJSON, gzip."""

import base64
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from bebr.client import wire
from bebr.errors import DimensionMismatch, InvalidVector, Malformed


@pytest.mark.parametrize("vector", [[0.5, -1, 2], np.array([0.5, -1, 2]), np.array([0.5, -1, 2], ">f8"), (0.5, -1, 2)])
def test_a_vector_of_any_kind_is_sent_as_little_endian_float32(vector):
    sent = wire.vector_base64(vector)
    assert np.frombuffer(base64.b64decode(sent), "<f4").tolist() == [0.5, -1.0, 2.0]


@pytest.mark.parametrize("vector", [[[1.0, 2.0]], 3.0, ["a"], [1.0, [2.0]]])
def test_what_is_no_vector_is_refused_here(vector):
    with pytest.raises(InvalidVector):
        wire.vector_base64(vector)


def test_a_point_is_sent_with_its_vector_or_code_in_base64():
    assert wire.point_json({"id": "a", "text": "t", "metadata": {"k": 1}}) == {
        "id": "a",
        "text": "t",
        "metadata": {"k": 1},
    }
    assert wire.point_json({"id": "a", "vector": np.ones(1, "f4")}) == {"id": "a", "vector_b64": "AACAPw=="}
    assert wire.point_json({"id": "a", "code": b"\x01\x02"}) == {"id": "a", "code_b64": "AQI="}


def test_a_frame_is_a_length_a_header_and_rows():
    rows = np.arange(6, dtype="<f4").reshape(2, 3)
    body = wire.frame({"dims": 3}, ["a", "ü"], rows, [{"n": 1}, None])
    size = int.from_bytes(body[:8], "little")
    header = json.loads(body[8 : 8 + size])
    assert header == {"dims": 3, "count": 2, "ids": ["a", "ü"], "metadata": [{"n": 1}, None]}
    assert np.array_equal(np.frombuffer(body[8 + size :], "<f4").reshape(2, 3), rows)
    assert "metadata" not in json.loads(wire.frame({"dims": 3}, ["a", "b"], rows, None)[8:].partition(b"}")[0] + b"}")


def test_rows_must_fit_their_ids():
    with pytest.raises(DimensionMismatch, match=r"expected vectors of shape \(2, dims\)"):
        wire.rows(["a", "b"], np.ones((3, 4)), None)
    with pytest.raises(DimensionMismatch, match="expected metadata"):
        wire.rows(["a", "b"], np.ones((2, 4)), [{}])


def test_json_cannot_hold_everything():
    for value in ({"x": float("nan")}, {"x": {1, 2}}, {"x": np.ones(1)}):
        with pytest.raises(Malformed, match="cannot be written as JSON"):
            wire.to_json(value)


def test_many_points_become_few_pieces_of_whole_lines():
    points = [{"id": str(i), "text": "x" * 1000} for i in range(1000)]
    pieces = list(wire.ndjson(points))
    assert 1 < len(pieces) < 10
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert [json.loads(line) for line in b"".join(pieces).splitlines()] == points
    assert list(wire.ndjson([])) == []


def test_gzip_is_streamed():
    pieces = [b"line\n" * 100] * 50
    packed = b"".join(wire.gzipped(pieces))
    assert gzip.decompress(packed) == b"".join(pieces)
    assert len(packed) < 1000


def test_a_file_is_read_in_pieces(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(bytes(wire.PIECE_BYTES + 1))
    assert [len(piece) for piece in wire.file_pieces(path)] == [wire.PIECE_BYTES, 1]
