"""Writing points: check, encode, commit, apply; deletes and metadata changes by ids or filter."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.config import Limits
from bebr.core.types import Puts, WriteMode
from bebr.encoding import TextKind
from bebr.encoding.encoder import Encoder
from bebr.engine.capacity import RoomGuard
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.encoders import Codec
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.inputs import check_idempotency_key
from bebr.engine.results import Changed, ItemError, WriteReport
from bebr.engine.write.parse import Draft, Source, item_error, read_metadata, read_points, read_vectors, rules_for
from bebr.errors import (
    AlreadyExists,
    BebrError,
    Conflict,
    Incompatible,
    InvalidMetadata,
    InvalidOption,
    Overloaded,
    PointNotFound,
)
from bebr.shards import Patch, Replace, ShardWrite, values_of
from bebr.store import Committed, DeleteWrite, PutWrite, Receipt

PAGE = 5_000
"""Operations of one commit when a filter chooses the points."""


class PointWriter:
    """Writes to any collection. Raises Overloaded when too many are under way, InsufficientStorage before it hurts.

    after_write: called after every write of points, so it must cost nothing.
    """

    def __init__(
        self, limits: Limits, guard: RoomGuard, encoding: Executor, after_write: Callable[[Collection], None]
    ) -> None:
        self._after_write = after_write
        self._limits = limits
        self._guard = guard
        self._encoding = encoding
        self._under_way = 0

    async def write_points(
        self,
        collection: Collection,
        points: Sequence[object],
        mode: WriteMode,
        idempotency_key: str | None,
        declared: str | None = None,
        made_for: str | None = None,
    ) -> WriteReport:
        """Points as JSON values; those that are wrong are named in the report.

        declared: the version that the caller's vectors or codes are of. Raises Incompatible when it is not the active.
        made_for: the same, but only vectors and codes are refused, each by itself.
        """
        self._check_batch(len(points))
        check_idempotency_key(idempotency_key)
        with self._writing(collection, declared) as version:
            rules = rules_for(collection, version, self._limits)
            meant = collection.document.version(made_for) if made_for is not None else None
            if meant is not None and meant.model_fingerprint != version.model_fingerprint:
                rules = replace(rules, made_for=made_for)
            drafts, errors = read_points(points, rules)
            records = await self._encode(collection, version, drafts)
            receipt = _receipt(idempotency_key, mode, points)
            return await self._commit(collection, _Batch(drafts, version, records), errors, mode, receipt)

    async def write_vectors(
        self,
        collection: Collection,
        ids: Sequence[object],
        vectors: NDArray[np.float32],
        metadata: Sequence[object] | None,
        mode: WriteMode,
        idempotency_key: str | None,
        declared: str | None = None,
    ) -> WriteReport:
        """The fast path: vectors (n, dims) float32."""
        self._check_batch(len(ids))
        check_idempotency_key(idempotency_key)
        with self._writing(collection, declared) as version:
            drafts, unit, errors = read_vectors(ids, vectors, metadata, rules_for(collection, version, self._limits))
            records = await self._in_thread(collection.codec(version).encode, unit)
            receipt = _receipt(idempotency_key, mode, (ids, metadata), vectors)
            return await self._commit(collection, _Batch(drafts, version, records), errors, mode, receipt)

    async def replace_codes(
        self, collection: Collection, ids: Sequence[object], vectors: NDArray[np.float32], declared: str
    ) -> WriteReport:
        """Points that exist get codes of these vectors (n, dims), of the active version; their metadata stays."""
        self._check_batch(len(ids))
        with self._writing(collection, declared) as version:
            if version.kind is VersionKind.BUFFERED:
                raise Conflict(f"'{collection.name}' collects embeddings for a fit; write the points instead")
            drafts, unit, errors = read_vectors(ids, vectors, None, rules_for(collection, version, self._limits))
            records = await self._in_thread(collection.codec(version).encode, unit)
            places: dict[int, list[int]] = {}
            for place, draft in enumerate(drafts):
                places.setdefault(collection.shard_of(draft.id), []).append(place)
            collection.shards.check_capacity(places)
            committed: list[tuple[int, Committed]] = []
            for number, members in places.items():
                change = Replace([drafts[p].id for p in members], version.number, records[members], None)
                result = await collection.shards.write(number, change)
                committed.append((number, result))
                missing = [drafts[p] for p, ok in zip(members, result.applied, strict=True) if not ok]
                errors += [_refusal(draft, WriteMode.UPDATE_ONLY) for draft in missing]
            return WriteReport(
                _applied(committed), len(errors), sorted(errors, key=lambda e: e.index), _seqs(committed)
            )

    async def delete_points(
        self, collection: Collection, ids: list[str] | None, filter: object, dry_run: bool
    ) -> Changed:
        groups = await self._targets(collection, ids, filter)
        if dry_run:
            if ids is None:
                return Changed(sum(map(len, groups.values())), {})
            return Changed(len(await collection.fetch(ids, metadata=False)), {})
        results = await self._write_pages(collection, groups, lambda page: ShardWrite(DeleteWrite(page), {}))
        return Changed(_applied(results), _seqs(results))

    async def set_metadata(
        self, collection: Collection, ids: list[str] | None, filter: object, changes: dict[str, Any]
    ) -> Changed:
        rules = rules_for(collection, collection.active, self._limits)
        if not changes:
            raise InvalidMetadata("'set' must name at least one metadata key", key="set")
        read_metadata(changes, rules)
        groups = await self._targets(collection, ids, filter)
        results = await self._write_pages(
            collection, groups, lambda page: Patch(page, changes, rules.max_metadata_bytes)
        )
        return Changed(_applied(results), _seqs(results))

    async def _commit(
        self,
        collection: Collection,
        batch: "_Batch",
        errors: list[ItemError],
        mode: WriteMode,
        receipt: Receipt | None,
    ) -> WriteReport:
        try:
            return await _commit(collection, batch, errors, mode, receipt)
        finally:
            self._after_write(collection)

    def _check_batch(self, count: int) -> None:
        if count > self._limits.max_batch_points:
            raise InvalidOption(
                f"at most {self._limits.max_batch_points} points in one request, got {count}; send several requests, "
                "or ingest them in bulk",
                key="points",
            )

    @contextmanager
    def _writing(self, collection: Collection, declared: str | None = None) -> Iterator[Version]:
        """Room for one more write, and the version of all its points, also when another becomes active meanwhile."""
        version = collection.active
        if declared is not None and declared != version.id:
            raise Incompatible(
                f"points of '{collection.name}' are written as its active version '{version.id}', and these are "
                f"declared as '{declared:.200}'",
                key="version",
                active_version=version.id,
            )
        self._guard.check()
        if self._under_way >= self._limits.max_queue:
            raise Overloaded(f"{self._under_way} writes are under way (the limit); try again later", waiting="writes")
        self._under_way += 1
        collection.writing[version.number] += 1
        try:
            yield version
        finally:
            self._under_way -= 1
            collection.writing[version.number] -= 1

    async def _in_thread(self, work: Callable[..., NDArray[np.uint8]], *arguments: Any) -> NDArray[np.uint8]:
        return await asyncio.get_running_loop().run_in_executor(self._encoding, work, *arguments)

    async def _encode(self, collection: Collection, version: Version, drafts: list[Draft]) -> NDArray[np.uint8]:
        """-> records (drafts, record_size_bytes) uint8, in the drafts' order."""
        records = np.empty((len(drafts), version.spec.record_size_bytes), np.uint8)
        places: dict[Source, list[int]] = {source: [] for source in Source}
        for place, draft in enumerate(drafts):
            places[draft.source].append(place)
        if places[Source.CODE]:
            records[places[Source.CODE]] = [drafts[place].payload for place in places[Source.CODE]]
        if places[Source.VECTOR]:
            vectors = np.stack([drafts[place].payload for place in places[Source.VECTOR]])
            records[places[Source.VECTOR]] = await self._in_thread(collection.codec(version).encode, vectors)
        if places[Source.TEXT]:
            texts = [drafts[place].payload for place in places[Source.TEXT]]
            embedder, codec = collection.encoders.embedder(version), collection.codec(version)
            records[places[Source.TEXT]] = await self._in_thread(_encode_texts, embedder, codec, texts)
        return records

    async def _targets(self, collection: Collection, ids: list[str] | None, filter: object) -> dict[int, list[str]]:
        if (ids is None) == (filter is None):
            raise InvalidOption("give exactly one of 'ids' and 'filter'", key="ids")
        if ids is not None:
            self._check_batch(len(ids))
            return collection.by_shard(list(dict.fromkeys(ids)))
        return await collection.shards.matching(collection.parse_filter(filter))

    async def _write_pages(
        self, collection: Collection, groups: dict[int, list[str]], make: Callable[[list[str]], ShardWrite | Patch]
    ) -> list[tuple[int, Committed]]:
        results = []
        with self._writing(collection):
            collection.shards.check_capacity(groups)
            for number, ids in groups.items():
                for start in range(0, len(ids), PAGE):
                    await collection.shards.wait_for_capacity(number)
                    results.append((number, await collection.shards.write(number, make(ids[start : start + PAGE]))))
        return results


@dataclass(frozen=True, slots=True)
class _Batch:
    """Checked points and their records (drafts, record_size_bytes) uint8 of one code version."""

    drafts: list[Draft]
    version: Version
    records: NDArray[np.uint8]


async def _commit(
    collection: Collection,
    batch: _Batch,
    errors: list[ItemError],
    mode: WriteMode,
    receipt: Receipt | None,
) -> WriteReport:
    """Commit the drafts shard by shard, each whole or not at all, and say what became of every point."""
    drafts = batch.drafts
    places: dict[int, list[int]] = {}
    for place, draft in enumerate(drafts):
        places.setdefault(collection.shard_of(draft.id), []).append(place)
    collection.shards.check_capacity(places)  # all of them first: an overloaded service does nothing at all
    writes: list[Awaitable[Committed]] = []
    for number, members in places.items():
        some = [drafts[place] for place in members]
        texts = [draft.metadata_text for draft in some]
        puts = Puts([draft.id for draft in some], batch.version.number, batch.records[members], texts)
        values = values_of([draft.metadata for draft in some], collection.document.filterable)
        writes.append(collection.shards.write(number, ShardWrite(PutWrite(puts, mode, receipt), values)))
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    committed: list[tuple[int, Committed]] = []
    refused: list[ItemError] = []
    for (number, members), outcome in zip(places.items(), outcomes, strict=True):
        if isinstance(outcome, BaseException):
            raise outcome  # only now: the other shards' writes have ended, so a retry meets a quiet collection
        committed.append((number, outcome))
        refused += [_refusal(drafts[p], mode) for p, ok in zip(members, outcome.applied, strict=True) if not ok]
    items = sorted(errors + refused, key=lambda item: item.index)
    return WriteReport(len(drafts) - len(refused), len(items), items, _seqs(committed))


def _encode_texts(embedder: Encoder, codec: Codec, texts: list[str]) -> NDArray[np.uint8]:
    records: NDArray[np.uint8] = codec.encode(embedder.embed(texts, TextKind.PASSAGE))
    return records


def _refusal(draft: Draft, mode: WriteMode) -> ItemError:
    error: BebrError = (
        AlreadyExists(f"id {draft.id!r} exists already, and the mode is insert_only")
        if mode is WriteMode.INSERT_ONLY
        else PointNotFound(f"id {draft.id!r} does not exist, and the mode is update_only")
    )
    return item_error(draft.index, draft.id, error)


def _receipt(
    key: str | None, mode: WriteMode, content: object, vectors: NDArray[np.float32] | None = None
) -> Receipt | None:
    """What makes a retry with the same idempotency key safe: the key and a digest of the request."""
    if key is None:
        return None
    digest = sha256(f"{mode}:{content!r}".encode("utf-8", "surrogatepass"))
    if vectors is not None:
        digest.update(np.ascontiguousarray(vectors).data)
    return Receipt(key, digest.digest())


def _applied(results: list[tuple[int, Committed]]) -> int:
    return sum(sum(committed.applied) for _, committed in results)


def _seqs(results: list[tuple[int, Committed]]) -> dict[int, int]:
    return {number: committed.last_seq for number, committed in results}
