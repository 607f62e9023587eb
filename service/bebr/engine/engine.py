"""The use cases of the service, one method each. Nothing here knows HTTP; the work is done by its parts
(`parts.py`)."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.core.types import FieldType, WriteMode
from bebr.encoding import Bundle, TextKind
from bebr.engine.answers import AnswerSize
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.registry import check_recall
from bebr.engine.parts import Parts
from bebr.engine.projection import Wanted
from bebr.engine.requests import AliasChange, CollectionSettings, SearchRequest
from bebr.engine.results import Changed, Embedded, Page, Point, SearchResult, WriteReport
from bebr.engine.search import scroll as reading
from bebr.engine.search.reach import latest, reach
from bebr.engine.statuses import CollectionStatus, Readiness
from bebr.engine.transfer import Definition
from bebr.engine.write.records import GivenRecords
from bebr.errors import DamagedCollection, InvalidOption
from bebr.store import Member


class Engine:
    """Everything the service can do. Start it before use; `ready` says when all collections answer."""

    def __init__(self, parts: Parts) -> None:
        self.limits = parts.limits
        self._store = self.store = parts.store
        self._bundles = parts.bundles
        self._threads = parts.threads
        self._guard = parts.guard
        self._embedder = parts.embedder
        self._writer = parts.writer
        self._following = parts.following
        self._maker = parts.maker
        self._life = parts.life
        self.admission = parts.admission
        """Decides whether work may start."""
        self.events = parts.events
        """What happens to collections; the jobs listen."""
        self.registry = parts.registry
        """The open collections."""
        self.list_measuring = parts.list_measuring
        """Measures how much of an exact answer the lists find."""
        self.searchers = parts.searchers
        self.field_changes = parts.field_changes
        """Changes filterable fields."""
        self.fits = parts.fits
        """State of fits, and requests for them."""
        self.fit_steps = parts.fit_steps
        """What a fit job does."""
        self.backfills = parts.backfills
        """What a backfill job does."""
        self.lists = parts.lists
        """Makes the lists of codes."""
        self.evaluator = parts.evaluator
        """Evaluates a version before it is promoted."""
        self.versions = parts.versions
        """The use cases of code versions."""
        self.holding = parts.holding
        """What this process holds, if it is a leaf."""
        self.transfer = parts.transfer
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

    async def keep_up_names(self) -> None:
        """The same of aliases alone."""
        if self._following is not None:
            await self._following.keep_up_names()

    async def look_for(self, name: str) -> None:
        """Before a collection is used by name or alias: another service may have made it just now. Raises
        StoreUnavailable."""
        if self._following is not None:
            await self._following.look_for(name)

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

    def list_members(self) -> list[Member]:
        """The services that share the store; nobody where this one has it to itself."""
        return self._store.members()

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

    async def write_records(
        self,
        name: str,
        ids: Sequence[object],
        records: GivenRecords,
        metadata: Sequence[object] | None,
        mode: WriteMode,
        idempotency_key: str | None = None,
        version: str | None = None,
    ) -> WriteReport:
        """Points that were encoded elsewhere. Raises Incompatible unless the active version makes such records."""
        collection = self.registry.get_to_change(name)
        return await self._writer.write_records(
            collection, ids, records, metadata, mode=mode, idempotency_key=idempotency_key, declared=version
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
            await self._following.look_for(name)
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

    def _status(self, collection: Collection) -> CollectionStatus:
        return collection.status(self.fits.status(collection))

    def _check_limit(self, count: int, key: str) -> None:
        if not 1 <= count <= self.limits.max_limit:
            raise InvalidOption(f"'{key}' must be 1 to {self.limits.max_limit}, got {count}", key=key)
