"""The use cases of code versions, one method each: attach, evaluate, promote, roll back, backfill, retire."""

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bebr.encoding import AdapterKind
from bebr.engine.collections.collection import Collection
from bebr.engine.results import WriteReport
from bebr.engine.versions.backfills import Backfills
from bebr.engine.versions.calibration import Calibrations
from bebr.engine.versions.evaluation import Evaluation, Evaluator
from bebr.engine.versions.promotion import Gate, Versions, describe_versions
from bebr.engine.write.points import PointWriter
from bebr.errors import JobNotFound, VersionNotFound


class Collections(Protocol):
    """Where collections are found."""

    def collection(self, name: str) -> Collection: ...

    def collections(self) -> list[Collection]: ...


class Upgrading:
    """What can be done about the versions of a collection."""

    def __init__(
        self,
        collections: Collections,
        versions: Versions,
        evaluator: Evaluator,
        backfills: Backfills,
        writer: PointWriter,
        calibrations: Calibrations,
    ) -> None:
        self._collections = collections
        self._versions = versions
        self._evaluator = evaluator
        self._backfills = backfills
        self._writer = writer
        self._calibrations = calibrations

    async def describe(self, name: str) -> dict[str, Any]:
        """The code versions of a collection, what was measured, and what became active when."""
        return describe_versions(self._collections.collection(name))

    async def attach(self, name: str, bundle_id: str) -> dict[str, Any]:
        """Make a bundle's codes a version of a collection. Raises AlreadyExists, BundleNotFound, Incompatible."""
        collection = self._collections.collection(name)
        await self._versions.attach(collection, bundle_id)
        await self._calibrations.apply(collection)
        return describe_versions(collection)

    async def evaluate(self, name: str, version_id: str | None, how: Evaluation) -> dict[str, Any]:
        """Measure a version against the active one; None: the newest. The result is kept for the gate."""
        collection = self._collections.collection(name)
        active = collection.active
        version = self._versions.find(collection, version_id or self._newest(collection))
        measured, sample = await self._evaluator.evaluate(collection, version, how)
        evaluation = {"active": active.id, "version": version.id, "at": time.time(), **measured}
        await self._versions.keep_evaluation(collection, active, version, evaluation)
        if sample is not None:
            await self._calibrations.keep(collection, version, active, sample)
        return evaluation

    async def promote(
        self, name: str, version_id: str, gate: Gate, force: bool = False, adapter: AdapterKind | None = None
    ) -> dict[str, Any]:
        """Make a version active. Raises Conflict with the numbers where the gate fails, unless it is forced."""
        collection = self._collections.collection(name)
        event = await self._versions.promote(collection, version_id, gate, force=force, adapter=adapter)
        await self._backfills.follow(collection)
        return event

    async def rollback(self, name: str) -> dict[str, Any]:
        """Go back to the version before the last promotion. Raises Conflict where there is none."""
        collection = self._collections.collection(name)
        event = await self._versions.rollback(collection)
        await self._backfills.follow(collection)
        return event

    async def retire(self, name: str, version_id: str) -> dict[str, Any]:
        """Forget a version that holds no point. Raises Conflict where it does."""
        collection = self._collections.collection(name)
        await self._versions.retire(collection, version_id)
        await self._calibrations.apply(collection)
        return describe_versions(collection)

    async def backfill(self, name: str, version_id: str | None = None, rate: float | None = None) -> str:
        """Re-encode all points as the active version, from the text in their metadata -> id of the job."""
        collection = self._collections.collection(name)
        return await self._backfills.start(collection, version_id or collection.active.id, rate)

    async def backfill_vectors(
        self, name: str, version_id: str, ids: Sequence[object], vectors: NDArray[np.float32]
    ) -> WriteReport:
        """Give points that exist codes of these vectors, of the active version, which must be the one named."""
        return await self._writer.replace_codes(self._collections.collection(name), ids, vectors, version_id)

    def list_backfills(self) -> list[dict[str, Any]]:
        """The last backfill of each collection."""
        collections = self._collections.collections()
        return [self._backfills.describe(c) for c in collections if c.document.upgrades.backfill is not None]

    def get_backfill(self, job: str) -> dict[str, Any]:
        """Raises JobNotFound."""
        return self._backfills.describe(self._backfilled(job))

    async def pause_backfill(self, job: str) -> dict[str, Any]:
        """Raises JobNotFound, Conflict where it does not run."""
        collection = self._backfilled(job)
        await self._backfills.pause(collection)
        return self._backfills.describe(collection)

    async def resume_backfill(self, job: str) -> dict[str, Any]:
        """Raises JobNotFound, Conflict where it is not paused."""
        collection = self._backfilled(job)
        await self._backfills.resume(collection)
        return self._backfills.describe(collection)

    async def cancel_backfill(self, job: str) -> dict[str, Any]:
        """What was re-encoded stays so. Raises JobNotFound."""
        collection = self._backfilled(job)
        await self._backfills.cancel(collection)
        return self._backfills.describe(collection)

    def _backfilled(self, job: str) -> Collection:
        for collection in self._collections.collections():
            backfill = collection.document.upgrades.backfill
            if backfill is not None and backfill.job == job:
                return collection
        raise JobNotFound(f"no job {job!r:.100}; finished jobs are forgotten after a while", job=job[:100])

    def _newest(self, collection: Collection) -> str:
        """Id of the newest version that is not active."""
        others = [v for v in collection.document.coded if v.number != collection.active.number]
        if not others:
            raise VersionNotFound(f"'{collection.name}' has no version but the active one; attach one first")
        return others[-1].id
