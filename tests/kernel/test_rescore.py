"""Rescore rows: their scores are those of bebr.core.scoring to the last bit, and what is read of a file is checked."""

import errno
import os
import resource
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.kernel.test_equals_core import any_isa

from bebr.core.codes import Block, CodeSpec, RescoreSpec, join_records, pack_levels
from bebr.core.scoring import prepare_rescore, rescore_scores
from bebr.errors import DimensionMismatch
from bebr.kernel import rescore

__all__ = ["any_isa"]
PREFIX = b"0123456789abcdef"
ROW_SIZE = 24


def rows_of(seed: int, count: int) -> NDArray[np.uint8]:
    records = np.random.default_rng(seed).integers(0, 256, (count, ROW_SIZE - 4), dtype=np.uint8)
    return rescore.with_checksums(records)


def write(path: Path, rows: NDArray[np.uint8], prefix: bytes = PREFIX) -> rescore.RowFile:
    path.write_bytes(prefix + rows.tobytes())
    return rescore.open_rows(path, prefix, len(prefix), rows.shape[1])


def read(files: list[rescore.RowFile], file_of: list[int], rows: list[int]) -> NDArray[np.uint8]:
    return rescore.read_rows(files, np.array(file_of, np.int32), np.array(rows, np.int64), ROW_SIZE)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_scores_equal_core(any_isa: str, data: st.DataObject) -> None:
    bits = sorted(data.draw(st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=4)), reverse=True)
    wide = data.draw(st.sampled_from([20, 700]))
    finer = RescoreSpec(tuple(Block(data.draw(st.integers(1, wide)), b) for b in bits))
    spec = CodeSpec((Block(8, 1),), finer)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    count, queries = data.draw(st.integers(0, 30)), data.draw(st.integers(1, 4))
    levels = (rng.integers(0, 256, (count, finer.dims)) & finer.max_levels).astype(np.uint8)
    if data.draw(st.booleans()):
        levels = np.where(rng.random(levels.shape) < 0.5, 0, finer.max_levels).astype(np.uint8)  # the largest sums
    gains = rng.choice(np.array([0, 6e-8, 1e-3, 0.5, 3], np.float16), count)
    records = join_records(pack_levels(levels, finer), gains)
    projected = rng.normal(0, 10.0 ** rng.integers(-20, 20), (queries, finer.dims)).astype(np.float32)
    if data.draw(st.booleans()):
        projected = np.sign(projected)
    prepared = prepare_rescore(projected, spec)
    expected = rescore_scores(prepared, records, spec)

    quantized = rescore.quantize(projected, spec)
    assert np.array_equal(quantized.values, prepared.values) and np.array_equal(quantized.scales, prepared.scales)

    query_of = np.sort(rng.integers(0, queries, count)).astype(np.int32)
    source_of = rng.choice([rescore.in_array(0), rescore.in_array(1), rescore.NO_SOURCE], count).astype(np.int32)
    scores, counts = rng.normal(size=count), np.zeros(queries, np.int64)
    has = source_of != rescore.NO_SOURCE
    wanted = scores + np.where(has, expected[query_of, np.arange(count)].astype(np.float64), 0)
    arrays, rows, places = [records, records.copy()], np.arange(count), np.arange(count, dtype=np.int32)
    sources = rescore.Sources(spec, [], arrays, source_of.tolist())
    sources.add_scores(quantized, places, rows, query_of if queries > 1 else None, scores, counts)
    assert np.array_equal(scores, wanted)
    assert counts.tolist() == np.bincount(query_of[has], minlength=queries).tolist()


@pytest.mark.parametrize(("size", "dims"), [(1, 1), (7, 20), (64, 64), (384, 100), (1025, 30)])
def test_a_projection_is_one_of_whole_numbers(any_isa: str, size: int, dims: int) -> None:
    rng = np.random.default_rng(size)
    finer = RescoreSpec((Block(dims, 2),))
    matrix = rng.normal(0, 10.0 ** rng.integers(-3, 3, max(1, dims // 2)), (size, max(1, dims // 2))).astype(np.float32)
    column_of, factors = rng.integers(0, matrix.shape[1], dims), rng.choice(np.float32([0.5, 1, 4]), dims)
    rows = rng.normal(size=(5, size)).astype(np.float32)
    rows[3], rows[4], matrix[:, 0] = 0, 0, 0
    rows[4, 0] = -1e10
    projection = rescore.Projection(finer, matrix, column_of, factors)
    projected = projection.project(rows)
    exact = (rows.astype(np.float64) @ matrix)[:, column_of] * factors
    bound = np.linalg.norm(rows, axis=1)[:, None] * np.linalg.norm(matrix, axis=0)[None, column_of] * factors
    assert (np.abs(projected - exact) <= bound * 1e-4 * (1 + size**0.5 / 30)).all()
    for row, alone in zip(rows, projected, strict=True):
        assert np.array_equal(projection.project(row[None])[0], alone)
    queries, wanted = projection.queries(rows), prepare_rescore(projected, CodeSpec((Block(8, 1),), finer))
    assert np.array_equal(queries.values, wanted.values) and np.array_equal(queries.scales, wanted.scales)
    digests.setdefault((size, dims), projected.tobytes())
    assert digests[size, dims] == projected.tobytes(), "it is the same on every instruction set"
    with pytest.raises(DimensionMismatch):
        projection.project(rows[:, 1:])


digests: dict[tuple[int, int], bytes] = {}


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    spec = CodeSpec.parse("8x1/8x8")
    queries = prepare_rescore(np.ones((2, 8), np.float32), spec)
    zeros, rows = np.zeros(3, np.int32), np.zeros(3, np.int64)
    scores, counts = np.zeros(3), np.zeros(2, np.int64)
    with pytest.raises(DimensionMismatch):
        nothing = rescore.Sources(CodeSpec.parse("8x1/9x8"), [], [], [rescore.NO_SOURCE])
        nothing.add_scores(queries, zeros, rows, zeros, scores, counts)
    with pytest.raises(DimensionMismatch):
        rescore.quantize(np.ones((2, 9), np.float32), spec)
    other = write(tmp_path / "other", rows_of(0, 3))
    for files, source in (([], 0), ([other], 0), ([], rescore.in_array(0))):
        with pytest.raises(ValueError, match="source"):
            rescore.Sources(spec, files, [], [source])
    nothing = rescore.Sources(spec, [], [], [rescore.NO_SOURCE])
    with pytest.raises(ValueError, match="candidate"):
        nothing.add_scores(queries, zeros[:2], rows, zeros, scores, counts)
    with pytest.raises(IndexError):
        nothing.add_scores(queries, zeros + 1, rows, zeros, scores, counts)
    assert not scores.any() and not counts.any()


def test_checksums_are_those_of_zlib() -> None:
    for size in range(1, 40):
        records = np.random.default_rng(size).integers(0, 256, (3, size), dtype=np.uint8)
        rows = rescore.with_checksums(records)
        for record, row in zip(records, rows, strict=True):
            assert int.from_bytes(row[-4:].tobytes(), "little") == crc32(record.tobytes())
        assert rescore.are_sound(rows)
        rows[1, 0] ^= 1
        assert not rescore.are_sound(rows)
    assert not rescore.are_sound(np.zeros((1, 24), np.uint8))  # what a file that was cut short reads as


def test_rows_of_several_files_cached_or_not(tmp_path: Path) -> None:
    written = [rows_of(n, 500) for n in range(3)]
    files = [write(tmp_path / str(n), rows) for n, rows in enumerate(written)]
    rng = np.random.default_rng(0)
    file_of, rows = rng.integers(0, 3, 200).tolist(), rng.integers(0, 500, 200).tolist()
    expected = np.stack([written[f][r] for f, r in zip(file_of, rows, strict=True)])
    assert np.array_equal(read(files, file_of, rows), expected)
    for n in range(3):
        with (tmp_path / str(n)).open("rb+") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    spec = CodeSpec.parse(f"8x1/{ROW_SIZE - 6}x8")
    queries = prepare_rescore(rng.normal(size=(1, ROW_SIZE - 6)).astype(np.float32), spec)
    with np.errstate(invalid="ignore"):
        wanted = rescore_scores(queries, expected[:, : ROW_SIZE - 4], spec)[0]
    sources = rescore.Sources(spec, files, [], [0, 1, 2])
    for waits in (False, True, False):
        scores, counts = np.zeros(200), np.zeros(1, np.int64)
        with suppress(rescore.NotInMemory):  # some file systems keep everything in memory, of others nobody can tell
            sources.add_scores(queries, np.array(file_of, np.int32), np.array(rows), None, scores, counts, waits)
            assert np.array_equal(scores.astype(np.float32), wanted, equal_nan=True) and counts == [200]
    assert np.array_equal(read(files, file_of, rows), expected)
    assert read(files, [], []).shape == read([], [], []).shape == (0, ROW_SIZE)


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_lie_near_each_other_are_read_together(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    written = [rows_of(n, 9000) for n in range(2)]
    files = [write(tmp_path / str(n), rows) for n, rows in enumerate(written)]
    everything = np.arange(18000)
    starts = rng.integers(0, 18000, 6)
    near = np.concatenate([np.arange(start, min(start + int(rng.integers(1, 900)), 18000)) for start in starts])
    for wanted in (everything, everything[:: int(rng.integers(2, 400))], near, rng.integers(0, 18000, 300)):
        wanted = rng.permutation(wanted)
        found = read(files, (wanted // 9000).tolist(), (wanted % 9000).tolist())
        assert np.array_equal(found, np.concatenate(written)[wanted])
    data = bytearray((tmp_path / "1").read_bytes())
    data[len(PREFIX) + 4000 * ROW_SIZE] ^= 1
    (tmp_path / "1").write_bytes(data)
    with pytest.raises(rescore.DamagedRow) as raised:
        read(files, [1] * 9000, list(range(9000)))
    assert (raised.value.place, raised.value.error) == (4000, 0)
    assert np.array_equal(read(files, [1] * 4000, list(range(4001, 8001))), written[1][4001:8001])


@pytest.mark.parametrize("what", ["flipped", "cut", "empty"])
def test_a_damaged_row_is_named(tmp_path: Path, what: str) -> None:
    path = tmp_path / "rows"
    file = write(path, rows_of(0, 3))
    assert len(read([file], [0, 0, 0], [0, 1, 2])) == 3
    if what == "flipped":
        data = bytearray(path.read_bytes())
        data[len(PREFIX) + ROW_SIZE + 5] ^= 16
        path.write_bytes(data)
    else:
        os.truncate(path, 0 if what == "empty" else len(PREFIX) + ROW_SIZE + 5)
    with pytest.raises(rescore.DamagedRow) as raised:
        read([file], [0, 0, 0], [2, 0, 1] if what == "empty" else [0, 1, 2])
    assert (raised.value.place, raised.value.error) == (0 if what == "empty" else 1, 0)


def test_another_file_of_the_same_name_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    write(path, rows_of(0, 3))
    never_opened = rescore.open_rows(path, b"an earlier file!", len(PREFIX), ROW_SIZE)
    with pytest.raises(rescore.DamagedRow) as raised:
        read([never_opened], [0], [0])
    assert raised.value.error == errno.ESTALE
    path.unlink()
    with pytest.raises(rescore.DamagedRow) as raised:
        read([never_opened], [0], [0])
    assert raised.value.error == errno.ENOENT


def test_a_file_that_is_deleted_or_moved_can_still_be_read(tmp_path: Path) -> None:
    rows = rows_of(0, 3)
    deleted, moved = write(tmp_path / "deleted", rows), write(tmp_path / "moved", rows)
    read([deleted], [0], [0])
    (tmp_path / "deleted").unlink()
    (tmp_path / "moved").rename(tmp_path / "there")
    moved.move_to(str(tmp_path / "there"))
    assert np.array_equal(read([deleted, moved], [0, 1], [1, 2]), rows[1:])


def test_few_descriptors_are_enough_for_many_files(tmp_path: Path) -> None:
    rows = rows_of(0, 3)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = descriptors()
    files = [write(tmp_path / str(n), rows) for n in range(400)]
    try:
        for limit, most in ((soft, 128), (before + 40, 20)):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            for _ in range(2):
                for file in files:
                    assert np.array_equal(read([file], [0], [1]), rows[1:2])
            assert descriptors() <= before + most
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    del files, file
    assert descriptors() <= before


def test_reading_leaves_nothing_in_memory(tmp_path: Path) -> None:
    count = 200_000
    file = write(tmp_path / "rows", rows_of(0, count))
    rng = np.random.default_rng(0)
    files, zeros = [file], np.zeros(50, np.int32)
    rescore.read_rows(files, zeros, np.arange(50), ROW_SIZE)
    before = resident_kb()
    for _ in range(2000):
        rescore.read_rows(files, zeros, rng.integers(0, count, 50), ROW_SIZE)
    assert resident_kb() - before < 500  # of a file of 4.8 MB, all of which was read


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_kb() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
