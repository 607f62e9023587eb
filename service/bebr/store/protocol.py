"""MetadataStore: the contract of the truth. What every store promises.

A shard of a collection is a map of id -> point, plus a counter. Every operation that changes the map takes the next
seq of the shard. The *feed* lists the latest operation of each id by ascending seq: a point, or a tombstone where the
id was deleted. An id is therefore in the feed exactly once, always under the seq of its last change, and a view that
has applied the feed up to seq s becomes current by applying what comes after s. The plain data of all this is in
`bebr.core.operations`.

What holds for every store, and is held by `tests/store/test_store_contract.py`:
- A commit is atomic and durable: when it has its `Committed`, all of its writes survive a crash; when its outcome is an
  error other than StoreUnavailable, none was applied. After StoreUnavailable it is unknown which, and committing the
  same writes again is safe: puts and deletes say what shall be, and a receipt tells what was.
- Commits of one shard happen one after the other; readers see all of a commit or nothing of it.
- A commit carries at most MAX_COMMIT_OPERATIONS operations and MAX_COMMIT_BYTES bytes. A larger one is refused with
  PayloadTooLarge before anything happens.
- A store has a random id, made once, and knows of every operation in which epoch it was written (`bebr.core.history`):
  a view that was made of another store, or of what this one has lost, is recognized. A commit never goes on from less
  than the open store has acknowledged: it fails with StoreUnavailable, and a new epoch begins.
- Whoever calls does the grouping: all commits of one call share what makes them durable, such as one fsync, and nothing
  waits inside the store to be joined with others.
- Every point is stored with checksums (`bebr.core.checksums`), and what is read is checked against them. Points of
  older releases have none, and are taken as they are until they are written again. A damaged point is DamagedPoint for
  whoever fetches it, and is marked in the feed, so that it hides no other.
- Errors: StoreUnavailable when the store does not answer, InsufficientStorage when its disk or memory is full,
  DamagedStore when it holds what bebr did not write, CollectionNotFound for a uid that was not created or was dropped.

- A store that is open in the role of a follower changes nothing, neither points nor documents nor files: whatever would
  is StoreUnavailable. It reads what was committed last by whoever writes, also of collections that were made meanwhile.

Nothing here knows SQLite or Redis; nothing outside this package does either.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from zlib import crc32

from bebr.core.history import History
from bebr.core.operations import Commit, CommitOutcome, FeedPage, ShardCounters
from bebr.core.types import StoredPoint
from bebr.errors import (
    CollectionNotFound,
    DamagedPoint,
    DamagedStore,
    IdempotencyConflict,
    InvalidOption,
    StaleDocument,
    StoreUnavailable,
)

Document = dict[str, Any]
RESERVOIR, RESERVOIR_PAGE = "reservoir", "reservoir-page"
"""Kinds of the documents in which a collection keeps embeddings of a sample of its points: what says which pages count
(`first` up to `next`), by uid, and the pages."""
_CHECKSUM = "crc32"
"""Key of a stored document. Those of older releases have none, and get one when they are written again."""


@dataclass(frozen=True, slots=True)
class DamagedDocument:
    """What is stored in the place of a document, which is not what was written."""

    text: str
    """As it is stored."""
    reason: str


@dataclass(frozen=True, slots=True)
class HeldLease:
    """What somebody has to himself for now, such as a task that must not run twice."""

    name: str
    holder: str
    token: int
    """Grows each time that the lease is given to somebody: what is written under a lower one came too late."""


@dataclass(frozen=True, slots=True)
class Member:
    """One of the services that share a store."""

    name: str
    version: str
    """Of bebr."""
    since: float
    """When it joined, in seconds since 1970."""
    folder: str
    """Where it has its files."""
    is_this: bool


class MetadataStore(Protocol):
    """Points, their change feed, and small JSON documents. One instance serves one process and one event loop."""

    on_documents: Callable[[str, Collection[str]], None]
    """Told of the kind and names of documents that this process has changed, or may have, before the change returns."""

    async def open(self) -> None:
        """Connect, create what is missing, check what is there."""

    async def close(self) -> None:
        """Finish the commits under way and let go of everything. A closed store can be opened again."""

    async def ping(self) -> None:
        """Return when the store answers; raise StoreUnavailable when it does not."""

    def listen(
        self, on_loss: Callable[[str, int], None], on_look: Callable[[Mapping[str, Mapping[int, int]]], None]
    ) -> None:
        """Call `on_loss(uid, shard)` when a shard is found to have lost what the open store has acknowledged, before
        anybody reads what is left; and, where a commit may happen after it has failed, `on_look({uid: {shard: seq}})`
        every now and then with the last seq that some shards have. A follower of Redis hears so of each commit."""

    async def identity(self) -> str:
        """The store's id."""

    async def renew_identity(self) -> str:
        """Give the store a new id, which is returned: for a copy that goes on as a store of its own, such as a restored
        backup. Views that were made of the store before are rebuilt."""

    async def put_document(self, kind: str, name: str, value: Document) -> None:
        """Store one JSON document, replacing the one of that kind and name."""

    async def get_document(self, kind: str, name: str) -> Document | None:
        """Raises DamagedStore for one that is not what was written."""

    async def list_documents(self, kind: str) -> dict[str, Document | DamagedDocument]:
        """All documents of a kind by name, in order of name; one that is damaged does not hide the others."""

    async def delete_document(self, kind: str, name: str) -> bool:
        """Delete one document; False when there was none."""

    async def replace_documents(
        self,
        kind: str,
        puts: Mapping[str, Document],
        deletes: Sequence[str],
        *,
        expect: Mapping[str, Document | None] | None = None,
    ) -> None:
        """Apply all deletes, then all puts, as one atomic change.

        Raises StaleDocument, and changes nothing, where another document is stored than `expect` has under its name, or
        one although it has None.
        """

    async def revision(self, kind: str) -> int:
        """A number that grows with each change of the documents of a kind, whoever makes it."""

    async def take_lease(self, name: str, holder: str, seconds: float) -> int | None:
        """Have something to oneself: the token of the lease, or None while somebody else has it. Whoever has it may
        take it again, which renews it. It ends with the process of its holder, or once it was not renewed for so long.

        Raises InvalidOption for a name that is not 1 to 100 of letters, digits and "_.:-".
        """

    async def renew_lease(self, name: str, token: int, seconds: float) -> bool:
        """Whether it still is that lease, and goes on for so long from now."""

    async def release_lease(self, name: str, token: int) -> None:
        """Nothing happens where it is somebody else's by now."""

    async def leases(self) -> list[HeldLease]:
        """All that are held now, by name."""

    async def announce(self, name: str, text: str, seconds: float) -> dict[str, str]:
        """Say something under a name for so long, or until it is said again; "" takes it back. -> `announced`.

        It is a hint: a server that fails may forget it. Raises InvalidOption for a name as `take_lease` does, and where
        the store is of one machine.
        """

    async def announced(self) -> dict[str, str]:
        """What all say now, by name; nothing where the store is of one machine."""

    def members(self) -> list[Member]:
        """Who shares the store, as it was known a moment ago, by name; nobody where one service has it to itself."""

    async def create(self, uid: str, shards: int) -> None:
        """Create a collection without points. Creating it again with as many shards changes nothing."""

    async def drop(self, uid: str) -> None:
        """Forget a collection and all of its points; nothing happens when it does not exist."""

    async def commit(self, uid: str, commits: Sequence[Commit]) -> list[CommitOutcome]:
        """Apply each commit as one atomic and durable change, those of one shard in order; one outcome for each.

        An error of one commit is its outcome: it is not raised, and does not stop the others. Beside the errors of any
        call: DuplicateId when one write names an id twice, IdempotencyConflict when a receipt's key came before with
        another digest, PayloadTooLarge for a commit over the limits.
        """

    async def fetch(
        self, uid: str, shard: int, ids: Sequence[str], *, metadata: bool = True, records: bool = False
    ) -> list[StoredPoint | None]:
        """The points of these ids, None where there is none. What was not requested comes back empty.

        Raises DamagedPoint, which names in `ids` all of them that are damaged.
        """

    async def fetch_all(
        self, uid: str, ids_of_shard: Mapping[int, Sequence[str]], *, metadata: bool = True, records: bool = False
    ) -> dict[str, StoredPoint]:
        """The points that exist among ids of several shards, by id. Every hit of every search is read so."""

    def at_hand(self, uid: str, ids: Sequence[str]) -> dict[str, StoredPoint]:
        """Those of the points that need not be read, by id: as they are now, with metadata and without records."""

    async def feed(self, uid: str, shard: int, after_seq: int, limit: int) -> FeedPage:
        """The first entries of the feed whose seq is greater than `after_seq`, at most `limit` and at least one of
        those that there are, with the counters and the history of the same moment."""

    async def counters(self, uid: str, shard: int) -> ShardCounters: ...

    async def history(self, uid: str, shard: int) -> History:
        """Which operations of the shard the store has, and which it will write next."""

    async def purge_tombstones(self, uid: str, shard: int, up_to_seq: int) -> int:
        """Remove the tombstones with seq <= up_to_seq, which every view must have applied; how many there were."""


def reservoir_page_name(uid: str, number: int) -> str:
    """The name of one of those pages."""
    return f"{uid}-{number}"


def check_uid(uid: str) -> None:
    """Raise InvalidOption unless the uid can be part of file and key names: [a-z0-9]{16,32}."""
    if not re.fullmatch(r"[a-z0-9]{16,32}", uid):
        raise InvalidOption(f"a collection uid is 16 to 32 characters of a-z and 0-9, got {uid!r:.80}", uid=uid)


def check_lease_name(name: str) -> None:
    """Raise InvalidOption unless the name can be part of file and key names."""
    if not re.fullmatch(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,99}", name):
        raise InvalidOption(f"the name of a lease is 1 to 100 of letters, digits and '_.:-', got {name!r:.120}")


def receipt_conflict(key: str) -> IdempotencyConflict:
    """The error for a receipt key that came before with another digest."""
    return IdempotencyConflict(f"the idempotency key {key!r:.80} was used for another request; use a new key", key=key)


def damaged_points(ids: Sequence[str]) -> DamagedPoint:
    """The error for points that are not what was written."""
    named = ", ".join(f"{id!r:.80}" for id in ids[:10])
    return DamagedPoint(
        f"the store holds something else than was written for {named}; write it again from its source, or delete it",
        ids=list(ids),
    )


def stale_document(kind: str, name: str) -> StaleDocument:
    """The error for a document that is not what was expected."""
    return StaleDocument(
        f"another process has changed the {kind} '{name}' meanwhile; read it again, and try again", kind=kind, name=name
    )


def only_follows() -> StoreUnavailable:
    """The error for a change by a store in the role of a follower."""
    return StoreUnavailable("this process only follows the store; send what changes it to the primary", sent=False)


def unknown_shard(uid: str, shard: int) -> CollectionNotFound:
    """The error for a shard that was never created, or was dropped."""
    return CollectionNotFound(f"the store holds no shard {shard} of collection {uid}", uid=uid, shard=shard)


def to_json(value: object) -> str:
    """Compact JSON text, the form in which documents are stored."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def pack_document(kind: str, name: str, value: Document) -> str:
    """What to store of a document: its JSON text with a checksum."""
    text = to_json(value)
    return to_json(value | {_CHECKSUM: _document_checksum(kind, name, text)})


def read_document(kind: str, name: str, text: str | bytes) -> Document | DamagedDocument:
    """The inverse of `pack_document`."""
    try:
        value = json.loads(text)
        if not isinstance(value, dict):
            raise ValueError("it is no JSON object")
        checksum = value.pop(_CHECKSUM, None)
        if checksum not in (None, _document_checksum(kind, name, to_json(value))):
            raise ValueError("it does not match its checksum")
    except (ValueError, RecursionError) as error:
        shown = text if isinstance(text, str) else text.decode(errors="replace")
        return DamagedDocument(shown, f"the store holds a damaged document of kind '{kind}' for '{name}': {error}")
    return value


def sound_document(kind: str, name: str, text: str | bytes) -> Document:
    """The same for a caller who needs it. Raises DamagedStore."""
    found = read_document(kind, name, text)
    if isinstance(found, DamagedDocument):
        raise DamagedStore(found.reason, kind=kind, name=name)
    return found


def _document_checksum(kind: str, name: str, text: str) -> str:
    return f"{crc32(f'{kind}/{name}/{text}'.encode('utf-8', 'surrogatepass')):08x}"
