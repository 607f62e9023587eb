"""Make a backup of a store that may be written to meanwhile.

Every shard is as it was at one seq, and the document of its collection is that of the same time: where it changes while
the points are read (a fit that takes over, a promotion), the collection is read again. Collections follow one another.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from bebr.core.operations import FeedEntry, ShardCounters
from bebr.errors import BebrError, CollectionNotFound, Conflict, Damaged, DamagedStore
from bebr.store.backup.archive import ArchiveWriter, CollectionContent, Manifest, ShardContent, writing
from bebr.store.backup.samples import add_sample
from bebr.store.protocol import DamagedDocument, Document

COLLECTION, ALIAS = "collection", "alias"
OTHERS = ("binarizer", "calibration")
"""Kinds of documents that belong to collections."""
READ_ENTRIES = 1000
PAGE_ENTRIES = 5000
PAGE_BYTES = 2**22
"""A page is one commit of a restore: far from the limits of one, and from what memory it takes to read."""
ATTEMPTS = 5
CHASES = 20
"""How often to read on, where a store is written to, until there is a pause in which its points can be counted."""
Progress = Callable[[str, int], None]
"""Called as progress(name of the collection, entries so far)."""


class FrozenCollection(Protocol):
    """The points of a collection while a backup reads them: nothing that was read is forgotten."""

    async def feed(self, shard: int, after_seq: int, limit: int) -> list[FeedEntry]: ...

    async def counters(self, shard: int) -> ShardCounters: ...


class StoreReader(Protocol):
    """A store that only reads, beside the service that writes to it."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def get_document(self, kind: str, name: str) -> Document | None: ...

    async def list_documents(self, kind: str) -> dict[str, Document | DamagedDocument]: ...

    def frozen(self, uid: str, shards: int) -> AbstractAsyncContextManager[FrozenCollection]: ...


async def make_backup(
    reader: StoreReader, path: Path, bebr: str, progress: Progress, *, skip_damaged: bool = False
) -> Manifest:
    """Write the archive. skip_damaged: leave out collections that cannot be read, which the manifest then names."""
    with writing(path) as archive:
        others = await _sound_documents(reader, OTHERS, skip_damaged=skip_damaged)
        contents: list[CollectionContent] = []
        documents: dict[str, Document] = {}
        left_out: list[str] = []
        for name, document in (await reader.list_documents(COLLECTION)).items():
            try:
                kept = await _add_collection(reader, archive, name, document, progress)
            except (Damaged, CollectionNotFound) as error:
                if not skip_damaged:
                    raise _advice(name, error) from error
                left_out.append(name)
                continue
            if kept is not None:
                contents.append(kept[0])
                documents[name] = kept[1]
        later = await _sound_documents(reader, OTHERS, skip_damaged=skip_damaged)
        kinds: dict[str, dict[str, Any]] = {kind: others[kind] | later[kind] for kind in OTHERS}
        aliases = (await _sound_documents(reader, (ALIAS,), skip_damaged=skip_damaged))[ALIAS]
        kept_aliases = {name: value for name, value in aliases.items() if value.get("collection") in documents}
        archive.add_documents({COLLECTION: documents, ALIAS: kept_aliases} | kinds)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        manifest = Manifest(now, bebr, contents, left_out, list(archive.members))
        archive.finish(manifest)
    return manifest


async def _add_collection(
    reader: StoreReader,
    archive: ArchiveWriter,
    name: str,
    document: Document | DamagedDocument | None,
    progress: Progress,
) -> tuple[CollectionContent, Document] | None:
    """Its content and document; None where it was deleted meanwhile."""
    for _ in range(ATTEMPTS):
        if document is None:
            return None
        if isinstance(document, DamagedDocument):
            raise DamagedStore(document.reason, name=name)
        try:
            with archive.attempt():
                content = await _read_collection(reader, archive, name, document, progress)
                if (await reader.list_documents(COLLECTION)).get(name) == document:
                    return content, document
                raise Conflict("its document changed")
        except Conflict:
            document = (await reader.list_documents(COLLECTION)).get(name)
        except (Damaged, CollectionNotFound):
            if name in await reader.list_documents(COLLECTION):
                raise
            return None  # it was deleted, which is why its points could not be read
    raise Conflict(f"collection '{name}' changed {ATTEMPTS} times meanwhile; try again later", name=name)


async def _read_collection(
    reader: StoreReader, archive: ArchiveWriter, name: str, document: Document, progress: Progress
) -> CollectionContent:
    uid, count = document["uid"], document["shards"]
    shards: list[ShardContent] = []
    done = 0
    async with reader.frozen(uid, count) as frozen:
        for number in range(count):
            pages, seq = 0, 0
            for _ in range(CHASES):
                async for entries in _pages(frozen, number, seq):
                    archive.add_page(uid, number, pages, entries)
                    pages, seq, done = pages + 1, entries[-1].seq, done + len(entries)
                    progress(name, done)
                counters = await frozen.counters(number)
                if counters.last_seq <= max(seq, counters.purged_seq):
                    break
            points = counters.points if counters.last_seq <= max(seq, counters.purged_seq) else None
            shards.append(ShardContent(max(seq, counters.purged_seq), points, pages))
    await add_sample(reader, archive, uid)
    return CollectionContent(name, uid, shards)


async def _pages(frozen: FrozenCollection, shard: int, after_seq: int) -> AsyncIterator[list[FeedEntry]]:
    """What follows a seq, in pages that are neither many entries nor many bytes."""
    page: dict[str, FeedEntry] = {}
    size = 0
    while entries := await frozen.feed(shard, after_seq, READ_ENTRIES):
        if damaged := [entry.id for entry in entries if entry.is_damaged]:
            raise DamagedStore(f"{len(damaged)} points are damaged, such as '{damaged[0]:.80}'")
        for entry in entries:
            entry_bytes = len(entry.id) + len(entry.record or b"") + len((entry.metadata or "").encode())
            if page and (len(page) == PAGE_ENTRIES or size + entry_bytes > PAGE_BYTES):
                yield list(page.values())
                page, size = {}, 0
            page.pop(entry.id, None)  # it was changed since it was read, and has its new place now
            page[entry.id] = entry
            size += entry_bytes
        after_seq = entries[-1].seq
    if page:
        yield list(page.values())


async def _sound_documents(
    reader: StoreReader, kinds: tuple[str, ...], *, skip_damaged: bool
) -> dict[str, dict[str, Document]]:
    found: dict[str, dict[str, Document]] = {}
    for kind in kinds:
        found[kind] = {}
        for name, document in (await reader.list_documents(kind)).items():
            if not isinstance(document, DamagedDocument):
                found[kind][name] = document
            elif not skip_damaged:
                raise DamagedStore(f"{document.reason}; set it again, or back up with --skip-damaged", name=name)
    return found


def _advice(name: str, error: BebrError) -> DamagedStore:
    return DamagedStore(
        f"collection '{name}' cannot be read: {error.detail}. Restore or delete it first, or leave it out with "
        "--skip-damaged",
        name=name,
    )
