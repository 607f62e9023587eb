"""Odd requests over all routes, in process: statuses, errors of ours, hangs, stops of the event loop, memory.

    python -m bench.fuzz [--requests 300000] [--files 20000] [--seed 1]

The requests are made from the OpenAPI document: valid ones, and ones with odd types, sizes, nesting, encodings,
headers, ids, paths, cut bodies and hung-up callers, over collections of codes, vectors and texts that live as long as
the run. A fault is a 5xx other than 503 and 507, an error that leaves the app, an answer that is no JSON, or none
within 60 s. A tenth of the requests goes to a service with API keys. Then files of other programs are damaged and
read: bundles, checkpoints, arrays, CSV, NDJSON and text.
"""

import argparse
import asyncio
import gc
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.scale import resident_bytes
from tests.faults.fuzzing import KEYS, Report, fuzz, served
from tests.faults.odd_files import fuzz_files
from tests.server.bundles import write_tiny_bundle

LONG_STOP_SECONDS = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300_000)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # errors are in the answers, and lines of odd requests are long
    with_keys = options.requests // 10
    code = 0
    for count, settings in ((options.requests - with_keys, {}), (with_keys, KEYS)):
        with tempfile.TemporaryDirectory() as folder:
            code |= asyncio.run(run(Path(folder), count, options.seed, settings))
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(code | run_files(Path(folder), options.files, options.seed))


async def run(folder: Path, count: int, seed: int, settings: dict[str, Any]) -> int:
    """Returns 1 when there was a fault."""
    write_tiny_bundle(folder / "bundles", folder / "scratch")
    memory: list[tuple[int, int]] = []

    def after(report: Report) -> None:
        if not memory or report.sent - memory[-1][0] >= count // 10:
            memory.append((report.sent, resident_bytes() // 2**20))
            print(
                f"{report.sent:,} requests, {memory[-1][1]} MiB, {len(report.faults)} faults",
                file=sys.stderr,
                flush=True,
            )

    started = time.perf_counter()
    keys = [*settings.get("api_keys", ()), *settings.get("read_only_api_keys", ())]
    async with served(folder, **settings) as app:
        gc.collect()
        gc.freeze()  # as `bebr serve` does it
        report = await fuzz(app, seed, count, after=after, keys=keys)
    show(report, memory, time.perf_counter() - started)
    return 1 if report.faults else 0


def run_files(folder: Path, count: int, seed: int) -> int:
    """Returns 1 when there was a fault."""
    report = fuzz_files(folder, seed, count)
    print(f"{count:,} damaged files; of each kind (taken, refused):")
    for name in sorted(report.taken | report.refused):
        print(f"  {name:12s} {report.taken[name]:7,} {report.refused[name]:7,}")
    print(f"faults: {len(report.faults)}")
    for name, how in report.faults.items():
        print(f"  {name}\n    {how}")
    return 1 if report.faults else 0


def show(report: Report, memory: list[tuple[int, int]], seconds: float) -> None:
    print(f"{report.sent:,} requests in {seconds:.0f} s over {len(report.by_route)} routes")
    print("by status:", ", ".join(f"{status or 'hung up'} {n:,}" for status, n in sorted(report.statuses.items())))
    print("resident MiB:", ", ".join(f"{size} after {sent:,}" for sent, size in memory))
    print(f"longest stop of the event loop: {report.longest_stop[0] * 1000:.0f} ms of processor time")
    if report.longest_stop[0] > LONG_STOP_SECONDS:
        print(f"    while under way: {report.longest_stop[1][:2000]}")
    print(f"faults: {len(report.faults)}")
    for name, (times, first) in report.faults.items():
        print(f"  {times} x {name}\n    {first}")


if __name__ == "__main__":
    main()
