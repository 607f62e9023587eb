"""The scans of the kernel on ARM, built by a cross compiler and run by an emulator, equal `core` to the last bit.

The extension itself needs a Python of that machine; here its scans are linked into a small program, `check_scans.cpp`,
which reads codes and what the oracle makes of them from a file.
"""

import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec, pack_levels
from bebr.core.lists import Centroids, centroid_scores, lists_read
from bebr.core.scoring import DotQueries, HammingQueries, dot_scores, hamming_distances

SOURCES = Path(__file__).parents[2] / "service/bebr/kernel/src"
COMPILER = "aarch64-linux-gnu-g++"
EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")
PARTS = (
    "candidates", "centroids", "clustering", "dispatch", "kernels_portable", "layout", "lists", "memory", "pieces",
    "queries", "scan",
)  # fmt: skip
SPECS = ("256x2", "48x4+128x2+65x1", "7x4+3x1", "130x1", "1x2")


@pytest.fixture(scope="module")
def emulator() -> str:
    found = next((path for name in EMULATORS if (path := shutil.which(name))), None)
    if found is None or shutil.which(COMPILER) is None:
        pytest.skip(
            f"needs {COMPILER} and one of {', '.join(EMULATORS)}: on Debian, the packages g++-aarch64-linux-gnu, "
            "libc6-dev-arm64-cross and qemu-user-static"
        )
    return found


def test_scans_on_arm(emulator: str, tmp_path: Path) -> None:
    program, cases = tmp_path / "check_scans", tmp_path / "cases"
    sources = [str(SOURCES / f"{name}.cpp") for name in PARTS]
    flags = ["-std=c++20", "-O1", "-ffp-contract=off", "-Wall", "-Wno-psabi", "-static", f"-I{SOURCES}"]
    here = str(Path(__file__).with_name("check_scans.cpp"))
    subprocess.run([COMPILER, *flags, here, *sources, "-o", str(program)], check=True, timeout=600)
    rng = np.random.default_rng(5)
    cases.write_bytes(b"".join(_case(rng, CodeSpec.parse(spec), int(rng.integers(1, 400))) for spec in SPECS * 3))
    done = subprocess.run(
        [emulator, str(program), str(cases)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == f"{len(SPECS) * 3} cases by portable kernels, 0 differ\n"


def _case(rng: np.random.Generator, spec: CodeSpec, rows: int) -> bytes:
    """One case as `check_scans.cpp` reads it: codes and queries, then what is found."""
    queries, k, lists = int(rng.integers(1, 8)), int(rng.choice([1, 5, 20])), int(rng.choice([1, 7, 40]))
    codes = _random_codes(rng, spec, rows)
    gains = rng.choice(np.array([0, 6e-8, 0.5, 1, 3], np.float16), rows)
    dot = DotQueries(
        rng.integers(-128, 128, (queries, spec.dims)).astype(np.int8),
        rng.uniform(0, 1, (queries, len(spec.blocks))).astype(np.float32),
    )
    signs = HammingQueries(_random_codes(rng, spec, queries))
    begin = np.concatenate([[0], np.sort(rng.integers(0, rows + 1, lists - 1)), [rows]]).astype(np.uint32)
    values = rng.integers(-127, 128, (lists, spec.dims)).astype(np.int8)
    scales = rng.uniform(0, 0.03, (lists, len(spec.blocks))).astype(np.float32)
    centroids = Centroids(1, 1, spec, values, scales, DotQueries(values, scales))
    scores = dot_scores(dot, codes, gains, spec) + np.float32(0)
    deltas = np.full(queries, scores.std() / 2, np.float32)
    blocks = [number for block in spec.blocks for number in (block.dims, block.bits)]
    header = np.array([len(spec.blocks), *blocks, rows, queries, k, lists], np.uint32)
    ungained = dot_scores(dot, codes, np.ones(rows, np.float16), spec)
    given = [header, codes, gains, dot.values, dot.scales, signs.codes, begin, values, scales, deltas]
    found = [
        *_best(-scores, k, np.float32(np.inf)), *_best(hamming_distances(signs, codes, spec), k, np.int32(2**31 - 1)),
        centroid_scores(centroids, dot), ungained.argmax(axis=0).astype(np.int32), ungained.max(axis=0),
        *_by_lists(centroid_scores(centroids, dot), begin, scores, k, deltas),
    ]  # fmt: skip
    found[0] = -found[0] + np.float32(0)
    return b"".join(array.tobytes() for array in given + found)


def _random_codes(rng: np.random.Generator, spec: CodeSpec, count: int) -> NDArray[np.uint8]:
    distinct = (rng.integers(0, 256, (int(rng.choice([2, 300])), spec.dims)) & spec.max_levels).astype(np.uint8)
    return pack_levels(distinct[rng.integers(0, len(distinct), count)], spec)


def _best(keys: NDArray[Any], k: int, nothing: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The k lowest keys of each query, and their rows, padded."""
    rows = np.full((len(keys), k), -1, np.int64)
    best = np.full((len(keys), k), nothing, keys.dtype)
    order = np.argsort(keys, axis=1, kind="stable")[:, :k]
    rows[:, : order.shape[1]] = order
    best[:, : order.shape[1]] = np.take_along_axis(keys, order, axis=1)
    return best, rows


def _by_lists(
    of_lists: NDArray[np.float32], begin: NDArray[np.uint32], scores: NDArray[np.float32], k: int,
    deltas: NDArray[np.float32],
) -> list[NDArray[Any]]:  # fmt: skip
    """Lists and rows read by each query, where its hits start, and their rows and scores."""
    members = [np.arange(*ends, dtype=np.int64) for ends in pairwise(begin)]
    read, counts, starts, rows, found = [], [], [0], [], []
    for q in range(len(scores)):
        numbers, seen = lists_read(
            of_lists[q], members, scores[q], np.empty(0, np.int64), stop_at=k, delta=float(deltas[q])
        )
        best = sorted((-float(scores[q, row]), int(row)) for row in seen)
        best = [one for one in best if len(best) <= k or one[0] <= best[k - 1][0]]
        read.append(len(numbers))
        counts.append(len(seen))
        rows += [row for _, row in best]
        found += [-key + 0.0 for key, _ in best]
        starts.append(len(rows))
    return [*(np.array(one, np.int64) for one in (read, counts, starts, rows)), np.array(found, np.float64)]
