"""Builds the parts of an engine, each with those that it needs. What the engine does with them is in `engine.py`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bebr.config import Limits
from bebr.core.types import Role
from bebr.encoding import BundleRegistry
from bebr.encoding.onnx.providers import choose_device
from bebr.encoding.quantization.products import ToldProducts
from bebr.engine.admission import Admission
from bebr.engine.capacity import CapacityGuard
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.encoders import Encoders
from bebr.engine.collections.registry import CollectionRegistry
from bebr.engine.embedder import Embedder
from bebr.engine.events import CollectionEvents
from bebr.engine.following import Following
from bebr.engine.leaves.holding import Holding, LeafOptions
from bebr.engine.life import Life, Work
from bebr.engine.loader import CollectionLoader
from bebr.engine.making import CollectionMaker
from bebr.engine.scrub import scrub_for_ever
from bebr.engine.search.coverage import CoverageChecks
from bebr.engine.search.list_measuring import ListMeasuring
from bebr.engine.search.searchers import Searchers
from bebr.engine.texts import TextQueues
from bebr.engine.threads import Threads
from bebr.engine.transfer import Transfer
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
from bebr.store import MetadataStore


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine works, beside its limits."""

    search_threads: int
    """Scan for one search, at most."""
    encoder_threads: int
    """Embed and encode."""
    head_rows: int
    """Rows of a growing segment."""
    onnx_providers: Sequence[str] = ("cpu",)
    """What embeds texts, the first that is there."""
    batching: bool = True
    """Gather what arrives together, or while others run."""
    role: Role = Role.PRIMARY
    """A follower changes nothing, in the store or in the folder; it answers reads and searches."""
    shares: bool = False
    """Followers use the folder of this primary, and are told what it has acknowledged."""
    told_folder: Path | None = None
    """Where the primary tells followers what each would have to find out by itself; None: nobody does."""
    joins: bool = False
    """Other services write to the store too, each with a folder of its own."""
    leaf: LeafOptions | None = None
    """It is one that holds shards for gateways, and joins."""


class Parts:
    """The parts of one engine, in the order in which they need each other."""

    def __init__(
        self, store: MetadataStore, bundles: BundleRegistry, folder: Path, limits: Limits, options: EngineOptions
    ) -> None:
        """folder: where the data is."""
        self.store, self.bundles, self.limits = store, bundles, limits
        self._folder, self._options = folder, options
        self.threads = Threads(options.search_threads, options.encoder_threads)
        self.admission = Admission(limits)
        self.events = CollectionEvents()
        self.guard = CapacityGuard(folder, limits.min_free_disk_bytes, limits.memory_bytes)
        self.registry = CollectionRegistry(store, limits, options.role)
        told = None if options.told_folder is None else ToldProducts(options.told_folder, options.role)
        device, encodes = choose_device(options.onnx_providers), options.role is Role.PRIMARY
        self._encoders = Encoders(bundles, options.encoder_threads, device, told, encodes=encodes)
        self._fitted_bundles = FittedBundles(store, bundles)
        self._calibrations = Calibrations(store)
        self._texts = TextQueues(self.admission, limits, self.threads, batching=options.batching)
        self._background = Encoding(self._texts, self.admission.background, self.threads.encoding)
        self._build_search()
        self._build_writes()
        self._build_collections()
        self._build_versions()
        self.holding = None if options.leaf is None else Holding(self.registry, store, options.leaf)
        """What this process holds as a leaf."""
        self.life = self._make_life()

    def _build_search(self) -> None:
        limits, admission = self.limits, self.admission
        self._checks = CoverageChecks(
            admission.search_requests,
            self.threads.checks,
            one_in=limits.coverage_one_in,
            cpu_percent=limits.coverage_cpu_percent,
        )
        self.list_measuring = ListMeasuring(self.registry, admission.search_requests)
        self.searchers = Searchers(limits, admission, self._texts, self._checks, batching=self._options.batching)
        self.embedder = Embedder(self.bundles, self._encoders, limits, self._texts, admission.embeddings)

    def _build_writes(self) -> None:
        admission = self.admission
        self.field_changes = FieldChanges(self.registry, self.events, self.limits)
        self.writer = PointWriter(
            self.limits,
            self.guard,
            admission.writes,
            Encoding(self._texts, admission.written_texts, self.threads.encoding),
            self._background,
            self.field_changes,
            after_write=self.events.changed,
        )

    def _build_collections(self) -> None:
        options = self._options
        self._loader = self._make_loader()
        self.following: Following | None = None
        if options.role is Role.FOLLOWER or options.joins:
            self.following = Following(self.registry, self._loader, self.store, self.searchers, self._folder)
        if options.joins and self.following is not None:
            self.registry.refresh = self.following.refresh
        self.maker = CollectionMaker(
            self.registry,
            self.bundles,
            loader=self._loader,
            events=self.events,
            searchers=self.searchers,
            guard=self.guard,
            limits=self.limits,
        )
        self.transfer = Transfer(
            self.registry,
            self.bundles,
            fitted_bundles=self._fitted_bundles,
            calibrations=self._calibrations,
            loader=self._loader,
            writer=self.writer,
            guard=self.guard,
            limits=self.limits,
        )

    def _build_versions(self) -> None:
        registry, limits, guard = self.registry, self.limits, self.guard
        self._progress = FitProgress(self._folder, self._options.role, self._options.shares)
        self.fits = Fits(registry, self.events, limits, self._progress)
        self.fit_steps = FitSteps(registry, self._fitted_bundles, self._encoders, limits=limits, guard=guard)
        self.backfills = Backfills(registry, self.fits, limits=limits, guard=guard, encoding=self._background)
        self.lists = Lists(limits, self.threads.background)
        self.evaluator = Evaluator(
            registry, self._calibrations, limits, self.threads.encoding, self._texts, self.admission.background
        )
        self.versions = Versions(
            registry,
            self._encoders,
            self.fits,
            calibrations=self._calibrations,
            events=self.events,
            limits=limits,
        )

    def _make_loader(self) -> CollectionLoader:
        return CollectionLoader(
            registry=self.registry,
            store=self.store,
            encoders=self._encoders,
            fitted_bundles=self._fitted_bundles,
            calibrations=self._calibrations,
            events=self.events,
            folder=self._folder,
            head_rows=self._options.head_rows,
            lists_from_points=self.limits.lists_from_points,
            map_from_bytes=self.limits.map_from_bytes,
            max_queue=self.limits.max_queue,
            threads=self.threads.of_shards,
            shares=self._options.shares,
            read_wait_seconds=self.limits.read_wait_seconds,
            is_leaf=self._options.leaf is not None,
        )

    def _wake_leaf(self, collection: Collection) -> None:
        if self.holding is not None:
            self.holding.wake()

    def _make_life(self) -> Life:
        load: Work = self._loader.load_all
        beside: list[Work] = [self._loader.retry_failed]
        if self.following is not None:
            load = self.following.load
            beside.append(self.following.run_for_ever)
        if self.registry.role is Role.PRIMARY:
            scrub = partial(scrub_for_ever, self.registry, self.limits.scrub_bytes_per_s)
            beside.append(scrub)
        if self.holding is not None:
            beside.append(self.holding.run_for_ever)
            self.events.on_change = self._wake_leaf
        else:
            beside.append(self._checks.run_for_ever)
        if self.holding is None and self.registry.role is Role.PRIMARY:
            beside.append(self.list_measuring.run_for_ever)
        return Life(
            self.store,
            self._folder,
            self.registry,
            self.threads,
            load=load,
            beside=beside,
            following=self.following,
            shared=self._progress if self._options.shares else None,
            holding=self.holding,
        )
