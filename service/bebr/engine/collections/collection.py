"""A collection at run time: its index, its encoders, its shard writers, and what its document says."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

from bebr.core.filters import Filter, parse_filter
from bebr.core.types import StoredPoint
from bebr.engine.collections.encoders import Codec, CollectionEncoders
from bebr.engine.collections.schema import CollectionDocument
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.memory import release_free_memory
from bebr.engine.write.parse import Rules
from bebr.errors import BebrError
from bebr.index.shard import ShardView
from bebr.shards.collection_index import CollectionIndex
from bebr.shards.writer import ShardWriter
from bebr.store import MetadataStore

log = logging.getLogger(__name__)
Result = TypeVar("Result")
RETRY_SECONDS = 1.0
MAX_ASKED = 10_000
"""Ids whose hits are counted."""
INLINE_BYTES = 2**20
"""Looks at the index of a collection of this size take half a millisecond (a page of ids) or less (a count)."""


class Collection:
    """One open collection. fit_progress: what a fit that runs now has just done."""

    def __init__(
        self,
        name: str,
        document: CollectionDocument,
        store: MetadataStore,
        index: CollectionIndex,
        encoders: CollectionEncoders,
        maintenance: Executor,
        max_queue: int,
    ) -> None:
        self.name = name
        self.document = document
        self.index = index
        self.ready = False
        self.encoders = encoders
        self.fit_progress: str | None = None
        self.writing: Counter[int] = Counter()
        """Writes under way, by number of the version that their points get."""
        self.asked = AskedFor()
        self._store = store
        self._maintenance = maintenance
        self._maintaining: dict[int, asyncio.Task[None]] = {}
        self.closed = False
        self.writers = [
            ShardWriter(store, document.uid, number, shard, document.filterable, max_queue)
            for number, shard in enumerate(index.shards)
        ]

    @property
    def active(self) -> Version:
        return self.document.active_version

    def codec(self, version: Version) -> Codec:
        """What encodes for a code version. Raises what went wrong with its bundle, InvalidOption where it has none."""
        return self.encoders.codec(version)

    def old_points(self, target: int | None = None) -> int:
        """How many points have codes of another version than the target, or the active one; buffered ones aside."""
        versions, target = self.document.versions, self.active.number if target is None else target
        points = self.index.points().items()
        return sum(count for n, count in points if n != target and versions[n].kind is not VersionKind.BUFFERED)

    def buffered(self) -> int:
        """How many points wait as embeddings: for the fit that collects them, else to be re-encoded."""
        versions, active = self.document.versions, self.active
        points = self.index.points().items()
        if active.kind is VersionKind.BUFFERED:
            return sum(count for n, count in points if n == active.number)
        return sum(count for n, count in points if versions[n].kind is VersionKind.BUFFERED)

    def points_by_id(self, view: ShardView | None = None) -> dict[str, int]:
        """Points by id of their version, of all shards or of one. Versions of embeddings share an id."""
        found: dict[str, int] = {}
        for number, count in (self.index.points() if view is None else view.points()).items():
            name = self.document.versions[number].id
            found[name] = found.get(name, 0) + count
        return found

    def rules(self, version: Version, max_text_chars: int, max_metadata_bytes: int) -> Rules:
        """What points must look like to be written as that code version."""
        return Rules(
            spec=version.spec,
            steps=version.steps,
            fields=self.document.filterable,
            takes_text=self.encoders.takes_text(version),
            takes_codes=version.kind is not VersionKind.BUFFERED,
            dims=self.encoders.dims(version),
            max_text_chars=max_text_chars,
            max_metadata_bytes=max_metadata_bytes,
            text_field=self.document.text_field,
        )

    def shard_of(self, point_id: str) -> int:
        """Shards are chosen by crc32 of the id: stable for ever, on every machine."""
        return crc32(point_id.encode()) % self.document.shards

    def by_shard(self, ids: Sequence[str]) -> dict[int, list[str]]:
        groups: dict[int, list[str]] = {}
        for point_id in ids:
            groups.setdefault(self.shard_of(point_id), []).append(point_id)
        return groups

    def parse_filter(self, data: object) -> Filter | None:
        return None if data is None else parse_filter(data, self.document.filterable)

    async def fetch(
        self, ids: Sequence[str], *, metadata: bool = True, records: bool = False
    ) -> dict[str, StoredPoint]:
        """The points that exist, by id."""
        groups = self.by_shard(ids)
        return await self._store.fetch_all(self.document.uid, groups, metadata=metadata, records=records)

    async def read(self, look: Callable[[], Result]) -> Result:
        """Run a look at the index: here when the collection is small, in a thread when it would hold up others."""
        return look() if self.index.scan_size_bytes() <= INLINE_BYTES else await asyncio.to_thread(look)

    async def catch_up(self) -> None:
        """Bring all shards up to the store."""
        await asyncio.gather(*(writer.catch_up() for writer in self.writers))
        await asyncio.to_thread(release_free_memory)
        self.ready = True

    def maintain(self) -> None:
        """Start maintenance of the shards that need it, unless it runs already or the collection is closed."""
        for number, shard in enumerate(self.index.shards):
            if shard.needs_maintenance and number not in self._maintaining and not self.closed:
                self._maintaining[number] = asyncio.create_task(self._maintain_shard(number))

    def check_room(self, numbers: Iterable[int]) -> None:
        """Raise Overloaded when one of these shards can take no write now."""
        self.maintain()  # sealing that failed is tried again, or a shard that is full would stay so
        for number in numbers:
            self.writers[number].check_room()

    async def wait_for_sealing(self, number: int) -> None:
        """For writes of many pages: the first may be refused, the others go on as fast as segments are sealed."""
        while self.writers[number].sealing_lags and not self.closed:
            self.maintain()
            await asyncio.sleep(0.01)  # a thread seals; polling is all there is

    async def close(self, *, keep: bool) -> None:
        """Finish maintenance; `keep`: write checkpoints, so that the next start replays little."""
        self.closed = True
        await asyncio.gather(*self._maintaining.values(), *(writer.close() for writer in self.writers))
        for number, shard in enumerate(self.index.shards) if keep else ():
            try:
                await asyncio.to_thread(shard.flush)
            except (OSError, BebrError):
                log.exception("no checkpoint of collection %s, shard %d: the next start replays it", self.name, number)

    async def _maintain_shard(self, number: int) -> None:
        try:
            loop, shard = asyncio.get_running_loop(), self.index.shards[number]
            await loop.run_in_executor(self._maintenance, shard.maintain)
            await loop.run_in_executor(self._maintenance, release_free_memory)
            await self.writers[number].purge()
        except Exception:
            # heads stay in memory and the store has everything: the next write tries again, but not at once
            log.exception("maintenance of collection %s, shard %d failed", self.name, number)
            await asyncio.sleep(0 if self.closed else RETRY_SECONDS)
        finally:
            del self._maintaining[number]

    def describe(self) -> dict[str, Any]:
        """What `GET /v1/collections/{c}` answers."""
        in_use = dict.fromkeys(version.id for version in self.document.versions if not version.retired)
        shards = []
        for number, shard in enumerate(self.index.shards):
            view = shard.view
            points = self.points_by_id(view)
            shards.append({"shard": number, "points": points, "seq": view.seq, "parts": len(view.parts)})
        totals = self.points_by_id()
        problem = self.encoders.problem
        return {
            "name": self.name,
            "status": "ready" if self.ready else "loading",
            "points": sum(totals.values()),
            "points_per_version": totals,
            "bundle": self.active.model,
            "code": str(self.active.spec),
            "code_bytes": self.active.spec.code_size_bytes,
            "active_version": self.active.id,
            "compatible_versions": list(in_use),
            "fit": describe_fit(self),
            "text_field": self.document.text_field,
            "filterable": {key: str(kind) for key, kind in self.document.filterable.items()},
            "shards": shards,
            "bytes_in_memory": self.index.scan_size_bytes(),
            "created_at": self.document.created_at,
            "encoder_error": problem.detail if problem else None,
        }


class AskedFor:
    """Which points searches found most, of late: a backfill takes those first. Bounded, and forgotten at the end."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, ids: Sequence[str]) -> None:
        self._counts.update(ids)
        if len(self._counts) > 2 * MAX_ASKED:
            self._counts = Counter(dict(self._counts.most_common(MAX_ASKED)))

    def most(self) -> list[str]:
        """Most asked for first."""
        return [point_id for point_id, _ in self._counts.most_common(MAX_ASKED)]


class FitState(StrEnum):
    """Where a collection's own fit stands."""

    COLLECTING = "collecting"
    FITTING = "fitting"
    FAILED = "failed"
    CONVERTING = "converting"
    DONE = "done"


def fit_state(collection: Collection) -> FitState | None:
    """None: no fit was ever asked for. Nothing of this is kept: it follows from the document and the points."""
    fit = collection.document.fit
    if fit is None:
        return None
    if collection.fit_progress is not None:
        return FitState.FITTING
    buffered = collection.buffered()
    if collection.active.kind is not VersionKind.BUFFERED:
        return FitState.CONVERTING if buffered else FitState.DONE
    if fit.failed is not None:
        return FitState.FAILED
    return FitState.FITTING if fit.due or buffered >= fit.sample else FitState.COLLECTING


def describe_fit(collection: Collection) -> dict[str, Any] | None:
    """What the description of a collection says of its fit. code and metrics: of its newest fitted binarizer."""
    fit, state, fitted = collection.document.fit, fit_state(collection), collection.document.fitted
    if fit is None or state is None:
        return None
    metrics = {} if fitted is None else fitted.metrics
    return {
        "state": str(state),
        "bytes": fit.bytes,
        "sample": fit.sample,
        "collected": collection.buffered(),
        "detail": collection.fit_progress or fit.failed,
        "version": None if fitted is None else fitted.id,
        "code": None if fitted is None else str(fitted.spec),
        "recall_at_10": metrics.get("recall_at_10"),
        "queries": metrics.get("queries"),
    }


def collection_folder(data_folder: Path, uid: str) -> Path:
    """Where the segments of a collection lie."""
    return data_folder / "collections" / uid
