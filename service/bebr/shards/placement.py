"""Which leaves hold which shards: a pure function of the leaves that there are, so nobody has to agree on anything.

Weighted rendezvous hashing: each leaf has a score for each shard, by a hash of both and its capacity, and the leaves
with the highest scores hold the shard. Where a leaf joins, it takes shards from others and nothing moves between those;
where one leaves, only its shards move.

Replicas are in zones of their own as far as there are enough: the best leaf of each zone comes before the second of
any.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

WHOLE = -1
"""In the place of a shard's number: all shards of a collection, which are held together."""


@dataclass(frozen=True, slots=True)
class Place:
    """A leaf that may hold shards."""

    name: str
    zone: str = ""
    """Leaves of one zone may fail together."""
    capacity: float = 1.0
    """How much it holds beside the others, above 0."""


def holders(uid: str, shard: int, places: Iterable[Place], replicas: int) -> list[str]:
    """Names of the leaves that hold a shard of the collection `uid`, the best first: `replicas`, or all there are.

    shard: its number, or WHOLE.
    """
    best = sorted(places, key=lambda place: (-_score(uid, shard, place), place.name))
    taken: dict[str, int] = {}
    ranked: list[tuple[int, int, str]] = []
    for order, place in enumerate(best):
        rank = taken.get(place.zone, 0)
        taken[place.zone] = rank + 1
        ranked.append((rank, order, place.name))
    return [name for _, _, name in sorted(ranked)[:replicas]]


def shards_of(
    leaf: str, uid: str, shards: int, places: Sequence[Place], *, replicas: int, is_whole: bool
) -> frozenset[int]:
    """Numbers of the shards of a collection that a leaf is to hold. is_whole: all of them lie together."""
    if is_whole:
        return frozenset(range(shards)) if leaf in holders(uid, WHOLE, places, replicas) else frozenset()
    return frozenset(shard for shard in range(shards) if leaf in holders(uid, shard, places, replicas))


def _score(uid: str, shard: int, place: Place) -> float:
    """Exponential with the capacity as its rate: the share of shards for which it is the highest is that of the
    capacity. (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005.)"""
    digest = blake2b(f"{uid}/{shard}/{place.name}".encode(), digest_size=8).digest()
    uniform = (int.from_bytes(digest, "big") + 0.5) / 2**64
    return place.capacity / -math.log(uniform)
