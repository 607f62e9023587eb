"""Writing points: parse, encode, commit; deletes and metadata changes by ids or filter."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bebr.config import Limits
from bebr.core.operations import Committed, DeleteWrite, Receipt
from bebr.core.types import WriteMode
from bebr.engine.admission import Lane
from bebr.engine.capacity import CapacityGuard
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.inputs import check_idempotency_key
from bebr.engine.results import Changed, ItemError, WriteReport
from bebr.engine.write.commit import Batch, applied_count, last_seqs, make_receipt, put_batch, replace_batch
from bebr.engine.write.encode import Encoding, encode_drafts, encode_vectors
from bebr.engine.write.fields import FieldChanges
from bebr.engine.write.outcome import Fate, fate_of, told
from bebr.engine.write.parse import read_metadata, read_points, read_vectors, rules_for
from bebr.engine.write.records import GivenRecords, check_made_by, read_records, receipt_of
from bebr.errors import (
    BebrError,
    Conflict,
    Incompatible,
    InvalidMetadata,
    InvalidOption,
)
from bebr.shards import Patch, ShardWrite

PAGE = 5_000
"""Operations of one commit when a filter chooses the points."""
INLINE_POINTS = 32
"""Up to this many points are checked on the event loop: a thread would cost more."""
POINTS_PER_UNIT = 50
"""Points that take about as long as the rest of a commit."""
ReadRecords = Callable[[Sequence[object], Collection, Limits], tuple[list[Batch], list[ItemError]]]
"""Raw JSON values -> a batch for each version, and an error for each of the others."""
Result = TypeVar("Result")


class PointWriter:
    """Writes to any collection. Raises Overloaded when they would wait too long, InsufficientStorage in time.

    after_write: called after every write of points; it must return at once.
    """

    def __init__(
        self,
        limits: Limits,
        guard: CapacityGuard,
        lane: Lane,
        encoding: Encoding,
        background: Encoding,
        fields: FieldChanges,
        after_write: Callable[[Collection], None],
    ) -> None:
        """lane: of commits. encoding: for callers who wait; background: for jobs. fields: that come by themselves."""
        self._after_write = after_write
        self._limits = limits
        self._guard = guard
        self._lane = lane
        self._encoding = encoding
        self._background = background
        self._fields = fields

    async def write_points(
        self,
        collection: Collection,
        points: Sequence[object],
        *,
        mode: WriteMode,
        idempotency_key: str | None,
        declared: str | None = None,
        made_for: str | None = None,
        background: bool = False,
    ) -> WriteReport:
        """Points as JSON values; those that are wrong are named in the report. background: for a job.

        declared: the version that the caller's vectors or codes are of. Raises Incompatible when it is not the active.
        made_for: the same, but only vectors and codes are refused, each by itself.
        """
        self._check_batch(len(points))
        check_idempotency_key(idempotency_key)
        with self._writing(collection, declared, waits=not background) as version:
            rules = rules_for(collection, version, self._limits)
            meant = collection.document.version(made_for) if made_for is not None else None
            if meant is not None and meant.model_fingerprint != version.model_fingerprint:
                rules = replace(rules, made_for=made_for)
            encoding = self._background if background else self._encoding
            if len(points) <= INLINE_POINTS:
                drafts, errors = read_points(points, rules)
                receipt = make_receipt(idempotency_key, mode, points)
            else:
                drafts, errors = await _in_thread(encoding, read_points, points, rules)
                receipt = await _in_thread(encoding, make_receipt, idempotency_key, mode, points)
            records = await encode_drafts(collection, version, drafts, encoding)
            return await self._put(collection, Batch(drafts, version, records, errors), mode, receipt)

    async def write_vectors(
        self,
        collection: Collection,
        ids: Sequence[object],
        vectors: NDArray[np.float32],
        metadata: Sequence[object] | None,
        *,
        mode: WriteMode,
        idempotency_key: str | None,
        declared: str | None = None,
    ) -> WriteReport:
        """The fast path: vectors (n, dims) float32."""
        self._check_batch(len(ids))
        check_idempotency_key(idempotency_key)
        with self._writing(collection, declared) as version:
            rules, threads = rules_for(collection, version, self._limits), self._encoding.threads
            drafts, unit, errors = await _in_thread(self._encoding, read_vectors, ids, vectors, metadata, rules)
            records = await encode_vectors(collection, version, [draft.id for draft in drafts], unit, threads)
            receipt = make_receipt(idempotency_key, mode, (ids, metadata), vectors)
            return await self._put(collection, Batch(drafts, version, records, errors), mode, receipt)

    async def write_records(
        self,
        collection: Collection,
        ids: Sequence[object],
        records: GivenRecords,
        metadata: Sequence[object] | None,
        *,
        mode: WriteMode,
        idempotency_key: str | None,
        declared: str | None = None,
    ) -> WriteReport:
        """Records of the active version that were made elsewhere."""
        self._check_batch(len(ids))
        check_idempotency_key(idempotency_key)
        with self._writing(collection, declared) as version:
            check_made_by(collection.name, version, records)
            rules = rules_for(collection, version, self._limits)
            drafts, rows, errors = await _in_thread(self._encoding, read_records, ids, records, metadata, rules)
            receipt = await _in_thread(self._encoding, receipt_of, idempotency_key, mode, ids, records, metadata)
            return await self._put(collection, Batch(drafts, version, rows, errors), mode, receipt)

    async def write_exported(self, collection: Collection, points: Sequence[object], read: ReadRecords) -> WriteReport:
        """Points that bring whole records of any version, as another service exported them."""
        self._check_batch(len(points))
        with self._writing(collection, None):
            batches, errors = await _in_thread(self._encoding, read, points, collection, self._limits)
            written = Counter(batch.version.number for batch in batches)
            collection.writing.update(written)
            try:
                reports = [await self._put(collection, batch, WriteMode.UPSERT, None) for batch in batches]
            finally:
                collection.writing.subtract(written)
        items = sorted([*errors, *(item for report in reports for item in report.items)], key=lambda item: item.index)
        seq = {shard: seq for report in reports for shard, seq in report.seq.items()}
        applied = sum(report.applied for report in reports)
        return WriteReport(applied, len(points) - applied, items, seq)

    async def replace_codes(
        self, collection: Collection, ids: Sequence[object], vectors: NDArray[np.float32], declared: str
    ) -> WriteReport:
        """Points that exist get codes of these vectors (n, dims), of the active version; their metadata stays."""
        self._check_batch(len(ids))
        with self._writing(collection, declared) as version:
            if version.kind is VersionKind.BUFFERED:
                raise Conflict(f"'{collection.name}' collects embeddings for a fit; write the points instead")
            rules, threads = rules_for(collection, version, self._limits), self._encoding.threads
            drafts, unit, errors = await _in_thread(self._encoding, read_vectors, ids, vectors, None, rules)
            records = await encode_vectors(collection, version, [draft.id for draft in drafts], unit, threads)
            with self._committing(collection, len(drafts)):
                return await replace_batch(collection, Batch(drafts, version, records, errors))

    async def delete_points(
        self, collection: Collection, ids: list[str] | None, filter: object, dry_run: bool
    ) -> Changed:
        groups = await self._targets(collection, ids, filter)
        if dry_run:
            if ids is None:
                return Changed(sum(map(len, groups.values())), {})
            return Changed(len(await collection.fetch(ids, metadata=False)), {})
        results = await self._write_pages(
            collection, groups, lambda page: ShardWrite(DeleteWrite(page), {}), grows=False
        )
        return Changed(applied_count(results), last_seqs(results))

    async def set_metadata(
        self, collection: Collection, ids: list[str] | None, filter: object, changes: dict[str, Any]
    ) -> Changed:
        rules = rules_for(collection, collection.active, self._limits)
        if not changes:
            raise InvalidMetadata("'set' must name at least one metadata key", key="set")
        read_metadata(changes, rules)
        await self._fields.add_new(collection, [changes])
        groups = await self._targets(collection, ids, filter)
        low = self._guard.problem()

        def patch(page: list[str]) -> Patch:
            return Patch(page, changes, rules.max_metadata_bytes, text_field=rules.text_field, low=low)

        results = await self._write_pages(collection, groups, patch, grows=low is None)
        return Changed(applied_count(results), last_seqs(results))

    async def _put(self, collection: Collection, batch: Batch, mode: WriteMode, receipt: Receipt | None) -> WriteReport:
        await self._fields.add_new(collection, [draft.metadata for draft in batch.drafts])
        with self._committing(collection, len(batch.drafts)):
            try:
                return await put_batch(collection, batch, mode, receipt)
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
    def _writing(
        self, collection: Collection, declared: str | None = None, *, grows: bool = True, waits: bool = True
    ) -> Iterator[Version]:
        """Count one more write, if there is time for it. Yields the version of its points, also when another becomes
        active meanwhile.

        grows: it needs room. waits: somebody waits for it; a job does not.
        """
        version = collection.active
        if declared is not None and declared != version.id:
            raise Incompatible(
                f"points of '{collection.name}' are written as its active version '{version.id}', and these are "
                f"declared as '{declared:.200}'",
                key="version",
                active_version=version.id,
            )
        if grows:
            self._guard.check()
        if waits:
            self._lane.check(collection.document.uid)
        collection.writing[version.number] += 1
        try:
            yield version
        finally:
            collection.writing[version.number] -= 1

    @contextmanager
    def _committing(self, collection: Collection, points: int) -> Iterator[None]:
        """Count a commit in the lane."""
        key, units, done = collection.document.uid, 1 + points / POINTS_PER_UNIT, False
        self._lane.enter(key, units)
        try:
            yield
            done = True
        finally:
            self._lane.leave(key, units, done)

    async def _targets(self, collection: Collection, ids: list[str] | None, filter: object) -> dict[int, list[str]]:
        if (ids is None) == (filter is None):
            raise InvalidOption("give exactly one of 'ids' and 'filter'", key="ids")
        if ids is not None:
            self._check_batch(len(ids))
            return collection.by_shard(list(dict.fromkeys(ids)))
        return await collection.shards.matching(collection.parse_filter(filter, self._limits.max_filter_size))

    async def _write_pages(
        self,
        collection: Collection,
        groups: dict[int, list[str]],
        make: Callable[[list[str]], ShardWrite | Patch],
        *,
        grows: bool,
    ) -> list[tuple[int, Committed]]:
        """Page after page; what one fails with is raised with what was done before it.

        grows: refuse it, or let it wait, where there is no room for more points.
        """
        results: list[tuple[int, Committed]] = []
        pages = [(n, ids[start : start + PAGE]) for n, ids in groups.items() for start in range(0, len(ids), PAGE)]
        with self._writing(collection, grows=grows):
            if grows:
                collection.shards.check_capacity(groups)
            for place, (number, page) in enumerate(pages):
                try:
                    if grows:
                        await collection.shards.wait_for_capacity(number)
                    with self._committing(collection, len(page)):
                        results.append((number, await collection.shards.write(number, make(page))))
                except BebrError as error:
                    after = [point_id for _, other in pages[place + 1 :] for point_id in other]
                    raise _told(error, results, page, after) from error
        return results


def _told(error: BebrError, results: list[tuple[int, Committed]], page: list[str], after: list[str]) -> BebrError:
    """The error of one page, saying what the pages before it did. The ids of what was not done are named, up to a
    page of them."""
    fate = fate_of(error)
    unknown = len(page) if fate is Fate.UNKNOWN else 0
    left = [(point_id, fate) for point_id in page] + [(point_id, Fate.NOT_APPLIED) for point_id in after]
    items = [{"id": point_id, "outcome": str(one)} for point_id, one in left[:PAGE]]
    not_applied = len(left) - unknown
    return told(error, applied_count(results), not_applied, unknown, items=items, seq=last_seqs(results))


async def _in_thread(encoding: Encoding, work: Callable[..., Result], *arguments: Any) -> Result:
    return await asyncio.get_running_loop().run_in_executor(encoding.threads, work, *arguments)
