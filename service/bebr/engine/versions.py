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
from bebr.encoding.manifest import Way
from bebr.engine.catalog import Catalog, version_of
from bebr.engine.collection import Collection, FitState, fit_state
from bebr.engine.document import CollectionDocument, Version
from bebr.engine.encoders import CollectionEncoders, Encoders
from bebr.engine.reaching import route
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

    def __init__(self, catalog: Catalog, encoders: Encoders, limits: Limits) -> None:
        self._catalog = catalog
        self._encoders = encoders
        self._limits = limits

    @property
    def lock(self) -> asyncio.Lock:
        """Held by whoever changes the document of a collection."""
        return self._catalog.lock

    async def attach(self, collection: Collection, bundle_id: str) -> Version:
        """Make a bundle's codes one more version, which nothing uses yet.

        Raises BundleNotFound, AlreadyExists, Incompatible where its queries could not search what there is.
        """
        bundle = (await asyncio.to_thread(self._encoders.get, bundle_id)).bundle  # takes seconds the first time
        async with self._catalog.lock:
            document = collection.document
            self._check_room(collection)
            if document.version(bundle.id) is not None:
                raise AlreadyExists(f"'{bundle.id}' is a version of '{collection.name}' already", version=bundle.id)
            version = version_of(bundle, len(document.versions))
            document = replace(document, versions=(*document.versions, version))
            opened = await asyncio.to_thread(self._encoders.open, document)
            self._check_reach(collection, opened, version)
            collection.index.add_version(version.number, version.spec)
            collection.encoders.add_all(opened)
            await self.save(collection, document)
        return version

    async def promote(
        self, collection: Collection, version_id: str, gate: Gate, *, force: bool = False, way: Way | None = None
    ) -> dict[str, Any]:
        """Make a version active. Raises Conflict with the numbers where the gate fails, unless it is forced."""
        async with self._catalog.lock:
            document, active = collection.document, collection.active
            version = self.find(collection, version_id)
            if version.number == active.number:
                raise Conflict(f"'{version_id}' is the active version of '{collection.name}' already")
            self._check_quiet(collection)
            evaluation = document.upgrades.evaluations.get(evaluation_key(active, version))
            if version.model_fingerprint != active.model_fingerprint:
                passed = _passes(collection, version, evaluation, gate, force)
            else:
                passed = True  # queries are the same, so nothing can get worse
            chosen = str(way) if way is not None else (evaluation or {}).get("way")
            # how the active version reached others says nothing about how this one does
            ways = {str(active.model_fingerprint): chosen} if chosen else {}
            self._check_way(collection, way, version, active)
            event = {
                "event": "promote",
                "from": active.id,
                "to": version.id,
                "at": time.time(),
                "forced": force and not passed,
                "way": chosen,
                "gain": (evaluation or {}).get("gain"),
                "min_gain": gate.min_gain,
            }
            await self._activate(collection, version.number, active.number, ways, event)
        return event

    async def rollback(self, collection: Collection) -> dict[str, Any]:
        """Make the version active that was so before the last promotion. Codes written since stay, and are found."""
        async with self._catalog.lock:
            document, active = collection.document, collection.active
            if document.upgrades.previous is None:
                raise Conflict(f"'{collection.name}' has no promotion to undo, or its version before is retired")
            before = document.versions[document.upgrades.previous]
            self._check_quiet(collection)
            if collection.index.points().get(active.number, 0):
                self._check_reach(collection, collection.encoders, before, only=active)
            event = {"event": "rollback", "from": active.id, "to": before.id, "at": time.time()}
            await self._activate(collection, before.number, None, {}, event)
        return event

    async def retire(self, collection: Collection, version_id: str) -> None:
        """Forget a version that has no points. Raises Conflict where it has, or is in use."""
        async with self._catalog.lock:
            document = collection.document
            version = self.find(collection, version_id)
            points = collection.index.points().get(version.number, 0)
            if version.number == document.active or collection.writing[version.number]:
                raise Conflict(f"'{version_id}' is in use; promote another version first", version=version_id)
            if points or version.staged_dims is not None:
                raise Conflict(
                    f"{points} points of '{collection.name}' have codes of '{version_id}'; backfill them first",
                    version=version_id,
                    points=points,
                )
            backfill = document.upgrades.backfill
            if backfill is not None and backfill.version == version_id and backfill.state in ("running", "paused"):
                raise Conflict(f"a backfill to '{version_id}' is {backfill.state}; cancel it first", job=backfill.job)
            versions = tuple(replace(v, retired=True) if v is version else v for v in document.versions)
            previous = document.upgrades.previous
            upgrades = replace(document.upgrades, previous=None if previous == version.number else previous)
            await self.save(collection, replace(document, versions=versions, upgrades=upgrades))

    def find(self, collection: Collection, version_id: str) -> Version:
        """Raises VersionNotFound."""
        version = collection.document.version(version_id)
        if version is None:
            names = ", ".join(f"'{version.id}'" for version in collection.document.versions if not version.retired)
            raise VersionNotFound(
                f"'{collection.name}' has the versions {names}, and none '{version_id:.120}'; attach it first",
                version=version_id[:120],
            )
        return version

    async def keep_evaluation(
        self, collection: Collection, active: Version, version: Version, evaluation: Mapping[str, Any]
    ) -> None:
        """Remember what was measured, for the gate."""
        async with self._catalog.lock:
            upgrades = collection.document.upgrades
            kept = {**upgrades.evaluations, evaluation_key(active, version): dict(evaluation)}
            kept = dict(list(kept.items())[-MAX_EVALUATIONS:])
            document = replace(collection.document, upgrades=replace(upgrades, evaluations=kept))
            await self.save(collection, document)

    async def save(self, collection: Collection, document: CollectionDocument) -> None:
        """Save a changed document and go by it from here on. The caller holds the catalog's lock."""
        await self._catalog.save(collection.name, document)
        collection.document = document

    async def _activate(
        self,
        collection: Collection,
        number: int,
        previous: int | None,
        ways: Mapping[str, str],
        event: Mapping[str, Any],
    ) -> None:
        document = collection.document
        history = (*document.upgrades.history, event)[-MAX_HISTORY:]
        upgrades = replace(document.upgrades, previous=previous, ways=ways, history=history)
        await self.save(collection, replace(document, active=number, upgrades=upgrades))

    def _check_room(self, collection: Collection) -> None:
        count = len(collection.document.versions)
        if count >= self._limits.max_versions:
            raise InvalidOption(
                f"the collection has {count} code versions, retired ones included, and the limit is "
                f"{self._limits.max_versions}; raise max_versions, or write the points into a new collection",
                key="max_versions",
            )
        self._check_quiet(collection)

    def _check_quiet(self, collection: Collection) -> None:
        """A fit decides over the active version while it is under way."""
        state = fit_state(collection)
        if state not in (None, FitState.DONE):
            raise Conflict(f"a fit of '{collection.name}' is {state}; wait until it is done", state=str(state))

    def _check_reach(
        self, collection: Collection, encoders: CollectionEncoders, version: Version, only: Version | None = None
    ) -> None:
        """Raise Incompatible unless queries of a version can search the codes of all others in use, or of one."""
        others = [only] if only is not None else [v for v in collection.document.versions if not v.retired]
        encoders.codec(version)
        for other in others:
            if other.model_fingerprint == version.model_fingerprint:
                continue
            has_text = encoders.embeds(version) and encoders.embeds(other)
            if route(encoders, version.model_fingerprint, other.model_fingerprint, has_text) is None:
                raise Incompatible(
                    f"queries of '{version.id}' cannot search the codes of '{other.id}': its manifest does not name "
                    f"'{other.model or other.id}' ({str(other.model_fingerprint)[:16]}...) as compatible, and not both "
                    "embed texts; make it with 'bebr train --compatible-with'",
                    version=version.id,
                    other=other.id,
                )
        if collection.encoders.takes_text(collection.active) and not encoders.takes_text(version):
            raise Incompatible(
                f"'{collection.name}' takes texts, and bundle '{version.id}' has no embedding model; add one with "
                "'bebr models pull'",
                version=version.id,
            )

    def _check_way(self, collection: Collection, way: Way | None, version: Version, other: Version) -> None:
        bridges = collection.encoders.bridges
        learned = way is not None and way is not Way.DUAL
        if learned and (str(version.model_fingerprint), str(other.model_fingerprint)) not in bridges:
            raise InvalidOption(
                f"way '{way}' does not apply: bundle '{version.id}' has learned none to '{other.id}'", key="way"
            )


def describe_versions(collection: Collection) -> dict[str, Any]:
    """What `GET /v1/collections/{c}/versions` answers."""
    document, points = collection.document, collection.index.points()
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


def _passes(
    collection: Collection, version: Version, evaluation: Mapping[str, Any] | None, gate: Gate, force: bool
) -> bool:
    """Whether the gate lets a version pass. Raises Conflict where it does not, unless it is forced."""
    gain = None if evaluation is None else evaluation["gain"]
    if gain is not None and gain["mean"] >= gate.min_gain:
        return True
    if force:
        return False
    if evaluation is None:
        raise Conflict(
            f"'{version.id}' was not measured against '{collection.active.id}'; POST versions/evaluate first, or force",
            version=version.id,
        )
    if gain is None:
        raise Conflict(
            f"the evaluation of '{version.id}' has no old->old to compare with; give queries that the old model can "
            "embed, or force",
            evaluation=dict(evaluation),
        )
    raise Conflict(
        f"'{version.id}' does not pass the gate: searching the codes that there are gains {gain['mean']:+.4f} "
        f"[{gain['low']:+.4f}, {gain['high']:+.4f}] {evaluation['measure']} over '{collection.active.id}', and "
        f"{gate.min_gain:+.4f} is asked for; force it if you know better",
        min_gain=gate.min_gain,
        evaluation=dict(evaluation),
    )
