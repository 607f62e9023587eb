"""Searches with `group_by` beside the same searches without it: p50 over one engine, in process, one after the other.

    python -m bench.groups [--points 1000000] [--code 256x2] [--groups 100] [--rounds 40]

Codes and groups are random. In `clustered` each group is a ball of its own, so that the nearest points are all of one
group: what a search for ever more hits would be slow at. `group_size` 3 takes a second scan.
"""

import argparse
import asyncio
import base64
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bebr.bootstrap import build_engine
from bebr.config import Settings
from bebr.core.codes import CodeSpec, pack_levels
from bebr.core.types import FieldType, WriteMode
from bebr.engine import CollectionSettings, Engine, SearchRequest

BATCH = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--code", default="256x2")
    parser.add_argument("--groups", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder), options))


async def run(folder: Path, options: argparse.Namespace) -> None:
    spec = CodeSpec.parse(options.code)
    sys.setswitchinterval(0.001)  # as `bebr serve` does it
    engine = build_engine(Settings(data_dir=folder))
    await engine.start()
    try:
        await engine.wait_until_ready()
        fields = {"group": FieldType.KEYWORD, "number": FieldType.INTEGER, "cluster": FieldType.KEYWORD}
        await engine.create_collection("docs", CollectionSettings(code=options.code, filterable=fields))
        centers = np.random.default_rng(0).integers(0, spec.max_levels.astype(int) + 1, (options.groups, spec.dims))
        await fill(engine, spec, centers, options)
        await measure(engine, spec, centers, options)
    finally:
        await engine.stop()


async def fill(engine: Engine, spec: CodeSpec, centers: np.ndarray, options: argparse.Namespace) -> None:
    rng = np.random.default_rng(1)
    for start in range(0, options.points, BATCH):
        count = min(BATCH, options.points - start)
        clusters, groups = rng.integers(0, options.groups, (2, count))
        noise = rng.integers(0, spec.max_levels.astype(int) + 1, (count, spec.dims))
        levels = np.where(rng.random((count, spec.dims)) < 0.5, noise, centers[clusters]).astype(np.uint8)
        points = [
            {
                "id": f"doc-{start + n:08d}",
                "code_b64": base64.b64encode(code.tobytes()).decode(),
                "metadata": {"group": f"g{groups[n]}", "number": int(groups[n]), "cluster": f"c{clusters[n]}"},
            }
            for n, code in enumerate(pack_levels(levels, spec))
        ]
        while (await engine.write_points("docs", points, WriteMode.UPSERT)).rejected:
            await asyncio.sleep(0.1)
        print(f"\r{start + count:,} points", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    await asyncio.sleep(2)  # let maintenance end


async def measure(engine: Engine, spec: CodeSpec, centers: np.ndarray, options: argparse.Namespace) -> None:
    queries = pack_levels(centers[:10].astype(np.uint8), spec)
    kinds: dict[str, dict[str, Any]] = {
        "without group_by": {},
        "without group_by, thrice as many": {"limit": 3 * options.groups},
        "group_by keyword": {"group_by": "group"},
        "group_by integer": {"group_by": "number"},
        "group_by keyword, clustered": {"group_by": "cluster"},
        "group_by keyword, group_size 3": {"group_by": "group", "group_size": 3},
        "clustered, group_size 3": {"group_by": "cluster", "group_size": 3},
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(options.rounds + 2):
        for name, more in kinds.items():  # in turn, so that what else the machine does meets all alike
            request = SearchRequest(code=queries[turn % 10].tobytes(), **({"limit": options.groups} | more))
            started = time.perf_counter()
            (found,) = await engine.search("docs", [request])
            if turn >= 2:
                times[name].append((time.perf_counter() - started) * 1000)
            assert len(found.hits) == more.get("limit", options.groups) * more.get("group_size", 1)
    base = statistics.median(times["without group_by"])
    print(f"{options.points:,} points of {options.code}, {options.groups} groups, limit {options.groups}")
    print(f"{'search':34s} {'p50 ms':>8s} {'ratio':>6s}")
    for name, taken in times.items():
        print(f"{name:34s} {statistics.median(taken):8.2f} {statistics.median(taken) / base:6.2f}")


if __name__ == "__main__":
    main()
