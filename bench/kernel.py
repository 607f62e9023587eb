"""Speed of the kernel: against memory, against faiss and, where it is at hand, against a prototype. One thread.

    python bench/kernel.py [--rows 1000000] [--rounds 15] [--prototype FOLDER]

Every candidate of a comparison runs once per round, in turn, so that a busy machine slows all of them alike; the table
shows medians. `bandwidth` reads the same bytes and does nothing else: no exact scan can be faster at batch 1.
Times are CPU time of the thread; the column `wall` tells how far the clock on the wall ran ahead of it.
"""

import argparse
import importlib.util
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.codes import CodeSpec, grid_values, unpack_levels
from bebr.core.scoring import DotQueries, HammingQueries
from bebr.kernel import _kernel

CODE_SIZE_BYTES = 64
K = 10
BATCHES = (1, 32, 256)
ADC_SPECS = ("128x4", "256x2", "48x4+128x2+64x1")

Run = Callable[[], object]


@dataclass
class Data:
    """Random codes of 64 bytes, which every 64-byte spec can read as its own."""

    codes: NDArray[np.uint8]
    blocked: NDArray[np.uint8]
    gains: NDArray[np.float16]
    masks: dict[str, NDArray[np.uint16]]
    rng: np.random.Generator

    @property
    def rows(self) -> int:
        return len(self.codes)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the kernel side by side with faiss and memory.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="codes of 64 bytes to scan")
    parser.add_argument("--rounds", type=int, default=15, help="rounds; the table shows their medians")
    parser.add_argument("--prototype", type=Path, help="folder with kernel_prototype.cpp; needs pybind11 and AVX-512")
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    prototype = _load_prototype(options.prototype)
    data = _make_data(options.rows)
    print(f"{data.rows:,} codes of {CODE_SIZE_BYTES} bytes, k={K}, {kernel.isa()}, medians of {options.rounds} rounds")
    _compare_hamming(data, options.rounds, prototype)
    _compare_adc(data, options.rounds, prototype)
    _compare_sdc(data, options.rounds)


def _compare_hamming(data: Data, rounds: int, prototype: ModuleType | None) -> None:
    spec = CodeSpec.parse("512x1")
    flat = faiss.IndexBinaryFlat(512)
    flat.add(data.codes)
    for batch in BATCHES:
        codes = data.rng.integers(0, 256, (batch, CODE_SIZE_BYTES), dtype=np.uint8)

        def scan(queries: HammingQueries, masks: list[NDArray[np.uint16]] | None = None) -> object:
            return kernel.hamming_top_k(data.blocked, data.rows, spec, queries, K, masks)

        runs = _our_runs(data, scan, HammingQueries(codes))
        runs["faiss IndexBinaryFlat"] = lambda codes=codes: flat.search(codes, K)
        if prototype:
            words = data.blocked.view(np.uint32)
            runs["prototype"] = lambda codes=codes, words=words: prototype.hamming(
                words, data.rows, codes.view(np.uint32), K, 1, 512, 8, None
            )
        _print_table(f"hamming {spec}", batch, data, _measure(runs, rounds))


def _compare_adc(data: Data, rounds: int, prototype: ModuleType | None) -> None:
    for text in ADC_SPECS:
        spec = CodeSpec.parse(text)
        for batch in BATCHES:
            values = data.rng.integers(-127, 128, (batch, spec.dims)).astype(np.int8)
            runs = _dot_runs(data, spec, values)
            if prototype and len(spec.blocks) == 1:
                runs["prototype"] = _prototype_dot(prototype, data, spec, values)
            _print_table(f"adc {spec}", batch, data, _measure(runs, rounds))


def _compare_sdc(data: Data, rounds: int) -> None:
    """sdc of 128x4 against faiss's fastest 4-bit scan with the grid as centroids: the same sums, but rounded."""
    spec = CodeSpec.parse("128x4")
    index = faiss.IndexPQFastScan(spec.dims, spec.dims, 4, faiss.METRIC_INNER_PRODUCT)
    grid = np.tile(np.arange(-15, 16, 2, dtype=np.float32)[:, None], (spec.dims, 1, 1))
    faiss.copy_array_to_vector(grid.ravel(), index.pq.centroids)
    index.is_trained = True
    for first in range(0, data.rows, 100_000):
        index.add(grid_values(unpack_levels(data.codes[first : first + 100_000], spec), spec).astype(np.float32))
    for batch in BATCHES[:2]:
        values = (2 * data.rng.integers(0, 16, (batch, spec.dims)) - 15).astype(np.int8)
        runs = _dot_runs(data, spec, values)
        runs["faiss IndexPQFastScan"] = lambda values=values: index.search(values.astype(np.float32), K)
        _print_table(f"sdc {spec}", batch, data, _measure(runs, rounds))


def _dot_runs(data: Data, spec: CodeSpec, values: NDArray[np.int8]) -> dict[str, Run]:
    queries = DotQueries(values, np.full((len(values), len(spec.blocks)), 0.01, np.float32))

    def scan(queries: DotQueries, masks: list[NDArray[np.uint16]] | None = None) -> object:
        return kernel.dot_top_k(data.blocked, data.gains, data.rows, spec, queries, K, masks)

    return _our_runs(data, scan, queries)


def _our_runs(data: Data, scan: Callable[..., object], queries: object) -> dict[str, Run]:
    runs: dict[str, Run] = {"bandwidth": lambda: _kernel.read_checksum(data.blocked), "bebr": lambda: scan(queries)}
    for name, mask in data.masks.items():
        runs[f"bebr, {name}"] = lambda mask=mask: scan(queries, [mask])
    return runs


def _measure(runs: dict[str, Run], rounds: int) -> dict[str, tuple[float, float]]:
    """Name -> median seconds of CPU time and of wall time."""
    for run in runs.values():
        run()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.thread_time()
            run()
            times[name].append((time.thread_time() - cpu, time.perf_counter() - wall))
    return {name: tuple(np.median(values, axis=0).tolist()) for name, values in times.items()}


def _print_table(title: str, batch: int, data: Data, seconds: dict[str, tuple[float, float]]) -> None:
    """`share`: bytes per second, of the bandwidth. `ratio`: CPU time over that of the plain scan."""
    code_bytes = data.codes.nbytes
    size_bytes = code_bytes if title.startswith("hamming") else code_bytes + data.gains.nbytes
    ours = seconds["bebr"][0]
    speeds = {name: size_bytes * batch / cpu / 1e9 for name, (cpu, _) in seconds.items() if "kept" not in name}
    speeds["bandwidth"] = code_bytes / seconds["bandwidth"][0] / 1e9
    print(f"\n{title}, batch {batch}\n  {'':24}{'ms/query':>10}{'wall':>10}{'GB/s':>8}{'share':>8}{'ratio':>8}")
    for name, (cpu, wall) in seconds.items():
        queries = 1 if name == "bandwidth" else batch
        speed = f"{speeds[name]:8.1f}" if name in speeds else f"{'':8}"
        share = f"{speeds[name] / speeds['bandwidth']:8.0%}" if name in speeds and batch == 1 else f"{'':8}"
        print(
            f"  {name:24}{cpu * 1e3 / queries:10.3f}{wall * 1e3 / queries:10.3f}{speed}{share}{cpu / ours:8.2f}",
            flush=True,
        )


def _make_data(rows: int) -> Data:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 256, (rows, CODE_SIZE_BYTES), dtype=np.uint8)
    spec = CodeSpec.parse("512x1")
    blocked = kernel.allocate(kernel.blocked_size_bytes(spec, rows))
    kernel.pack(codes, spec, blocked, 0)
    groups = -(-rows // kernel.GROUP_ROWS)
    # Padded to whole groups, because the prototype reads so.
    gains = kernel.allocate(groups * kernel.GROUP_ROWS * 2).view(np.float16)
    gains[:] = rng.uniform(0.01, 0.02, len(gains))
    masks = {
        f"{kept:.0%} kept": np.packbits(rng.random(groups * 16) < kept, bitorder="little").view(np.uint16)
        for kept in (0.1, 0.01)
    }
    return Data(codes, blocked, gains, masks, rng)


def _load_prototype(folder: Path | None) -> ModuleType | None:
    """Compile and import kernel_prototype.cpp; None, with the reason printed, where that cannot be."""
    if folder is None:
        print("prototype: skipped, no --prototype FOLDER was given")
        return None
    source = folder / "kernel_prototype.cpp"
    if kernel.isa() != "avx512" or not source.exists() or importlib.util.find_spec("pybind11") is None:
        print(f"prototype: skipped, it needs {source}, the package pybind11 and a machine with AVX-512")
        return None
    target = Path(tempfile.mkdtemp(prefix="bebr-bench-")) / f"kern{sysconfig.get_config_var('EXT_SUFFIX')}"
    includes = subprocess.run(
        [sys.executable, "-m", "pybind11", "--includes"], capture_output=True, text=True, check=True
    ).stdout.split()
    command = ["c++", "-O3", "-shared", "-fPIC", "-std=c++17", "-w", *includes, str(source), "-o", str(target)]
    subprocess.run(command, check=True)
    spec = importlib.util.spec_from_file_location("kern", target)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _prototype_dot(prototype: Any, data: Data, spec: CodeSpec, values: NDArray[np.int8]) -> Run:
    """Queries as the prototype takes them: [query][field][word] of four values each."""
    bits = spec.blocks[0].bits
    fields, words = 8 // bits, spec.code_size_bytes // 4
    packed = np.ascontiguousarray(values.reshape(len(values), words, 4, fields).transpose(0, 3, 1, 2)).view(np.int32)
    packed = packed.reshape(len(values), fields, words)
    offsets = (-(2**bits - 1) * values.astype(np.int32).sum(axis=1)).astype(np.int32)
    float16_gains = 2
    return lambda: prototype.sdc_vn(
        bits, data.blocked.view(np.uint32), data.rows, packed, offsets, data.gains, float16_gains, K, 1, 512, 12, None
    )


if __name__ == "__main__":
    main()
