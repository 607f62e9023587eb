"""The centroids of a collection's lists: in the store, where any process may read them, and in files beside the
segments, from which they are mapped.

Each generation lies in pages, one document each; one more document says which generations there are, and names them
before their first page is written, so that what a crash leaves is known. Backups leave them out: they are made again.
"""

import asyncio
import base64
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

from bebr.core.lists import Centroids
from bebr.core.types import Role
from bebr.errors import DamagedStore
from bebr.shards import centroid_files
from bebr.store import MetadataStore

log = logging.getLogger(__name__)
KIND, PAGE = "centroids", "centroids-page"
PAGE_BYTES = 2**18
FOLDER = "centroids"


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation of centroids, as the store keeps it."""

    version: int
    """Number of the code version."""
    generation: int
    pages: int
    """How many there are."""
    crc32: int
    """Of all pages together."""
    rows: int
    """Of the version when it was made."""
    lists: int
    mean_score: float
    """See `core.lists.Centroids`."""
    seconds: float | None = None
    """How long it took to make it; None: the release that did so did not say."""
    complete: bool = False
    """All pages are written."""


@dataclass(slots=True)
class Making:
    """Centroids that are being made."""

    progress: float = 0.0
    """Which share of the work is done; set by the thread that makes them."""


class CollectionCentroids:
    """The centroids of one collection."""

    def __init__(self, store: MetadataStore, uid: str, folder: Path, role: Role = Role.PRIMARY) -> None:
        """folder: of the collection's segments. A follower changes nothing, in the store or there."""
        self._store, self._uid, self._folder = store, uid, folder / FOLDER
        self._keeps = role is Role.PRIMARY
        self.is_shared = False
        """Other services may be making some now."""
        self._loaded: set[tuple[int, int]] = set()
        """Versions and generations that were loaded, or made here."""
        self.generations: Sequence[Generation] = ()
        """Those that are complete, or were begun, oldest first."""
        self.making: dict[int, Making] = {}
        """By number of the version for which some are being made."""
        self.seen: dict[int, tuple[float, int]] = {}
        """By number of the version: since when it has had about so many points, and how many."""

    def newest(self, version: int) -> Generation | None:
        """The one by whose lists rows of a version are sorted."""
        found = [one for one in self.generations if one.version == version and one.complete]
        return max(found, key=lambda one: one.generation, default=None)

    async def load(self) -> list[Centroids]:
        """All that can be read and were not yet, newest first. What is lost costs time only: lists are made again."""
        await self._read()
        found = []
        for one in sorted(self.generations, key=lambda one: -one.generation):
            if one.complete and (one.version, one.generation) not in self._loaded:
                try:
                    found.append(await self._load(one))
                    self._loaded.add((one.version, one.generation))
                except OSError as error:
                    log.error("centroids of collection %s cannot be kept on this disk: %s", self._uid, error)
                    if not self.is_shared:  # else the others can
                        await self._drop_lost(one)
                except (DamagedStore, ValueError) as error:
                    log.error("centroids of collection %s are lost and will be made again: %s", self._uid, error)
                    await self._drop_lost(one)
            elif not one.complete and not self.is_shared:  # a crash left it
                await self._drop_lost(one)
        return found

    async def _drop_lost(self, one: Generation) -> None:
        if self._keeps:  # else it is the primary's, which may be making it now
            await self.drop(one)

    async def add(self, centroids: Centroids, seconds: float | None = None) -> Centroids:
        """Keep centroids, which it took so long to make -> the same, mapped. Raises StoreUnavailable, OSError."""
        data = await asyncio.to_thread(centroid_files.pack, centroids)
        one = Generation(
            centroids.version,
            centroids.generation,
            -(-len(data) // PAGE_BYTES),
            crc32(data),
            centroids.rows,
            len(centroids),
            centroids.mean_score,
            seconds,
        )
        await self._save([*self.generations, one])
        for number in range(one.pages):
            page = data[number * PAGE_BYTES : (number + 1) * PAGE_BYTES]
            await self._store.put_document(PAGE, self._name(one, number), {"data": base64.b64encode(page).decode()})
        await asyncio.to_thread(centroid_files.save, self._path(one), data)
        mapped = await asyncio.to_thread(centroid_files.load, self._path(one))
        await self._save([*(other for other in self.generations if other != one), replace(one, complete=True)])
        self._loaded.add((one.version, one.generation))
        return mapped

    async def drop(self, one: Generation) -> None:
        """Forget a generation. Raises StoreUnavailable."""
        for number in range(one.pages):
            await self._store.delete_document(PAGE, self._name(one, number))
        await asyncio.to_thread(self._path(one).unlink, True)
        await self._save([other for other in self.generations if other != one])

    async def close(self) -> None:
        """Remove what there is of a collection that is deleted."""
        await self._read()
        for one in self.generations:
            for number in range(one.pages):
                await self._store.delete_document(PAGE, self._name(one, number))
        await self._store.delete_document(KIND, self._uid)
        await asyncio.to_thread(shutil.rmtree, self._folder, True)

    async def _read(self) -> None:
        try:
            document = await self._store.get_document(KIND, self._uid)
            self.generations = [] if document is None else [Generation(**one) for one in document["generations"]]
        except (DamagedStore, TypeError, KeyError) as error:
            log.error("the centroids of collection %s are lost and will be made again: %s", self._uid, error)
            self.generations = []

    async def _load(self, one: Generation) -> Centroids:
        path = self._path(one)
        try:
            data = await asyncio.to_thread(path.read_bytes)
        except OSError:
            data = b""
        if crc32(data) != one.crc32:
            data = b"".join([await self._page(one, number) for number in range(one.pages)])
            if crc32(data) != one.crc32:
                raise ValueError(f"generation {one.generation} does not match its checksum")
            if self._keeps:
                await asyncio.to_thread(centroid_files.save, path, data)
        return await asyncio.to_thread(centroid_files.load, path)

    async def _page(self, one: Generation, number: int) -> bytes:
        document: Any = await self._store.get_document(PAGE, self._name(one, number))
        if document is None:
            raise ValueError(f"page {number} of generation {one.generation} is missing")
        return base64.b64decode(document["data"])

    async def _save(self, generations: Sequence[Generation]) -> None:
        await self._store.put_document(KIND, self._uid, {"generations": [asdict(one) for one in generations]})
        self.generations = generations

    def _name(self, one: Generation, number: int) -> str:
        return f"{self._uid}-{one.version}-{one.generation}-{number}"

    def _path(self, one: Generation) -> Path:
        return self._folder / f"{one.version}-{one.generation}.centroids"
