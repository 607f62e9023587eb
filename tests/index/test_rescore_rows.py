"""Rescore codes through the life of a shard: in the head, sealed, merged, opened again; and files that are damaged."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec, join_records
from bebr.core.types import Puts
from bebr.errors import DamagedSegment
from bebr.index import segment_file, shard_files
from bebr.index.scan import Part
from bebr.index.segment import MAPPED, Segment, SegmentView
from bebr.index.shard import Shard
from bebr.kernel.rescore import CHECKSUM_SIZE_BYTES

SPEC, PLAIN = CodeSpec.parse("16x1/24x8+5x1"), CodeSpec.parse("16x1")
HEAD_ROWS = 40


def open_shard(folder: Path) -> Shard:
    shard = Shard(folder, {0: SPEC, 1: PLAIN}, {}, HEAD_ROWS)
    shard.open()
    return shard


def records_of(ids: list[str], seed: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng([seed, len(ids)])
    codes = rng.integers(0, 256, (len(ids), SPEC.code_size_bytes), dtype=np.uint8)
    finer = rng.integers(0, 256, (len(ids), SPEC.rescore_size_bytes), dtype=np.uint8)
    return join_records(codes, np.ones(len(ids), np.float16), finer)


def put(shard: Shard, kept: dict[str, NDArray[np.uint8]], numbers: range, seed: int) -> None:
    ids = [f"p{number:05d}" for number in numbers]
    records = records_of(ids, seed)
    shard.apply([(Puts(ids, 0, records, []), {})], [], shard.seq + len(ids))
    kept |= {i: record[SPEC.scan_record_size_bytes :] for i, record in zip(ids, records, strict=True)}


def held(shard: Shard) -> dict[str, NDArray[np.uint8]]:
    """The rescore record of each living point."""
    found: dict[str, NDArray[np.uint8]] = {}
    for part in shard.view.parts:
        rows = np.flatnonzero(np.unpackbits(part.live.view(np.uint8), bitorder="little")[: part.rows])
        found |= zip(part.ids_at(rows.tolist()), part.rescore_records(rows), strict=True)
    return found


def same(one: dict[str, NDArray[np.uint8]], other: dict[str, NDArray[np.uint8]]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[i], other[i]) for i in one)


def sealed(shard: Shard) -> SegmentView:
    part: Part = shard.view.parts[0]
    assert isinstance(part, SegmentView)
    return part


def test_they_follow_their_points(tmp_path: Path) -> None:
    shard, kept = open_shard(tmp_path / "shard"), dict[str, NDArray[np.uint8]]()
    rng = np.random.default_rng(0)
    for step in range(60):
        first = int(rng.integers(0, 300))
        put(shard, kept, range(first, first + int(rng.integers(1, 30))), step)
        dead = [f"p{number:05d}" for number in rng.integers(0, 300, 5)]
        shard.apply([], dead, shard.seq + len(dead))
        for point_id in dead:
            kept.pop(point_id, None)
        if step % 4 == 0:
            shard.maintain()
        if step % 16 == 15:
            shard.flush()
            shard = open_shard(tmp_path / "shard")
        assert same(held(shard), kept)
    assert any(isinstance(part, SegmentView) for part in shard.view.parts)
    assert all(damage is None for _, damage in shard_files.verify(shard.folder))


def test_only_the_head_holds_them_in_memory_and_only_where_there_are_some(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "shard")
    put(shard, {}, range(30), 0)
    (growing,) = shard.view.parts
    assert growing.segment.rescore.shape == (HEAD_ROWS, SPEC.rescore_size_bytes)  # type: ignore[union-attr]
    shard.apply([(Puts(["x"], 1, np.zeros((1, PLAIN.record_size_bytes), np.uint8), []), {})], [], shard.seq + 1)
    assert shard.view.parts[1].segment.rescore.nbytes == 0  # type: ignore[union-attr]
    shard.flush()
    assert [part.segment.rescore is None for part in shard.view.parts] == [False, True]
    assert shard.view.scan_size_bytes == 30 * SPEC.scan_record_size_bytes + PLAIN.record_size_bytes


@pytest.mark.parametrize("what", ["flipped", "cut"])
def test_a_damaged_row_is_never_served(tmp_path: Path, what: str) -> None:
    shard, kept = open_shard(tmp_path / "shard"), dict[str, NDArray[np.uint8]]()
    put(shard, kept, range(30), 0)
    shard.flush()
    part = sealed(shard)
    everything = np.arange(30)
    assert np.array_equal(part.rescore_records(everything), np.stack([kept[i] for i in sorted(kept)]))
    path = part.segment.path
    spoil(path, kept["p00007"], what)
    with pytest.raises(DamagedSegment, match="rescore code") as raised:
        part.rescore_records(everything)
    assert raised.value.fields["segment"] == path.name
    assert np.array_equal(part.rescore_records(everything[:7]), np.stack([kept[i] for i in sorted(kept)[:7]]))
    with pytest.raises(DamagedSegment):
        segment_file.verify(path)
    assert [damage is not None for _, damage in shard_files.verify(shard.folder)] == [True]
    put(shard, {}, range(30, 55), 1)  # enough of them dead or to merge: what is damaged is not copied
    shard.apply([], [f"p{number:05d}" for number in range(10, 30)], shard.seq + 20)
    with pytest.raises(DamagedSegment):
        shard.flush()
    if what == "cut":
        again = open_shard(shard.folder)
        assert again.rebuilt_because is not None and not again.view.parts


def test_a_section_that_is_cut_or_missing_is_found_when_the_file_is_opened(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "shard")
    kept: dict[str, NDArray[np.uint8]] = {}
    put(shard, kept, range(30), 0)
    shard.flush()
    path = sealed(shard).segment.path
    opened = segment_file.read(path, MAPPED, 2**40)
    end = path.read_bytes().rindex(kept["p00029"].tobytes()) + SPEC.rescore_size_bytes + CHECKSUM_SIZE_BYTES
    for cut in (1, CHECKSUM_SIZE_BYTES + 1, 29 * (SPEC.rescore_size_bytes + CHECKSUM_SIZE_BYTES)):
        os.truncate(path, end - cut)
        with pytest.raises(DamagedSegment, match="cut short"):
            Segment(path)
    header = {key: value for key, value in opened.header.items() if key not in ("format", "sections")}
    segment_file.write(tmp_path / "without.seg", header, opened.sections, {})
    with pytest.raises(DamagedSegment, match="no rescore codes"):
        Segment(tmp_path / "without.seg")


def test_a_view_outlives_its_file(tmp_path: Path) -> None:
    shard, kept = open_shard(tmp_path / "shard"), dict[str, NDArray[np.uint8]]()
    put(shard, kept, range(30), 0)
    shard.flush()
    part = sealed(shard)
    part.rescore_records(np.arange(3))
    part.segment.path.unlink()
    assert np.array_equal(part.rescore_records(np.arange(30)), np.stack([kept[i] for i in sorted(kept)]))
    held_open = open_paths()
    assert any("shard" in path and "deleted" in path for path in held_open)
    shard.forget()
    del part
    gc.collect()
    assert not any("shard" in path and "deleted" in path for path in open_paths() if str(tmp_path) in path)


def test_a_rebuilt_shard_reads_its_own_files(tmp_path: Path) -> None:
    old, kept = open_shard(tmp_path / "shard"), dict[str, NDArray[np.uint8]]()
    put(old, {}, range(30), 0)
    old.flush()
    before = sealed(old)
    new = open_shard(shard_files.rebuilt_folder(tmp_path / "shard"))
    put(new, kept, range(30), 1)
    new.flush()
    new.take_place_of(old)
    assert same(held(new), kept)
    with pytest.raises(DamagedSegment):  # its file is gone, and the one of the same name is another
        before.rescore_records(np.arange(30))


def spoil(path: Path, record: NDArray[np.uint8], what: str) -> None:
    data = path.read_bytes()
    at = data.index(record.tobytes())
    if what == "cut":
        os.truncate(path, at + 3)
    else:
        path.write_bytes(data[: at + 3] + bytes([data[at + 3] ^ 4]) + data[at + 4 :])


def open_paths() -> list[str]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(link.readlink()))
        except OSError:
            continue
    return found
