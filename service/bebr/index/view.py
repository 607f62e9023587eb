"""What a reader sees of a shard: a value that never changes, whatever the writer and maintenance do meanwhile."""

from dataclasses import dataclass

from bebr.index.scan import Part


@dataclass(frozen=True, slots=True)
class ShardView:
    """What a reader sees."""

    parts: tuple[Part, ...]
    """Sealed, frozen and growing segments, each with the rows that are alive."""
    seq: int
    """The operations up to this seq are applied."""

    def points(self) -> dict[int, int]:
        """Living points by code version number."""
        counts: dict[int, int] = {}
        for part in self.parts:
            counts[part.version] = counts.get(part.version, 0) + part.live_count
        return {version: count for version, count in counts.items() if count}
