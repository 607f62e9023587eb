"""MetadataStore: the contract of the truth. What every store promises, and the plain data that crosses it.

A shard of a collection is a map of id -> point, plus a counter. Every operation that changes the map takes the next
seq of the shard. The *feed* lists the latest operation of each id by ascending seq: a point, or a tombstone where the
id was deleted. An id therefore stands in the feed exactly once, always under the seq of its last change, and a view
that has applied the feed up to seq s becomes current by applying what comes after s.

What holds for every store, and is held by `tests/store/test_store_contract.py`:
- A commit is atomic and durable: when `commit` returns, all of its writes survive a crash; when it raises an
  error other than StoreUnavailable, none was applied. After StoreUnavailable the outcome is unknown, and
  committing the same writes again is safe: puts and deletes say what shall be, and a receipt tells what was.
- Commits of one shard happen one after the other; readers see all of a commit or nothing of it.
- Errors: StoreUnavailable when the store does not answer, InsufficientStorage when its disk or memory is full,
  DamagedStore when it holds what bebr did not write, CollectionNotFound for a uid that was not created or was dropped.

Nothing here knows SQLite or Redis; nothing outside this package does either.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from bebr.core.types import Puts, StoredPoint, WriteMode
from bebr.errors import CollectionNotFound, DuplicateId, IdempotencyConflict, InvalidOption

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Receipt:
    """Makes a write happen once, however often it is sent.

    `key` names the request, `digest` what it asked for (of the request as it came, since encoding the same text twice
    need not give the same bits). The same key with another digest raises IdempotencyConflict.
    """

    key: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class PutWrite:
    """Store the points. The ids of one write are distinct."""

    puts: Puts
    mode: WriteMode = WriteMode.UPSERT
    receipt: Receipt | None = None

    @property
    def ids(self) -> list[str]:
        return self.puts.ids


@dataclass(frozen=True, slots=True)
class DeleteWrite:
    """Delete the points of these ids. The ids of one write are distinct."""

    ids: list[str]
    receipt: Receipt | None = None


Write = PutWrite | DeleteWrite


@dataclass(frozen=True, slots=True)
class Committed:
    """What one write did.

    applied: per operation, False where the mode refused it or the deleted id did not exist. The applied operations took
    the seqs first_seq .. last_seq in order; where none was applied, last_seq is the shard's and first_seq last_seq + 1.
    replayed: the receipt was known, so nothing was done now and this is what was done then.
    """

    applied: list[bool]
    first_seq: int
    last_seq: int
    replayed: bool = False


class FeedEntry(NamedTuple):
    """The latest operation of one id. A tombstone has neither record nor metadata, and version 0."""

    seq: int
    id: str
    version: int
    record: bytes | None
    metadata: str | None


@dataclass(frozen=True, slots=True)
class ShardStats:
    """points: living points. last_seq: seq of the last operation, 0 when there was none.

    purged_seq: highest seq of a tombstone that was purged. A view that stands below it may have missed a delete and
    must be rebuilt from seq 0.
    """

    points: int
    last_seq: int
    purged_seq: int = 0


class MetadataStore(Protocol):
    """Points, their change feed, and small JSON documents. One instance serves one process and one event loop."""

    async def open(self) -> None:
        """Connect, create what is missing, check what is there."""

    async def close(self) -> None:
        """Finish the commits under way and let go of everything. A closed store can be opened again."""

    async def ping(self) -> None:
        """Return when the store answers; raise StoreUnavailable when it does not."""

    async def put_document(self, kind: str, name: str, value: Document) -> None:
        """Store one JSON document, replacing the one of that kind and name."""

    async def get_document(self, kind: str, name: str) -> Document | None: ...

    async def list_documents(self, kind: str) -> dict[str, Document]:
        """All documents of a kind by name, in order of name."""

    async def delete_document(self, kind: str, name: str) -> bool:
        """Delete one document; False when there was none."""

    async def replace_documents(self, kind: str, puts: Mapping[str, Document], deletes: Sequence[str]) -> None:
        """Apply all deletes, then all puts, as one atomic change."""

    async def create(self, uid: str, shards: int) -> None:
        """Make room for a collection. Creating it again with as many shards changes nothing."""

    async def drop(self, uid: str) -> None:
        """Forget a collection and all of its points; nothing happens when it does not exist."""

    async def commit(self, uid: str, shard: int, writes: Sequence[Write]) -> list[Committed]:
        """Apply the writes in order, as one atomic and durable change; one Committed for each.

        Raises DuplicateId when one write names an id twice, and IdempotencyConflict when a receipt's key came before
        with another digest; nothing is applied then.
        """

    async def fetch(
        self, uid: str, shard: int, ids: Sequence[str], *, metadata: bool = True, records: bool = False
    ) -> list[StoredPoint | None]:
        """The points of these ids, None where there is none. What was not asked for comes back empty."""

    async def fetch_all(
        self, uid: str, ids_of_shard: Mapping[int, Sequence[str]], *, metadata: bool = True, records: bool = False
    ) -> dict[str, StoredPoint]:
        """The points that exist among ids of several shards, by id. The way of every hit of every search."""

    async def feed(self, uid: str, shard: int, after_seq: int, limit: int) -> list[FeedEntry]:
        """The first `limit` entries of the feed whose seq is greater than `after_seq`, by ascending seq."""

    async def stats(self, uid: str, shard: int) -> ShardStats: ...

    async def purge_tombstones(self, uid: str, shard: int, up_to_seq: int) -> int:
        """Remove the tombstones with seq <= up_to_seq, which every view must have applied; how many there were."""


def check_uid(uid: str) -> None:
    """Raise InvalidOption unless the uid can stand in file and key names: [a-z0-9]{16,32}."""
    if not re.fullmatch(r"[a-z0-9]{16,32}", uid):
        raise InvalidOption(f"a collection uid is 16 to 32 characters of a-z and 0-9, got {uid!r:.80}", uid=uid)


def check_writes(writes: Sequence[Write]) -> None:
    """Raise DuplicateId where one write names an id twice: which of the two should win would be a guess."""
    for write in writes:
        if len(set(write.ids)) != len(write.ids):
            seen: set[str] = set()
            twice = next(i for i in write.ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
            raise DuplicateId(f"the id {twice!r:.80} stands twice in one write; send it once", id=twice)


def receipt_conflict(key: str) -> IdempotencyConflict:
    """The error for a receipt key that came before with another digest."""
    return IdempotencyConflict(f"the idempotency key {key!r:.80} was used for another request; use a new key", key=key)


def unknown_shard(uid: str, shard: int) -> CollectionNotFound:
    """The error for a shard that was never created, or was dropped."""
    return CollectionNotFound(f"the store holds no shard {shard} of collection {uid}", uid=uid, shard=shard)


def to_json(value: object) -> str:
    """Compact JSON text, the form in which documents are stored."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
