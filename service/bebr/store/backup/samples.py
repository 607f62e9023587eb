"""Samples: the embeddings that a collection keeps of some of its points, to fit to again. Each page is a document.

They are read while a service may write them anew: then the pages that were read are taken out, and read again.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Protocol

from bebr.errors import BebrError, Conflict, DamagedStore
from bebr.store.backup.archive import ArchiveWriter
from bebr.store.protocol import RESERVOIR, RESERVOIR_PAGE, Document, MetadataStore, reservoir_page_name

log = logging.getLogger(__name__)
ATTEMPTS = 5


class DocumentReader(Protocol):
    """Reads documents of a store."""

    async def get_document(self, kind: str, name: str) -> Document | None: ...


async def add_sample(reader: DocumentReader, archive: ArchiveWriter, uid: str) -> None:
    """Add what a collection keeps, if it does. Raises Conflict where it changes all the time."""
    for _ in range(ATTEMPTS):
        with suppress(Conflict), archive.attempt():
            async for kind, name, document in _read(reader, uid):
                archive.add_document(uid, kind, name, document)
            return
    raise Conflict(f"the sample of collection {uid} changed {ATTEMPTS} times meanwhile; try again later")


async def _read(reader: DocumentReader, uid: str) -> AsyncIterator[tuple[str, str, Document]]:
    """The pages, and last what says which of them count. Damaged ones are lost to the service too, and left out."""
    contents = await _sound(reader, RESERVOIR, uid)
    if contents is None:
        return
    for number in range(contents["first"], contents["next"]):
        name = reservoir_page_name(uid, number)
        if (page := await _sound(reader, RESERVOIR_PAGE, name)) is not None:
            yield RESERVOIR_PAGE, name, page
    now = await _sound(reader, RESERVOIR, uid)
    if now is None or now["first"] != contents["first"]:
        raise Conflict("its pages were written anew")
    yield RESERVOIR, uid, contents


async def _sound(reader: DocumentReader, kind: str, name: str) -> Document | None:
    try:
        return await reader.get_document(kind, name)
    except DamagedStore as error:
        log.warning("the backup lacks a part of a sample: %s", error.detail)
        return None


class RestoredDocuments:
    """What a restore puts beside the points, so that it can be taken back."""

    def __init__(self, store: MetadataStore) -> None:
        self._store = store
        self._put: list[tuple[str, str]] = []

    async def put(self, kind: str, name: str, document: Document) -> None:
        self._put.append((kind, name))
        await self._store.put_document(kind, name, document)

    async def take_back(self) -> None:
        for kind, name in self._put:
            with suppress(BebrError):
                await self._store.delete_document(kind, name)
