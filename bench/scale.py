"""A large collection of codes: bulk load, memory, restart, searches warm and cold, and searches beside a compaction.

    python -m bench.scale [--points 1000000] [--folder FOLDER] [--shards 2] [--steps fill,restart,...] [--redis-url URL]

Codes of real embeddings as far as they go, then copies of them with an eighth of the bits flipped: those cost what real
ones would, and say nothing about recall. Every step runs in a process of its own, so that memory and imports are
counted cleanly; memory is less that of the same process with an empty collection that was written and searched. One
search at a time, by code, of all rows. A cold search is the first after a start with files that were dropped from the
page cache; `lists` reads 128 times 110 rows of the largest segment so, as a search by lists does, asked for together or
not.
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench._scale_data import CHUNK, QUERIES, real_codes, stored
from bench.bundles.data import DEFAULT_FOLDER

STEPS = ("empty", "fill", "restart", "search", "cold", "lists", "compact", "rebuild")
CODE = "256x2"
REAL_ROWS = 200_000
SEARCHES = 400
COLD_SEARCHES = 20
LISTS, LIST_ROWS = 128, 110
"""What a search reads that reads lists."""
COLD_READS = 9
DISK_BYTES = 350
"""Free for each point at the start: what ten million took (docs/benchmarks.md#large-collections), and a half more for
what merges, logs of the store and other codes take."""


def main() -> None:
    options = parse()
    if options.step:
        print(json.dumps(asyncio.run(run_step(options))))
        return
    if options.folder:
        measure(Path(options.folder), options)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options)


def measure(folder: Path, options: argparse.Namespace) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(folder).free, options.points * DISK_BYTES
    if "fill" in options.steps.split(",") and free < needed:
        raise SystemExit(f"{options.points:,} points need about {needed:,} bytes of disk, {folder} has {free:,} free")
    real = real_codes(options.data, REAL_ROWS, folder / "real.npy")
    kept = min(options.points, len(real) - QUERIES)
    print(f"{options.points:,} points of {CODE}: {kept:,} real codes, {options.points - kept:,} perturbed copies")
    base: dict[str, int] = {}
    for step in [one for one in STEPS if one in options.steps.split(",")]:
        if step == "rebuild":
            shutil.rmtree(folder / "data" / "collections")
        result = run_child(step, folder, options)
        if step == "empty":
            base = result["memory"]
        for name, figure in result.items():
            if name == "memory":
                used = {kind: (size - base.get(kind, 0)) / options.points for kind, size in figure.items()}
                figure = "  ".join(f"{kind} {size:.1f}" for kind, size in used.items())
                name = "memory, bytes a point"
            print(f"{step:8s} {name:42s} {figure}", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--folder", help="where the data lies, and stays; without it, in a folder that is removed")
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER, help="folder of collections with embeddings")
    parser.add_argument("--steps", default=",".join(STEPS), help=f"of {','.join(STEPS)}")
    parser.add_argument("--redis-url")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    return parser.parse_args()


def run_child(step: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.scale", "--step", step, "--folder", str(folder)]
    command += ["--points", str(options.points), "--shards", str(options.shards)]
    if options.redis_url:
        command += ["--redis-url", options.redis_url]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


async def run_step(options: argparse.Namespace) -> dict[str, Any]:
    from bebr.bootstrap import build_engine
    from bebr.config import Settings

    folder = Path(options.folder)
    queries = np.load(folder / "real.npy")[-QUERIES:]
    if options.step == "cold":
        drop_files(folder / "data")
    if options.step == "lists":
        return cold_lists(folder)
    sys.setswitchinterval(0.001)  # as `bebr serve` does it
    settings = Settings(data_dir=folder / "data", redis_url=options.redis_url, coverage_one_in=0, scrub_bytes_per_s=0)
    engine = build_engine(settings)
    started = time.perf_counter()
    await engine.start()
    await engine.wait_until_ready()
    result: dict[str, Any] = {"seconds until it is ready": f"{time.perf_counter() - started:.2f}"}
    try:
        if options.step in ("empty", "fill"):
            result |= await fill(engine, options)
        elif options.step == "compact":
            result |= await beside_compaction(engine, queries, folder)
        else:
            count = COLD_SEARCHES if options.step == "cold" else SEARCHES
            result |= await first_and_others(engine, queries, count)
        result["memory"] = memory()
    finally:
        await engine.stop()
    return result


async def fill(engine: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Points by way of the shards, which commit them to the store, as the engine does with what the API hands over."""
    from bebr.engine import CollectionSettings, SearchRequest

    points = 1 if options.step == "empty" else options.points
    if options.step == "empty":
        await engine.create_collection("docs", CollectionSettings(code=CODE, shards=options.shards))
    real = np.load(Path(options.folder) / "real.npy")
    began, done, seconds_of = time.perf_counter(), 0, []
    for codes in stored(real, points):
        await write(engine.registry.get("docs"), codes, done)
        done += len(codes)
        if done % max(1, points // 10 // CHUNK * CHUNK) == 0:
            now = time.perf_counter()
            seconds_of.append(now - began)
            began = now
            print(
                f"{done:,} points, {seconds_of[-1] / (points / 10) * 1e6:.1f} us a point", file=sys.stderr, flush=True
            )
    await engine.search("docs", [SearchRequest(code=real[0].tobytes())])  # what any use loads
    if options.step == "empty":
        await engine.delete_points("docs", ["doc-000000000"])
        return {}
    began = time.perf_counter()
    upkeep = engine.registry.get("docs").shards.upkeep
    while upkeep.is_busy:
        await asyncio.sleep(0.05)
    first, last = (seconds / (points / 10) * 1e6 for seconds in (seconds_of[0], seconds_of[-1]))
    return {
        "us a point, in the mean": f"{sum(seconds_of) / points * 1e6:.1f}",
        "us a point, first and last tenth": f"{first:.1f} {last:.1f}",
        "seconds until all is sealed and merged": f"{time.perf_counter() - began:.1f}",
    }


async def write(collection: Any, codes: Any, start: int) -> None:
    """Every shard gets its points in one commit."""
    from bebr.core.codes import join_records
    from bebr.core.operations import PutWrite
    from bebr.core.types import Puts, WriteMode
    from bebr.shards import ShardWrite

    ids = [f"doc-{start + i:09d}" for i in range(len(codes))]
    records = join_records(codes, np.ones(len(codes), np.float16))
    shard_of = np.array([collection.shard_of(point_id) for point_id in ids])

    async def write_to(shard: int) -> None:
        rows = np.flatnonzero(shard_of == shard)
        texts = [f'{{"n":{start + row}}}' for row in rows.tolist()]
        puts = Puts([ids[row] for row in rows.tolist()], 0, records[rows], texts)
        await collection.shards.wait_for_capacity(shard)
        await collection.shards.write(shard, ShardWrite(PutWrite(puts, WriteMode.UPSERT), {}))

    await asyncio.gather(*(write_to(shard) for shard in set(shard_of.tolist())))


async def first_and_others(engine: Any, queries: Any, count: int) -> dict[str, Any]:
    times = [await search_ms(engine, query) for query in queries[: count + 1]]
    status = await engine.describe_collection("docs")
    parts = sum(shard.parts for shard in status.shards)
    return {"first search, ms": f"{times[0]:.1f}", "searches": summary(times[1:]), "parts": parts}


async def beside_compaction(engine: Any, queries: Any, folder: Path) -> dict[str, Any]:
    """All sealed segments of a shard are merged into one, whose file is then thrown away."""
    from bebr.index import sealing
    from bebr.index.segment import SegmentView

    for query in queries[:50]:
        await search_ms(engine, query)
    quiet = [await search_ms(engine, query) for query in queries[:SEARCHES]]
    follower = engine.registry.get("docs").shards._followers[0]
    views = [part for part in follower.view.parts if isinstance(part, SegmentView)]
    path, before = folder / "merged.seg", memory()["anonymous"]
    peak, done = [before], []

    def compact() -> None:
        began = time.perf_counter()
        sealing.compact(views, path)
        done.append(time.perf_counter() - began)

    thread = threading.Thread(target=compact)
    thread.start()
    busy: list[float] = []
    while thread.is_alive():
        busy.append(await search_ms(engine, queries[len(busy) % len(queries)]))
        peak.append(memory()["anonymous"])
        await asyncio.sleep(0)
    rows = sum(view.live_count for view in views)
    size = path.stat().st_size
    path.unlink()
    return {
        "quiet": summary(quiet),
        "beside a compaction": summary(busy),
        "rows, seconds, us a row": f"{rows:,} {done[0]:.1f} {done[0] / rows * 1e6:.1f}",
        "bytes a row, in memory at most and in the file": f"{(max(peak) - before) / rows:.1f} {size / rows:.1f}",
    }


def cold_lists(folder: Path) -> dict[str, Any]:
    from bebr.index.segment import Segment

    path = max(folder.rglob("*.seg"), key=lambda path: path.stat().st_size)
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {"asked for together": [], "read one by one": []}
    for _ in range(COLD_READS):
        for how, taken in times.items():
            drop_files(path.parent)
            segment = Segment(path, map_from_bytes=0)
            codes, size = segment.pieces["codes"], segment.blocked.nbytes // segment.rows
            begins = np.sort(rng.integers(0, segment.rows - LIST_ROWS, LISTS)) * size
            began = time.perf_counter()
            if how == "asked for together":
                for begin in begins.tolist():
                    codes.advise(begin, begin + LIST_ROWS * size)
            for begin in begins.tolist():
                assert codes.check(begin, begin + LIST_ROWS * size)
            taken.append((time.perf_counter() - began) * 1000)
            del segment, codes  # what is mapped is not dropped
    return {f"{LISTS} cold lists, {how}": f"p50 {np.median(taken):.1f} ms" for how, taken in times.items()}


async def search_ms(engine: Any, code: Any) -> float:
    from bebr.engine import SearchRequest

    began = time.perf_counter()
    await engine.search("docs", [SearchRequest(code=code.tobytes(), limit=10, with_metadata=False)])
    return (time.perf_counter() - began) * 1000


def summary(times: list[float]) -> str:
    p50, p99 = np.percentile(times, [50, 99])
    return f"p50 {p50:.2f} ms  p99 {p99:.2f} ms  ({len(times)} searches)"


def drop_files(folder: Path) -> None:
    """Have the system forget what it holds of the files."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def memory() -> dict[str, int]:
    """Bytes of this process: resident, its share of what several processes hold, its own, and pages of files."""
    found = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, size, *_ = line.split()
        found[name.rstrip(":")] = int(size) * 1024
    own, files = found["Pss_Anon"], found["Pss_File"]
    return {"resident": found["Rss"], "proportional": found["Pss"], "anonymous": own, "files": files}


def resident_bytes() -> int:
    return memory()["resident"]


if __name__ == "__main__":
    main()
