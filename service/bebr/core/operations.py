"""The operations on the points of a shard, as they cross from whoever writes to the store and back. Plain data.

A shard of a collection is a map of id -> point, plus a counter: every operation that changes the map takes the next
*seq*. The *feed* lists the latest operation of each id by ascending seq. `bebr.store.protocol` says what a store
promises about them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, NamedTuple

from bebr.core.history import Epoch, History
from bebr.core.types import Puts, WriteMode
from bebr.errors import DuplicateId, InvalidOption, PayloadTooLarge

MAX_COMMIT_OPERATIONS = 10_000
MAX_COMMIT_BYTES = 8 * 2**20
"""What one commit carries at most, in ids, records and metadata: a store is busy with a commit until it is done. Larger
batches are split by whoever writes them."""
MAX_POINT_BYTES = 64 * 2**20
"""A commit of one operation, which cannot be split, may be larger: up to here."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Makes a write happen once, however often it is sent."""

    key: str
    """Names the request. The same key with another digest raises IdempotencyConflict."""
    digest: bytes
    """What was requested: of the request as it came, since encoding a text twice need not give the same bits."""


@dataclass(frozen=True)
class PutWrite:
    """Store the points. The ids of one write are distinct."""

    puts: Puts
    mode: WriteMode = WriteMode.UPSERT
    receipt: Receipt | None = None
    shrinks: bool = False
    """The points exist, and with this take no more room than before."""
    if_seqs: Sequence[int] | None = None
    """Store each point only where its id has this very seq now, 0 meaning that it is no point."""

    @property
    def ids(self) -> list[str]:
        return self.puts.ids

    @cached_property
    def size_bytes(self) -> int:
        return _utf8_size(self.puts.ids) + self.puts.records.nbytes + _utf8_size(self.puts.metadata)


@dataclass(frozen=True)
class DeleteWrite:
    """Delete the points of these ids. The ids of one write are distinct."""

    ids: list[str]
    receipt: Receipt | None = None
    if_seqs: Sequence[int] | None = None
    """Delete each point only where it has this very seq now."""
    shrinks: ClassVar[bool] = True

    @cached_property
    def size_bytes(self) -> int:
        return _utf8_size(self.ids)


Write = PutWrite | DeleteWrite


@dataclass(frozen=True, slots=True)
class Commit:
    """Writes that become durable together or not at all."""

    shard: int
    writes: Sequence[Write]
    """Applied in this order."""

    @property
    def operations(self) -> int:
        return sum(len(write.ids) for write in self.writes)

    @property
    def size_bytes(self) -> int:
        return sum(write.size_bytes for write in self.writes)

    @property
    def shrinks(self) -> bool:
        """Whether it is to pass where there is no room for more points."""
        return all(write.shrinks for write in self.writes)


@dataclass(frozen=True, slots=True)
class Committed:
    """What one write did."""

    applied: list[bool]
    """For each operation; False where the mode or its seq refused it, or where the id to delete did not exist."""
    first_seq: int
    """Seq of the first operation that was applied; they took the seqs up to `last_seq` in order."""
    last_seq: int
    """Where none was applied: the last seq of the shard, and `first_seq` is the one after it."""
    replayed: bool = False
    """The receipt was known: nothing was done now, and this is what was done then."""
    epoch: Epoch | None = field(default=None, compare=False)
    """That of the shard when this was applied, where a store may begin one while it is open; `start_seq` is -1 unless
    the commit has begun it."""


CommitOutcome = list[Committed] | Exception
"""One Committed for each write of a commit, or why nothing of it was applied."""


class FeedEntry(NamedTuple):
    """The latest operation of one id. A tombstone has neither record nor metadata, and version 0."""

    seq: int
    id: str
    version: int
    record: bytes | None
    metadata: str | None
    is_damaged: bool = False
    """What is stored is not what was written; nothing of it is here but its seq, and an id that may be wrong."""


@dataclass(frozen=True, slots=True)
class ShardCounters:
    """What a store counts of a shard."""

    points: int
    """Living points."""
    last_seq: int
    """Seq of the last operation, 0 when there was none."""
    purged_seq: int = 0
    """Highest seq of a tombstone that was purged. A view with a lower seq may have missed a delete and must be
    rebuilt from seq 0."""


@dataclass(frozen=True, slots=True)
class FeedPage:
    """A page of the feed of a shard, and what the store knew of the shard at that moment."""

    entries: Sequence[FeedEntry]
    """By ascending seq; none where nothing follows."""
    counters: ShardCounters
    history: History
    """Tells whether the store still has what a view has that is to apply the entries."""


def check_commit(commit: Commit) -> None:
    """Raise DuplicateId where one write names an id twice, PayloadTooLarge where the commit is over the limits."""
    for write in commit.writes:
        if len(set(write.ids)) != len(write.ids):
            twice = _first_repeated(write.ids)
            raise DuplicateId(f"duplicate id {twice!r:.80} in one write; send it once", id=twice)
        if write.if_seqs is not None and len(write.if_seqs) != len(write.ids):
            raise InvalidOption(f"if_seqs needs a seq for each of {len(write.ids)} ids, got {len(write.if_seqs)}")
    check_commit_size(commit)


def fits_commit(operations: int, size_bytes: int) -> bool:
    """Whether one commit may carry so much."""
    most_bytes = MAX_COMMIT_BYTES if operations > 1 else max(MAX_COMMIT_BYTES, MAX_POINT_BYTES)
    return operations <= MAX_COMMIT_OPERATIONS and size_bytes <= most_bytes


def check_commit_size(commit: Commit) -> None:
    """Raise PayloadTooLarge where the commit is over the limits."""
    if not fits_commit(operations := commit.operations, size := commit.size_bytes):
        raise PayloadTooLarge(
            f"one write takes at most {MAX_COMMIT_OPERATIONS} points and {MAX_COMMIT_BYTES} bytes for one shard, got "
            f"{operations} points and {size} bytes; send fewer points at once"
        )


def _first_repeated(ids: Sequence[str]) -> str:
    """The first id that stands a second time; there must be one."""
    seen: set[str] = set()
    for point_id in ids:
        if point_id in seen:
            return point_id
        seen.add(point_id)
    raise ValueError("no id is repeated")


def _utf8_size(texts: Sequence[str]) -> int:
    joined = "".join(texts)
    return len(joined) if joined.isascii() else len(joined.encode("utf-8", "surrogatepass"))
