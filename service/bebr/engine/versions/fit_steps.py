"""The steps of a collection's fit, each safe to repeat:

read      buffered embeddings
fit       a binarizer to them; it takes minutes and runs in a thread
switch    save the binarizer in the store and on disk; one document makes it that of the active version. Writes that
          began before are still buffered
convert   re-encode page by page through the shards, until no point is buffered
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.config import Limits
from bebr.encoding import BinarizerFiles
from bebr.encoding.quantization.training import fit_own
from bebr.engine.capacity import CapacityGuard
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.encoders import Codec, Encoders
from bebr.engine.collections.registry import CollectionRegistry
from bebr.engine.collections.schema import CollectionDocument, FitPlan
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.versions.fitted_bundles import FittedBundles, next_bundle_id
from bebr.shards import Reencode

log = logging.getLogger(__name__)
PAGE = 256
"""Points re-encoded at a time; other writes of the shard wait that long."""
READ_PAGE = 2_000
Progress = Callable[[int, int, str], None]
"""Called with steps done, steps in all, and what was done last. What it raises ends the fit."""


@dataclass(frozen=True, slots=True)
class Buffered:
    """Embeddings that a binarizer is fitted to."""

    records: NDArray[np.uint8]
    """(rows, record_size_bytes) uint8."""
    codec: Codec
    """Decodes them."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A binarizer that was fitted."""

    files: BinarizerFiles
    metrics: Mapping[str, Any]


class FitSteps:
    """What a fit does to a collection, step by step."""

    def __init__(
        self,
        registry: CollectionRegistry,
        fitted_bundles: FittedBundles,
        encoders: Encoders,
        *,
        limits: Limits,
        guard: CapacityGuard,
    ) -> None:
        self._registry = registry
        self._fitted_bundles = fitted_bundles
        self._encoders = encoders
        self._limits = limits
        self._guard = guard

    async def read(self, collection: Collection, plan: FitPlan) -> Buffered:
        """Up to as many buffered embeddings as the plan takes, chosen at random. Raises InsufficientStorage."""
        self._guard.check()
        count, number = self._limits.max_fit_sample if plan.due else plan.sample, collection.active.number
        ids: list[str] = []
        for shard in range(collection.document.shards):
            ids += await collection.shards.version_ids(shard, number, None)
        if len(ids) > count:
            chosen = np.random.default_rng(0).choice(len(ids), count, replace=False)
            ids = [ids[place] for place in np.sort(chosen).tolist()]
        records: list[bytes] = []
        for start in range(0, len(ids), READ_PAGE):
            points, _ = await collection.fetch_sound(ids[start : start + READ_PAGE], metadata=False, records=True)
            records += [point.record for point in points.values() if point.version == number]
        size = collection.active.spec.record_size_bytes
        joined = np.frombuffer(b"".join(records), np.uint8).reshape(len(records), size)
        return Buffered(joined, collection.codec(collection.active))

    async def switch(self, collection: Collection, fitted: Fitted) -> None:
        """Save the binarizer, then make it that of the active version."""
        document, buffered = collection.document, collection.active
        dims, bundle_id = collection.codec(buffered).embedding_dims, next_bundle_id(collection.name, document)
        bundle = await self._fitted_bundles.save(bundle_id, dims, fitted.files, fitted.metrics)
        codec = await asyncio.to_thread(self._encoders.get, bundle.id, bundle.fingerprint)
        version = Version.fitted(len(document.versions), bundle, buffered, fitted.metrics)
        collection.encoders.add(version.number, codec)
        collection.shards.add_version(version.number, version.spec)

        def switched(document: CollectionDocument) -> CollectionDocument:
            plan = None if document.fit is None else replace(document.fit, due=False, failed=None)
            return replace(document, versions=(*document.versions, version), active=version.number, fit=plan)

        await self._registry.update(collection, switched)
        log.info(
            "collection %s has a fitted binarizer %s (%s): %s",
            collection.name,
            bundle.id,
            bundle.spec,
            dict(fitted.metrics),
        )

    async def fail(self, collection: Collection, detail: str) -> None:
        """Save why no binarizer could be fitted; it stays so until somebody requests another fit."""

        def failed(document: CollectionDocument) -> CollectionDocument:
            plan = None if document.fit is None else replace(document.fit, due=False, failed=detail)
            return replace(document, fit=plan)

        await self._registry.update(collection, failed)

    async def convert(self, collection: Collection) -> AsyncIterator[int]:
        """Re-encode what is buffered -> page by page, how many points of it. Points that are written or deleted
        meanwhile stay as they are. Raises Overloaded, InsufficientStorage."""
        for buffered in [v for v in collection.document.versions if v.kind is VersionKind.BUFFERED]:
            same_model = [v for v in collection.document.coded if v.model_fingerprint == buffered.model_fingerprint]
            if same_model and buffered.number != collection.active.number:
                async for applied in self._convert_version(collection, buffered, same_model[-1]):
                    yield applied

    async def _convert_version(self, collection: Collection, buffered: Version, target: Version) -> AsyncIterator[int]:
        encode = _converter(collection.codec(buffered), collection.codec(target))
        log.info("re-encoding %d points of collection %s to %s", collection.buffered(), collection.name, target.id)
        for shard in range(collection.document.shards):
            while ids := await collection.shards.version_ids(shard, buffered.number, PAGE):
                self._guard.check()
                await collection.shards.wait_for_capacity(shard)
                change = Reencode(ids, buffered.number, target.number, encode)
                yield sum((await collection.shards.write(shard, change)).applied)


def fit(buffered: Buffered, size_bytes: int, progress: Progress) -> Fitted:
    """Fit a binarizer of `size_bytes` per code. It takes minutes: run it in a thread."""
    files, metrics = fit_own(buffered.codec.decode(buffered.records), size_bytes, progress)
    return Fitted(files, metrics)


def _converter(buffered: Codec, codec: Codec) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    return lambda records: codec.encode(buffered.decode(records))
