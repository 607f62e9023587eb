"""How the tests open shards: one class for each implementation of ShardClient."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

from tests.shards.model import FIELDS, SPECS
from tests.waiting import PATIENCE_SECONDS

from bebr.core.codes import CodeSpec
from bebr.core.types import Role
from bebr.shards import LocalShards, ShardClient, ShardThreads
from bebr.shards.changes import Fields
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

    shares = False

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
        return await self._opened_in(Role.PRIMARY, self.store, shards, head_rows, max_queue, specs)

    async def _opened_in(
        self,
        role: Role,
        store: MetadataStore,
        shards: int,
        head_rows: int,
        max_queue: int,
        specs: Mapping[int, CodeSpec],
    ) -> LocalShards:
        client = LocalShards(
            store,
            UID,
            self._folder / "shards",
            name="docs",
            shards=shards,
            specs=specs,
            fields=FIELDS,
            head_rows=head_rows,
            max_queue=max_queue,
            threads=self._threads,
            role=role,
            shares=self.shares,
            read_wait_seconds=PATIENCE_SECONDS,
        )
        client.open()
        await client.catch_up()
        self._opened.append(client)
        return client


class FollowedClients(LocalClients):
    """LocalShards that follow those of a primary in the same folder."""

    shares = True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.followed_store = SqliteStore(folder / "store", role=Role.FOLLOWER)

    async def start(self) -> None:
        await super().start()
        await self.followed_store.open()

    async def stop(self) -> None:
        await super().stop()
        await self.followed_store.close()

    async def close_stores(self) -> None:
        await self.store.close()
        await self.followed_store.close()

    async def reopened(self, primary: LocalShards) -> LocalShards:
        """The primary of another process, after one that was closed."""
        self._opened.remove(primary)
        return await self._opened_in(Role.PRIMARY, self.store, len(primary.stats()), 64, 1000, SPECS)

    async def open(
        self, shards: int, *, head_rows: int = 64, max_queue: int = 1000, specs: Mapping[int, CodeSpec] = SPECS
    ) -> "LocalShards":
        primary = await super().open(shards, head_rows=head_rows, max_queue=max_queue, specs=specs)
        follower = await self._opened_in(Role.FOLLOWER, self.followed_store, shards, head_rows, max_queue, specs)
        return cast(LocalShards, Followed(primary, follower))


class Followed:
    """A ShardClient of two: what is read is what a follower sees after all that was written at the primary."""

    WRITES = ("write", "check_capacity", "wait_for_capacity", "commit_times", "columns", "make_columns", "misfits")
    BOTH = ("add_version", "use_lists", "forget_lists")
    ASYNC_READS = ("search", "count", "ids", "matching", "version_ids", "sample", "needs", "nearest_on_thread")

    def __init__(self, primary: LocalShards, follower: LocalShards) -> None:
        self._primary, self._follower = primary, follower

    def __getattr__(self, name: str) -> Any:
        if name in self.BOTH:
            return partial(self._call_both, name)
        if name in self.ASYNC_READS:
            return partial(self._read, name)
        if name in self.WRITES:
            return partial(self._write, name) if name == "write" else getattr(self._primary, name)
        return getattr(self._follower, name)

    def _call_both(self, name: str, *args: Any) -> None:
        for one in (self._primary, self._follower):
            getattr(one, name)(*args)

    async def _read(self, name: str, *args: Any, **options: Any) -> Any:
        if self._follower.behind():
            await self._follower.reach()
        return await getattr(self._follower, name)(*args, **options)

    async def _write(self, name: str, *args: Any) -> Any:
        try:
            return await getattr(self._primary, name)(*args)
        finally:
            await self._follower.reach()  # for those reads that cannot wait

    async def set_fields(self, fields: Fields) -> None:
        await asyncio.gather(self._primary.set_fields(fields), self._follower.set_fields(fields))

    async def catch_up(self) -> None:
        await self._primary.catch_up()
        await self._follower.catch_up()

    async def close(self, keep: bool) -> None:
        await self._follower.close(keep)
        await self._primary.close(keep)
