"""NDJSON on disk -> batches: every line once, none held that is too long, the same batches from any point on."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bebr.core.decoding import MAX_JSON_DEPTH, MAX_LINE_BYTES
from bebr.errors import Malformed
from bebr.jobs.ingest.lines import Batch, BatchReader


def write(folder: Path, body: bytes, *, zipped: bool = False) -> Path:
    path = folder / "body"
    path.write_bytes(gzip.compress(body) if zipped else body)
    return path


def read_all(path: Path, *, zipped: bool = False, max_points: int = 3, line: int = 0, offset: int = 0) -> list[Batch]:
    reader = BatchReader(path, zipped=zipped, max_points=max_points, line=line, offset=offset)
    try:
        return list(iter(reader.next_batch, None))
    finally:
        reader.close()


def ndjson(*ids: str) -> bytes:
    return b"".join(json.dumps({"id": i}).encode() + b"\n" for i in ids)


def test_lines_are_counted_blank_ones_skipped_and_bad_ones_reported(tmp_path: Path) -> None:
    body = b'{"id":"a"}\n\n  \r\n{nope\n{"id":"b"}\r\n[1]\n{"id":"c"}'
    (first, second) = read_all(write(tmp_path, body), max_points=4)
    assert first.points == [{"id": "a"}, {"id": "b"}, [1]] and first.lines == [1, 5, 6]
    assert [(e.line, e.error) for e in first.errors] == [(4, "Malformed")] and "column 2" in first.errors[0].detail
    assert second.points == [{"id": "c"}] and second.lines == [7]
    assert (second.end_line, second.end_offset) == (7, len(body))


def test_a_repeated_id_begins_a_new_batch_so_that_the_later_line_wins(tmp_path: Path) -> None:
    batches = read_all(write(tmp_path, ndjson("a", "b", "a", "c", "c")), max_points=10)
    assert [b.lines for b in batches] == [[1, 2], [3, 4], [5]]
    assert [b.end_line for b in batches] == [2, 4, 5]


DEEP = b"[" * (MAX_JSON_DEPTH + 1) + b"]" * (MAX_JSON_DEPTH + 1)


@pytest.mark.parametrize("bad", [b'"\\ud800"', b'{"a": "\\uDC00x"}', b"\xff", b"[" * 100_000, b"1" * 5000 + b"x", DEEP])
def test_text_that_is_no_unicode_or_too_deep_is_malformed(tmp_path: Path, bad: bytes) -> None:
    (batch,) = read_all(write(tmp_path, bad + b"\n" + ndjson("a")))
    assert [(e.line, e.error) for e in batch.errors] == [(1, "Malformed")] and batch.points == [{"id": "a"}]


def test_an_overlong_line_is_passed_over(tmp_path: Path) -> None:
    body = ndjson("a") + b'{"id":"long","text":"' + b"x" * (3 * MAX_LINE_BYTES) + b'"}\n' + ndjson("b")
    batches = read_all(write(tmp_path, body))
    assert [p["id"] for b in batches for p in b.points] == ["a", "b"]
    assert [(e.line, e.error) for b in batches for e in b.errors] == [(2, "PayloadTooLarge")]
    assert batches[-1].end_offset == len(body)


@pytest.mark.parametrize("cut", [5, 40])
def test_broken_gzip_says_how_far_it_was_read(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "body"
    path.write_bytes(gzip.compress(ndjson(*map(str, range(1000))))[:-cut])
    with pytest.raises(Malformed, match="broken after line"):
        read_all(path, zipped=True, max_points=5000)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c", "d", "", "{"]), max_size=30), st.integers(1, 4), st.booleans())
def test_a_resumed_reader_gives_the_same_batches(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], max_points: int, zipped: bool
) -> None:
    lines = {"": b"\n", "{": b"{\n"}
    body = b"".join(lines.get(i, ndjson(i)) for i in ids)
    path = write(tmp_path_factory.mktemp("lines"), body, zipped=zipped)
    whole = read_all(path, zipped=zipped, max_points=max_points)
    assert sum(b.received for b in whole) == sum(1 for i in ids if i)
    for done, batch in enumerate(whole, 1):
        rest = read_all(path, zipped=zipped, max_points=max_points, line=batch.end_line, offset=batch.end_offset)
        assert [(b.first_line, b.points, b.lines) for b in rest] == [
            (b.first_line, b.points, b.lines) for b in whole[done:]
        ]
