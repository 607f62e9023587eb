"""What rescore codes cost: a search that reads them, warm and cold, the memory that it leaves behind, and ingestion.

    python -m bench.rescore [--points 100000] [--rescore-bytes 128] [--rounds 7]

search    CPU of one search (limit 10, by vector) in this process, with and without rescoring in turns
cold      the same with the segment files dropped from the system's cache before each search
memory    resident memory before and after searches that read as many rescore codes as there are
ingest    vectors to durable and searchable, by a binarizer that makes rescore codes, by one as a fit without them makes
          it (its scan codes are found by more loops), and by one that makes the same scan codes and nothing else

Embeddings are random with the falling spectrum of texts', 384 dims, codes 256x2.
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from tests.encoding.quantization.embeddings import text_like

from bebr.bootstrap import build_engine
from bebr.config import Settings
from bebr.core.codes import CodeSpec
from bebr.core.types import WriteMode
from bebr.encoding import write_bundle
from bebr.encoding.quantization.layout import fit_code
from bebr.encoding.quantization.recurrent import HARDNESS
from bebr.encoding.quantization.recurrent_graph import files_of
from bebr.engine import CollectionSettings, Engine, SearchRequest

DIMS, SPEC = 384, CodeSpec.parse("256x2")
FIT_ROWS = 4000
BATCH = 2000
QUERIES = 200
COLD_SEARCHES = 50
INGEST_POINTS = 20_000
Rows = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--rescore-bytes", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    sys.setswitchinterval(0.001)  # as `bebr serve` does it
    with TemporaryDirectory() as folder:
        make_bundles(Path(folder) / "bundles", options.rescore_bytes)
        asyncio.run(run(Path(folder), options))


def make_bundles(folder: Path, rescore_bytes: int) -> None:
    """`both@1` has rescore codes, `alone@1` is as a fit without them, `scan@1` has the scan codes of `both@1` alone."""
    fitted, _ = fit_code(text_like(FIT_ROWS, dims=DIMS), SPEC, rescore_bytes=rescore_bytes)
    scan = replace(fitted, residual=None)
    for name, one in (("both", fitted), ("alone", replace(scan, hardness=HARDNESS)), ("scan", scan)):
        write_bundle(folder, name, "1", embedding_dims=DIMS, binarizer=files_of(one))


async def run(folder: Path, options: argparse.Namespace) -> None:
    settings = Settings(data_dir=folder / "data", bundles_dir=folder / "bundles", coverage_one_in=0)
    engine = await started(settings)
    await ingest(engine, options)
    await fill(engine, "docs", "both@1", options.points)
    await engine.stop()
    engine = await started(settings)  # all points are in files now
    try:
        queries = text_like(QUERIES, seed=9, dims=DIMS)
        size = sum(path.stat().st_size for path in segment_files(folder))
        version = engine.registry.get("docs").active
        print(f"{options.points:,} points of {version.spec}; segment files {size / 1e6:.1f} MB")
        await warm(engine, queries, options.rounds)
        await cold(engine, queries, segment_files(folder))
        await memory(engine, options.points)
    finally:
        await engine.stop()


async def started(settings: Settings) -> Engine:
    engine = build_engine(settings)
    await engine.start()
    await engine.wait_until_ready()
    return engine


def segment_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("data/**/*.seg"))


async def fill(engine: Engine, collection: str, bundle: str, points: int) -> float:
    """Make a collection of so many points; the seconds that writing took."""
    await engine.create_collection(collection, CollectionSettings(bundle=bundle))
    seconds = 0.0
    for start in range(0, points, BATCH):
        rows = rows_from(start, min(BATCH, points - start))
        ids = [f"doc-{number:08d}" for number in range(start, start + len(rows))]
        before = time.perf_counter()
        while (await engine.write_vectors(collection, ids, rows, [{}] * len(ids), WriteMode.UPSERT)).rejected:
            await asyncio.sleep(0.05)
        seconds += time.perf_counter() - before
    return seconds


@cache
def rows_from(start: int, count: int) -> Rows:
    return text_like(count, seed=start + 1, dims=DIMS)


async def search(engine: Engine, row: Rows, rescore: bool) -> int:
    """CPU nanoseconds of the whole process."""
    await asyncio.sleep(0)  # as a request comes, in a turn of the event loop of its own
    before = time.process_time_ns()
    await engine.search("docs", [SearchRequest(vector=row, rescore=None if rescore else False, with_metadata=False)])
    return time.process_time_ns() - before


async def warm(engine: Engine, queries: Rows, rounds: int) -> None:
    (explained,) = await engine.search("docs", [SearchRequest(vector=queries[0], explain=True)])
    assert explained.explain is not None and explained.explain.rescore is not None
    taken: dict[bool, list[float]] = {True: [], False: []}
    for round_number in range(rounds + 1):
        for row in queries:
            for rescore in taken:  # in turns: what disturbs one disturbs the other
                nanoseconds = await search(engine, row, rescore)
                if round_number:
                    taken[rescore].append(nanoseconds / 1000)
    print(f"search    {explained.explain.rescore.candidates} candidates")
    for name, share in (("median", 50), ("10th percentile, which little disturbs", 10)):
        finer, plain = (float(np.percentile(taken[rescore], share)) for rescore in (True, False))
        print(f"          {finer:.0f} us of CPU, {plain:.0f} us without: rescoring {finer - plain:.0f} us ({name})")


async def cold(engine: Engine, queries: Rows, files: Sequence[Path]) -> None:
    for path in files:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    for rescore in (False, True):
        cpu, wall = [], []
        for row in queries[:COLD_SEARCHES]:
            forget(files)
            before = time.perf_counter_ns()
            cpu.append(await search(engine, row, rescore))
            wall.append(time.perf_counter_ns() - before)
        name = "with" if rescore else "without"
        print(
            f"cold      {name}: {statistics.median(cpu) / 1000:.0f} us of CPU, {statistics.median(wall) / 1e6:.2f} ms"
        )


def forget(files: Sequence[Path]) -> None:
    """Drop the files from the system's cache, but for what is mapped and in use."""
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


async def memory(engine: Engine, points: int) -> None:
    rows = text_like(points // 30, seed=100, dims=DIMS)
    for row in rows:
        await search(engine, row, False)  # the ids of its hits, which are mapped, would count
    before, read = resident_bytes(), 0
    for row in rows:
        (result,) = await engine.search("docs", [SearchRequest(vector=row, with_metadata=False, explain=True)])
        assert result.explain is not None and result.explain.rescore is not None
        read += result.explain.rescore.rows_read
    print(f"memory    {(resident_bytes() - before) / 1e6:+.2f} MB resident after reading {read:,} rescore codes")


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def ingest(engine: Engine, options: argparse.Namespace) -> None:
    taken: dict[str, list[tuple[float, float]]] = {"both@1": [], "alone@1": [], "scan@1": []}
    for round_number in range(options.rounds):
        for bundle, of_rounds in taken.items():
            name = f"ingest-{bundle.split('@')[0]}-{round_number}"
            before = time.process_time()
            seconds = await fill(engine, name, bundle, INGEST_POINTS)
            of_rounds.append((seconds, time.process_time() - before))
            await engine.delete_collection(name)
    seconds, cpu = ({b: statistics.median(one[i] for one in some) for b, some in taken.items()} for i in (0, 1))
    for bundle in taken:
        rate, each = INGEST_POINTS / seconds[bundle], cpu[bundle] / INGEST_POINTS * 1e6
        print(f"ingest    {bundle}: {rate:,.0f} vectors/s, {each:.1f} us of CPU a vector")
        shares = seconds[bundle] / seconds["both@1"], cpu[bundle] / cpu["both@1"]
        print(f"          both@1 takes in x{shares[0]:.2f} as many, by CPU x{shares[1]:.2f}")


if __name__ == "__main__":
    main()
