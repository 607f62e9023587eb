"""What a follower applies of the commits that it is told of, in as few changes of the view as their ids allow."""

from collections.abc import Sequence

import numpy as np

from bebr.core.operations import Committed, DeleteWrite
from bebr.core.types import Puts
from bebr.index.shard import Shard
from bebr.shards.changes import ShardWrite, Values

INLINE_OPERATIONS = 64
"""Up to this many operations are applied on the event loop: a thread would cost more."""
MAX_JOINED_OPERATIONS = 64
"""Writes of more operations change the view by themselves."""
Done = tuple[ShardWrite, Committed]
"""A write, and what the store did with it."""


class Run:
    """Operations of several commits, no id twice, that become one change of the view."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._puts: dict[int, list[tuple[Puts, Values]]] = {}
        self._deletes: list[str] = []
        self._seq = 0

    def takes(self, change: ShardWrite) -> bool:
        return len(change.write.ids) <= MAX_JOINED_OPERATIONS and self._ids.isdisjoint(change.write.ids)

    def add(self, change: ShardWrite, committed: Committed) -> None:
        write, applied = change.write, committed.applied
        self._ids.update(write.ids)
        self._seq = committed.last_seq
        if isinstance(write, DeleteWrite):
            self._deletes += [i for i, yes in zip(write.ids, applied, strict=True) if yes]
        else:
            self._puts.setdefault(write.puts.version, []).append(_applied(write.puts, change.values, applied))

    def apply_to(self, shard: Shard) -> None:
        shard.apply([_joined(some) for some in self._puts.values()], self._deletes, self._seq)


def _joined(some: Sequence[tuple[Puts, Values]]) -> tuple[Puts, Values]:
    """Points of one code version as one batch, without their metadata, which views do not keep."""
    if len(some) == 1:
        return some[0]
    ids = [i for puts, _ in some for i in puts.ids]
    records = np.concatenate([puts.records for puts, _ in some])
    values = {key: [value for _, columns in some for value in columns[key]] for key in some[0][1]}
    return Puts(ids, some[0][0].version, records, []), values


def follow_on(done: Sequence[Done], seq: int) -> bool:
    """Whether the commits took the very seqs that follow `seq`: nothing of the shard is missing between them."""
    for _, committed in done:
        if committed.first_seq != seq + 1:
            return False
        seq = committed.last_seq
    return True


def last_applied(done: Sequence[Done]) -> tuple[int, str] | None:
    """Seq and id of the last operation that was applied, if one was."""
    for change, committed in reversed(done):
        if committed.last_seq >= committed.first_seq:
            places = [place for place, yes in enumerate(committed.applied) if yes]
            return committed.last_seq, change.write.ids[places[-1]]
    return None


def _applied(puts: Puts, values: Values, applied: list[bool]) -> tuple[Puts, Values]:
    """The points that were stored, and their values."""
    if all(applied):
        return puts, values
    keep = np.array(applied, bool)
    rows = np.flatnonzero(keep).tolist()
    kept = Puts([puts.ids[i] for i in rows], puts.version, puts.records[keep], [puts.metadata[i] for i in rows])
    return kept, {key: [column[i] for i in rows] for key, column in values.items()}
