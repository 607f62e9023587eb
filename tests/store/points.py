"""Short ways to write and read points in tests. A record is 6 bytes made of a seed; metadata names the id."""

import json
from collections.abc import Callable, Sequence

import numpy as np

from bebr.core.types import Puts, WriteMode
from bebr.errors import StoreUnavailable
from bebr.store import Commit, Committed, FeedEntry, MetadataStore, PutWrite, Receipt, Write

UID = "0123456789abcdef"
MakeStore = Callable[..., MetadataStore]
RECORD_SIZE_BYTES = 6


def record(id: str, seed: int) -> bytes:
    """Any bytes, zeros among them, that differ with id and seed."""
    return bytes([0, seed % 256, *(id.encode() * 4)[:4]])


def metadata(id: str, seed: int) -> str:
    return json.dumps({"id": id, "seed": seed}, ensure_ascii=False)


def puts(ids: Sequence[str], seed: int = 0, version: int = 1) -> Puts:
    rows = [np.frombuffer(record(id, seed), np.uint8) for id in ids]
    records = np.array(rows, np.uint8).reshape(len(ids), RECORD_SIZE_BYTES)
    return Puts(list(ids), version, records, [metadata(id, seed) for id in ids])


def put(
    *ids: str,
    seed: int = 0,
    version: int = 1,
    mode: WriteMode = WriteMode.UPSERT,
    receipt: Receipt | None = None,
) -> PutWrite:
    return PutWrite(puts(ids, seed, version), mode, receipt)


async def commit(store: MetadataStore, shard: int, writes: Sequence[Write], uid: str = UID) -> list[Committed]:
    """One commit; raises its error."""
    (outcome,) = await store.commit(uid, [Commit(shard, writes)])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def whole_feed(
    store: MetadataStore, shard: int = 0, limit: int = 10_000, *, after_seq: int = 0
) -> list[FeedEntry]:
    """The feed from its beginning or a seq, read page by page."""
    entries: list[FeedEntry] = []
    while page := (await store.feed(UID, shard, entries[-1].seq if entries else after_seq, limit)).entries:
        entries += page
    return entries


async def answers(store: MetadataStore) -> bool:
    """Whether the store's server is there."""
    try:
        await store.ping()
    except StoreUnavailable:
        return False
    return True
