"""Segments that are mapped: opening reads no codes, and no wrong byte of them is ever scanned."""

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bebr import kernel
from bebr.core.codes import CodeSpec, join_records
from bebr.core.scoring import DotQueries
from bebr.core.types import Puts
from bebr.errors import DamagedSegment
from bebr.index import ScanQueries, sealing, segment_file, shard_files
from bebr.index.scan_view import ScanView
from bebr.index.segment import Segment, SegmentView
from bebr.index.shard import Shard
from bebr.shards import reads

SPEC = CodeSpec.parse("256x2")
ROWS = 3000
"""Three pieces of codes."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A segment file."""
    shard = open_shard(tmp_path / "shard", map_from_bytes=0)
    fill(shard, range(ROWS))
    shard.flush()
    return segment_of(shard).path


def open_shard(folder: Path, map_from_bytes: int, head_rows: int = ROWS) -> Shard:
    shard = Shard(folder, {0: SPEC}, {}, head_rows, map_from_bytes=map_from_bytes)
    shard.open()
    return shard


def fill(shard: Shard, numbers: range) -> None:
    ids = [f"p{number:06d}" for number in numbers]
    codes = np.random.default_rng(numbers.start).integers(0, 256, (len(ids), SPEC.code_size_bytes), dtype=np.uint8)
    records = join_records(codes, np.linspace(0.5, 1, len(ids)).astype(np.float16))
    shard.apply([(Puts(ids, 0, records, []), {})], [], shard.seq + len(ids))


def segment_of(shard: Shard) -> Segment:
    (part,) = shard.view.parts
    assert isinstance(part, SegmentView)
    return part.segment


def search(*shards: Shard) -> list[tuple[float, str]]:
    """All rows that one query finds."""
    prepared = DotQueries(np.arange(SPEC.dims).astype(np.int8)[None], np.ones((1, 1), np.float32))
    queries = ScanQueries(0, prepared, ROWS, (None,), np.full(1, -np.inf, np.float32))
    (found,) = reads.search(ScanView.of([shard.view for shard in shards]), [queries]).found
    return list(zip(found.scores, found.ids, strict=True))


def place_of(path: Path, section: str) -> tuple[int, int]:
    """Where a section begins in the file, and where it ends."""
    with path.open("rb") as file:
        header, start = segment_file._read_header(path, file)
    entry = header["sections"][section]
    return start + entry["offset"], start + entry["offset"] + entry["size"]


def flip(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 16]))


@given(st.binary(max_size=300), st.integers(1, 64), st.data())
def test_pieces_equal_zlib(content: bytes, size: int, data: st.DataObject) -> None:
    checksums = np.array([crc32(content[i : i + size]) for i in range(0, len(content), size)], np.uint32)
    held = np.frombuffer(content, np.uint8).copy()
    pieces = kernel.Pieces(held, size, checksums)
    begin = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(begin, len(content)))
    assert pieces.check(begin, end)
    if content:
        place = data.draw(st.integers(0, len(content) - 1))
        held[place] ^= 1
        pieces.forget()
        touched = range(begin // size, -(-end // size)) if begin < end else range(0)
        assert pieces.check(begin, end) == (place // size not in touched)
        assert not pieces.check_all()
        assert not pieces.is_checked
        held[place] ^= 1
    assert pieces.check_all()


def test_opening_reads_neither_codes_nor_gains(path: Path) -> None:
    for section in ("codes", "gains", "id_blob"):
        flip(path, place_of(path, section)[0])
    segment = Segment(path, map_from_bytes=1000)
    assert segment.pieces.keys() == {"codes", "gains"}
    with pytest.raises(DamagedSegment):
        segment.check()
    with pytest.raises(DamagedSegment):
        segment.ids_at([0])
    with pytest.raises(DamagedSegment):
        Segment(path)


def test_small_segments_are_read(path: Path) -> None:
    assert not Segment(path, map_from_bytes=10**6).pieces


@pytest.mark.parametrize("section", ["codes", "gains", "lookup", "pieces:codes", "pieces:gains"])
def test_every_flipped_byte_is_noticed_before_a_scan(path: Path, section: str) -> None:
    sound = path.read_bytes()
    first, end = place_of(path, section)
    for place in sorted({first, *range(first, end, max(1, (end - first) // 20)), end - 1}):
        flip(path, place)
        with pytest.raises(DamagedSegment):
            Segment(path, map_from_bytes=0).check()
        path.write_bytes(sound)


@pytest.mark.parametrize("section", ["codes", "gains"])
@pytest.mark.parametrize("was_scanned", [False, True])
def test_bytes_that_change_while_the_file_is_open_are_noticed(path: Path, section: str, was_scanned: bool) -> None:
    shard = open_shard(path.parent, map_from_bytes=0)
    if was_scanned:
        assert len(search(shard)) == ROWS
    flip(path, place_of(path, section)[1] - 1)
    with pytest.raises(DamagedSegment, match=section):
        search(shard)


@pytest.mark.parametrize("was_scanned", [False, True])
def test_a_file_that_is_cut_while_it_is_open_is_noticed(path: Path, was_scanned: bool) -> None:
    shard = open_shard(path.parent, map_from_bytes=0)
    if was_scanned:
        assert len(search(shard)) == ROWS
    os.truncate(path, place_of(path, "codes")[1] - 5000)
    with pytest.raises(DamagedSegment, match="codes"):
        search(shard)


def test_a_file_that_is_cut_during_a_scan_is_noticed(path: Path) -> None:
    shard = open_shard(path.parent, map_from_bytes=0)
    view = ScanView.of([shard.view])
    lost = view.begin_scan(checks_all=True)
    assert view.is_unhurt(lost)
    os.truncate(path, place_of(path, "codes")[1] - 5000)
    assert not segment_of(shard).blocked[-1]  # reads as zero now
    assert not view.is_unhurt(lost)
    with pytest.raises(DamagedSegment, match="codes"):
        view.begin_scan(checks_all=True)
    assert view.is_unhurt(kernel.lost_pages())


def test_a_file_that_was_only_touched_is_checked_again_and_served(path: Path) -> None:
    shard = open_shard(path.parent, map_from_bytes=0)
    expected = search(shard)
    os.utime(path)
    assert search(shard) == expected
    assert segment_of(shard).pieces["codes"].is_checked


@pytest.mark.parametrize("what", [Path.unlink, lambda path: path.write_bytes(b"") if path.unlink() is None else None])
def test_a_file_that_lost_its_name_is_served(path: Path, what: Callable[[Path], None]) -> None:
    shard = open_shard(path.parent, map_from_bytes=0)
    expected = search(shard)
    what(path)
    assert search(shard) == expected


def test_mapped_and_read_segments_are_searched_alike(tmp_path: Path) -> None:
    shards = []
    for name, map_from_bytes in (("mapped", 0), ("read", 10**9)):
        shard = open_shard(tmp_path / name, map_from_bytes, head_rows=200)
        for start in range(0, 2000, 100):
            fill(shard, range(start, start + 100))
        shard.flush()
        fill(shard, range(300, 330))
        shards.append(shard)
    mapped, read = shards
    assert search(mapped) == search(read)
    assert any(segment.pieces for segment in ScanView.of([mapped.view]).mapped)
    assert not ScanView.of([read.view]).mapped


@pytest.mark.parametrize("section", ["codes", "gains"])
def test_a_search_by_lists_checks_the_lists_that_it_reads(path: Path, section: str) -> None:
    _, end = place_of(path, section)
    flip(path, end - 1)
    segment = Segment(path, map_from_bytes=0)
    parts = kernel.Parts()
    centroids = np.array([[100] * SPEC.dims, [-100] * SPEC.dims], np.int8)
    table = kernel.CentroidTable(SPEC, centroids, np.ones((2, 1), np.float32))
    ids = segment.ids.offsets, segment.ids.blob, segment.lookup
    begin = np.array([0, 500, ROWS], np.uint32)
    pieces = segment.pieces["codes"], segment.pieces["gains"]
    parts.add_sorted(segment.blocked, segment.gains, ROWS, SPEC, None, ids, False, (table, begin), pieces)
    query = DotQueries(np.full((1, SPEC.dims), 100, np.int8), np.ones((1, 1), np.float32))

    def read(delta: float) -> int:
        of_query = {"deltas": np.full(1, delta, np.float32), "stop_at": np.ones(1, np.int32)}
        _, lists, _ = kernel.list_candidates(parts.select([0]), query, 3, **of_query)
        return int(lists[0])

    assert read(0) == 1
    with pytest.raises(kernel.DamagedRows):
        read(1e9)
    with pytest.raises(kernel.DamagedRows):
        kernel.dot_candidates(parts.select([0]), query, 3)
    flip(path, end - 1)
    assert read(1e9) == 2


@pytest.mark.parametrize("section", ["codes", "gains"])
def test_no_segment_is_made_of_damaged_ones(tmp_path: Path, section: str) -> None:
    shard = open_shard(tmp_path, 0, head_rows=100)
    for start in range(0, 300, 100):
        fill(shard, range(start, start + 100))
        shard.maintain()
    path = max(tmp_path.glob("*.seg"))
    flip(path, place_of(path, section)[0])
    fill(shard, range(300, 400))
    with pytest.raises(DamagedSegment, match=section):
        shard.maintain()


def test_the_scrub_finds_damage_of_what_is_mapped(path: Path) -> None:
    flip(path, place_of(path, "codes")[0])
    (found,) = shard_files.verify(path.parent)
    assert found[1] is not None


def test_damage_while_segments_are_merged_is_noticed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = open_shard(path.parent, map_from_bytes=0)
    (view,) = shard.view.parts
    assert isinstance(view, SegmentView)
    unpack = kernel.unpack

    def unpack_what_changes(*arguments: Any) -> Any:
        flip(path, place_of(path, "codes")[0])
        monkeypatch.undo()
        return unpack(*arguments)

    monkeypatch.setattr(kernel, "unpack", unpack_what_changes)
    with pytest.raises(DamagedSegment, match="codes"):
        sealing.compact([view], path.with_name("merged.seg"))


def test_codes_do_not_pass_through_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "CODE_ROWS", 256)
    wide = CodeSpec.parse("1024x4")
    rows, count = 4000, 4
    codes = np.random.default_rng(0).integers(0, 256, (rows, wide.code_size_bytes), dtype=np.uint8)
    shard = Shard(tmp_path, {0: wide}, {}, rows, map_from_bytes=0)
    shard.open()
    for number in range(count - 1):
        ids = [f"p{i * count + number:06d}" for i in range(rows)]
        shard.apply([(Puts(ids, 0, join_records(codes, np.ones(rows, np.float16)), []), {})], [], shard.seq + rows)
        shard.flush()
    views = [part for part in shard.view.parts if isinstance(part, SegmentView)]
    tracemalloc.start()
    moves = sealing.compact(views, tmp_path / "merged.seg")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (count - 1) * rows * wide.code_size_bytes / 2, "there is room for half of the codes"
    merged = Segment(tmp_path / "merged.seg")
    for view, moved in zip(views, moves, strict=True):
        assert merged.ids_at(moved.tolist()) == view.ids_at(range(rows))
        assert np.array_equal(kernel.unpack(merged.blocked, wide, moved), codes)
