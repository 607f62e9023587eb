"""A collection at run time: its shards, its encoders, and what its document says."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from zlib import crc32

from bebr.core.filters import Filter, keys_of, parse_filter
from bebr.core.types import JobState, Role, StoredPoint
from bebr.engine.collections.centroids import CollectionCentroids
from bebr.engine.collections.coverage import Coverage
from bebr.engine.collections.encoders import Codec, CollectionEncoders
from bebr.engine.collections.hot_points import HotPoints
from bebr.engine.collections.list_rules import ListRules
from bebr.engine.collections.reservoir import Reservoir
from bebr.engine.collections.schema import CollectionDocument
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.statuses import CollectionStatus, FieldStatus, FitStatus, ListsState, ListsStatus, ShardStatus
from bebr.errors import Conflict, DamagedPoint, VersionNotFound
from bebr.shards import ListsHeld, ShardClient
from bebr.store import MetadataStore

log = logging.getLogger(__name__)
READ_PAGE = 2_000
"""Points that are fetched at a time where there are many."""
MAX_DAMAGED = 10_000
"""Ids of damaged points that are remembered, so that each is logged once."""


class Collection:
    """One open collection."""

    def __init__(
        self,
        *,
        name: str,
        document: CollectionDocument,
        store: MetadataStore,
        folder: Path,
        shards: ShardClient,
        encoders: CollectionEncoders,
        lists_from_points: int,
        role: Role = Role.PRIMARY,
    ) -> None:
        self.name = name
        self.document = document
        self.shards = shards
        self.ready = False
        self.encoders = encoders
        self.writing: Counter[int] = Counter()
        """Writes in progress, by number of the version that their points get."""
        self.hot_points = HotPoints()
        self.reservoir = Reservoir(store, document.uid)
        """Embeddings of a sample of its points, where it has a fit."""
        self.centroids = CollectionCentroids(store, document.uid, folder, role)
        """Of the lists of its codes."""
        self._lists_from_points = lists_from_points
        self.list_rules = ListRules(store, document.uid, lists_from_points)
        """How its lists are read."""
        self.coverage = Coverage()
        self._store = store
        self._damaged: set[str] = set()
        """Ids of points that were found damaged when they were fetched."""
        self.closed = False

    @property
    def problem(self) -> str | None:
        """Why its shards are not what the store has, while they are rebuilt."""
        return next((shard.problem for shard in self.shards.stats() if shard.problem), None)

    @property
    def active(self) -> Version:
        return self.document.versions[self.document.active]

    def version(self, version_id: str) -> Version:
        """The version with codes of that id. Raises VersionNotFound, also for a buffered version."""
        version = self.document.version(version_id)
        if version is None:
            names = ", ".join(f"'{version.id}'" for version in self.document.coded)
            raise VersionNotFound(
                f"'{self.name}' has the versions {names}, and none '{version_id:.120}'; attach it first",
                version=version_id[:120],
            )
        return version

    def codec(self, version: Version) -> Codec:
        """What encodes for a code version. Raises what went wrong with its bundle, InvalidOption where it has none."""
        return self.encoders.codec(version)

    def old_points(self, target: Version) -> int:
        """How many points have codes of another version than the target; buffered ones are not counted."""
        versions, points = self.document.versions, self.shards.points().items()
        return sum(count for n, count in points if n != target.number and versions[n].kind is not VersionKind.BUFFERED)

    def buffered(self) -> int:
        """How many points wait as embeddings: for the fit that collects them, else to be re-encoded."""
        versions, active = self.document.versions, self.active
        points = self.shards.points().items()
        if active.kind is VersionKind.BUFFERED:
            return sum(count for n, count in points if n == active.number)
        return sum(count for n, count in points if versions[n].kind is VersionKind.BUFFERED)

    def points_by_id(self, points: Mapping[int, int] | None = None) -> dict[str, int]:
        """Points by id of their version; those given by code version, or all. Versions of embeddings share an id."""
        found: dict[str, int] = {}
        for number, count in (self.shards.points() if points is None else points).items():
            name = self.document.versions[number].id
            found[name] = found.get(name, 0) + count
        return found

    def shard_of(self, point_id: str) -> int:
        """Shards are chosen by crc32 of the id: stable for ever, on every machine."""
        return crc32(point_id.encode()) % self.document.shards

    def by_shard(self, ids: Sequence[str]) -> dict[int, list[str]]:
        groups: dict[int, list[str]] = {}
        shards = self.document.shards
        for point_id in ids:  # as `shard_of`, which would be called for every hit of every search
            groups.setdefault(crc32(point_id.encode()) % shards, []).append(point_id)
        return groups

    def parse_filter(self, data: object, max_size: int) -> Filter | None:
        """max_size: conditions and values that it may have in all. Raises InvalidFilter, Conflict."""
        if data is None:
            return None
        parsed = parse_filter(data, self.document.filterable, max_size)
        if self.document.field_change is not None:
            self.check_built(keys_of(parsed))
        return parsed

    def check_built(self, keys: Iterable[str]) -> None:
        """Raise Conflict where the columns of one of these fields are still to be made."""
        change = self.document.field_change
        if change is None or change.state is JobState.SUCCEEDED:
            return
        stats = self.shards.columns()
        for key in keys:
            if key in stats.lacking:
                progress = stats.progress(key)
                raise Conflict(
                    f"field '{key}' of '{self.name}' is being built, {progress:.0%} are done; try again once job "
                    f"{change.job} has succeeded",
                    key=key,
                    job=change.job,
                    progress=round(progress, 3),
                )

    async def fetch(
        self, ids: Sequence[str], *, metadata: bool = True, records: bool = False
    ) -> dict[str, StoredPoint]:
        """The points that exist, by id. Raises DamagedPoint."""
        uid = self.document.uid
        found = self.at_hand(ids) if metadata and not records else {}
        if len(found) == len(ids):
            return found
        groups = self.by_shard([point_id for point_id in ids if point_id not in found] if found else ids)
        try:
            return found | await self._store.fetch_all(uid, groups, metadata=metadata, records=records)
        except DamagedPoint as error:
            self._note_damaged(error.fields["ids"])
            named = f"collection '{self.name}': {error.detail}"
            raise DamagedPoint(named, collection=self.name, id=error.fields["ids"][0], **error.fields) from None

    def at_hand(self, ids: Sequence[str]) -> dict[str, StoredPoint]:
        """Those of the points that need not be read, by id, with metadata and without records."""
        return self._store.at_hand(self.document.uid, ids)

    async def fetch_sound(
        self, ids: Sequence[str], *, metadata: bool = True, records: bool = False
    ) -> tuple[dict[str, StoredPoint], list[str]]:
        """The points that exist, by id, and the ids of damaged ones: for work on many points that must go on."""
        damaged: list[str] = []
        while True:
            try:
                return await self.fetch(ids, metadata=metadata, records=records), damaged
            except DamagedPoint as error:
                damaged += error.fields["ids"]
                ids = [point_id for point_id in ids if point_id not in error.fields["ids"]]

    async def existing(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that are points and not damaged."""
        found: set[str] = set()
        for start in range(0, len(ids), READ_PAGE):
            points, _ = await self.fetch_sound(ids[start : start + READ_PAGE], metadata=False)
            found |= points.keys()
        return found

    def _note_damaged(self, ids: Sequence[str]) -> None:
        for point_id in ids:
            if point_id not in self._damaged and len(self._damaged) < MAX_DAMAGED:
                self._damaged.add(point_id)
                log.error("collection %s: point %r is damaged in the store", self.name, point_id)

    def adopt(self, document: CollectionDocument, opened: CollectionEncoders | None = None) -> None:
        """Be from now on what the store says; `shards.set_fields` follows where fields changed.

        opened: the encoders of its versions, where it has others than before.
        """
        self.add_versions(document)
        if opened is not None:
            self.encoders.add_all(opened)
        self.document = document

    def add_versions(self, document: CollectionDocument) -> None:
        """Take points of versions that are new in a document."""
        for version in document.versions[len(self.document.versions) :]:
            self.shards.add_version(version.number, version.spec)
            if (own := version.own_codec) is not None:
                self.encoders.add(version.number, own)

    async def load_lists(self) -> None:
        """Search and sort by the lists that the store has centroids of; again after others were made or forgotten.

        Raises StoreUnavailable.
        """
        before = self.centroids.generations
        for centroids in await self.centroids.load():  # newest first: rows are sorted by that one alone
            self.shards.use_lists(centroids)
        kept = {(one.version, one.generation) for one in self.centroids.generations}
        for one in before:
            if (one.version, one.generation) not in kept:
                self.shards.forget_lists(one.version, one.generation)

    async def catch_up(self) -> None:
        """Bring all shards up to the store."""
        await self.shards.catch_up()
        self.ready = True

    async def close(self, *, keep: bool) -> None:
        """Finish maintenance; `keep`: write checkpoints, so that the next start replays little."""
        self.closed = True
        await self.shards.close(keep)

    def status(self, fit: FitStatus | None) -> CollectionStatus:
        """The collection as its users see it. fit: the status of its fit."""
        document, active, problem = self.document, self.active, self.encoders.problem
        shards = self.shards.stats()
        commits, commit_seconds = self.shards.commit_times()
        return CollectionStatus(
            name=self.name,
            ready=self.ready and not any(shard.problem for shard in shards),
            points=self.points_by_id(),
            bundle=active.model,
            code=str(active.spec),
            code_bytes=active.spec.code_size_bytes,
            active_version=active.id,
            versions=list(dict.fromkeys(version.id for version in document.versions if not version.retired)),
            fit=fit,
            takes=self.encoders.sources(active),
            text_field=document.text_field,
            filterable=document.filterable,
            shards=[ShardStatus(s.number, self.points_by_id(s.points), s.seq, s.parts) for s in shards],
            damaged_points=max(len(self._damaged), sum(shard.damaged for shard in shards)),
            damaged_files=sum(shard.damaged_files for shard in shards),
            memory_bytes=sum(shard.scan_size_bytes for shard in shards),
            created_at=document.created_at,
            encoder_error=problem.detail if problem else None,
            rebuilding=sum(shard.problem is not None for shard in shards),
            rebuilds=sum(shard.rebuilds for shard in shards),
            losses=sum(shard.losses for shard in shards),
            behind=sum(shard.behind for shard in shards),
            commits=commits,
            commit_seconds=commit_seconds,
            recall=document.recall,
            lists=self._lists_status(),
            coverage=self.coverage.status(),
            fields=self._field_statuses(),
            auto_filterable=document.auto is not None,
            partial=document.partial,
        )

    def _field_statuses(self) -> dict[str, FieldStatus]:
        stats, auto = self.shards.columns(), self.document.auto
        found: dict[str, FieldStatus] = {}
        for key, kind in self.document.filterable.items():
            is_auto = auto is not None and key in auto.fields
            progress = min(0.999, stats.progress(key)) if key in stats.lacking else 1.0
            found[key] = FieldStatus(kind, "ready" if progress == 1 else "building", round(progress, 3), is_auto)
        return found

    def _lists_status(self) -> dict[str, ListsStatus]:
        """Of the versions that have lists, or so many points that they will."""
        found: dict[str, ListsStatus] = {}
        held, points = self.shards.lists(), self.shards.points()
        for version in self.document.versions:
            number, has_enough = version.number, points.get(version.number, 0) >= self._lists_from_points
            if number in held or (has_enough and version.kind is not VersionKind.BUFFERED):
                found[version.id] = self._lists_of(number, held.get(number))
        return found

    def _lists_of(self, number: int, held: ListsHeld | None) -> ListsStatus:
        stats, newest = self.shards.list_stats(number), self.centroids.newest(number)
        state, progress = ListsState.READY, 1.0
        if (making := self.centroids.making.get(number)) is not None:
            state, progress = ListsState.MAKING, min(0.999, making.progress)
        elif newest is None:
            state, progress = ListsState.NONE, 0.0
        elif stats.unsorted:
            state, progress = ListsState.SORTING, min(0.999, stats.current / (stats.current + stats.unsorted))
        generations, lists, rows = (held.generations, held.lists, held.rows) if held is not None else ((), 0, 0)
        status = ListsStatus(
            state,
            round(progress, 3),
            generations,
            lists,
            rows,
            current=stats.current,
            older=stats.older,
            without=stats.without,
            generation=None if newest is None else newest.generation,
            seconds=None if newest is None else newest.seconds,
        )
        if (measured := self.list_rules.measured.get(number)) is not None:
            status = replace(status, measured_at=measured.at, queries=measured.queries)
            if (recall := self.document.recall) is not None:
                at = measured.calibration.at(recall)
                status = replace(status, delta=round(at.delta, 6), share=round(at.share, 6), recall=round(at.recall, 6))
        return status


def collection_folder(data_folder: Path, uid: str) -> Path:
    """Where the segments of a collection lie."""
    return data_folder / "collections" / uid
