"""Redis with the end of its append-only file torn off, and what a store and a view must then be like."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.servers import Server, ServerKind
from tests.store.points import UID, whole_feed

from bebr.core.history import Mark
from bebr.errors import StoreUnavailable
from bebr.store import DeleteWrite, Write
from bebr.store.redis.store import RedisStore

PREFIX = "torn"
State = dict[str, str]
"""id -> metadata"""
Change = Callable[[RedisStore], Awaitable[object]]


@asynccontextmanager
async def opened(server: Server) -> AsyncIterator[RedisStore]:
    store = RedisStore(server.url, timeout_seconds=60, prefix=PREFIX)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def after(state: State, writes: Sequence[Write]) -> State:
    """The model."""
    state = dict(state)
    for write in writes:
        for id in write.ids:
            if isinstance(write, DeleteWrite):
                state.pop(id, None)
            else:
                state[id] = write.puts.metadata[write.ids.index(id)]
    return state


class Command(NamedTuple):
    """In an append-only file."""

    name: str
    start: int
    end: int

    @property
    def middle(self) -> int:
        return (self.start + self.end) // 2


def read_commands(data: bytes) -> Iterator[Command]:
    at = 0
    while at < len(data):
        start, stop = at, data.index(b"\r\n", at)
        names, at = [], stop + 2
        for _ in range(int(data[start + 1 : stop])):
            stop = data.index(b"\r\n", at)
            at = stop + 2 + int(data[at + 1 : stop]) + 2
            names.append(data[stop + 2 : at - 2])
        yield Command(names[0].decode(), start, at)


class TornRedis:
    """A server in a folder, whose append-only file ends with the torn commit."""

    def __init__(self, folder: Path) -> None:
        self.server = Server(ServerKind.REDIS, folder, appendfsync="no")
        self._files = folder / "appendonlydir"
        self._kept = folder / "kept"

    async def prepare(self, before: Change, torn: Change) -> list[Command]:
        """The commands of what is torn."""
        self.server.start()
        async with opened(self.server) as store:
            await store.create(UID, 1)
            await before(store)
        self.server.kill()
        return await self.prepare_more(torn)

    async def prepare_more(self, torn: Change) -> list[Command]:
        """The same, of a server that has its files already."""
        self.server.start()
        async with opened(self.server) as store:
            self.server.command("SET", "other", "1")
            start = self._file.stat().st_size
            await torn(store)
        self.server.kill()
        shutil.copytree(self._files, self._kept)
        return [command for command in read_commands(self._file.read_bytes()) if command.start >= start]

    def take_files(self, other: "TornRedis") -> None:
        shutil.copytree(other._files, self._files)

    def cut(self, place: int) -> None:
        """Start with the file cut there."""
        shutil.rmtree(self._files)
        shutil.copytree(self._kept, self._files)
        with self._file.open("r+b") as file:
            file.truncate(place)
        self.server.start()

    async def restart(self, store: RedisStore) -> None:
        """The server, of which an open store loses its connections."""
        self.server.kill()
        self.server.start()
        with suppress(StoreUnavailable):
            await store.ping()

    @property
    def _file(self) -> Path:
        return max(self._files.glob("*.incr.aof"))


class View:
    """What follows the feed, as a shard does."""

    def __init__(self) -> None:
        self.points: State = {}
        self.mark = Mark("", "", 0)
        self.rebuilds = 0

    async def catch_up(self, store: RedisStore) -> None:
        history, purged_seq = await store.history(UID, 0), (await store.counters(UID, 0)).purged_seq
        if history.lost(self.mark) or 0 < self.mark.seq < purged_seq:
            self.points, self.mark, self.rebuilds = {}, Mark("", "", 0), self.rebuilds + 1
        for entry in await whole_feed(store, after_seq=self.mark.seq):
            assert not entry.is_damaged
            self.points.pop(entry.id, None)
            if entry.metadata is not None:
                self.points[entry.id] = entry.metadata
        self.mark = history.mark(history.last_seq)


async def read_whole(store: RedisStore, known: Iterable[str]) -> State:
    """All that the store has, after checking that its parts agree. known: ids that it may have."""
    feed, counters = await whole_feed(store), await store.counters(UID, 0)
    ids, seqs = [entry.id for entry in feed], [entry.seq for entry in feed]
    assert len(set(ids)) == len(ids) and sorted(set(seqs)) == seqs and not any(entry.is_damaged for entry in feed)
    state = {entry.id: entry.metadata for entry in feed if entry.metadata is not None}
    assert counters.points == len(state) and counters.last_seq >= max(seqs, default=0)
    found = {point.id: point for point in await store.fetch(UID, 0, sorted(known)) if point}
    assert {id: point.metadata for id, point in found.items()} == {id: state[id] for id in known if id in state}
    assert {id: point.seq for id, point in found.items()}.items() <= dict(zip(ids, seqs, strict=True)).items()
    return state
