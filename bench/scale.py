"""One million points: bytes of process memory per point, and how long a restart takes.

    python -m bench.scale [--points 1000000] [--code 128x4] [--redis-url URL]

Every step runs in a process of its own, so that memory and imports are counted cleanly. Memory is resident memory
(mapped segment files included) less that of the same process with an empty collection that was written and searched.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STEPS = ("empty", "fill", "restart", "rebuild")
BATCH = 1_000


def main() -> None:
    options = parse()
    if options.step:
        print(json.dumps(asyncio.run(run_step(options))))
        return
    with tempfile.TemporaryDirectory() as folder:
        results = {}
        for step in STEPS:
            if step == "rebuild":
                shutil.rmtree(Path(folder) / "collections")
            print(f"{step} ...", file=sys.stderr, flush=True)
            results[step] = run_child(step, folder, options)
    base = results["empty"]["memory"]
    print(f"\n{options.points:,} points of {options.code}, {results['fill']['record_bytes']} bytes a record")
    print(f"{'step':28s} {'seconds':>9s} {'bytes/point':>12s}")
    for step, label in (
        ("fill", "filled"),
        ("restart", "restart from segments"),
        ("rebuild", "rebuilt from the store"),
    ):
        per_point = (results[step]["memory"] - base) / options.points
        print(f"{label:28s} {results[step]['seconds']:9.2f} {per_point:12.1f}")
    print(f"first search after a restart: {results['restart']['first_search_ms']:.1f} ms")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--code", default="128x4")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--redis-url")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def run_child(step: str, folder: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--step", step, "--folder", folder, "--points", str(options.points)]
    command += ["--code", options.code, "--shards", str(options.shards)]
    if options.redis_url:
        command += ["--redis-url", options.redis_url]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


async def run_step(options: argparse.Namespace) -> dict[str, Any]:
    from bebr.bootstrap import build_engine
    from bebr.config import Settings
    from bebr.core.codes import CodeSpec
    from bebr.engine import CollectionSettings, SearchRequest

    spec = CodeSpec.parse(options.code)
    engine = build_engine(Settings(data_dir=Path(options.folder), redis_url=options.redis_url))
    started = time.perf_counter()
    await engine.start()
    await engine.wait_until_ready()
    result: dict[str, Any] = {"seconds": time.perf_counter() - started, "record_bytes": spec.record_size_bytes}
    if options.step == "empty":
        await engine.create_collection("docs", CollectionSettings(code=options.code, shards=options.shards))
        await fill(engine, spec, 1)  # what any use loads belongs to the process, not to the points
        await engine.search("docs", [SearchRequest(code=bytes(spec.code_size_bytes))])
        await engine.delete_points("docs", ["doc-00000000"])
    elif options.step == "fill":
        started = time.perf_counter()
        await fill(engine, spec, options.points)
        result["seconds"] = time.perf_counter() - started
        await asyncio.sleep(2)  # let maintenance end
    else:
        started = time.perf_counter()
        (found,) = await engine.search("docs", [SearchRequest(code=bytes(spec.code_size_bytes))])
        result["first_search_ms"] = (time.perf_counter() - started) * 1000
        assert found.searched == {options.code: options.points}
    result["memory"] = resident_bytes()
    await engine.stop()
    return result


async def fill(engine: Any, spec: Any, count: int) -> None:
    import base64

    import numpy as np

    from bebr.core.types import WriteMode

    rng = np.random.default_rng(0)
    for start in range(0, count, BATCH):
        codes = rng.integers(0, 256, (min(BATCH, count - start), spec.code_size_bytes), dtype=np.uint8)
        points = [
            {"id": f"doc-{start + i:08d}", "code_b64": base64.b64encode(code).decode(), "metadata": {"n": start + i}}
            for i, code in enumerate(codes)
        ]
        report = await engine.write_points("docs", points, WriteMode.UPSERT)
        assert report.applied == len(points)


def resident_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS in /proc/self/status")


if __name__ == "__main__":
    main()
