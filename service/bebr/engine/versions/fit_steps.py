"""The steps of a collection's fit, each safe to repeat:

read      the buffered embeddings; the sample is drawn at random from all of them
fit       a binarizer to the sample; it takes minutes and runs in a thread
switch    save the binarizer in the store and on disk; one document makes it that of the active version, or another one
          that finds more. Writes that began before are still buffered
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
from bebr.core.sampling import sample_keys, smallest
from bebr.encoding import BinarizerFiles
from bebr.encoding.quantization.int8 import Int8Binarizer
from bebr.encoding.quantization.training import estimate_own, fit_own, least_rows, recall_of_others
from bebr.encoding.quantization.trials import held_out_rows
from bebr.engine.capacity import CapacityGuard
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.encoders import Codec, Encoders
from bebr.engine.collections.registry import CollectionRegistry
from bebr.engine.collections.schema import CollectionDocument, FitPlan, FitSource
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.versions.fit_choice import Candidate, Collected, choose, codec_of, measure_candidate, others_of
from bebr.engine.versions.fit_from_codes import converted, decode_unit, draw, recode
from bebr.engine.versions.fitted_bundles import FittedBundles, next_bundle_id
from bebr.errors import Conflict
from bebr.shards import Reencode

log = logging.getLogger(__name__)
PAGE = 256
"""Points re-encoded at a time; other writes of the shard wait that long."""
READ_PAGE = 2_000
Progress = Callable[[int, int, str], None]
"""Called with steps done, steps in all, and what was done last. What it raises ends the fit."""


@dataclass(frozen=True, slots=True)
class Training:
    """What a fit is made of."""

    rows: Collected
    others: Mapping[str, Candidate]
    """Binarizers that there are already, by id of their version."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A binarizer that was fitted."""

    files: BinarizerFiles
    metrics: Mapping[str, Any]
    training: Training
    """What it was made of."""


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

    async def read(self, collection: Collection, plan: FitPlan) -> Training:
        """What the plan is fitted to, up to max_fit_sample, in random order; the sample are the first of them.

        Raises InsufficientStorage.
        """
        self._guard.check()
        active = collection.active
        codec = Int8Binarizer(collection.codec(active).embedding_dims)
        match plan.source:
            case FitSource.CODES:
                records = await draw(collection, codec, self._limits.max_fit_sample)
            case FitSource.SAMPLE:
                records = list((await collection.reservoir.read(collection.existing)).values())
            case FitSource.WRITES:
                records = await self._buffered(collection, active, codec)
        joined = np.frombuffer(b"".join(records), np.uint8).reshape(len(records), codec.spec.record_size_bytes)
        rows = Collected(joined[: plan.sample], joined[plan.sample :], codec)
        if plan.source is FitSource.CODES:
            return Training(rows, {})  # codes that were fitted from would find all of what they stand for
        sizes, fitted = (plan.bytes, plan.rescore_bytes or 0), plan.source is FitSource.SAMPLE
        return Training(rows, others_of(collection, *sizes, fitted=fitted))

    def estimate(self, collection: Collection, plan: FitPlan) -> float:
        """CPU seconds that the fit takes, about."""
        return estimate_own(
            plan.sample, collection.codec(collection.active).embedding_dims, plan.bytes, plan.cpu_seconds
        )

    async def _buffered(self, collection: Collection, buffered: Version, codec: Int8Binarizer) -> list[bytes]:
        """Buffered points as records of the codec, in random order."""
        ids = await _version_ids(collection, buffered.number)
        drawn = smallest(sample_keys(ids), self._limits.max_fit_sample)
        ids = [ids[place] for place in drawn.tolist()]
        records: list[bytes] = []
        for start in range(0, len(ids), READ_PAGE):
            points, _ = await collection.fetch_sound(ids[start : start + READ_PAGE], metadata=False, records=True)
            found = (points.get(point_id) for point_id in ids[start : start + READ_PAGE])
            there = [point.record for point in found if point is not None and point.version == buffered.number]
            records += await asyncio.to_thread(_as_int8, collection, buffered, there, codec)
        return records

    async def switch(self, collection: Collection, fitted: Fitted) -> None:
        """Save the binarizer, then make it that of the active version; or another one, where that finds more."""
        own, training = await self._save(collection, fitted), fitted.training
        chosen, measured = await asyncio.to_thread(choose, own, training.others, training.rows, fitted.metrics)
        measured = replace(measured, points=sum(collection.shards.points().values()))
        version = chosen.version
        if version.number == len(collection.document.versions):
            collection.encoders.add(version.number, chosen.encoder)
        await self._open_reservoir(collection)

        def switched(document: CollectionDocument) -> CollectionDocument:
            assert document.fit is not None, "it was requested"
            if document.fit.cancelled:
                raise Conflict(f"the fit of '{collection.name}' was cancelled")
            known = [one.id for one in document.versions]
            if [*known, version.id][version.number : version.number + 1] != [version.id]:
                raise Conflict(f"'{collection.name}' got another version while its fit was computed; request it again")
            kept = None if chosen is own else version.number
            plan = replace(document.fit, due=False, failed=None, kept=kept, at_fit=measured, latest=measured)
            new = () if version.number < len(known) else (version,)
            return replace(document, versions=(*document.versions, *new), active=version.number, fit=plan)

        await self._registry.update(collection, switched)
        if chosen is not own and own.version.bundle is not None:
            await self._fitted_bundles.discard(own.version.bundle)
        log.info("the fit of collection %s chose %s (%s): %s", collection.name, version.id, version.spec, measured)

    async def _save(self, collection: Collection, fitted: Fitted) -> Candidate:
        """Save what was fitted, in the store and on disk."""
        document, buffered = collection.document, collection.active
        dims, bundle_id = collection.codec(buffered).embedding_dims, next_bundle_id(collection.name, document)
        bundle = await self._fitted_bundles.save(bundle_id, dims, fitted.files, fitted.metrics)
        encoder = await asyncio.to_thread(self._encoders.get, bundle.id, bundle.fingerprint)
        return Candidate(encoder, Version.fitted(len(document.versions), bundle, buffered, fitted.metrics))

    async def _open_reservoir(self, collection: Collection) -> None:
        """Keep embeddings of some of the points that are buffered, which `convert` offers, and of those to come."""
        buffered, plan = collection.active, collection.document.fit
        if buffered.buffered_dims is None or plan is None:
            return
        limit = plan.sample + held_out_rows(plan.sample)
        limit = min(limit, self._limits.max_fit_reservoir_bytes // buffered.spec.record_size_bytes)
        reservoir, model = collection.reservoir, buffered.model_fingerprint
        if limit < least_rows(buffered.buffered_dims):
            await reservoir.close()
        elif not reservoir.takes(model, buffered.buffered_dims) or reservoir.limit != limit:
            await reservoir.open(limit, await _version_ids(collection, buffered.number), buffered.buffered_dims, model)

    async def measure(self, collection: Collection) -> FitPlan | None:
        """Measure the active version on the points whose embeddings are kept -> the plan with what was measured; None
        where that cannot be. Raises StoreUnavailable."""
        version, plan, reservoir = collection.active, collection.document.fit, collection.reservoir
        encoder = codec_of(collection, version)
        if plan is None or encoder is None or not reservoir.takes(version.model_fingerprint, encoder.embedding_dims):
            return None
        records = list((await reservoir.read(collection.existing)).values())
        codec, count = Int8Binarizer(encoder.embedding_dims), held_out_rows(len(records))
        if count:
            joined = np.frombuffer(b"".join(records), np.uint8).reshape(len(records), codec.spec.record_size_bytes)
            rows = Collected(joined[count:], joined[:count], codec)
            measured = await asyncio.to_thread(measure_candidate, Candidate(encoder, version), rows, count)
            measured = replace(measured, points=sum(collection.shards.points().values()))

            def with_measured(document: CollectionDocument) -> CollectionDocument:
                if document.fit is None or document.active != version.number:
                    return document
                is_known = document.fit.at_fit is not None and document.fit.at_fit.version == version.number
                at_fit = document.fit.at_fit if is_known else measured
                return replace(document, fit=replace(document.fit, at_fit=at_fit, latest=measured))

            plan = (await self._registry.update(collection, with_measured)).fit
        await reservoir.note_measured()
        return plan

    async def fail(self, collection: Collection, detail: str) -> None:
        """Save why no binarizer could be fitted; it stays so until somebody requests another fit."""

        def failed(document: CollectionDocument) -> CollectionDocument:
            plan = None if document.fit is None else replace(document.fit, due=False, failed=detail)
            return replace(document, fit=plan)

        await self._registry.update(collection, failed)

    async def convert(self, collection: Collection) -> AsyncIterator[int]:
        """Re-encode what is buffered, or was fitted from -> page by page, how many points of it. Points that are
        written or deleted meanwhile stay as they are. Raises Overloaded, InsufficientStorage."""
        for buffered in [v for v in collection.document.versions if v.kind is VersionKind.BUFFERED]:
            active, same_model = collection.active, collection.document.of_model(buffered)
            if same_model and buffered.number != active.number:
                target = active if active in same_model else same_model[-1]
                async for applied in self._convert_version(collection, buffered, target):
                    yield applied
        for finer in converted(collection.document):
            async for applied in self._convert_version(collection, finer, collection.active):
                yield applied

    async def _convert_version(self, collection: Collection, buffered: Version, target: Version) -> AsyncIterator[int]:
        encode = _converter(collection.codec(buffered), collection.codec(target))
        points = collection.shards.points().get(buffered.number, 0)
        log.info("re-encoding %d points of collection %s to %s", points, collection.name, target.id)
        for shard in range(collection.document.shards):
            while ids := await collection.shards.version_ids(shard, buffered.number, PAGE):
                self._guard.check()
                await collection.shards.wait_for_capacity(shard)
                await _offer(collection, buffered, ids)
                change = Reencode(ids, buffered.number, target.number, encode)
                yield sum((await collection.shards.write(shard, change)).applied)


def fit(training: Training, plan: FitPlan, progress: Progress) -> Fitted:
    """Fit a binarizer, and see what others find. It takes minutes: run it in a thread."""
    embeddings = training.rows.codec.decode(training.rows.sample)
    files, metrics = fit_own(embeddings, plan.bytes, plan.rescore_bytes or 0, progress, plan.cpu_seconds)
    others = recall_of_others(embeddings, {name: other.encoder for name, other in training.others.items()})
    return Fitted(files, metrics | ({"others": others} if others else {}), training)


def estimated_seconds(training: Training, plan: FitPlan) -> float:
    """CPU seconds that `fit` takes, about."""
    dims = training.rows.codec.embedding_dims
    return estimate_own(len(training.rows.sample), dims, plan.bytes, plan.cpu_seconds)


async def _version_ids(collection: Collection, number: int) -> list[str]:
    ids: list[str] = []
    for shard in range(collection.document.shards):
        ids += await collection.shards.version_ids(shard, number, None)
    return ids


async def _offer(collection: Collection, buffered: Version, ids: list[str]) -> None:
    """Those of some buffered points that belong to the collection's sample join it. Raises StoreUnavailable."""
    reservoir = collection.reservoir
    if buffered.buffered_dims is None or not reservoir.takes(buffered.model_fingerprint, buffered.buffered_dims):
        return
    if drawn := [ids[place] for place in reservoir.draw(ids)]:
        points, _ = await collection.fetch_sound(drawn, metadata=False, records=True)
        mine = [point for point in points.values() if point.version == buffered.number]
        codec, records = Int8Binarizer(buffered.buffered_dims), [point.record for point in mine]
        records = await asyncio.to_thread(_as_int8, collection, buffered, records, codec)
        reservoir.add(dict(zip((point.id for point in mine), records, strict=True)))
    if reservoir.is_due:
        await reservoir.save()


def _as_int8(collection: Collection, buffered: Version, records: list[bytes], codec: Int8Binarizer) -> list[bytes]:
    """Records of a buffered version as those of the codec."""
    if not records or buffered.spec == codec.spec:
        return records
    joined = np.frombuffer(b"".join(records), np.uint8).reshape(len(records), -1)
    return list(map(bytes, recode(collection.codec(buffered), codec, joined)))


def _converter(buffered: Codec, codec: Codec) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    return lambda records: codec.encode(decode_unit(buffered, records))
