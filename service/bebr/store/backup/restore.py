"""Fill an empty store from a backup. Everything is checked before anything is changed.

Points come first and documents last, so that a service never sees a collection that is not whole. What fails on the way
is taken back; a restore that was killed is run again, into the same store or another empty one.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from bebr.core.operations import Commit, DeleteWrite, FeedEntry, PutWrite, Write
from bebr.core.types import Puts
from bebr.errors import AlreadyExists, BebrError, Damaged
from bebr.store.backup.archive import (
    DOCUMENTS,
    CollectionContent,
    Manifest,
    check_archive,
    read_archive,
    read_name,
    read_page,
)
from bebr.store.backup.make import ALIAS, COLLECTION, OTHERS, Progress
from bebr.store.backup.samples import RestoredDocuments
from bebr.store.protocol import MetadataStore

BINARIZER = "binarizer"
_BUNDLES = (("bundle", ""), ("model", "model_"))
"""Keys of a version that name a bundle, and what stands before `fingerprint` beside it."""
Documents = dict[str, dict[str, Any]]


def read_backup(path: Path) -> tuple[Manifest, Documents]:
    """Check the whole file; what it says it holds, and its documents. Raises Damaged."""
    manifest = check_archive(path)
    documents: Documents = next(content for name, content in read_archive(path) if name == DOCUMENTS)
    return manifest, documents


async def restore_backup(
    store: MetadataStore, path: Path, manifest: Manifest, documents: Documents, progress: Progress
) -> None:
    """Fill an open store. manifest, documents: what `read_backup` gave. Raises AlreadyExists unless it is empty."""
    await _check_empty(store)
    restored = RestoredDocuments(store)
    try:
        for collection in manifest.collections:
            await store.create(collection.uid, len(collection.shards))
        await _put_members(store, restored, path, manifest, progress)
        for collection in manifest.collections:
            await _check_counts(store, collection)
        await store.renew_identity()
        for kind in (*OTHERS, COLLECTION, ALIAS):  # collections after what they need, aliases after collections
            await store.replace_documents(kind, documents.get(kind, {}), [])
    except BaseException:
        await restored.take_back()
        for collection in manifest.collections:
            with suppress(BebrError):
                await store.drop(collection.uid)
        raise


async def _check_empty(store: MetadataStore) -> None:
    for kind in (COLLECTION, ALIAS, *OTHERS):
        if found := await store.list_documents(kind):
            raise AlreadyExists(
                f"the store is not empty: it has the {kind} '{min(found)}'. Restore into an empty data folder, or "
                "under an unused Redis prefix",
                kind=kind,
            )


async def _put_members(
    store: MetadataStore, restored: RestoredDocuments, path: Path, manifest: Manifest, progress: Progress
) -> None:
    name_of = {collection.uid: collection.name for collection in manifest.collections}
    done = dict.fromkeys(name_of, 0)
    for name, content in read_archive(path):
        if name == DOCUMENTS:
            continue
        uid, shard, rest = read_name(name)
        if isinstance(shard, str):
            await restored.put(shard, rest, content)
            continue
        entries = read_page(content)
        (outcome,) = await store.commit(uid, [Commit(shard, _writes(entries))])
        if isinstance(outcome, Exception):
            raise outcome
        done[uid] += len(entries)
        progress(name_of[uid], done[uid])


def _writes(entries: list[FeedEntry]) -> list[Write]:
    """One page as writes; each of its ids is there once."""
    alike: dict[tuple[int, int], list[FeedEntry]] = {}
    for entry in entries:
        if entry.record is not None:
            alike.setdefault((entry.version, len(entry.record)), []).append(entry)
    writes: list[Write] = [
        PutWrite(
            Puts(
                [entry.id for entry in some],
                version,
                np.frombuffer(b"".join(entry.record or b"" for entry in some), np.uint8).reshape(len(some), size),
                [entry.metadata or "{}" for entry in some],
            )
        )
        for (version, size), some in alike.items()
    ]
    if deleted := [entry.id for entry in entries if entry.record is None]:
        writes.append(DeleteWrite(deleted))
    return writes


async def _check_counts(store: MetadataStore, collection: CollectionContent) -> None:
    for number, shard in enumerate(collection.shards):
        points = (await store.counters(collection.uid, number)).points
        if shard.points not in (None, points):
            raise Damaged(
                f"shard {number} of '{collection.name}' has {points} points after the restore, and had {shard.points} "
                "in the backup; nothing was kept"
            )


def needed_bundles(documents: Documents) -> dict[str, str | None]:
    """Fingerprint by id of the bundles that collections were made with and that are not in the backup."""
    versions = [
        version for document in documents.get(COLLECTION, {}).values() for version in document.get("versions", [])
    ]
    named = [
        (version.get(key), version.get(f"{prefix}fingerprint")) for version in versions for key, prefix in _BUNDLES
    ]
    return {name: print for name, print in named if name is not None and name not in documents.get(BINARIZER, {})}
