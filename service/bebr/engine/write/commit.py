"""Commit: checked and encoded points go to their shards, and every point gets its outcome."""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from bebr.core.operations import Commit, Committed, PutWrite, Receipt, check_commit_size
from bebr.core.types import Puts, WriteMode
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import Version
from bebr.engine.results import ItemError, WriteReport
from bebr.engine.write.parse import Draft, item_error
from bebr.errors import AlreadyExists, BebrError, PointNotFound
from bebr.shards import Replace, ShardWrite, values_of


@dataclass(frozen=True, slots=True)
class Batch:
    """Checked points with codes of one version."""

    drafts: list[Draft]
    """The points; their ids are distinct."""
    version: Version
    """The version of the codes."""
    records: NDArray[np.uint8]
    """(drafts, record_size_bytes) uint8, in the order of the drafts."""
    errors: list[ItemError]
    """Points of the same request that were refused before."""

    def by_shard(self, collection: Collection) -> dict[int, list[int]]:
        """Number of the shard -> places of its drafts."""
        places: dict[int, list[int]] = {}
        for place, draft in enumerate(self.drafts):
            places.setdefault(collection.shard_of(draft.id), []).append(place)
        return places


async def put_batch(collection: Collection, batch: Batch, mode: WriteMode, receipt: Receipt | None) -> WriteReport:
    """Store the points shard by shard, each shard's whole or not at all.

    Raises Overloaded and PayloadTooLarge before anything is stored.
    """
    places = batch.by_shard(collection)
    collection.shards.check_capacity(places)  # all of them first: an overloaded service does nothing at all
    writes: dict[int, ShardWrite] = {}
    for number, members in places.items():
        some = [batch.drafts[place] for place in members]
        texts = [draft.metadata_text for draft in some]
        puts = Puts([draft.id for draft in some], batch.version.number, batch.records[members], texts)
        values = values_of([draft.metadata for draft in some], collection.document.filterable)
        writes[number] = ShardWrite(PutWrite(puts, mode, receipt), values)
        check_commit_size(Commit(number, [writes[number].write]))
    outcomes = await asyncio.gather(
        *(collection.shards.write(*item) for item in writes.items()), return_exceptions=True
    )
    return _report(batch, places, outcomes, mode)


async def replace_batch(collection: Collection, batch: Batch) -> WriteReport:
    """Give points that exist the codes of the batch; their metadata stays."""
    places = batch.by_shard(collection)
    collection.shards.check_capacity(places)
    writes: list[Awaitable[Committed]] = []
    for number, members in places.items():
        ids = [batch.drafts[place].id for place in members]
        change = Replace(ids, batch.version.number, batch.records[members], made_from=None)
        writes.append(collection.shards.write(number, change))
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    return _report(batch, places, outcomes, WriteMode.UPDATE_ONLY)


def make_receipt(
    key: str | None, mode: WriteMode, content: object, vectors: NDArray[np.float32] | None = None
) -> Receipt | None:
    """What makes a retry with the same idempotency key safe: the key and a digest of the request."""
    if key is None:
        return None
    digest = sha256(f"{mode}:{content!r}".encode("utf-8", "surrogatepass"))
    if vectors is not None:
        digest.update(np.ascontiguousarray(vectors).data)
    return Receipt(key, digest.digest())


def applied_count(results: Iterable[tuple[int, Committed]]) -> int:
    """Operations that changed something, over all shards."""
    return sum(sum(committed.applied) for _, committed in results)


def last_seqs(results: Iterable[tuple[int, Committed]]) -> dict[int, int]:
    """Number of the shard -> its seq afterwards."""
    return {number: committed.last_seq for number, committed in results}


def _report(
    batch: Batch, places: dict[int, list[int]], outcomes: Sequence[Committed | BaseException], mode: WriteMode
) -> WriteReport:
    """What became of every point. Raises what one of the shards raised."""
    results: list[tuple[int, Committed]] = []
    refused: list[ItemError] = []
    for (number, members), outcome in zip(places.items(), outcomes, strict=True):
        if isinstance(outcome, BaseException):
            raise outcome  # only now: the other shards' writes have ended, so a retry meets a quiet collection
        results.append((number, outcome))
        missed = [batch.drafts[p] for p, applied in zip(members, outcome.applied, strict=True) if not applied]
        refused += [_refusal(draft, mode) for draft in missed]
    items = sorted(batch.errors + refused, key=lambda item: item.index)
    return WriteReport(len(batch.drafts) - len(refused), len(items), items, last_seqs(results))


def _refusal(draft: Draft, mode: WriteMode) -> ItemError:
    error: BebrError = (
        AlreadyExists(f"id {draft.id!r} exists already, and the mode is insert_only")
        if mode is WriteMode.INSERT_ONLY
        else PointNotFound(f"id {draft.id!r} does not exist, and the mode is update_only")
    )
    return item_error(draft.index, draft.id, error)
