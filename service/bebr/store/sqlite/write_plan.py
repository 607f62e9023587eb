"""What a group of writes will do to one shard, worked out before the database is touched. Pure.

The store reads once which ids are living, the plan decides every operation of every write, and the store writes once
what remains. So the number of SQL statements does not grow with the number of writes in the group.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bebr.core.operations import Committed, DeleteWrite, PutWrite, Receipt, ShardCounters, Write
from bebr.core.types import Puts, WriteMode
from bebr.store.protocol import receipt_conflict

ReceiptKey = tuple[int, str]
"""(shard, key)"""
StoredReceipt = tuple[bytes, Committed]
"""(digest, what the write did)"""


@dataclass(frozen=True, slots=True)
class PutRows:
    """The points of one write that are still the latest of their id: `positions` in `puts`, with the seq of each."""

    puts: Puts
    positions: list[int]
    seqs: list[int]


@dataclass(frozen=True, slots=True)
class _Step:
    """A write that changed something: `positions` of its applied operations, the first of which took `first_seq`."""

    write: Write
    positions: list[int]
    first_seq: int


class ShardPlan:
    """Writes applied in memory to the part of a shard that they touch.

    `living`: those ids of all writes to come that are points now. `seqs`: of those that a write compares. `counters`
    move along with the writes.
    """

    def __init__(self, counters: ShardCounters, living: Collection[str], seqs: Mapping[str, int]) -> None:
        self._seqs = seqs
        self._purged_seq = counters.purged_seq
        self._living = set(living)
        self._points_elsewhere = counters.points - len(self._living)
        self._last_seq = counters.last_seq
        self._steps: list[_Step] = []
        self._seq_of_id: dict[str, int] = {}

    @property
    def counters(self) -> ShardCounters:
        return ShardCounters(self._points_elsewhere + len(self._living), self._last_seq, self._purged_seq)

    def apply(self, write: Write) -> Committed:
        """Decide every operation of the write; the applied ones take the next seqs."""
        applied = self._decide(write)
        positions = [position for position, yes in enumerate(applied) if yes]
        first_seq = self._last_seq + 1
        if positions:
            ids = write.ids if len(positions) == len(applied) else [write.ids[position] for position in positions]
            self._last_seq += len(positions)
            self._seq_of_id.update(zip(ids, range(first_seq, first_seq + len(ids)), strict=True))
            if isinstance(write, PutWrite):
                self._living.update(ids)
            else:
                self._living.difference_update(ids)
            self._steps.append(_Step(write, positions, first_seq))
        return Committed(applied, first_seq, self._last_seq)

    def _decide(self, write: Write) -> list[bool]:
        allowed = self._allowed(write)
        if write.if_seqs is None:
            return allowed
        return [yes and self._seq(id) == seq for yes, id, seq in zip(allowed, write.ids, write.if_seqs, strict=True)]

    def _seq(self, id: str) -> int:
        """0 where it is no point."""
        return (self._seq_of_id.get(id) or self._seqs.get(id, 0)) if id in self._living else 0

    def _allowed(self, write: Write) -> list[bool]:
        """By its mode."""
        living = self._living
        if isinstance(write, DeleteWrite) or write.mode is WriteMode.UPDATE_ONLY:
            return [id in living for id in write.ids]
        if write.mode is WriteMode.INSERT_ONLY:
            return [id not in living for id in write.ids]
        return [True] * len(write.ids)

    def put_rows(self) -> Iterator[PutRows]:
        """The points to store: of each id only what its last write left."""
        for step in self._steps:
            if isinstance(step.write, PutWrite):
                kept = self._kept(step)
                yield PutRows(step.write.puts, [position for position, _ in kept], [seq for _, seq in kept])

    def tombstones(self) -> list[tuple[int, str]]:
        """(seq, id) of the tombstones to store."""
        return [
            (seq, step.write.ids[position])
            for step in self._steps
            if isinstance(step.write, DeleteWrite)
            for position, seq in self._kept(step)
        ]

    def _kept(self, step: _Step) -> list[tuple[int, int]]:
        """(position, seq) of those operations of the step that no later one superseded."""
        ids, seq_of_id = step.write.ids, self._seq_of_id
        return [
            (position, seq)
            for seq, position in enumerate(step.positions, step.first_seq)
            if seq_of_id[ids[position]] == seq
        ]


class ReceiptBook:
    """The receipts that a group of commits refers to: those already stored, and those it adds."""

    def __init__(self, stored: dict[ReceiptKey, StoredReceipt]) -> None:
        self._known = dict(stored)
        self.added: list[tuple[int, Receipt, Committed]] = []

    def check(self, shard: int, writes: Sequence[Write]) -> None:
        """Raise IdempotencyConflict when one of the writes bears a key that represents something else."""
        digests: dict[str, bytes] = {}
        for receipt in filter(None, (write.receipt for write in writes)):
            stored = self._known.get((shard, receipt.key))
            digest = stored[0] if stored else digests.setdefault(receipt.key, receipt.digest)
            if digest != receipt.digest:
                raise receipt_conflict(receipt.key)

    def find(self, shard: int, receipt: Receipt | None) -> Committed | None:
        """What the write of this receipt did before, marked as replayed."""
        stored = self._known.get((shard, receipt.key)) if receipt else None
        return replace(stored[1], replayed=True) if stored else None

    def note(self, shard: int, receipt: Receipt | None, committed: Committed) -> None:
        """Remember what a write did, if it has a receipt."""
        if receipt:
            self._known[shard, receipt.key] = (receipt.digest, committed)
            self.added.append((shard, receipt, committed))
