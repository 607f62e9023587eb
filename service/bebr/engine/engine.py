"""The use cases of the service, one method each. Nothing here knows HTTP; the work is done by the modules beside it."""

import asyncio
import logging
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.coalescer import Coalescer
from bebr.config import Limits
from bebr.core.types import WriteMode
from bebr.encoding import Bundle, BundleRegistry, TextKind
from bebr.engine.capacity import RoomGuard
from bebr.engine.collections.collection import Collection, collection_folder
from bebr.engine.collections.encoders import Encoders
from bebr.engine.collections.registry import CollectionRegistry
from bebr.engine.collections.schema import CollectionDocument
from bebr.engine.collections.version import Version
from bebr.engine.inputs import check_text
from bebr.engine.projection import Wanted
from bebr.engine.requests import AliasChange, CollectionSettings, SearchRequest
from bebr.engine.results import (
    Changed,
    CollectionStatus,
    Embedded,
    FitStatus,
    Page,
    Point,
    Readiness,
    SearchResult,
    WriteReport,
)
from bebr.engine.search import scroll as reading
from bebr.engine.search.search import Searcher, Texts
from bebr.engine.versions.backfills import Backfills
from bebr.engine.versions.calibration import Calibrations
from bebr.engine.versions.evaluation import Evaluator
from bebr.engine.versions.first_version import first_version
from bebr.engine.versions.fits import Fits
from bebr.engine.versions.fitted_bundles import FittedBundles
from bebr.engine.versions.promotion import Versions
from bebr.engine.versions.upgrading import Upgrading
from bebr.engine.write.points import PointWriter
from bebr.errors import InvalidOption, NotReady, Unavailable
from bebr.shards import LocalShards, ShardThreads
from bebr.shards.memory import limit_arenas
from bebr.store import MetadataStore

log = logging.getLogger(__name__)
MAX_TEXTS_TOGETHER = 64
RETRY_SECONDS = 1.0
SCAN_COORDINATORS = 32
"""Threads that wait for shard scans; they do no work of their own."""


class Engine:
    """Everything the service can do. Start it before use; `ready` says when all collections answer."""

    def __init__(
        self,
        store: MetadataStore,
        bundles: BundleRegistry,
        data_folder: Path,
        limits: Limits,
        *,
        search_threads: int,
        encoder_threads: int,
        head_rows: int,
        batching: bool = True,
    ) -> None:
        self.limits = limits
        self._store = store
        self._bundles = bundles
        self._folder = data_folder
        self._head_rows = head_rows
        self._batching = batching
        self._registry = CollectionRegistry(store, limits)
        self._encoders = Encoders(bundles, encoder_threads)
        self._fitted_bundles = FittedBundles(store, bundles)
        self._text_queues: dict[str, Texts] = {}
        self._searchers: dict[str, Searcher] = {}
        self._guard = RoomGuard(data_folder, limits.min_free_disk_bytes, limits.memory_bytes)
        self._scanners = ThreadPoolExecutor(search_threads, "scan")
        self._coordinators = ThreadPoolExecutor(SCAN_COORDINATORS, "search")
        self._encoding = ThreadPoolExecutor(2, "encode")
        self._query_encoding = ThreadPoolExecutor(1, "encode-query")
        self._maintenance = ThreadPoolExecutor(1, "maintain")
        self._fits = Fits(self._registry, self._fitted_bundles, self._encoders, limits, self._guard)
        self._writer = PointWriter(limits, self._guard, self._encoding, self._fits.look)
        versions = Versions(self._registry, self._encoders, self._fits, limits)
        self._backfills = Backfills(self._registry, versions, self._fits, limits, self._guard, self._encoding)
        self._calibrations = Calibrations(store)
        evaluator = Evaluator(limits, self._encoding)
        self.upgrading = Upgrading(self, versions, evaluator, self._backfills, self._writer, self._calibrations)
        """The use cases of code versions."""
        self._loading: asyncio.Task[None] | None = None
        self._problem: str | None = "not started"
        self._knows_collections = False

    async def start(self) -> None:
        """Open the store and load the collections in the background; `ready` tells when they are there."""
        limit_arenas()
        self._folder.mkdir(parents=True, exist_ok=True)
        await self._store.open()
        self._problem = "loading"
        self._loading = asyncio.create_task(self._load())

    async def wait_until_ready(self) -> None:
        """Return when all collections answer; raise what went wrong while loading."""
        if self._loading is not None:
            await self._loading

    async def stop(self) -> None:
        """Finish what is under way and write checkpoints, so that the next start replays little."""
        self._problem = "stopping"
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        await self._fits.stop()
        await self._backfills.stop()
        for collection in list(self._registry.collections.values()):
            await collection.close(keep=True)
        # coordinators before the scanners that they hand work to
        for pool in (self._coordinators, self._scanners, self._encoding, self._query_encoding, self._maintenance):
            await asyncio.to_thread(pool.shutdown)
        await self._store.close()

    def readiness(self) -> Readiness:
        """Whether every collection is caught up with the store; if not, why."""
        loading = sorted(name for name, collection in self._registry.collections.items() if not collection.ready)
        return Readiness(self._problem is None and not loading, self._problem, loading)

    async def ping_store(self) -> None:
        """Raises StoreUnavailable when the store does not answer."""
        await self._store.ping()

    def list_bundles(self) -> list[Bundle]:
        return self._bundles.list()

    async def create_collection(self, name: str, settings: CollectionSettings) -> CollectionStatus:
        """Raises AlreadyExists, BundleNotFound, DamagedBundle, InvalidOption, InvalidSpec."""
        self._check_ready()
        self._guard.check()
        async with self._registry.lock:
            self._registry.check_new(name)
            version, plan = await asyncio.to_thread(first_version, settings, self._bundles, self.limits)
            document = self._registry.new_document(settings, version, plan)
            await self._store.create(document.uid, document.shards)
            collection = await asyncio.to_thread(self._open, name, document)
            await self._registry.save(name, document)
            collection.ready = True
            self._registry.collections[name] = collection
        return self._status(collection)

    async def delete_collection(self, name: str) -> None:
        """Forget a collection, its points, its segments and the aliases that point to it."""
        self._check_ready()
        async with self._registry.lock:
            collection = self._registry.get(name)
            if collection.name != name:
                raise InvalidOption(
                    f"'{name}' is an alias of '{collection.name}'; delete that, or the alias", key="name"
                )
            await self._registry.forget(name)
            await self._fits.drop(collection)  # from here on none can begin
            await self._backfills.drop(collection)
            self._searchers.pop(collection.document.uid, None)
            await collection.close(keep=False)
            await self._store.drop(collection.document.uid)
            folder = collection_folder(self._folder, collection.document.uid)
            await asyncio.to_thread(shutil.rmtree, folder, True)
            others = [other.document for other in self._registry.collections.values()]
            in_use = {version.fingerprint for document in others for version in document.versions}
            await self._calibrations.forget(collection)
            await self._fitted_bundles.forget(name, collection.document, in_use)
            await asyncio.to_thread(self._encoders.forget, collection.document)

    async def fit_collection(
        self, name: str, size_bytes: int | None = None, sample: int | None = None, now: bool = False
    ) -> tuple[str, FitStatus]:
        """Fit a new binarizer to the next `sample` embeddings of a collection, or now to those that are buffered.

        -> the collection's name, and how far its fit is. Existing points keep their codes; both are searched together.
        Raises Conflict, InvalidOption.
        """
        collection = self.collection(name)
        await self._fits.ask(collection, size_bytes, sample, now)
        fit = self._fits.status(collection)
        assert fit is not None, "a fit was asked for"
        return collection.name, fit

    def list_collections(self) -> list[CollectionStatus]:
        """Also those that are still loading. Raises NotReady before it is known which there are."""
        self._check_knows_collections()
        return [self._status(collection) for _, collection in sorted(self._registry.collections.items())]

    async def describe_collection(self, name: str) -> CollectionStatus:
        self._check_knows_collections()
        return self._status(self._registry.get(name))

    def collections(self) -> list[Collection]:
        """All of them. Raises NotReady before it is known which there are."""
        self._check_knows_collections()
        return list(self._registry.collections.values())

    def list_aliases(self) -> dict[str, str]:
        self._check_knows_collections()
        return dict(sorted(self._registry.aliases.items()))

    async def change_aliases(self, changes: Sequence[AliasChange]) -> None:
        """All of them, in order, or none."""
        self._check_ready()
        await self._registry.change_aliases(changes)

    async def write_points(
        self,
        name: str,
        points: Sequence[object],
        mode: WriteMode,
        idempotency_key: str | None = None,
        version: str | None = None,
        made_for: str | None = None,
    ) -> WriteReport:
        """Check, encode and store points given as JSON values; those that are wrong are named in the report.

        What the report calls applied is durable and visible to the next search. version: of which the caller takes the
        points to be; Incompatible where another is active. made_for: the same for vectors and codes, one by one.
        """
        collection = self.collection(name)
        return await self._writer.write_points(collection, points, mode, idempotency_key, version, made_for)

    async def write_vectors(
        self,
        name: str,
        ids: Sequence[object],
        vectors: NDArray[np.float32],
        metadata: Sequence[object] | None,
        mode: WriteMode,
        idempotency_key: str | None = None,
        version: str | None = None,
    ) -> WriteReport:
        """The fast path for many vectors (n, dims) float32. metadata None: empty objects. version: as above."""
        collection = self.collection(name)
        return await self._writer.write_vectors(collection, ids, vectors, metadata, mode, idempotency_key, version)

    async def delete_points(
        self, name: str, ids: list[str] | None = None, filter: object = None, dry_run: bool = False
    ) -> Changed:
        """Delete by ids or by filter. dry_run: only count."""
        return await self._writer.delete_points(self.collection(name), ids, filter, dry_run)

    async def set_metadata(self, name: str, ids: list[str] | None, filter: object, changes: dict[str, Any]) -> Changed:
        """Set some metadata keys of points chosen by ids or filter; null removes a key."""
        return await self._writer.set_metadata(self.collection(name), ids, filter, changes)

    async def get_points(
        self, name: str, ids: list[str], with_metadata: Wanted = True, with_code: bool = False
    ) -> tuple[list[Point], list[str]]:
        """-> (points in the order asked for, ids that do not exist)."""
        self._check_limit(len(ids), "ids")
        return await reading.get_points(self.collection(name), ids, with_metadata, with_code)

    async def scroll(
        self, name: str, filter: object, limit: int, cursor: str | None, with_metadata: Wanted = True
    ) -> Page:
        """A page of points by ascending id, and the cursor of the next."""
        self._check_limit(limit, "limit")
        return await reading.scroll(self.collection(name), filter, limit, cursor, with_metadata)

    async def count(self, name: str, filter: object) -> int:
        """Points for which the filter holds; None: all."""
        collection = self.collection(name)
        return await collection.shards.count(collection.parse_filter(filter))

    async def search(self, name: str, requests: list[SearchRequest]) -> list[SearchResult]:
        """One result per request; all are scanned together."""
        collection = self.collection(name)
        if not 1 <= len(requests) <= self.limits.max_batch_searches:
            raise InvalidOption(
                f"a batch has 1 to {self.limits.max_batch_searches} searches, got {len(requests)}", key="searches"
            )
        return await self._searcher(collection).search(requests)

    async def embed(
        self, model: str | None, texts: Sequence[str], kind: TextKind, with_codes: bool = False
    ) -> Embedded:
        """Texts as embeddings by the model of a bundle, and as its codes where those are asked for.

        model None: the only bundle with an embedding model; InvalidOption where there are none or several.
        """
        encoder = await asyncio.to_thread(self._encoders.get, model or self._only_text_bundle())
        self._check_limit(len(texts), "input")
        if not encoder.bundle.has_embedding_model:
            raise InvalidOption(
                f"bundle '{encoder.bundle.id}' has no embedding model, so it takes no text", key="model"
            )
        for number, text in enumerate(texts):
            check_text(text, True, self.limits.max_text_chars, f"input[{number}]")

        def work() -> Embedded:
            embeddings = encoder.embed(list(texts), kind)
            records = encoder.encode(embeddings) if with_codes else None
            return Embedded(encoder.bundle.id, embeddings, records, encoder.count_tokens(texts, kind))

        return await asyncio.get_running_loop().run_in_executor(self._encoding, work)

    def _status(self, collection: Collection) -> CollectionStatus:
        return collection.status(self._fits.status(collection))

    def _only_text_bundle(self) -> str:
        names = [bundle.id for bundle in self._bundles.list() if bundle.has_embedding_model]
        if len(names) != 1:
            raise InvalidOption(f"'model' must name a bundle; those that take text: {names or 'none'}", key="model")
        return names[0]

    def collection(self, name: str) -> Collection:
        """An open collection. Raises CollectionNotFound, NotReady."""
        self._check_ready()
        collection = self._registry.get(name)
        if not collection.ready:
            raise NotReady(f"collection '{name}' is still loading; try again later", collection=name)
        return collection

    def _check_ready(self) -> None:
        if self._problem is not None:
            raise NotReady(f"the service is not ready: {self._problem}")

    def _check_knows_collections(self) -> None:
        """A service that has not read its store yet must not say that something does not exist."""
        if not self._knows_collections:
            raise NotReady(f"the service is not ready: {self._problem}")

    def _check_limit(self, count: int, key: str) -> None:
        if not 1 <= count <= self.limits.max_limit:
            raise InvalidOption(f"'{key}' must be 1 to {self.limits.max_limit}, got {count}", key=key)

    def _searcher(self, collection: Collection) -> Searcher:
        uid = collection.document.uid
        if uid not in self._searchers:
            texts = partial(self._text_queue, collection)
            self._searchers[uid] = Searcher(collection, self.limits, texts, self._coordinators, self._batching)
        return self._searchers[uid]

    def _text_queue(self, collection: Collection, version: Version) -> Texts:
        """Query texts of one model, embedded together when they arrive together."""
        fingerprint, work = str(version.model_fingerprint), collection.encoders.embedder(version).embed

        async def embed(texts: list[str]) -> list[NDArray[np.float32]]:
            loop = asyncio.get_running_loop()
            return list(await loop.run_in_executor(self._query_encoding, work, texts, TextKind.QUERY))

        if fingerprint not in self._text_queues:
            together = MAX_TEXTS_TOGETHER if self._batching else 1
            queue = Coalescer(embed, what="query texts", max_batch=together, max_queue=self.limits.max_queue)
            self._text_queues[fingerprint] = queue
        return self._text_queues[fingerprint]

    async def _load(self) -> None:
        while self._problem is not None:
            try:
                await self._load_collections()
                self._problem = None
            except Unavailable as error:
                self._problem = f"waiting for the store: {error.detail}"
                log.warning("loading the collections: %s; trying again", error.detail)
                await asyncio.sleep(RETRY_SECONDS)
            except OSError as error:
                self._problem = f"waiting for the disk: {error}"
                log.warning("loading the collections: %s; trying again", error)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception as error:
                self._problem = f"{type(error).__name__}: {error}"
                log.exception("loading the collections failed")
                raise

    async def _load_collections(self) -> None:
        for name, document in (await self._registry.load_documents()).items():
            if name not in self._registry.collections:
                await self._fitted_bundles.restore(document)
                collection = await asyncio.to_thread(self._open, name, document)
                await self._calibrations.apply(collection)
                self._registry.collections[name] = collection
        self._knows_collections = True
        for collection in list(self._registry.collections.values()):
            await collection.catch_up()
            self._fits.look(collection)
            self._backfills.look(collection)

    def _open(self, name: str, document: CollectionDocument) -> Collection:
        encoders = self._encoders.open(document)
        specs = {version.number: version.spec for version in document.versions}
        folder = collection_folder(self._folder, document.uid)
        shards = LocalShards(
            self._store,
            document.uid,
            folder,
            name=name,
            shards=document.shards,
            specs=specs,
            fields=document.filterable,
            head_rows=self._head_rows,
            max_queue=self.limits.max_queue,
            threads=ShardThreads(self._scanners, self._coordinators, self._maintenance),
        )
        shards.open()
        return Collection(name, document, self._store, shards, encoders)
