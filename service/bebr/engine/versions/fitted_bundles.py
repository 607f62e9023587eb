"""Binarizers fitted for collections: kept in the metadata store, which is the truth, and as bundles on disk, a view.

A bundle that is missing or damaged on disk is written again from the store, so that a lost folder costs time, not data.
Such a bundle holds the binarizer alone; texts are embedded by the model of the collection's bundle.
"""

import asyncio
import base64
import logging
import re
from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from bebr.core.codes import CodeSpec
from bebr.encoding import BinarizerFiles, Bundle, BundleRegistry, Gain
from bebr.engine.collections.schema import CollectionDocument
from bebr.engine.collections.version import Version, VersionKind
from bebr.errors import BundleNotFound, DamagedBundle, DamagedStore, Incompatible, InvalidOption, InvalidRequest
from bebr.store import MetadataStore

log = logging.getLogger(__name__)
BINARIZER = "binarizer"
NAME_CHARS = 60


class FittedBundles:
    """Reads and writes fitted binarizers, one document and one bundle each."""

    def __init__(self, store: MetadataStore, bundles: BundleRegistry) -> None:
        self._store = store
        self._bundles = bundles

    async def save(
        self, bundle_id: str, embedding_dims: int, files: BinarizerFiles, metrics: Mapping[str, Any]
    ) -> Bundle:
        """Write both; what a fit that was cut short left under this id is replaced."""
        bundle = await asyncio.to_thread(self._bundles.put_binarizer, bundle_id, embedding_dims, files, metrics)
        document = {
            "fingerprint": bundle.fingerprint,
            "embedding_dims": embedding_dims,
            "code": str(files.spec),
            "steps": [float(step) for step in files.steps],
            "gain": str(files.gain),
            "graph": base64.b64encode(files.graph).decode(),
            "rescore": None if files.rescore is None else base64.b64encode(files.rescore).decode(),
            "figures": dict(metrics),
        }
        await self._store.put_document(BINARIZER, bundle_id, document)
        return bundle

    async def has(self, bundle_id: str) -> bool:
        """Whether a collection has a binarizer of that id."""
        return await self._store.get_document(BINARIZER, bundle_id) is not None

    async def kept(self, version: Version) -> dict[str, Any]:
        """What the store keeps of the binarizer of a version. Raises DamagedStore."""
        found = None if version.bundle is None else await self._store.get_document(BINARIZER, version.bundle)
        if found is None or found["fingerprint"] != version.fingerprint:
            raise DamagedStore(f"the store has lost the binarizer of '{version.bundle}'", id=version.bundle)
        return found

    async def put_kept(self, bundle_id: str, kept: Mapping[str, Any]) -> Bundle:
        """Keep what another store kept, under this id. Raises InvalidOption for what is no binarizer."""
        try:
            files = _files_of(kept)
            return await self.save(bundle_id, int(kept["embedding_dims"]), files, dict(kept["figures"]))
        except (KeyError, TypeError, ValueError, InvalidRequest, DamagedBundle) as error:
            raise InvalidOption(f"'{bundle_id}' is no binarizer: {error!r:.200}", key="binarizers") from error

    async def restore(self, document: CollectionDocument) -> None:
        """Write the bundles of a collection that are not on disk as they should be.

        What cannot be restored is logged here, and is an error for whoever needs it.
        """
        for bundle_id, fingerprint in _bundles_of(document):
            if await asyncio.to_thread(self._is_sound, bundle_id, fingerprint):
                continue
            log.warning("bundle %s is not on disk as it should be; writing it from the store", bundle_id)
            try:
                await self._restore(bundle_id, fingerprint)
            except DamagedStore as error:
                log.error("%s", error.detail)

    async def forget(self, name: str, document: CollectionDocument, in_use: Set[str | None]) -> None:
        """Remove what a deleted collection had; bundles whose fingerprint is `in_use` elsewhere stay on disk."""
        for bundle_id, fingerprint in _bundles_of(document):
            await self._store.delete_document(BINARIZER, bundle_id)
            if fingerprint not in in_use:
                await asyncio.to_thread(self._bundles.remove, bundle_id)
        await self.discard(next_bundle_id(name, document))

    async def discard(self, bundle_id: str) -> None:
        """Remove one that no version has."""
        await self._store.delete_document(BINARIZER, bundle_id)
        await asyncio.to_thread(self._bundles.remove, bundle_id)

    def _is_sound(self, bundle_id: str, fingerprint: str | None) -> bool:
        try:
            self._bundles.get(bundle_id, fingerprint)
        except (BundleNotFound, DamagedBundle, Incompatible):
            return False
        return True

    async def _restore(self, bundle_id: str, fingerprint: str | None) -> None:
        kept = await self._store.get_document(BINARIZER, bundle_id)
        if kept is None or kept["fingerprint"] != fingerprint:
            raise DamagedStore(f"the store has lost the binarizer of '{bundle_id}'", id=bundle_id)
        files = _files_of(kept)
        await asyncio.to_thread(self._bundles.put_binarizer, bundle_id, kept["embedding_dims"], files, kept["figures"])


def _files_of(kept: Mapping[str, Any]) -> BinarizerFiles:
    """The binarizer that a stored document holds."""
    steps = np.array(kept["steps"], np.float32)
    spec, gain = CodeSpec.parse(kept["code"]), Gain(kept["gain"])
    rescore = kept.get("rescore")  # what an older release wrote has none
    finer = None if rescore is None else base64.b64decode(rescore)
    return BinarizerFiles(base64.b64decode(kept["graph"]), spec, steps, gain, finer)


def _bundles_of(document: CollectionDocument) -> list[tuple[str, str | None]]:
    """Ids and fingerprints of the fitted bundles of a collection."""
    fitted = [version for version in document.versions if version.kind is VersionKind.FITTED]
    return [(version.bundle, version.fingerprint) for version in fitted if version.bundle is not None]


def next_bundle_id(name: str, document: CollectionDocument) -> str:
    """Id of the next fitted bundle of a collection: its name is for people, the uid makes it unique."""
    readable = re.sub(r"[^a-z0-9._-]", "-", name.lower())[:NAME_CHARS]
    number = sum(version.kind is VersionKind.FITTED for version in document.versions) + 1
    return f"own-{readable}-{document.uid[:8]}@{number}"
