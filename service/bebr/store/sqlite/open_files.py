"""The collection files that are open, a bounded number of them, and what keeps the users of one file apart."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from bebr.errors import DamagedStore
from bebr.store.sqlite.collection import CollectionFile, has_operations
from bebr.store.sqlite.files import translated


class OpenFile:
    """A collection file and its locks."""

    def __init__(self, file: CollectionFile) -> None:
        self.file = file
        self.commit_lock = asyncio.Lock()
        """Held while a transaction is written, so that no thread waits for another."""
        self.scan_lock = asyncio.Lock()
        """Held while a long read uses its connection."""
        self.users = 0
        """Calls that wait for a lock or a thread; the file stays open for them."""
        self.is_gone = False
        """It was dropped or replaced by another process, and is closed once nobody uses it."""
        self.inode = file.path.stat().st_ino
        self.version: int | None = None
        """Of what was read of it last, where another process writes it."""


class OpenFiles:
    """Opens collection files when they are needed, and closes those that went unused for longest."""

    def __init__(self, folder: Path, synchronous: str, receipt_ttl_seconds: float, most: int) -> None:
        self._folder = folder
        self._synchronous = synchronous
        self._receipt_ttl_seconds = receipt_ttl_seconds
        self.most = most
        self.epoch = ""
        """The epoch that commits to the files begin; set by whoever opens the store."""
        self.follows = False
        """Another process writes them."""
        self._open: OrderedDict[str, OpenFile] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def path(self, uid: str) -> Path:
        return self._folder / f"{uid}.db"

    def strays(self, known: Collection[str]) -> list[Path]:
        """Files of collections that are not known, but have points; a crash while one is made leaves an empty file."""
        return [path for path in sorted(self._folder.glob("*.db")) if path.stem not in known and has_operations(path)]

    def get(self, uid: str) -> OpenFile:
        """The open file, now the most recently used. Raises DamagedStore when it is gone, StoreUnavailable."""
        opened = self._open.get(uid)
        if opened is None:
            path = self.path(uid)
            if not path.exists():
                raise DamagedStore(
                    f"{path} is missing; restore it from a backup, or drop the collection", path=str(path)
                )
            with translated(path):
                file = CollectionFile(path, self._synchronous, self._receipt_ttl_seconds, self.epoch, self.follows)
            opened = self._open[uid] = OpenFile(file)
        self._open.move_to_end(uid)
        if len(self._open) > self.most:
            self._close_idle()
        return opened

    @asynccontextmanager
    async def using(self, uid: str) -> AsyncIterator[OpenFile]:
        """The open file, which stays open for the block."""
        opened = self.get(uid)
        opened.users += 1
        try:
            yield opened
        finally:
            opened.users -= 1
            if opened.is_gone and not opened.users:
                opened.file.close()

    def peek(self, uid: str) -> OpenFile | None:
        """The file if it is open."""
        return self._open.get(uid)

    def let_go(self, known: Collection[str]) -> list[str]:
        """Close the files that another process dropped or replaced; whose they were."""
        gone = [uid for uid, opened in self._open.items() if uid not in known or self._is_replaced(opened)]
        for uid in gone:
            opened = self._open.pop(uid)
            opened.is_gone = True
            if not opened.users:
                opened.file.close()
        return gone

    def _is_replaced(self, opened: OpenFile) -> bool:
        try:
            return opened.file.path.stat().st_ino != opened.inode
        except FileNotFoundError:
            return True

    async def close(self, uid: str) -> None:
        """Close one file once its transactions and long reads are done."""
        opened = self._open.pop(uid, None)
        if opened is not None:
            async with opened.commit_lock, opened.scan_lock:
                with translated(self.path(uid)):
                    opened.file.close()

    async def close_all(self) -> None:
        for uid in list(self._open):
            await self.close(uid)

    def _close_idle(self) -> None:
        """Close files down to the maximum, or to those in use."""
        *others, _ = self._open.items()
        idle = [uid for uid, opened in others if not opened.users]
        for uid in idle[: len(self._open) - self.most]:
            self._open.pop(uid).file.close()
