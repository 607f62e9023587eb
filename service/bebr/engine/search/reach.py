"""What a read must see before it begins: what other processes have acknowledged, and what its caller asks for."""

from collections.abc import Iterable, Mapping

from bebr.engine.collections.collection import Collection
from bebr.errors import InvalidOption

MAX_SEQ = 2**53
"""What JSON numbers hold exactly."""
NO_SEQS: Mapping[int, int] = {}


async def reach(collection: Collection, min_seq: Mapping[int, int] | None = None, strong: bool = False) -> None:
    """Return once reads see it. min_seq: operations by shard. strong: all that the store has.

    Raises NotReady where the store has no such operations for too long, InvalidOption.
    """
    shards = collection.shards
    if min_seq is not None:
        _check(min_seq, collection)
    if strong:
        await shards.reach_store()
    if min_seq or shards.behind():
        await shards.reach(min_seq or NO_SEQS)


def latest(min_seqs: Iterable[Mapping[int, int] | None]) -> dict[int, int] | None:
    """What several reads at once must see."""
    found: dict[int, int] | None = None
    for one in min_seqs:
        if one is not None:
            found = found or {}
            found |= {shard: max(seq, found.get(shard, 0)) for shard, seq in one.items()}
    return found


def _check(min_seq: Mapping[int, int], collection: Collection) -> None:
    shards = collection.document.shards
    for shard, seq in min_seq.items():
        if not 0 <= shard < shards or not 0 <= seq <= MAX_SEQ:
            raise InvalidOption(
                f"min_seq: expected the `seq` of an answer to a write, {{shard: seq}} with shards 0 to {shards - 1} of "
                f"'{collection.name}', got {{{shard}: {seq}}}",
                key="min_seq",
            )
