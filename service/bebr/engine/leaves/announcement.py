"""What a leaf says of itself in the store, as text that every release reads."""

import json
from dataclasses import dataclass
from typing import Any

from bebr.shards.topology import Holding, Leaf


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a leaf said last."""

    leaf: Leaf
    beat: int
    """How often it has said something: more than before, or nothing new was heard of it."""
    leaving: bool
    """It is about to stop, and holds what it has until others do."""

    def to_text(self) -> str:
        leaf = self.leaf
        holds = {
            uid: {str(shard): [one.seq, int(one.ready)] for shard, one in shards.items()}
            for uid, shards in leaf.holds.items()
        }
        said = {
            "address": leaf.address,
            "zone": leaf.zone,
            "capacity": leaf.capacity,
            "wire": leaf.wire,
            "beat": self.beat,
            "leaving": self.leaving,
            "holds": holds,
        }
        return json.dumps(said, separators=(",", ":"))

    @classmethod
    def of(cls, name: str, text: str) -> "Announcement | None":
        """None where it is not one that this release understands."""
        try:
            said = json.loads(text)
            leaf = Leaf(
                name,
                str(said["address"]),
                str(said["zone"]),
                float(said["capacity"]),
                (int(said["wire"][0]), int(said["wire"][1])),
                {str(uid): _shards(shards) for uid, shards in said["holds"].items()},
            )
            found = cls(leaf, int(said["beat"]), bool(said["leaving"]))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return None
        return found if leaf.capacity > 0 else None


def _shards(said: dict[str, Any]) -> dict[int, Holding]:
    return {int(shard): Holding(int(seq), bool(ready)) for shard, (seq, ready) in said.items()}
