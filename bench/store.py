"""Measure the metadata stores side by side: SQLite, and real Redis and Valkey servers started for the purpose.

    python -m bench.store [--points 50000] [--stores sqlite,redis,valkey]

Every figure is the median of its samples. "client CPU" is what committing costs this process. "busy" is the same commit
while a second Python thread computes without pause: it shows what the fight for the interpreter lock costs. "a row
each" is sqlite3's executemany, for comparison. All stores are as durable as they get: SQLite with `synchronous = full`,
servers with `appendfsync always`.
"""

import argparse
import asyncio
import json
import random
import sqlite3
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tests.servers import ServerKind, running_server

from bebr.core.types import Puts
from bebr.store import Commit, MetadataStore, PutWrite
from bebr.store.redis.store import RedisStore
from bebr.store.sqlite.store import SqliteStore

UID = "0123456789abcdef"
BATCH = 1000
RECORD_SIZE_BYTES = 66
METADATA = json.dumps({"title": "t" * 100, "lang": "en", "year": 2024, "url": "https://example.com/" + "u" * 42})
Columns = dict[str, str]


def batches(points: int) -> list[Puts]:
    rng = np.random.default_rng(0)
    return [
        Puts(
            [f"document-{first + number}" for number in range(BATCH)],
            1,
            rng.integers(0, 256, (BATCH, RECORD_SIZE_BYTES), dtype=np.uint8),
            [METADATA] * BATCH,
        )
        for first in range(0, points, BATCH)
    ]


async def seconds_of(call: Callable[[], Awaitable[object]], times: int) -> list[float]:
    samples = []
    for _ in range(times):
        started = time.perf_counter()
        await call()
        samples.append(time.perf_counter() - started)
    return samples


async def commit(store: MetadataStore, *commits: Commit) -> None:
    for outcome in await store.commit(UID, commits):
        if isinstance(outcome, Exception):
            raise outcome


async def commit_all(store: MetadataStore, shard: int, all_puts: list[Puts]) -> str:
    """Points per second of the median batch."""
    remaining = iter(all_puts)
    samples = await seconds_of(lambda: commit(store, Commit(shard, [PutWrite(next(remaining))])), len(all_puts))
    return f"{BATCH / statistics.median(samples) / 1000:.0f}k/s (slowest {max(samples) * 1000:.0f} ms)"


async def fetch(store: MetadataStore, points: int, count: int) -> str:
    def some() -> list[str]:
        return [f"document-{number}" for number in random.sample(range(points), count)]

    samples = await seconds_of(lambda: store.fetch(UID, 0, some()), 300)
    return f"{statistics.median(samples) * 1e6:.0f} us"


async def feed(store: MetadataStore, points: int) -> str:
    after_seq, seen, started = 0, 0, time.perf_counter()
    while entries := (await store.feed(UID, 0, after_seq, 10_000)).entries:
        after_seq, seen = entries[-1].seq, seen + len(entries)
    assert seen == points
    return f"{points / (time.perf_counter() - started) / 1000:.0f}k/s"


async def small_commits(store: MetadataStore) -> str:
    """200 commits of one point in one call, as the shards make it of many requests that come at once."""
    one = [
        PutWrite(Puts([f"small-{n}"], 1, np.zeros((1, RECORD_SIZE_BYTES), np.uint8), [METADATA])) for n in range(200)
    ]
    started = time.perf_counter()
    await commit(store, *(Commit(2, [write]) for write in one))
    return f"{200 / (time.perf_counter() - started) / 1000:.1f}k/s"


async def measure(store: MetadataStore, points: int, used_bytes: Callable[[], int]) -> Columns:
    await store.open()
    await store.create(UID, 3)
    before = used_bytes()
    all_puts = batches(points)
    cpu = time.process_time()
    columns = {f"commit {BATCH:,}": await commit_all(store, 0, all_puts)}
    columns["client CPU/point"] = f"{(time.process_time() - cpu) / points * 1e6:.1f} us"
    columns["bytes/point"] = f"{(used_bytes() - before) / points:.0f}"
    columns["rewrite"] = await commit_all(store, 0, all_puts[: len(all_puts) // 2])
    columns["fetch 10"] = await fetch(store, points, 10)
    columns["fetch 100"] = await fetch(store, points, 100)
    columns["feed"] = await feed(store, points)
    columns["200 small commits"] = await small_commits(store)
    with busy_thread():
        columns["commit, busy"] = await commit_all(store, 1, all_puts[:10])
    await store.close()
    return columns


@contextmanager
def busy_thread() -> Iterator[None]:
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(1000))

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def measure_row_each(folder: Path) -> Columns:
    """What the store would do with one bound row per point."""
    connection = sqlite3.connect(folder / "rows.db", isolation_level=None, check_same_thread=False)
    connection.execute("pragma journal_mode = wal")
    connection.execute("create table p (seq integer primary key, id text unique, version, record, metadata)")
    seqs = iter(range(10**9))

    def commit(puts: Puts) -> float:
        started = time.perf_counter()
        rows = [
            (next(seqs), id, puts.version, record.tobytes(), text)
            for id, record, text in zip(puts.ids, puts.records, puts.metadata, strict=True)
        ]
        connection.execute("begin immediate")
        connection.executemany("insert or replace into p values (?, ?, ?, ?, ?)", rows)
        connection.execute("commit")
        return time.perf_counter() - started

    all_puts = batches(10 * BATCH)
    alone = statistics.median(commit(puts) for puts in all_puts)
    with busy_thread():
        busy = commit(all_puts[0])
    connection.close()
    return {f"commit {BATCH:,}": f"{BATCH / alone / 1000:.0f}k/s", "commit, busy": f"{BATCH / busy / 1000:.1f}k/s"}


def measure_sqlite(points: int) -> Columns:
    with TemporaryDirectory() as folder:

        def used_bytes() -> int:
            # The log is folded into the file at its next checkpoint, so its pages are not counted twice.
            with sqlite3.connect(Path(folder) / "collections" / f"{UID}.db") as connection:
                (pages,) = connection.execute("pragma page_count").fetchone()
            connection.close()
            return int(pages) * 4096

        return asyncio.run(measure(SqliteStore(Path(folder)), points, used_bytes))


def measure_server(kind: ServerKind, points: int) -> Columns:
    with running_server(kind, appendfsync="always") as server:

        def used_bytes() -> int:
            (line,) = [line for line in server.command("INFO", "memory").split() if line.startswith(b"used_memory:")]
            return int(line.split(b":")[1])

        return asyncio.run(measure(RedisStore(server.url), points, used_bytes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=50_000)
    parser.add_argument("--stores", default="sqlite,redis,valkey")
    arguments = parser.parse_args()
    table: dict[str, Columns] = {}
    for name in arguments.stores.split(","):
        if name == "sqlite":
            table[name] = measure_sqlite(arguments.points)
            with TemporaryDirectory() as folder:
                table["a row each"] = measure_row_each(Path(folder))
        else:
            table[name] = measure_server(ServerKind(name), arguments.points)
    payload = RECORD_SIZE_BYTES + len(METADATA) + len("document-12345")
    print(f"{arguments.points:,} points, {payload} bytes of payload each (record, metadata, id)")
    print(f"{'':20}" + "".join(f"{name:>30}" for name in table))
    for row in next(iter(table.values())):
        print(f"{row:20}" + "".join(f"{columns.get(row, '-'):>30}" for columns in table.values()))


if __name__ == "__main__":
    main()
