"""How the tests open shards: one class for each implementation of ShardClient."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from tests.shards.model import FIELDS, SPECS

from bebr.core.codes import CodeSpec
from bebr.shards import LocalShards, ShardClient, ShardThreads
from bebr.store import MetadataStore
from bebr.store.sqlite.store import SqliteStore

UID = "a" * 24


class MakeClients(Protocol):
    """Clients of the shards of one collection; each is opened when the one before was closed."""

    store: MetadataStore
    """Where the points are."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def open(
        self, shards: int, *, head_rows: int = 64, max_queue: int = 1000, specs: Mapping[int, CodeSpec] = SPECS
    ) -> ShardClient:
        """A client that has caught up with the store."""


class LocalClients:
    """LocalShards on SQLite."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.store: MetadataStore = SqliteStore(folder / "store")
        self._threads = ShardThreads(ThreadPoolExecutor(2), 2, ThreadPoolExecutor(4), ThreadPoolExecutor(1))
        self._opened: list[LocalShards] = []

    async def start(self) -> None:
        await self.store.open()

    async def stop(self) -> None:
        for client in self._opened:
            await client.close(keep=False)
        for pool in (self._threads.searches, self._threads.scans, self._threads.maintenance):
            pool.shutdown()
        await self.store.close()

    async def open(
        self, shards: int, *, head_rows: int = 64, max_queue: int = 1000, specs: Mapping[int, CodeSpec] = SPECS
    ) -> LocalShards:
        await self.store.create(UID, shards)
        client = LocalShards(
            self.store,
            UID,
            self._folder / "shards",
            name="docs",
            shards=shards,
            specs=specs,
            fields=FIELDS,
            head_rows=head_rows,
            max_queue=max_queue,
            threads=self._threads,
        )
        client.open()
        await client.catch_up()
        self._opened.append(client)
        return client
