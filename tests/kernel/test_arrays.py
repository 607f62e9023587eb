"""What the kernel asks of its arguments, and what it promises about memory and threads."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.codes import CodeSpec
from bebr.core.scoring import DotQueries, HammingQueries
from bebr.errors import DimensionMismatch, InvalidCode

SPEC = CodeSpec.parse("32x4+20x1")  # 19 bytes, padded to 5 words
ROWS = 100


def random_codes(rows: int, seed: int = 0) -> NDArray[np.uint8]:
    codes = np.random.default_rng(seed).integers(0, 256, (rows, SPEC.code_size_bytes), dtype=np.uint8)
    codes[:, -1] &= 0x0F  # padding bits are zero
    return codes


def random_queries(count: int) -> DotQueries:
    rng = np.random.default_rng(1)
    values = rng.integers(-127, 128, (count, SPEC.dims)).astype(np.int8)
    return DotQueries(values, rng.random((count, 2)).astype(np.float32))


@pytest.fixture
def blocked() -> NDArray[np.uint8]:
    blocked = kernel.allocate(kernel.blocked_size_bytes(SPEC, ROWS))
    kernel.pack(random_codes(ROWS), SPEC, blocked, 0)
    return blocked


@pytest.mark.parametrize("size", [0, 1, 1000, 2 << 20, (5 << 20) + 3])
def test_allocated_memory_is_zero_aligned_and_writable(size: int) -> None:
    memory = kernel.allocate(size)
    assert memory.shape == (size,)
    assert memory.dtype == np.uint8
    assert memory.ctypes.data % (2 << 20 if size >= 2 << 20 else 64) == 0
    assert not memory.any()
    memory[:] = 1


def test_blocked_size_is_whole_groups_of_whole_words() -> None:
    assert [kernel.blocked_size_bytes(SPEC, rows) for rows in (0, 1, 16, 17)] == [0, 320, 320, 640]
    assert kernel.blocked_size_bytes(CodeSpec.parse("128x4"), 1_000_000) == 64_000_000


def test_layout_is_the_documented_one(blocked: NDArray[np.uint8]) -> None:
    codes, words = random_codes(ROWS), blocked.view(np.uint32)
    padded = np.zeros((ROWS, 20), np.uint8)
    padded[:, :16], padded[:, 16:19] = codes[:, :16], codes[:, 16:]
    for row in (0, 17, 99):
        expected = padded[row].view(np.uint32)
        assert [words[row // 16 * 80 + w * 16 + row % 16] for w in range(5)] == expected.tolist()


def test_memory_mapped_codes_can_be_scanned(tmp_path: Path, blocked: NDArray[np.uint8]) -> None:
    path = tmp_path / "codes"
    path.write_bytes(bytes(64) + blocked.tobytes())
    mapped = np.memmap(path, np.uint8, "r", offset=64)
    gains = np.ones(ROWS, np.float16)
    gains.flags.writeable = False
    queries = random_queries(2)
    ours = kernel.dot_top_k(mapped, gains, ROWS, SPEC, queries, 5)
    theirs = kernel.dot_top_k(blocked, gains, ROWS, SPEC, queries, 5)
    assert ours[1].tolist() == theirs[1].tolist()
    np.testing.assert_array_equal(kernel.unpack(mapped, SPEC, np.arange(ROWS)), random_codes(ROWS))


def test_queries_that_do_not_fit_are_the_callers_fault(blocked: NDArray[np.uint8]) -> None:
    gains = np.ones(ROWS, np.float16)
    short = DotQueries(np.ones((2, 51), np.int8), np.ones((2, 2), np.float32))
    with pytest.raises(DimensionMismatch, match=r"\(queries, 52\)"):
        kernel.dot_top_k(blocked, gains, ROWS, SPEC, short, 5)
    with pytest.raises(InvalidCode, match=r"\(rows, 19\)"):
        kernel.hamming_top_k(blocked, ROWS, SPEC, HammingQueries(np.zeros((2, 18), np.uint8)), 5)
    with pytest.raises(InvalidCode, match=r"\(rows, 19\)"):
        kernel.pack(np.zeros((2, 20), np.uint8), SPEC, blocked, 0)


def test_arrays_that_do_not_fit_are_bugs(blocked: NDArray[np.uint8]) -> None:
    queries, gains, mask = random_queries(2), np.ones(ROWS, np.float16), np.zeros(7, np.uint16)

    def search(
        blocked: NDArray[np.uint8] = blocked,
        gains: NDArray[np.float16] = gains,
        rows: int = ROWS,
        k: int = 5,
        **options,
    ) -> None:
        kernel.dot_top_k(blocked, gains, rows, SPEC, queries, k, **options)

    search(masks=[mask])
    for wrong, message in [
        ({"k": 0}, "k must be at least 1"),
        ({"rows": -1}, "rows must be between"),
        ({"rows": 113}, "blocked: expected"),
        ({"gains": gains[:99]}, "gains: expected"),
        ({"gains": gains.astype(np.float32)}, "got float32"),
        ({"blocked": blocked[1:]}, "blocked: expected"),
        ({"masks": [mask[:6]]}, "mask: expected"),
        ({"masks": [mask, mask]}, "need a mask_of_query"),
        ({"masks": [mask], "mask_of_query": np.array([0, 1], np.int32)}, "must lie between -1 and 0"),
        ({"masks": [mask], "mask_of_query": np.array([0], np.int32)}, "mask_of_query: expected"),
        ({"floors": np.zeros(2, np.float64)}, "floors: expected"),
    ]:
        with pytest.raises(ValueError, match=message):
            search(**wrong)
    with pytest.raises(ValueError, match="first_row"):
        kernel.pack(random_codes(1), SPEC, blocked, -1)
    with pytest.raises(ValueError, match="blocked: expected"):
        kernel.pack(random_codes(13), SPEC, blocked, ROWS)
    with pytest.raises(ValueError, match="rows must not be negative"):
        kernel.unpack(blocked, SPEC, np.array([-1]))
    unaligned = kernel.allocate(len(blocked) + 64)[4:]
    with pytest.raises(ValueError, match="aligned"):
        search(blocked=unaligned)


def test_a_written_row_changes_no_byte_of_its_neighbours(blocked: NDArray[np.uint8]) -> None:
    before = blocked.view(np.uint32).copy()
    kernel.pack(random_codes(1, seed=9), SPEC, blocked, 37)
    changed = np.flatnonzero(blocked.view(np.uint32) != before)
    assert set(changed).issubset({37 // 16 * 80 + w * 16 + 37 % 16 for w in range(5)})


def test_readers_see_whole_rows_while_a_writer_appends() -> None:
    rows, batch = 4000, 7
    codes, gains = random_codes(rows), np.ones(rows, np.float16)
    blocked = kernel.allocate(kernel.blocked_size_bytes(SPEC, rows))
    queries = random_queries(5)
    visible = 0
    done = threading.Event()

    def write() -> None:
        nonlocal visible
        for first in range(0, rows, batch):
            kernel.pack(codes[first : first + batch], SPEC, blocked, first)
            visible = min(first + batch, rows)
        done.set()

    def read() -> list[tuple[int, NDArray[np.float32], NDArray[np.int64]]]:
        seen = []
        while not done.is_set():
            seen.append((visible, *kernel.dot_top_k(blocked, gains, visible, SPEC, queries, 10)))
        return seen

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        pool.submit(write).result()
    results = [result for reader in readers for result in reader.result()]
    for count, scores, found in [*results[:: max(1, len(results) // 20)], results[-1]]:
        again = kernel.dot_top_k(blocked, gains, count, SPEC, queries, 10)
        np.testing.assert_array_equal(scores, again[0])
        np.testing.assert_array_equal(found, again[1])
