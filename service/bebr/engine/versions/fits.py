"""A collection's fit: buffer embeddings, fit a binarizer to them, make it the active code version, and re-encode what
was buffered.

The state of a fit follows from the document of the collection and from its points (see `Fits.state`), so whatever is
cut short goes on at the next start. The steps, each safe to repeat:

    fit      read buffered records, decode and fit in a thread, keep the binarizer in the store and on disk
    switch   one document makes the new version the active one; writes that began before are still buffered
    convert  page by page through the shards' writers, until no point is buffered
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import replace
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bebr.config import Limits
from bebr.encoding import BinarizerFiles
from bebr.encoding.quantization.int8 import Int8Binarizer
from bebr.encoding.quantization.training import fit_own, least_rows
from bebr.engine.capacity import RoomGuard
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.encoders import Codec, Encoders
from bebr.engine.collections.registry import CollectionRegistry
from bebr.engine.collections.schema import CollectionDocument, FitPlan
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.results import FitStatus
from bebr.engine.versions.fit_plan import make_plan
from bebr.engine.versions.fitted_bundles import FittedBundles, next_bundle_id
from bebr.errors import BebrError, Conflict, InvalidOption, Unavailable
from bebr.shards import Reencode

log = logging.getLogger(__name__)
PAGE = 256
"""Points re-encoded at a time: other writes of the shard wait for so many."""
READ_PAGE = 2_000
RETRY_SECONDS = 1.0
Result = TypeVar("Result")


class FitState(StrEnum):
    """How far a collection's fit is."""

    COLLECTING = "collecting"
    FITTING = "fitting"
    FAILED = "failed"
    CONVERTING = "converting"
    DONE = "done"


class Fits:
    """All fits of the process; one is computed at a time, the others wait."""

    def __init__(
        self,
        registry: CollectionRegistry,
        fitted_bundles: FittedBundles,
        encoders: Encoders,
        limits: Limits,
        guard: RoomGuard,
    ) -> None:
        self._registry = registry
        self._fitted_bundles = fitted_bundles
        self._encoders = encoders
        self._limits = limits
        self._guard = guard
        self._one_at_a_time = asyncio.Semaphore(1)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._abandoned: dict[str, threading.Event] = {}
        self._progress: dict[str, str] = {}
        """What a fit that runs now has just done, by uid of its collection."""

    def state(self, collection: Collection) -> FitState | None:
        """None: no fit was ever requested. Nothing of it is stored: it follows from the document and the points."""
        fit = collection.document.fit
        if fit is None:
            return None
        if collection.document.uid in self._progress:
            return FitState.FITTING
        buffered = collection.buffered()
        if collection.active.kind is not VersionKind.BUFFERED:
            return FitState.CONVERTING if buffered else FitState.DONE
        if fit.failed is not None:
            return FitState.FAILED
        return FitState.FITTING if fit.due or buffered >= fit.sample else FitState.COLLECTING

    def status(self, collection: Collection) -> FitStatus | None:
        """How far a collection's fit is; None: it never had one."""
        fit, state, fitted = collection.document.fit, self.state(collection), collection.document.fitted
        if fit is None or state is None:
            return None
        metrics = {} if fitted is None else fitted.metrics
        return FitStatus(
            state=state,
            bytes=fit.bytes,
            sample=fit.sample,
            collected=collection.buffered(),
            detail=self._progress.get(collection.document.uid, fit.failed),
            version=None if fitted is None else fitted.id,
            code=None if fitted is None else str(fitted.spec),
            recall_at_10=metrics.get("recall_at_10"),
            queries=metrics.get("queries"),
        )

    def look(self, collection: Collection) -> None:
        """Start what is due for a collection, unless it is under way. Called after writes, so it must cost nothing."""
        if collection.document.fit is None or collection.closed or not collection.ready:
            return
        if self._registry.collections.get(collection.name) is not collection:
            return  # it was deleted while the write went on
        uid = collection.document.uid
        if uid not in self._tasks and self.state(collection) in (FitState.FITTING, FitState.CONVERTING):
            self._abandoned[uid] = threading.Event()
            self._tasks[uid] = asyncio.create_task(self._run(collection))

    async def ask(self, collection: Collection, size_bytes: int | None, sample: int | None, now: bool) -> None:
        """Collect embeddings for a new binarizer from now on, or, with `now`, fit to those that are buffered.

        Raises Conflict while a fit is under way or when too few are buffered, InvalidOption.
        """
        async with self._registry.lock:
            document = collection.document
            if (state := self.state(collection)) in (FitState.FITTING, FitState.CONVERTING):
                raise Conflict(f"a fit of '{collection.name}' is {state} already; wait until it is done", state=state)
            backfill = document.upgrades.backfill
            if backfill is not None and backfill.state == "running":
                raise Conflict(f"backfill {backfill.job} of '{collection.name}' is running; pause it", job=backfill.job)
            plan = self._plan(collection, size_bytes, sample, now)
            buffered = document.buffered
            if buffered is None or buffered.model_fingerprint != document.active_version.model_fingerprint:
                self._check_versions(document, 2)
                buffered = self._new_buffered(collection)
            self._check_versions(document, 1)
            if buffered.number == len(document.versions):
                document = replace(document, versions=(*document.versions, buffered))
            await self._registry.replace(collection, replace(document, active=buffered.number, fit=plan))
        self.look(collection)

    async def drop(self, collection: Collection) -> None:
        """Stop what is under way for a collection that is about to be closed."""
        uid = collection.document.uid
        if (task := self._tasks.get(uid)) is not None:
            self._abandoned[uid].set()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def stop(self) -> None:
        """Stop everything; the next start goes on with it."""
        for event in self._abandoned.values():
            event.set()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _plan(self, collection: Collection, size_bytes: int | None, sample: int | None, now: bool) -> FitPlan:
        dims = collection.encoders.dims(collection.active)
        if dims is None:
            raise InvalidOption(
                f"collection '{collection.name}' holds codes of your own, which no binarizer can be fitted to", key=None
            )
        before, active = collection.document.fit, collection.active
        if size_bytes is None:
            size_bytes = before.bytes if before is not None else active.spec.code_size_bytes
        if not now:
            sample = sample if sample is not None or before is None else before.sample
            return make_plan(size_bytes, sample, dims, self._limits)
        if sample is not None:
            raise InvalidOption("'sample' does not apply with 'now', which takes what there is", key="sample")
        collected, least = collection.buffered(), least_rows(dims)
        if collected < least:
            raise Conflict(
                f"a fit to embeddings of {dims} dims needs at least {least}, and {collected} are buffered; write more "
                "points, or the same ones again",
                collected=collected,
                needed=least,
            )
        return replace(make_plan(size_bytes, before.sample if before else None, dims, self._limits), due=True)

    def _new_buffered(self, collection: Collection) -> Version:
        active, number = collection.active, len(collection.document.versions)
        codec = collection.codec(active)
        buffered = Version.buffered(number, codec.embedding_dims, active.model, active.model_fingerprint)
        collection.encoders.add(number, Int8Binarizer(codec.embedding_dims))
        collection.shards.add_version(number, buffered.spec)
        return buffered

    def _check_versions(self, document: CollectionDocument, more: int) -> None:
        after = len(document.versions) + more
        if after > self._limits.max_versions:
            raise InvalidOption(
                f"the collection would have {after} code versions, and the limit is {self._limits.max_versions}; raise "
                "max_versions, or write the points into a new collection",
                key="max_versions",
            )

    async def _run(self, collection: Collection) -> None:
        uid, name = collection.document.uid, collection.name
        try:
            while not collection.closed:
                state = self.state(collection)
                try:
                    if state is FitState.FITTING:
                        await self._fit(collection)
                    elif state is FitState.CONVERTING:
                        await self._convert(collection)
                    else:
                        return
                except (Unavailable, OSError) as error:
                    log.warning("the fit of collection %s waits: %s", name, error)
                    await asyncio.sleep(RETRY_SECONDS)
                except Exception as error:
                    log.exception("the fit of collection %s failed while %s", name, state)
                    if state is FitState.FITTING:
                        await self._fail(collection, error)
                    else:
                        await asyncio.sleep(RETRY_SECONDS)
        finally:
            del self._tasks[uid], self._abandoned[uid]

    async def _fit(self, collection: Collection) -> None:
        self._guard.check()
        plan = collection.document.fit
        assert plan is not None
        uid = collection.document.uid
        self._progress[uid] = "waiting for another fit"
        try:
            async with self._one_at_a_time:
                self._progress[uid] = "reading the embeddings"
                records = await self._sample(collection, self._limits.max_fit_sample if plan.due else plan.sample)
                log.info("fitting %d bytes to %d points of collection %s", plan.bytes, len(records), collection.name)
                compute = self._compute(collection, records, plan.bytes, self._abandoned[uid])
                files, metrics = await asyncio.wrap_future(compute)
            if collection.document.fit == plan:  # else it was changed in the moment when this began
                await self._switch(collection, files, metrics)
        finally:
            del self._progress[uid]

    def _compute(
        self, collection: Collection, records: NDArray[np.uint8], size_bytes: int, abandoned: threading.Event
    ) -> "Future[tuple[BinarizerFiles, dict[str, Any]]]":
        """Fit in a thread of its own that the end of the process does not wait for; it may take two minutes."""
        codec, uid = collection.codec(collection.active), collection.document.uid
        future: Future[tuple[BinarizerFiles, dict[str, Any]]] = Future()
        future.set_running_or_notify_cancel()

        def progress(done: int, total: int, label: str) -> None:
            if abandoned.is_set():
                raise asyncio.CancelledError
            self._progress[uid] = f"{done} of {total}: {label}"

        def run() -> None:
            try:
                future.set_result(fit_own(codec.decode(records), size_bytes, progress))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, name="fit", daemon=True).start()
        return future

    async def _sample(self, collection: Collection, count: int) -> NDArray[np.uint8]:
        """Up to `count` buffered records (rows, record_size_bytes) uint8, any of them alike."""
        number = collection.active.number
        ids: list[str] = []
        for shard in range(collection.document.shards):
            ids += await collection.shards.version_ids(shard, number, None)
        if len(ids) > count:
            chosen = np.random.default_rng(0).choice(len(ids), count, replace=False)
            ids = [ids[place] for place in np.sort(chosen).tolist()]
        records: list[bytes] = []
        for start in range(0, len(ids), READ_PAGE):
            points = await collection.fetch(ids[start : start + READ_PAGE], metadata=False, records=True)
            records += [point.record for point in points.values() if point.version == number]
        size = collection.active.spec.record_size_bytes
        return np.frombuffer(b"".join(records), np.uint8).reshape(len(records), size)

    async def _switch(self, collection: Collection, files: BinarizerFiles, metrics: dict[str, Any]) -> None:
        """Keep the binarizer, then make it that of the active version."""
        document, buffered = collection.document, collection.active
        dims, bundle_id = collection.codec(buffered).embedding_dims, next_bundle_id(collection.name, document)
        bundle = await self._again(lambda: self._fitted_bundles.keep(bundle_id, dims, files, metrics))
        codec = await asyncio.to_thread(self._encoders.get, bundle.id, bundle.fingerprint)
        number = len(document.versions)
        version = Version.fitted(number, bundle, buffered, metrics)
        collection.encoders.add(number, codec)
        collection.shards.add_version(number, version.spec)

        def switched(document: CollectionDocument) -> CollectionDocument:
            plan = None if document.fit is None else replace(document.fit, due=False, failed=None)
            return replace(document, versions=(*document.versions, version), active=number, fit=plan)

        await self._again(lambda: self._registry.update(collection, switched))
        log.info("collection %s has a fitted binarizer %s (%s): %s", collection.name, bundle.id, bundle.spec, metrics)

    async def _convert(self, collection: Collection) -> None:
        """Re-encode what is buffered. Points that are written or deleted meanwhile stay as they are."""
        for buffered in [v for v in collection.document.versions if v.kind is VersionKind.BUFFERED]:
            same_model = [v for v in collection.document.coded if v.model_fingerprint == buffered.model_fingerprint]
            if same_model and buffered.number != collection.active.number:
                await self._convert_version(collection, buffered, same_model[-1])

    async def _convert_version(self, collection: Collection, buffered: Version, target: Version) -> None:
        encode = _converter(collection.codec(buffered), collection.codec(target))
        log.info("re-encoding %d points of collection %s to %s", collection.buffered(), collection.name, target.id)
        for number in range(collection.document.shards):
            while ids := await collection.shards.version_ids(number, buffered.number, PAGE):
                self._guard.check()
                await collection.shards.wait_for_capacity(number)
                change = Reencode(ids, buffered.number, target.number, encode)
                committed = await collection.shards.write(number, change)
                if not any(committed.applied):
                    await asyncio.sleep(RETRY_SECONDS)  # the index is behind the store, and catches up

    async def _fail(self, collection: Collection, error: Exception) -> None:
        """Keep why it failed, until somebody asks again."""
        detail = error.detail if isinstance(error, BebrError) else f"{type(error).__name__}: {error}"

        def failed(document: CollectionDocument) -> CollectionDocument:
            plan = None if document.fit is None else replace(document.fit, due=False, failed=detail)
            return replace(document, fit=plan)

        await self._again(lambda: self._registry.update(collection, failed))

    async def _again(self, do: Callable[[], Awaitable[Result]]) -> Result:
        """Until it succeeds: a fit is too dear to be thrown away because the store is away for a moment."""
        while True:
            try:
                return await do()
            except (Unavailable, OSError) as error:
                log.warning("a fit cannot be saved: %s; trying again", error)
                await asyncio.sleep(RETRY_SECONDS)


def _converter(buffered: Codec, codec: Codec) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    return lambda records: codec.encode(buffered.decode(records))
