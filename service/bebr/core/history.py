"""How a store knows its own past: an id, and the epochs in which the operations of a shard were written. Plain data.

Operations are written in *epochs*, each under a random name of its own. A process that opens the files of a store and
writes begins a new one of each shard that it writes to; a server begins one after each start and each failover, whoever
writes. So every seq is of one epoch, and two stores that were once one (a copy that went on, an older copy that was
put back, a replica that took over) name the epochs that they wrote apart differently. A view keeps a `Mark` of the last
operation that it has; `History.lost` tells whether the store still has that very operation.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

MAX_EPOCHS = 256
"""Epochs that a store remembers of a shard. A mark of an older one cannot be recognized: its view is rebuilt."""


class Epoch(NamedTuple):
    """Writes to a shard in a row, by one that has all of those before."""

    start_seq: int
    """Seq of the last operation before it."""
    name: str


class Mark(NamedTuple):
    """Names one operation of a shard, of one store, for ever."""

    store: str
    """Id of the store; empty in what releases without ids wrote."""
    epoch: str
    """Name of the epoch that the operation belongs to; empty where it is older than all epochs."""
    seq: int


class Loss(NamedTuple):
    """A store does not have an operation that it once had."""

    reason: str
    in_epoch: bool
    """The store ends within the very epoch of the operation: no other copy was put there, its end is missing."""


@dataclass(frozen=True, slots=True)
class History:
    """What a store knows of the past of one shard."""

    store: str
    """The store's id."""
    epochs: Sequence[Epoch]
    """By ascending start; the last one is that of the next commit."""
    last_seq: int
    lossless: bool
    """The store promises that no crash loses an acknowledged commit, so that a missing end means damage."""

    def mark(self, seq: int) -> Mark:
        """The mark of an operation, also of one that the open store will write next."""
        return Mark(self.store, self._epoch_of(seq), seq)

    def after(self, epoch: Epoch, seq: int) -> "History | None":
        """The history once the operation after `seq` is of this epoch. None where somebody else has begun the epoch,
        perhaps before `seq`: only the store knows. epoch: its start is -1 where another operation began it."""
        if self.epochs and self.epochs[-1].name == epoch.name:
            return self
        if epoch.start_seq != seq:
            return None
        return replace(self, epochs=[*(one for one in self.epochs if one.start_seq < seq), epoch])

    def lost(self, mark: Mark) -> Loss | None:
        """Why the store does not have the operation of a mark; None where it has it."""
        if not mark.seq:
            return None
        if mark.store not in ("", self.store):
            reason = f"the store is another one (its id is {self.store}, before it was {mark.store})"
            return Loss(f"{reason}: it had operation {mark.seq}, and has {self.last_seq}", False)
        ends = [epoch.start_seq for epoch in self.epochs[1:]]
        names = [epoch.name for epoch in self.epochs]
        if mark.epoch == self._epoch_of(min(mark.seq, self.last_seq)):
            if mark.seq <= self.last_seq:
                return None
            return Loss(f"the store went back from {mark.seq} to {self.last_seq}", True)
        if mark.epoch in names[:-1]:
            parted = ends[names.index(mark.epoch)]
            return Loss(f"the store went back from {mark.seq} to {parted}, and on to {self.last_seq} from there", False)
        return Loss(f"the store went back from {mark.seq} to another past, which ends at {self.last_seq}", False)

    def _epoch_of(self, seq: int) -> str:
        return next((epoch.name for epoch in reversed(self.epochs) if epoch.start_seq < seq), "")


def new_store_id() -> str:
    return secrets.token_hex(12)


def new_epoch() -> str:
    """A name that no epoch had before."""
    return secrets.token_hex(8)
