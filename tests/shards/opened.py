"""One shard on a real store, with its follower and its writer, and short ways to write to it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bebr.core.codes import CodeSpec, join_records
from bebr.core.operations import Committed, DeleteWrite, PutWrite, Receipt
from bebr.core.types import FieldType, Puts, WriteMode
from bebr.index.shard import Shard
from bebr.shards.changes import Change, ShardWrite
from bebr.shards.follower import Follower
from bebr.shards.writer import Writer
from bebr.store.sqlite.store import SqliteStore

UID = "a" * 24
SPEC, OTHER = CodeSpec.parse("16x1"), CodeSpec.parse("8x4")
SPECS: Mapping[int, CodeSpec] = {0: SPEC, 1: OTHER}
FIELDS: Mapping[str, FieldType] = {}
HEAD_ROWS = 32


@dataclass
class Bench:
    store: SqliteStore
    followers: list[Follower]
    writer: Writer

    @property
    def shard(self) -> Shard:
        return self.followers[0].shard

    async def write(self, change: Change, shard: int = 0) -> Committed:
        return await self.writer.write(shard, change)

    def ids(self, shard: int = 0) -> list[str]:
        """What the view holds."""
        return ids_of(self.followers[shard])

    async def stored_ids(self, shard: int = 0) -> list[str]:
        found: list[str] = []
        seq = 0
        while entries := (await self.store.feed(UID, shard, seq, 100_000)).entries:
            found += [entry.id for entry in entries if entry.record is not None]
            seq = entries[-1].seq
        return sorted(found)

    def forget(self) -> None:
        """The first shard knows of nothing, as if its files had been damaged."""
        folder = self.shard.folder
        self.followers[0] = Follower(self.store, UID, 0, folder, specs=SPECS, fields=FIELDS, head_rows=HEAD_ROWS)
        self.shard.clear()


def ids_of(follower: Follower) -> list[str]:
    parts = follower.view.parts
    rows = [[row for row in range(part.rows) if part.live[row // 16] >> (row % 16) & 1] for part in parts]
    return sorted(i for part, alive in zip(parts, rows, strict=True) for i in part.ids_at(alive))


@asynccontextmanager
async def bench(
    folder: Path, make_store: Callable[[Path], SqliteStore] = SqliteStore, shards: int = 1, max_queue: int = 1000
) -> AsyncIterator[Bench]:
    store = make_store(folder / "store")
    await store.open()
    await store.create(UID, shards)
    followers = [
        Follower(store, UID, n, folder / f"shard-{n}", specs=SPECS, fields=FIELDS, head_rows=HEAD_ROWS)
        for n in range(shards)
    ]
    for follower in followers:
        follower.open()
    writer = Writer(store, UID, followers, max_queue, "docs")
    try:
        yield Bench(store, followers, writer)
    finally:
        await writer.close()
        await store.close()


def put(*ids: str, receipt: Receipt | None = None, version: int = 0, text: str = "{}") -> ShardWrite:
    spec = SPECS[version]
    codes = np.zeros((len(ids), spec.code_size_bytes), np.uint8)
    records = join_records(codes, np.ones(len(ids), np.float16))
    puts = Puts(list(ids), version, records, [text] * len(ids))
    return ShardWrite(PutWrite(puts, WriteMode.UPSERT, receipt), {})


def delete(*ids: str) -> ShardWrite:
    return ShardWrite(DeleteWrite(list(ids)), {})


def numbered(start: int, stop: int) -> list[str]:
    return [f"p{number:03d}" for number in range(start, stop)]
