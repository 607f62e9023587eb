"""The code versions of a collection: attach another model, promote it, go back, retire what is empty.

Each step is one document in the store, so it is either done or not, whenever the process ends. Searches and writes go
by the version that was active when they began; from both sides queries reach all codes (see `reaching`), so a change
in between does no harm.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bebr.config import Limits
from bebr.encoding import AdapterKind
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.encoders import CollectionEncoders, Encoders
from bebr.engine.collections.registry import CollectionRegistry
from bebr.engine.collections.schema import CollectionDocument, Upgrades
from bebr.engine.collections.version import Version
from bebr.engine.search.route import find_route
from bebr.engine.versions.fits import Fits, FitState
from bebr.errors import AlreadyExists, Conflict, Incompatible, InvalidOption, VersionNotFound

MAX_HISTORY = 50
MAX_EVALUATIONS = 20


@dataclass(frozen=True, slots=True)
class Gate:
    """What a version must have been measured to gain before it becomes active, in the measure of its evaluation.

    The mean difference of new->old and old->old over the queries must be at least min_gain.
    """

    min_gain: float = 0.0


class Versions:
    """Changes of versions, one at a time."""

    def __init__(self, registry: CollectionRegistry, encoders: Encoders, fits: Fits, limits: Limits) -> None:
        self._registry = registry
        self._encoders = encoders
        self._fits = fits
        self._limits = limits

    async def attach(self, collection: Collection, bundle_id: str) -> Version:
        """Make a bundle's codes one more version, which nothing uses yet.

        Raises BundleNotFound, AlreadyExists, Incompatible where its queries could not search what there is.
        """
        # a bundle of this id may have been loaded before it was made anew
        bundle = await asyncio.to_thread(self._encoders.bundle, bundle_id)
        await asyncio.to_thread(self._encoders.get, bundle.id, bundle.fingerprint)  # takes seconds the first time
        async with self._registry.lock:
            document = collection.document
            self._check_quiet(collection)
            self._check_room(collection)
            if document.version(bundle.id) is not None:
                raise AlreadyExists(f"'{bundle.id}' is a version of '{collection.name}' already", version=bundle.id)
            version = Version.of_bundle(len(document.versions), bundle)
            document = replace(document, versions=(*document.versions, version))
            opened = await asyncio.to_thread(self._encoders.open, document)
            _check_reach(collection, document, opened, version)
            collection.shards.add_version(version.number, version.spec)
            collection.encoders.add_all(opened)
            await self._registry.replace(collection, document)
        return version

    async def promote(
        self,
        collection: Collection,
        version_id: str,
        gate: Gate,
        *,
        force: bool = False,
        adapter: AdapterKind | None = None,
    ) -> dict[str, Any]:
        """Make a version active. Raises Conflict with the numbers where the gate fails, unless it is forced."""
        async with self._registry.lock:
            document, active = collection.document, collection.active
            version = self.find(collection, version_id)
            if version.number == active.number:
                raise Conflict(f"'{version_id}' is the active version of '{collection.name}' already")
            self._check_quiet(collection)
            _check_reach(collection, document, collection.encoders, version)
            same_model = version.model_fingerprint == active.model_fingerprint
            self._check_adapter(collection, adapter, version, active)
            evaluation = document.upgrades.evaluations.get(evaluation_key(active, version))
            gain = _gain(evaluation, adapter)
            passed = same_model or _passes(collection, version, evaluation, gain, gate, force)
            chosen = str(adapter) if adapter is not None else (evaluation or {}).get("adapter")
            # how the active version reached others says nothing about how another model does
            adapters = (
                document.upgrades.adapters if same_model else {str(active.model_fingerprint): chosen} if chosen else {}
            )
            event = {
                "event": "promote",
                "from": active.id,
                "to": version.id,
                "at": time.time(),
                "forced": not passed,
                "adapter": chosen,
                "gain": gain,
                "min_gain": gate.min_gain,
            }
            upgrades = replace(
                document.upgrades,
                previous=active.number,
                adapters=adapters,
                previous_adapters=document.upgrades.adapters,
            )
            await self._activate(collection, version.number, upgrades, event)
        return event

    async def rollback(self, collection: Collection) -> dict[str, Any]:
        """Make the version active that was so before the last promotion. Codes written since stay, and are found."""
        async with self._registry.lock:
            document, active = collection.document, collection.active
            if document.upgrades.previous is None:
                raise Conflict(f"'{collection.name}' has no promotion to undo, or its version before is retired")
            before = document.versions[document.upgrades.previous]
            if self._fits.state(collection) in (FitState.FITTING, FitState.CONVERTING):
                self._check_quiet(collection)
            _check_reach(collection, document, collection.encoders, before)
            event = {"event": "rollback", "from": active.id, "to": before.id, "at": time.time()}
            adapters = document.upgrades.previous_adapters
            upgrades = replace(document.upgrades, previous=None, adapters=adapters, previous_adapters={})
            await self._activate(collection, before.number, upgrades, event)
        return event

    async def retire(self, collection: Collection, version_id: str) -> None:
        """Forget a version that has no points. Raises Conflict where it has, or is in use."""
        async with self._registry.lock:
            document = collection.document
            version = self.find(collection, version_id)
            points = collection.shards.points().get(version.number, 0)
            if version.number == document.active or collection.writing[version.number]:
                raise Conflict(f"'{version_id}' is in use; promote another version first", version=version_id)
            if points:
                raise Conflict(
                    f"{points} points of '{collection.name}' have codes of '{version_id}'; backfill them first",
                    version=version_id,
                    points=points,
                )
            versions = tuple(replace(v, retired=True) if v is version else v for v in document.versions)
            upgrades = document.upgrades
            if upgrades.previous == version.number:
                upgrades = replace(upgrades, previous=None, previous_adapters={})
            kept = {
                key: value
                for key, value in upgrades.evaluations.items()
                if version.id not in (value["active"], value["version"])
            }
            after = replace(document, versions=versions, upgrades=replace(upgrades, evaluations=kept))
            opened = await asyncio.to_thread(self._encoders.open, after)
            _check_chains(collection, opened, version)
            for number in {after.active, upgrades.previous}:
                if number is not None:
                    _check_reach(collection, after, opened, after.versions[number])
            await self._registry.replace(collection, after)
            collection.encoders.add_all(opened)

    def find(self, collection: Collection, version_id: str) -> Version:
        """Raises VersionNotFound, also for a buffered version, which cannot be chosen."""
        version = collection.document.version(version_id)
        if version is None:
            names = ", ".join(f"'{version.id}'" for version in collection.document.coded)
            raise VersionNotFound(
                f"'{collection.name}' has the versions {names}, and none '{version_id:.120}'; attach it first",
                version=version_id[:120],
            )
        return version

    async def keep_evaluation(
        self, collection: Collection, active: Version, version: Version, evaluation: Mapping[str, Any]
    ) -> None:
        """Remember what was measured, for the gate."""

        def kept(document: CollectionDocument) -> CollectionDocument:
            evaluations = {**document.upgrades.evaluations, evaluation_key(active, version): dict(evaluation)}
            evaluations = dict(list(evaluations.items())[-MAX_EVALUATIONS:])
            return replace(document, upgrades=replace(document.upgrades, evaluations=evaluations))

        await self._registry.update(collection, kept)

    async def _activate(
        self, collection: Collection, number: int, upgrades: Upgrades, event: Mapping[str, Any]
    ) -> None:
        """One document makes a version active. A backfill to another one ends with it."""
        backfill, history = upgrades.backfill, (*upgrades.history, event)[-MAX_HISTORY:]
        if backfill is not None and not backfill.ended and backfill.version != collection.document.versions[number].id:
            backfill = replace(backfill, state="cancelled", finished_at=time.time())
        upgrades = replace(upgrades, history=history, backfill=backfill)
        await self._registry.replace(collection, replace(collection.document, active=number, upgrades=upgrades))

    def _check_room(self, collection: Collection) -> None:
        count = len(collection.document.versions)
        if count >= self._limits.max_versions:
            raise InvalidOption(
                f"the collection has {count} code versions, retired ones included, and the limit is "
                f"{self._limits.max_versions}; raise max_versions, or write the points into a new collection",
                key="max_versions",
            )

    def _check_quiet(self, collection: Collection) -> None:
        """A fit decides over the active version while it is under way."""
        state = self._fits.state(collection)
        if state not in (None, FitState.DONE):
            raise Conflict(f"a fit of '{collection.name}' is {state}; wait until it is done", state=str(state))

    def _check_adapter(
        self, collection: Collection, kind: AdapterKind | None, version: Version, other: Version
    ) -> None:
        """Raise InvalidOption for an adapter that a version's queries do not have to the other's codes."""
        if kind is None:
            return
        encoders = collection.encoders
        adapter = encoders.adapters.get((str(version.model_fingerprint), str(other.model_fingerprint)))
        has_text = encoders.embeds(version) and encoders.embeds(other)
        same_model = version.model_fingerprint == other.model_fingerprint
        if same_model or (adapter is None and kind is not AdapterKind.DUAL) or (kind.needs_text and not has_text):
            raise InvalidOption(
                f"adapter '{kind}' does not apply: there is none of that kind from '{version.id}' to '{other.id}'",
                key="adapter",
            )


def _check_reach(
    collection: Collection, document: CollectionDocument, encoders: CollectionEncoders, version: Version
) -> None:
    """Raise Incompatible unless queries of a version can search the codes of all others in use, and take what they do.

    document: as it is to be; encoders: opened for it. Raises what went wrong with the version's own bundle.
    """
    encoders.codec(version)
    points = collection.shards.points()
    for other in document.versions:
        if other.retired or other.model_fingerprint == version.model_fingerprint:
            continue
        if other.number not in (document.active, document.upgrades.previous) and not points.get(other.number):
            continue
        has_text = encoders.embeds(version) and encoders.embeds(other)
        if find_route(encoders, version.model_fingerprint, other.model_fingerprint, has_text) is None:
            raise Incompatible(
                f"queries of '{version.id}' cannot search the codes of '{other.id}': its manifest does not name "
                f"'{other.model or other.id}' ({str(other.model_fingerprint)[:16]}...) as compatible, and not both "
                "embed texts; make it with 'bebr train --compatible-with'",
                version=version.id,
                other=other.id,
            )
    if encoders.takes_text(document.active_version) and not encoders.takes_text(version):
        raise Incompatible(
            f"'{collection.name}' takes texts, and bundle '{version.id}' has no embedding model; add one with "
            "'bebr models pull'",
            version=version.id,
        )


def _check_chains(collection: Collection, opened: CollectionEncoders, retired: Version) -> None:
    """Raise Conflict where adapters lead to stored codes over a version that is to be retired, and no others do."""
    active, points = collection.active.model_fingerprint, collection.shards.points()
    for other in collection.document.coded:
        if not points.get(other.number) or other.model_fingerprint == active:
            continue
        leads, still = (
            find_route(encoders, active, other.model_fingerprint, False) for encoders in (collection.encoders, opened)
        )
        if leads is not None and still is None:
            raise Conflict(
                f"queries reach the codes of '{other.id}' over '{retired.id}'; backfill those points first",
                version=retired.id,
                other=other.id,
            )


def describe_versions(collection: Collection) -> dict[str, Any]:
    """The versions of a collection, their evaluations and history, as users see them."""
    document, points = collection.document, collection.shards.points()
    upgrades = document.upgrades
    previous = None if upgrades.previous is None else document.versions[upgrades.previous].id
    versions = [
        {
            "id": version.id,
            "code": str(version.spec),
            "code_bytes": version.spec.code_size_bytes,
            "model": version.model,
            "fingerprint": version.fingerprint,
            "active": version.number == document.active,
            "retired": version.retired,
            "points": points.get(version.number, 0),
        }
        for version in document.versions
    ]
    return {
        "collection": collection.name,
        "active": collection.active.id,
        "previous": previous,
        "text_field": document.text_field,
        "versions": versions,
        "evaluations": {key: dict(value) for key, value in upgrades.evaluations.items()},
        "history": [dict(event) for event in upgrades.history],
        "backfill": None if upgrades.backfill is None else upgrades.backfill.job,
    }


def evaluation_key(active: Version, version: Version) -> str:
    return f"{active.id} -> {version.id}"


def _gain(evaluation: Mapping[str, Any] | None, kind: AdapterKind | None) -> Mapping[str, float] | None:
    """What was measured for the kind of adapter that is to be used; None: the best of all."""
    if evaluation is None or kind is None:
        return None if evaluation is None else evaluation["gain"]
    measured: Mapping[str, Any] = evaluation["adapters"].get(str(kind), {})
    return measured.get("gain")


def _passes(
    collection: Collection,
    version: Version,
    evaluation: Mapping[str, Any] | None,
    gain: Mapping[str, float] | None,
    gate: Gate,
    force: bool,
) -> bool:
    """Whether the gate lets a version pass. Raises Conflict where it does not, unless it is forced."""
    if gain is not None and gain["mean"] >= gate.min_gain:
        return True
    if force:
        return False
    if evaluation is None:
        raise Conflict(
            f"'{version.id}' was not measured against '{collection.active.id}'; evaluate it first, or force",
            version=version.id,
        )
    if gain is None:
        raise Conflict(
            "the evaluation has no gain of that adapter over old->old; evaluate all adapters, with queries that the "
            "old model can embed, or force",
            evaluation=dict(evaluation),
        )
    raise Conflict(
        f"'{version.id}' does not pass the gate: searching the codes that there are gains {gain['mean']:+.4f} "
        f"[{gain['low']:+.4f}, {gain['high']:+.4f}] {evaluation['measure']} over '{collection.active.id}', and "
        f"{gate.min_gain:+.4f} is asked for; force it if you know better",
        min_gain=gate.min_gain,
        evaluation=dict(evaluation),
    )
