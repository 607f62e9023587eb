"""Sealed segments with lists: their files, their order, and what becomes of them when they are merged or damaged."""

import json
import struct
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from tests.index.lists.made import list_scores, random_centroids

from bebr.core.codes import CodeSpec, join_records, pack_levels
from bebr.core.lists import Centroids
from bebr.core.types import Puts
from bebr.errors import DamagedSegment
from bebr.index import segment_file
from bebr.index.compaction import JOINED
from bebr.index.lists.segment_lists import PIECE_ROWS, SegmentLists
from bebr.index.samples import list_stats
from bebr.index.scan_view import ScanView, table_of
from bebr.index.segment import Segment, SegmentView
from bebr.index.shard import Shard

SPEC = CodeSpec.parse("12x4+9x1")
HEAD_ROWS = 64


class Filled:
    """A shard with points, and their codes by id."""

    def __init__(self, folder: Path, lists: Centroids | None = None, spec: CodeSpec = SPEC) -> None:
        self.lists = {} if lists is None else {0: lists}
        self.spec = spec
        self.shard = Shard(folder, {0: spec}, {}, HEAD_ROWS, self.lists)
        self.shard.open()
        self.codes: dict[str, np.ndarray] = {}

    def put(self, rng: np.random.Generator, count: int, universe: int = 10**6) -> None:
        ids = [f"p{n}" for n in rng.choice(universe, count, replace=False)]
        levels = (rng.integers(0, 256, (count, self.spec.dims)) & self.spec.max_levels).astype(np.uint8)
        codes = pack_levels(levels, self.spec)
        records = join_records(codes, np.ones(count, np.float16))
        self.shard.apply([(Puts(ids, 0, records, []), {})], [], self.shard.seq + count)
        self.codes |= zip(ids, codes, strict=True)

    def delete(self, ids: list[str]) -> None:
        self.shard.apply([], ids, self.shard.seq + len(ids))
        for point_id in ids:
            del self.codes[point_id]

    @property
    def sealed(self) -> list[SegmentView]:
        return [part for part in self.shard.view.parts if isinstance(part, SegmentView)]

    def check(self, centroids: Centroids) -> None:
        """All sealed rows are in the list that the oracle says, by (list, id)."""
        for view in self.sealed:
            segment, lists = view.segment, view.segment.lists
            if lists is None:
                assert view.live_count < len(centroids)
                continue
            assert lists.generation == centroids.generation and len(lists) == len(centroids)
            assert not view.sorted_by_id and lists.begin[0] == 0 and lists.begin[-1] == segment.rows
            ids = segment.ids_at(range(segment.rows))
            numbers = lists.numbers().tolist()
            assert list(zip(numbers, ids, strict=True)) == sorted(zip(numbers, ids, strict=True))
            every = lists.first_kept(np.ones(segment.rows, bool), 0, None)
            assert [ids[row] for row in every] == sorted(ids)
            assert lists.ranks()[every].tolist() == list(range(segment.rows))
            alive = np.unpackbits(view.live.view(np.uint8), bitorder="little")[: segment.rows].astype(bool)
            living = [row for row in range(segment.rows) if alive[row]]
            codes = np.stack([self.codes[ids[row]] for row in living])
            scores = list_scores(centroids, codes)
            assert scores.argmax(axis=0).tolist() == [numbers[row] for row in living]
            assert segment.find(ids).tolist() == list(range(segment.rows))


@pytest.mark.parametrize("spec", ["12x4+9x1", "33x2", "64x1"])
def test_rows_are_sorted_by_list_through_sealing_and_merging(tmp_path: Path, spec: str) -> None:
    rng = np.random.default_rng(0)
    centroids = random_centroids(rng, CodeSpec.parse(spec), lists=7)
    filled = Filled(tmp_path, centroids, CodeSpec.parse(spec))
    for step in range(12):
        filled.put(rng, int(rng.integers(1, 150)), universe=1200)
        if step % 3 == 2:
            filled.delete(sorted(filled.codes)[: len(filled.codes) // 5])
        filled.shard.flush()
        filled.check(centroids)
        assert sum(view.live_count for view in filled.sealed) == len(filled.codes)


def test_segments_of_another_generation_are_sorted_anew(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    filled = Filled(tmp_path)
    for _ in range(5):
        filled.put(rng, 130)
        filled.shard.flush()
    assert all(view.segment.lists is None and view.sorted_by_id for view in filled.sealed)
    for generation in (1, 2):
        filled.lists[0] = random_centroids(rng, SPEC, generation=generation, lists=4 + generation)
        assert filled.shard.needs_sorting
        while filled.shard.sort_one():
            assert sum(view.live_count for view in filled.sealed) == len(filled.codes)
        assert not filled.shard.needs_sorting
        filled.check(filled.lists[0])


def test_segments_with_lists_are_joined_and_rows_seldom_written_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    centroids = random_centroids(rng, SPEC, lists=20)
    filled = Filled(tmp_path, centroids)
    shard, written, seen = filled.shard, 0, set[str]()
    for step in range(60):
        filled.put(rng, int(rng.integers(1, 120)))
        if step % 10 == 9:
            filled.delete(sorted(filled.codes)[: len(filled.codes) // 50])
        shard.flush()
        while shard.needs_joining:
            assert shard.join_some()
        assert not shard.join_some()
        written += sum(view.rows for view in filled.sealed if view.segment.path.name not in seen)
        seen |= {view.segment.path.name for view in filled.sealed}
        sizes = sorted(view.live_count for view in filled.sealed)
        assert sum(sizes) == len(filled.codes)
        joined = [sum(sizes[:place]) for place in range(len(sizes))]
        assert all(size > JOINED * others for size, others in list(zip(sizes, joined, strict=True))[1:])
        filled.check(centroids)
    assert len(filled.sealed) <= 3 and written <= 2 * JOINED * len(filled.codes)
    filled.lists.clear()
    assert not shard.needs_joining  # without centroids of today nobody knows which belong together


@pytest.mark.parametrize("knows", [True, False], ids=["today", "file of before"])
def test_lists_of_other_centroids_with_the_same_number_are_none(tmp_path: Path, knows: bool) -> None:
    """As when the store lost track of generations, and numbers begin again."""
    rng = np.random.default_rng(8)
    lost, centroids = random_centroids(rng, SPEC), random_centroids(rng, SPEC)
    assert lost.generation == centroids.generation and lost.checksum != centroids.checksum
    filled = Filled(tmp_path, lost)
    filled.put(rng, 60)
    filled.shard.flush()
    (view,) = filled.sealed
    assert view.segment.lists is not None and view.segment.lists.checksum == lost.checksum
    if not knows:
        _without_checksum(view.segment.path)
    shard = filled.shard = Shard(tmp_path, {0: SPEC}, {}, HEAD_ROWS, filled.lists)
    shard.open()
    for one, is_known in ((lost, True), (centroids, not knows)):
        filled.lists[0] = one
        scanned = ScanView.of([shard.view], {(0, one.generation): table_of(one, SPEC)})
        assert (0 in scanned.lists) is is_known and shard.needs_sorting is not is_known
        stats = list_stats([shard.view], 0, one)
        assert (stats.current, stats.older) == ((60, 0) if is_known else (0, 60))
    while shard.sort_one():
        pass
    (view,) = filled.sealed
    assert view.segment.lists is not None
    assert view.segment.lists.checksum == (centroids.checksum if knows else None)
    filled.check(centroids if knows else lost)


def _without_checksum(path: Path) -> None:
    """The file as a release wrote it that had none; the header's room stays."""
    data = path.read_bytes()
    length, _ = struct.unpack("<II", data[8:16])
    header = json.loads(data[16 : 16 + length])
    del header["lists"]["centroids_crc32"]
    text = json.dumps(header).encode().ljust(length)
    path.write_bytes(data[:8] + struct.pack("<II", length, crc32(text)) + text + data[16 + length :])


def test_segments_of_one_generation_are_merged_without_their_centroids(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    centroids = random_centroids(rng, SPEC)
    filled = Filled(tmp_path, centroids)
    for _ in range(3):
        filled.put(rng, 60)
        filled.shard.flush()
    filled.lists.clear()
    before = len(filled.sealed)
    filled.delete(sorted(filled.codes)[:50])
    filled.shard.flush()
    assert 0 < len(filled.sealed) <= before
    filled.check(centroids)
    filled.put(rng, 64)
    filled.put(rng, 1)
    filled.shard.flush()  # a segment without lists is merged with others
    assert all(view.segment.lists is None for view in filled.sealed if view.rows > HEAD_ROWS)


def test_few_rows_for_many_lists_have_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    filled = Filled(tmp_path, random_centroids(rng, SPEC, lists=200))
    filled.put(rng, 150)
    filled.shard.flush()
    assert filled.sealed and all(view.segment.lists is None for view in filled.sealed)
    assert not filled.shard.needs_sorting


def sealed_file(folder: Path, lists: bool) -> Path:
    rng = np.random.default_rng(4)
    filled = Filled(folder, random_centroids(rng, SPEC) if lists else None)
    filled.put(rng, 60)
    filled.shard.flush()
    return filled.sealed[0].segment.path


def header_of(path: Path) -> dict[str, object]:
    data = path.read_bytes()
    header: dict[str, object] = json.loads(data[16 : 16 + int.from_bytes(data[8:12], "little")])
    return header


def test_only_files_with_lists_have_the_later_format(tmp_path: Path) -> None:
    plain, listed = header_of(sealed_file(tmp_path / "a", False)), header_of(sealed_file(tmp_path / "b", True))
    assert plain["format"] == 1 and "lists" not in plain
    assert listed["format"] == 3 and listed["lists"] | {"mean_score": 0, "centroids_crc32": 0} == {
        "generation": 1,
        "count": 5,
        "mean_score": 0,
        "centroids_crc32": 0,
    }


def test_a_file_of_a_later_format_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sealed_file(tmp_path, True)
    monkeypatch.setattr(segment_file, "FORMATS", (1,))
    with pytest.raises(DamagedSegment, match="it has format 3, this version reads 1"):
        Segment(path)


def test_every_flipped_byte_of_a_segment_with_lists_is_noticed(tmp_path: Path) -> None:
    path = sealed_file(tmp_path, True)
    sound = path.read_bytes()
    header_end = 16 + int.from_bytes(sound[8:12], "little")
    start = (header_end + 63) // 64 * 64
    sections = json.loads(sound[16:header_end])["sections"]
    ranges = [(start + entry["offset"], start + entry["offset"] + entry["size"]) for entry in sections.values()]
    positions = [*range(0, header_end, 11), *(p for begin, end in ranges for p in range(begin, end, 7))]
    for position in positions:
        data = bytearray(sound)
        data[position] ^= 1
        path.write_bytes(data)
        with pytest.raises(DamagedSegment):
            Segment(path)


@pytest.mark.parametrize("what", ["flipped", "cut"])
def test_an_order_of_ids_damaged_later_is_noticed_when_it_is_read(tmp_path: Path, what: str) -> None:
    segment = Segment(sealed_file(tmp_path, True))
    keep = np.ones(segment.rows, bool)
    ids = segment.ids_at(segment.first_kept(keep, None, None).tolist())
    assert ids == sorted(ids) and len(ids) == segment.rows
    sections = header_of(segment.path)["sections"]
    data = bytearray(segment.path.read_bytes())
    start = (16 + int.from_bytes(data[8:12], "little") + 63) // 64 * 64 + sections["by_id"]["offset"]  # type: ignore[index]
    if what == "flipped":
        with segment.path.open("r+b") as file:
            file.seek(start + 8)
            file.write(bytes([data[start + 8] ^ 1]))
    else:
        with segment.path.open("r+b") as file:
            file.truncate(start)
    for after in (None, ids[10]):
        with pytest.raises(DamagedSegment, match=segment.path.name):
            segment.first_kept(keep, after, 5)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("rows", [0, 1, PIECE_ROWS - 1, PIECE_ROWS, PIECE_ROWS + 1, 5 * PIECE_ROWS + 3])
def test_rows_in_the_order_of_ids_are_those_of_numpy(rows: int, wide: bool) -> None:
    """With three bytes for each, and with four, as very large segments have them and those of older releases."""
    rng = np.random.default_rng(rows)
    numbers = rng.integers(0, 6, rows).astype(np.int32)
    lists, order = SegmentLists.of(1, numbers, 6)
    assert lists.numbers().tolist() == numbers[order].tolist() == sorted(numbers.tolist())
    position_of = np.argsort(order)
    assert lists.order.nbytes == 3 * rows and lists.is_small
    if wide:
        every = position_of.astype(np.uint32)
        checks = [crc32(every[start : start + PIECE_ROWS].data) for start in range(0, rows, PIECE_ROWS)]
        lists = replace(lists, order=every, checks=np.array(checks, np.uint32))
    assert [lists.row_at(at) for at in range(min(rows, 1100))] == position_of[:1100].tolist()
    assert lists.ranks().tolist() == order.tolist() and lists.rows == rows
    for _ in range(20):
        keep = rng.random(rows) < rng.choice([0.01, 0.5, 1.0])
        start, limit = int(rng.integers(rows + 1)), rng.choice([None, 0, 1, 10, 3000])
        expected = [row for row in position_of[start:].tolist() if keep[row]][:limit]
        assert lists.first_kept(keep, start, limit).tolist() == expected
