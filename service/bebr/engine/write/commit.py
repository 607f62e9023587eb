"""Commit: checked and encoded points go to their shards, and every point gets its outcome."""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.core.operations import Commit, Committed, DeleteWrite, PutWrite, Receipt, check_commit_size
from bebr.core.types import Puts, WriteMode
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import Version
from bebr.engine.results import ItemError, WriteReport
from bebr.engine.write.outcome import Failed, Fate, fate_of, first_failure, items_json, told
from bebr.engine.write.parse import Draft, item_error
from bebr.errors import AlreadyExists, BebrError, IdempotencyConflict, PointNotFound
from bebr.shards import Replace, ShardWrite, pieces_of, values_of

_OF_REQUEST, _OF_PIECE = "\x1fr", "\x1fp"
"""Follow the caller's key in the names of receipts; keys have no control characters."""


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


@dataclass(frozen=True, slots=True)
class _Piece:
    """Drafts that are committed together: those of a shard, or as many of them as one commit carries."""

    shard: int
    members: list[int]
    """Their places among the drafts."""
    write: ShardWrite
    """Without a receipt."""
    receipts: list[Receipt]
    """Names under which a write of this key may be known, in the order to try; empty without a key."""


async def put_batch(collection: Collection, batch: Batch, mode: WriteMode, receipt: Receipt | None) -> WriteReport:
    """Store the points, each piece of a shard whole or not at all.

    Raises Overloaded, PayloadTooLarge and IdempotencyConflict before anything is stored. What one piece fails with is
    raised once all have ended, with what became of every point (`outcome`).
    """
    pieces = _pieces(collection, batch, mode, receipt)
    if not pieces:
        return _report(batch, [], [], mode)
    home = None if receipt is None else collection.shard_of(receipt.key)
    shards = {piece.shard for piece in pieces} | ({home} if home is not None else set())
    collection.shards.check_capacity(shards)  # all of them first: an overloaded service does nothing at all
    if home is not None and receipt is not None:
        await collection.shards.write(home, _reservation(receipt))
    writes = [_write_piece(collection, piece) for piece in pieces]
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    return _report(batch, [(piece.shard, piece.members) for piece in pieces], outcomes, mode)


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
    return _report(batch, list(places.items()), outcomes, WriteMode.UPDATE_ONLY)


def _pieces(collection: Collection, batch: Batch, mode: WriteMode, receipt: Receipt | None) -> list[_Piece]:
    """The batch as commits. Raises PayloadTooLarge where one point is too large for any."""
    pieces: list[_Piece] = []
    for number, members in batch.by_shard(collection).items():
        some = [batch.drafts[place] for place in members]
        texts = [draft.metadata_text for draft in some]
        puts = Puts([draft.id for draft in some], batch.version.number, batch.records[members], texts)
        fields = collection.document.filterable
        values = values_of([draft.metadata for draft in some], fields)
        start = 0
        for part in pieces_of(ShardWrite(PutWrite(puts, mode), values, fields)):
            stop = start + len(part.write.ids)
            check_commit_size(Commit(number, [part.write]))
            receipts = _receipts(
                receipt, part.write.ids, all_valid=not batch.errors, whole=len(part.write.ids) == len(members)
            )
            pieces.append(_Piece(number, members[start:stop], part, receipts))
            start = stop
    return pieces


def _reservation(receipt: Receipt) -> ShardWrite:
    """A write of nothing that claims the key for this request, in a shard that follows from the key alone.

    Whatever shards another request has points in, it finds the claim before any of them is written.
    """
    return ShardWrite(DeleteWrite([], Receipt(f"{receipt.key}{_OF_REQUEST}", receipt.digest)), {})


def _receipts(receipt: Receipt | None, ids: list[str], *, all_valid: bool, whole: bool) -> list[Receipt]:
    """all_valid: no point of the request was refused. whole: the piece has all that is valid for its shard.

    A retry may find other points valid, or be cut elsewhere, and a receipt says what became of exactly the points that
    it was written for. So these are part of what it is compared by, unless the request determines them; the last name
    has them too. The second is that of receipts which say nothing of them.
    """
    if receipt is None:
        return []
    points = sha256("\0".join(ids).encode()).digest()
    named = Receipt(f"{receipt.key}{_OF_PIECE}{points.hex()[:32]}", receipt.digest)
    if not whole:
        return [named]
    exact = receipt if all_valid else Receipt(receipt.key, sha256(receipt.digest + points).digest())
    return list(dict.fromkeys([exact, receipt, named]))


async def _write_piece(collection: Collection, piece: _Piece) -> Committed:
    """Write the piece, or find what became of it before. Raises IdempotencyConflict where all names are taken."""
    conflict: IdempotencyConflict | None = None
    for receipt in piece.receipts:
        write = replace(piece.write, write=replace(piece.write.write, receipt=receipt))
        try:
            committed = await collection.shards.write(piece.shard, write)
        except IdempotencyConflict as error:
            conflict = error
            continue
        if len(committed.applied) == len(piece.members):
            return committed
    if conflict is not None:
        raise conflict
    return await collection.shards.write(piece.shard, piece.write)


def make_receipt(
    key: str | None, mode: WriteMode, content: object, vectors: NDArray[Any] | None = None
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
    batch: Batch,
    pieces: Sequence[tuple[int, list[int]]],
    outcomes: Sequence[Committed | BaseException],
    mode: WriteMode,
) -> WriteReport:
    """What became of every point; pieces: number of the shard and places of the drafts. Raises what one failed with."""
    results: list[tuple[int, Committed]] = []
    refused: list[ItemError] = []
    failed: list[Failed] = []
    failure = first_failure(outcomes)  # only now: the others have ended, so a retry meets a quiet collection
    for (number, members), outcome in zip(pieces, outcomes, strict=True):
        drafts = [batch.drafts[place] for place in members]
        if isinstance(outcome, Committed):
            results.append((number, outcome))
            missed = [draft for draft, applied in zip(drafts, outcome.applied, strict=True) if not applied]
            refused += [_refusal(draft, mode) for draft in missed]
        elif isinstance(outcome, BebrError):
            fate, name = fate_of(outcome), type(outcome).__name__
            failed += [Failed(draft.index, draft.id, fate, name, outcome.detail) for draft in drafts]
    applied = len(batch.drafts) - len(refused) - len(failed)
    items = sorted(batch.errors + refused, key=lambda item: item.index)
    if failure is None:
        return WriteReport(applied, len(items), items, last_seqs(results))
    unknown = sum(item.fate is Fate.UNKNOWN for item in failed)
    failed += [Failed(item.index, item.id, Fate.NOT_APPLIED, item.error, item.detail) for item in items]
    raise told(
        failure, applied, len(failed) - unknown, unknown, items=items_json(failed), seq=last_seqs(results)
    ) from failure


def _refusal(draft: Draft, mode: WriteMode) -> ItemError:
    error: BebrError = (
        AlreadyExists(f"id {draft.id!r} exists already, and the mode is insert_only")
        if mode is WriteMode.INSERT_ONLY
        else PointNotFound(f"id {draft.id!r} does not exist, and the mode is update_only")
    )
    return item_error(draft.index, draft.id, error)
