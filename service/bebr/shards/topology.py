"""Who holds what: the leaves that are known of, and which shards of which collections each says that it has.

A gateway chooses by it whom to ask for shards. Nothing here is the truth: a leaf may be gone already, or hold less or
more than it said. Whoever asks it is told, and asks another one.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Holding:
    """One shard of one collection as a leaf has it."""

    seq: int
    """Seq of the last operation that readers saw when the leaf said so; they see at least that."""
    ready: bool
    """Whether it answers reads; else it is still on its way to what the store has."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A process that holds shards and answers reads of them."""

    name: str
    """Of this process, unlike that of any other one; one that is started again has another name."""
    address: str
    """Where it answers: `host:port`, or `unix:/path` of a socket."""
    zone: str
    """What fails together with it; "" where nobody said."""
    capacity: float
    """How much it holds, beside the others: of two it takes twice as much as of one."""
    wire: tuple[int, int]
    """The lowest and the highest version of the wire that it speaks."""
    holds: Mapping[str, Mapping[int, Holding]]
    """By uid of the collection, then by number of the shard."""


class Topology(Protocol):
    """The leaves as they are known now. One instance serves one event loop."""

    changed: asyncio.Event
    """Set whenever `leaves` says something else than before. Whoever waits for it clears it, then reads `leaves`."""

    def leaves(self) -> Sequence[Leaf]:
        """All that are alive, as known now. The same object as long as nothing has changed; costs nothing."""

    def gone(self, leaf: Leaf) -> None:
        """A call found that it does not answer: it is left out until it is heard of again."""
