"""The use cases of the service, one method each. Nothing here knows HTTP; the work is done by the modules beside it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.config import Limits
from bebr.core.types import FieldType, Role, WriteMode
from bebr.encoding import Bundle, BundleRegistry, TextKind
from bebr.encoding.onnx.providers import choose_device
from bebr.engine.admission import Admission
from bebr.engine.answers import AnswerSize
from bebr.engine.capacity import CapacityGuard
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.encoders import Encoders
from bebr.engine.collections.registry import CollectionRegistry, check_recall
from bebr.engine.embedder import Embedder
from bebr.engine.events import CollectionEvents
from bebr.engine.following import Following
from bebr.engine.life import Life, Work
from bebr.engine.loader import CollectionLoader
from bebr.engine.making import CollectionMaker
from bebr.engine.projection import Wanted
from bebr.engine.requests import AliasChange, CollectionSettings, SearchRequest
from bebr.engine.results import (
    Changed,
    CollectionStatus,
    Embedded,
    Page,
    Point,
    Readiness,
    SearchResult,
    WriteReport,
)
from bebr.engine.scrub import scrub_for_ever
from bebr.engine.search import scroll as reading
from bebr.engine.search.coverage import CoverageChecks
from bebr.engine.search.list_measuring import ListMeasuring
from bebr.engine.search.reach import latest, reach
from bebr.engine.search.searchers import Searchers
from bebr.engine.texts import TextQueues
from bebr.engine.threads import Threads
from bebr.engine.transfer import Definition, Transfer
from bebr.engine.versions.backfill import Backfills
from bebr.engine.versions.calibration import Calibrations
from bebr.engine.versions.evaluation import Evaluator
from bebr.engine.versions.fit_progress import FitProgress
from bebr.engine.versions.fit_steps import FitSteps
from bebr.engine.versions.fits import Fits
from bebr.engine.versions.fitted_bundles import FittedBundles
from bebr.engine.versions.lists import Lists
from bebr.engine.versions.versions import Versions
from bebr.engine.write.encode import Encoding
from bebr.engine.write.fields import FieldChanges
from bebr.engine.write.points import PointWriter
from bebr.errors import DamagedCollection, InvalidOption
from bebr.store import MetadataStore


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
        onnx_providers: Sequence[str] = ("cpu",),
        head_rows: int,
        batching: bool = True,
        role: Role = Role.PRIMARY,
        shares: bool = False,
        joins: bool = False,
    ) -> None:
        """role: a follower changes nothing, in the store or in the folder; it answers reads and searches. shares:
        followers use the folder of this primary, and are told what it has acknowledged. joins: other services write to
        the store too, each with a folder of its own."""
        self.limits = limits
        self._store = self.store = store
        self._bundles = bundles
        self._folder = data_folder
        self._threads = threads = Threads(search_threads, encoder_threads)
        self.admission = admission = Admission(limits)
        """Decides whether work may start."""
        texts = TextQueues(admission, limits, threads, batching=batching)
        background = Encoding(texts, admission.background, threads.encoding)
        self._guard = CapacityGuard(data_folder, limits.min_free_disk_bytes, limits.memory_bytes)
        self._encoders = Encoders(bundles, encoder_threads, choose_device(onnx_providers))
        self._fitted_bundles = FittedBundles(store, bundles)
        self._calibrations = Calibrations(store)
        self.events = CollectionEvents()
        """What happens to collections; the jobs listen."""
        self.registry = CollectionRegistry(store, limits, role)
        """The open collections."""
        self._checks = CoverageChecks(
            admission.search_requests,
            threads.checks,
            one_in=limits.coverage_one_in,
            cpu_percent=limits.coverage_cpu_percent,
        )
        self.list_measuring = ListMeasuring(self.registry, admission.search_requests)
        self.searchers = Searchers(limits, admission, texts, self._checks, batching=batching)
        self._embedder = Embedder(bundles, self._encoders, limits, texts, admission.embeddings)
        encoding = Encoding(texts, admission.written_texts, threads.encoding)
        self.field_changes = FieldChanges(self.registry, self.events, limits)
        """Changes filterable fields."""
        self._writer = PointWriter(
            limits,
            self._guard,
            admission.writes,
            encoding,
            background,
            self.field_changes,
            after_write=self.events.changed,
        )
        self._loader = self._make_loader(head_rows, shares)
        self._following: Following | None = None
        if role is Role.FOLLOWER or joins:
            self._following = Following(self.registry, self._loader, store, self.searchers, data_folder)
        if joins and self._following is not None:
            self.registry.refresh = self._following.refresh
        self._maker = self._make_maker()
        progress = FitProgress(data_folder, role, shares)
        self._life = self._make_life(data_folder, progress if shares else None)
        self.fits = Fits(self.registry, self.events, limits, progress)
        """State of fits, and requests for them."""
        self.fit_steps = FitSteps(self.registry, self._fitted_bundles, self._encoders, limits=limits, guard=self._guard)
        """What a fit job does."""
        self.backfills = Backfills(self.registry, self.fits, limits=limits, guard=self._guard, encoding=background)
        """What a backfill job does."""
        self.lists = Lists(limits, threads.background)
        """Makes the lists of codes."""
        self.evaluator = Evaluator(
            self.registry, self._calibrations, limits, threads.encoding, texts, admission.background
        )
        """Evaluates a version before it is promoted."""
        self.versions = self._make_versions()
        """The use cases of code versions."""
        self.transfer = self._make_transfer(bundles)
        """Takes whole collections from one service to another."""

    async def start(self) -> None:
        """Open the store and load the collections in the background; `ready` tells when they are there."""
        await self._life.start()

    async def wait_until_ready(self) -> None:
        """Return when all collections that can be opened answer; raise what went wrong while loading."""
        await self._life.wait_until_loaded()

    async def stop(self) -> None:
        """Finish what is under way and write checkpoints, so that the next start replays little. Jobs stop before."""
        await self._life.stop()

    async def keep_up(self, name: str | None = None) -> None:
        """In a follower: return once the collection of that name, or all of them, are what the primary had when it
        answered last. Raises NotReady where that takes too long, StoreUnavailable."""
        if self._following is not None:
            await self._following.keep_up(name)

    def readiness(self) -> Readiness:
        """Whether every collection that can be opened is caught up with the store; if not, why."""
        return self._life.readiness()

    def writes_refused_because(self) -> str | None:
        """Why writes that need room are refused now: 'disk' or 'memory' is low."""
        problem = self._guard.problem()
        return None if problem is None else "disk" if "free" in problem.fields else "memory"

    async def ping_store(self) -> None:
        """Raises StoreUnavailable when the store does not answer."""
        await self._store.ping()

    def list_bundles(self) -> list[Bundle]:
        return self._bundles.list()

    async def create_collection(self, name: str, settings: CollectionSettings) -> CollectionStatus:
        """Raises AlreadyExists, BundleNotFound, DamagedBundle, InvalidOption, InvalidSpec."""
        return self._status(await self._maker.create(name, settings))

    async def set_recall(self, name: str, recall: float | None) -> CollectionStatus:
        """Change which share of the exact hits searches find; None: all are exact. Raises InvalidOption."""
        check_recall(recall)
        collection = self.registry.get_to_change(name)
        await self.registry.update(collection, lambda document: replace(document, recall=recall))
        return self._status(collection)

    async def change_fields(
        self, name: str, fields: Mapping[str, FieldType | None], auto: bool | None = None
    ) -> str | None:
        """Change filterable fields -> id of the job that makes their columns; None where nothing is left to do.

        None in the place of a type drops the field. auto: whether new keys of metadata become filterable by themselves
        from now on; None: as before. Raises InvalidOption.
        """
        return await asyncio.shield(self.field_changes.begin(self.registry.get_to_change(name), fields, auto))

    async def import_collection(self, name: str, definition: Definition, import_id: str | None) -> CollectionStatus:
        """A collection without points, as `transfer.create` makes it. One that another import left by half is replaced
        by that of an import with an id."""
        found = self.registry.collections.get(name)
        if import_id is not None and found is not None and found.document.partial:
            await self.delete_collection(name)
        return self._status(await self.transfer.create(name, definition, import_id))

    async def delete_collection(self, name: str) -> None:
        """Forget a collection, its points, its segments and the aliases that point to it."""
        await self._maker.delete(name)

    def list_collections(self) -> list[CollectionStatus]:
        """Also those that are still loading, or damaged. Raises NotReady before it is known which there are."""
        found = [self._status(collection) for collection in self.registry.all()]
        return sorted(found + [entry.status() for entry in self.registry.damaged.values()], key=lambda s: s.name)

    async def describe_collection(self, name: str) -> CollectionStatus:
        await self.keep_up(name)
        try:
            collection = self.registry.find(name)
            await reach(collection)
            return self._status(collection)
        except DamagedCollection:
            return self.registry.damaged[self.registry.aliases.get(name, name)].status()

    def list_aliases(self) -> dict[str, str]:
        return self.registry.all_aliases()

    async def change_aliases(self, changes: Sequence[AliasChange]) -> None:
        """All of them, in order, or none."""
        self.registry.check_changes()
        self.registry.check_ready()
        await self.registry.change_aliases(changes)

    async def write_points(
        self,
        name: str,
        points: Sequence[object],
        mode: WriteMode,
        idempotency_key: str | None = None,
        version: str | None = None,
        made_for: str | None = None,
        background: bool = False,
    ) -> WriteReport:
        """Check, encode and store points given as JSON values; those that are wrong are named in the report.

        What the report calls applied is durable and visible to the next search. version: the version that
        the caller's points are of; Incompatible where another is active. made_for: the same for vectors and codes, one
        by one. background: for a job, which waits for everybody else.
        """
        collection = self.registry.get_to_change(name)
        return await self._writer.write_points(
            collection,
            points,
            mode=mode,
            idempotency_key=idempotency_key,
            declared=version,
            made_for=made_for,
            background=background,
        )

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
        collection = self.registry.get_to_change(name)
        return await self._writer.write_vectors(
            collection, ids, vectors, metadata, mode=mode, idempotency_key=idempotency_key, declared=version
        )

    async def backfill_vectors(
        self, name: str, version_id: str, ids: Sequence[object], vectors: NDArray[np.float32]
    ) -> WriteReport:
        """Give points that exist codes of these vectors (n, dims) float32 of a version, which must be the active one.

        Their metadata stays.
        """
        return await self._writer.replace_codes(self.registry.get_to_change(name), ids, vectors, version_id)

    async def delete_points(
        self, name: str, ids: list[str] | None = None, filter: object = None, dry_run: bool = False
    ) -> Changed:
        """Delete by ids or by filter. dry_run: only count."""
        return await self._writer.delete_points(self.registry.get_to_change(name), ids, filter, dry_run)

    async def set_metadata(self, name: str, ids: list[str] | None, filter: object, changes: dict[str, Any]) -> Changed:
        """Set some metadata keys of points chosen by ids or filter; null removes a key."""
        return await self._writer.set_metadata(self.registry.get_to_change(name), ids, filter, changes)

    async def get_points(
        self, name: str, ids: list[str], with_metadata: Wanted = True, with_code: bool = False
    ) -> tuple[list[Point], list[str]]:
        """-> (points in the order requested, ids that do not exist). Raises AnswerTooLarge."""
        self._check_limit(len(ids), "ids")
        await self.keep_up(name)
        size = AnswerSize(self.limits.max_answer_bytes)
        return await reading.get_points(self.registry.get(name), ids, with_metadata, with_code, size)

    async def scroll(
        self,
        name: str,
        filter: object,
        limit: int,
        cursor: str | None,
        with_metadata: Wanted = True,
        min_seq: Mapping[int, int] | None = None,
        strong: bool = False,
    ) -> Page:
        """A page of points by ascending id, and the cursor of the next; it ends early where it is large."""
        self._check_limit(limit, "limit")
        await self.keep_up(name)
        collection = self.registry.get(name)
        await reach(collection, min_seq, strong)
        condition = collection.parse_filter(filter, self.limits.max_filter_size)
        size = AnswerSize(self.limits.max_answer_bytes)
        return await reading.scroll(collection, condition, limit, cursor, with_metadata, size)

    async def count(
        self, name: str, filter: object, min_seq: Mapping[int, int] | None = None, strong: bool = False
    ) -> int:
        """Points for which the filter holds; None: all."""
        await self.keep_up(name)
        collection = self.registry.get(name)
        await reach(collection, min_seq, strong)
        return await collection.shards.count(collection.parse_filter(filter, self.limits.max_filter_size))

    async def search(self, name: str, requests: Sequence[SearchRequest]) -> list[SearchResult]:
        """One result per request; all are scanned together."""
        if self._following is not None:
            await self._following.keep_up(name)
        collection = self.registry.get(name)
        if not 1 <= len(requests) <= self.limits.max_batch_searches:
            raise InvalidOption(
                f"a batch has 1 to {self.limits.max_batch_searches} searches, got {len(requests)}", key="searches"
            )
        if collection.shards.behind() or any(one.min_seq is not None or one.strong for one in requests):
            await reach(collection, latest([one.min_seq for one in requests]), any(one.strong for one in requests))
        return await self.searchers.of(collection).search(requests)

    def list_models(self) -> list[Bundle]:
        """The bundles with an embedding model."""
        return self._embedder.list_models()

    def find_model(self, model: str) -> Bundle:
        """The bundle that `embed` uses for this name. Raises BundleNotFound."""
        return self._embedder.find_model(model)

    async def embed(
        self,
        model: str | None,
        texts: Sequence[str],
        kind: TextKind,
        with_codes: bool = False,
        bytes_per_value: float = 0.0,
    ) -> Embedded:
        """Texts as embeddings by the model of a bundle, and as its codes where those are requested.

        model None: the only bundle with an embedding model; InvalidOption where there are none or several.
        bytes_per_value: what a number of an embedding takes in the answer; AnswerTooLarge where they are too many.
        """
        self._check_limit(len(texts), "input")
        return await self._embedder.embed(model, texts, kind, with_codes, bytes_per_value)

    def _make_versions(self) -> Versions:
        return Versions(
            self.registry,
            self._encoders,
            self.fits,
            calibrations=self._calibrations,
            events=self.events,
            limits=self.limits,
        )

    def _make_transfer(self, bundles: BundleRegistry) -> Transfer:
        return Transfer(
            self.registry,
            self._store,
            bundles,
            fitted_bundles=self._fitted_bundles,
            calibrations=self._calibrations,
            loader=self._loader,
            writer=self._writer,
            guard=self._guard,
            limits=self.limits,
        )

    def _make_maker(self) -> CollectionMaker:
        return CollectionMaker(
            self.registry,
            self._store,
            self._bundles,
            loader=self._loader,
            events=self.events,
            searchers=self.searchers,
            guard=self._guard,
            limits=self.limits,
        )

    def _make_life(self, folder: Path, shared: FitProgress | None) -> Life:
        load: Work = self._loader.load_all
        beside: list[Work] = [self._loader.retry_failed, self._checks.run_for_ever]
        if self._following is not None:
            load = self._following.load
            beside.append(self._following.run_for_ever)
        if self.registry.role is Role.PRIMARY:
            scrub = partial(scrub_for_ever, self.registry, self.limits.scrub_bytes_per_s)
            beside += [self.list_measuring.run_for_ever, scrub]
        return Life(
            self._store,
            folder,
            self.registry,
            self._threads,
            load=load,
            beside=beside,
            following=self._following,
            shared=shared,
        )

    def _make_loader(self, head_rows: int, shares: bool) -> CollectionLoader:
        return CollectionLoader(
            registry=self.registry,
            store=self._store,
            encoders=self._encoders,
            fitted_bundles=self._fitted_bundles,
            calibrations=self._calibrations,
            events=self.events,
            folder=self._folder,
            head_rows=head_rows,
            lists_from_points=self.limits.lists_from_points,
            map_from_bytes=self.limits.map_from_bytes,
            max_queue=self.limits.max_queue,
            threads=self._threads.of_shards,
            shares=shares,
            read_wait_seconds=self.limits.read_wait_seconds,
        )

    def _status(self, collection: Collection) -> CollectionStatus:
        return collection.status(self.fits.status(collection))

    def _check_limit(self, count: int, key: str) -> None:
        if not 1 <= count <= self.limits.max_limit:
            raise InvalidOption(f"'{key}' must be 1 to {self.limits.max_limit}, got {count}", key=key)
