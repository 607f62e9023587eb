"""The code versions of a collection: describe, attach another model, promote it, roll back, retire what is empty.

Each step is one document in the store, so it is either done or not, whenever the process ends. A search or a write uses
the version that was active when it began. Queries of both versions reach all codes (see `check_reach`), so a change in
between does no harm.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from bebr.config import Limits
from bebr.core.types import JobState
from bebr.encoding import AdapterKind
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.encoders import Encoders
from bebr.engine.collections.registry import CollectionRegistry
from bebr.engine.collections.schema import CollectionDocument
from bebr.engine.collections.upgrades import Evaluation, Promotion, Rollback, Upgrades, VersionEvent
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.events import CollectionEvents
from bebr.engine.statuses import FitState
from bebr.engine.versions.calibration import Calibrations
from bebr.engine.versions.fits import Fits
from bebr.engine.versions.gate import Gate, check_gate, gain_of
from bebr.engine.versions.reachability import check_adapter, check_reach, check_remaining_routes
from bebr.errors import AlreadyExists, Conflict

MAX_HISTORY = 50


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One code version of a collection."""

    id: str
    kind: VersionKind
    code: str
    """CodeSpec of its codes."""
    code_bytes: int
    """Bytes per code."""
    model: str | None
    """Id of the bundle whose embedding model makes its embeddings; None where the user brings them."""
    fingerprint: str | None
    """Fingerprint of the bundle that makes its codes."""
    active: bool
    retired: bool
    points: int
    """How many points have its codes."""


@dataclass(frozen=True, slots=True)
class VersionsStatus:
    """The code versions of a collection, and what became of them."""

    collection: str
    active: str
    """Id of the version that writes and queries use."""
    previous: str | None
    """Id of the version that a rollback makes active."""
    text_field: str | None
    """Metadata field from which points can be re-encoded."""
    versions: list[VersionStatus]
    """By number."""
    evaluations: Mapping[str, Evaluation]
    """The last one of each pair, by 'active -> version'."""
    history: list[VersionEvent]
    """Newest last."""
    backfill: str | None
    """Job of the last backfill."""


class Versions:
    """The use cases of code versions. Changes happen one at a time."""

    def __init__(
        self,
        registry: CollectionRegistry,
        encoders: Encoders,
        fits: Fits,
        *,
        calibrations: Calibrations,
        events: CollectionEvents,
        limits: Limits,
    ) -> None:
        self._registry = registry
        self._encoders = encoders
        self._fits = fits
        self._calibrations = calibrations
        self._events = events
        self._limits = limits

    def describe(self, name: str) -> VersionsStatus:
        """The code versions of a collection, what was measured, and what became active when."""
        return _status(self._registry.get(name))

    async def attach(self, name: str, bundle_id: str) -> VersionsStatus:
        """Add a bundle as one more version, which nothing uses yet.

        Raises BundleNotFound, AlreadyExists, Incompatible where its queries could not search existing codes.
        """
        collection = self._registry.get_to_change(name)
        # an older bundle of this id may have been loaded before
        bundle = await asyncio.to_thread(self._encoders.bundle, bundle_id)
        await asyncio.to_thread(self._encoders.get, bundle.id, bundle.fingerprint)  # takes seconds the first time

        async def attached() -> None:
            document = collection.document
            self._fits.check_quiet(collection)
            self._check_count(document)
            if document.version(bundle.id) is not None:
                raise AlreadyExists(f"'{bundle.id}' is a version of '{collection.name}' already", version=bundle.id)
            version = Version.of_bundle(len(document.versions), bundle)
            document = replace(document, versions=(*document.versions, version))
            opened = await asyncio.to_thread(self._encoders.open, document)
            check_reach(collection, document, opened, version)
            await self._registry.replace(collection, document, opened)

        await self._registry.changing(attached)
        await self._calibrations.apply(collection)
        return _status(collection)

    async def promote(
        self, name: str, version_id: str, gate: Gate, *, force: bool = False, adapter: AdapterKind | None = None
    ) -> Promotion:
        """Make a version active. Raises Conflict with what was measured where the gate fails, unless it is forced.

        adapter: the kind that queries take to the codes of the version before; None: the best one measured.
        """
        collection = self._registry.get_to_change(name)

        async def promoted() -> Promotion:
            document, active = collection.document, collection.active
            version = collection.version(version_id)
            if version.number == active.number:
                raise Conflict(f"'{version_id}' is the active version of '{collection.name}' already")
            self._fits.check_quiet(collection)
            check_reach(collection, document, collection.encoders, version)
            check_adapter(collection, adapter, version, active)
            evaluation = document.upgrades.evaluation(active.id, version.id)
            gain, forced = gain_of(evaluation, adapter), False
            if version.model_fingerprint != active.model_fingerprint:
                forced = force and (gain is None or gain.mean < gate.min_gain)
                if not forced:
                    check_gate(version, active, gate, evaluation=evaluation, gain=gain)
            event = Promotion(
                from_version=active.id,
                to_version=version.id,
                at=time.time(),
                forced=forced,
                adapter=_chosen(adapter, evaluation),
                gain=gain,
                min_gain=gate.min_gain,
            )
            await self._activate(collection, version, _promoted(document, version, event.adapter), event)
            return event

        return await self._registry.changing(promoted)

    async def rollback(self, name: str) -> Rollback:
        """Make the version active that was so before the last promotion. Codes written since stay, and are found.

        Raises Conflict where there is none.
        """
        collection = self._registry.get_to_change(name)

        async def rolled_back() -> Rollback:
            document, active = collection.document, collection.active
            upgrades = document.upgrades
            if upgrades.previous is None:
                raise Conflict(f"'{collection.name}' has no promotion to undo, or its version before is retired")
            before = document.versions[upgrades.previous]
            if self._fits.state(collection) in (FitState.FITTING, FitState.CONVERTING):
                self._fits.check_quiet(collection)
            check_reach(collection, document, collection.encoders, before)
            event = Rollback(from_version=active.id, to_version=before.id, at=time.time())
            undone = replace(upgrades, previous=None, adapters=upgrades.previous_adapters, previous_adapters={})
            await self._activate(collection, before, undone, event)
            return event

        return await self._registry.changing(rolled_back)

    async def retire(self, name: str, version_id: str) -> VersionsStatus:
        """Forget a version that has no points. Raises Conflict where it has, or is in use."""
        collection = self._registry.get_to_change(name)

        async def retired() -> None:
            version = collection.version(version_id)
            _check_unused(collection, version)
            document = _without(collection.document, version)
            opened = await asyncio.to_thread(self._encoders.open, document)
            check_remaining_routes(collection, opened, version)
            for number in {document.active, document.upgrades.previous}:
                if number is not None:
                    check_reach(collection, document, opened, document.versions[number])
            await self._registry.replace(collection, document, opened)

        await self._registry.changing(retired)
        await self._calibrations.apply(collection)
        return _status(collection)

    async def _activate(
        self, collection: Collection, version: Version, upgrades: Upgrades, event: VersionEvent
    ) -> None:
        """One document makes a version active. A backfill to another one ends with it."""
        backfill = upgrades.backfill
        if backfill is not None and not backfill.state.ended and backfill.version != version.id:
            backfill = replace(backfill, state=JobState.CANCELLED, finished_at=time.time())
        upgrades = replace(upgrades, history=(*upgrades.history, event)[-MAX_HISTORY:], backfill=backfill)
        await self._registry.replace(collection, replace(collection.document, active=version.number, upgrades=upgrades))
        self._events.changed(collection)

    def _check_count(self, document: CollectionDocument) -> None:
        count = len(document.versions)
        if count >= self._limits.max_versions:
            raise Conflict(
                f"the collection has {count} code versions, retired ones included, and the limit is "
                f"{self._limits.max_versions}; raise max_versions, or write the points into a new collection",
                key="max_versions",
            )


def _chosen(adapter: AdapterKind | None, evaluation: Evaluation | None) -> AdapterKind | None:
    """The kind of adapter that queries take from now on."""
    if adapter is not None:
        return adapter
    return None if evaluation is None else evaluation.adapter


def _promoted(document: CollectionDocument, version: Version, adapter: AdapterKind | None) -> Upgrades:
    """Upgrades once a version is active; queries of it take a kind of adapter to the codes of the one before."""
    upgrades, active = document.upgrades, document.active_version
    if version.model_fingerprint == active.model_fingerprint:
        adapters = upgrades.adapters
    elif adapter is not None and active.model_fingerprint is not None:
        # which adapters the active version took to others says nothing about another model
        adapters = {active.model_fingerprint: str(adapter)}
    else:
        adapters = {}
    return replace(upgrades, previous=active.number, adapters=adapters, previous_adapters=upgrades.adapters)


def _check_unused(collection: Collection, version: Version) -> None:
    """Raise Conflict unless a version can be retired."""
    if version.number == collection.document.active or collection.writing[version.number]:
        raise Conflict(f"'{version.id}' is in use; promote another version first", version=version.id)
    if points := collection.shards.points().get(version.number, 0):
        raise Conflict(
            f"{points} points of '{collection.name}' have codes of '{version.id}'; backfill them first",
            version=version.id,
            points=points,
        )


def _without(document: CollectionDocument, retired: Version) -> CollectionDocument:
    """The document once a version is retired."""
    versions = tuple(replace(v, retired=True) if v.number == retired.number else v for v in document.versions)
    upgrades = document.upgrades
    if upgrades.previous == retired.number:
        upgrades = replace(upgrades, previous=None, previous_adapters={})
    kept = {
        key: evaluation
        for key, evaluation in upgrades.evaluations.items()
        if retired.id not in (evaluation.active, evaluation.version)
    }
    return replace(document, versions=versions, upgrades=replace(upgrades, evaluations=kept))


def _status(collection: Collection) -> VersionsStatus:
    document, points = collection.document, collection.shards.points()
    upgrades = document.upgrades
    return VersionsStatus(
        collection=collection.name,
        active=collection.active.id,
        previous=None if upgrades.previous is None else document.versions[upgrades.previous].id,
        text_field=document.text_field,
        versions=[
            VersionStatus(
                id=version.id,
                kind=version.kind,
                code=str(version.spec),
                code_bytes=version.spec.code_size_bytes,
                model=version.model,
                fingerprint=version.fingerprint,
                active=version.number == document.active,
                retired=version.retired,
                points=points.get(version.number, 0),
            )
            for version in document.versions
        ],
        evaluations=upgrades.evaluations,
        history=list(upgrades.history),
        backfill=None if upgrades.backfill is None else upgrades.backfill.job,
    )
