"""What a reader sees of a shard: a value that never changes, whatever the writer and maintenance do meanwhile."""

from collections.abc import Mapping
from dataclasses import dataclass

from bebr.index.candidates import Part


@dataclass(frozen=True, slots=True)
class ShardView:
    """What a reader sees."""

    parts: tuple[Part, ...]
    """Sealed, frozen and growing segments, each with the rows that are alive."""
    seq: int
    """The operations up to this seq are applied."""

    points: Mapping[int, int]
    """Living points by code version number; versions without points are left out."""
    scan_size_bytes: int
    """Bytes of codes and gains that a scan of all parts reads."""

    @classmethod
    def of(cls, parts: tuple[Part, ...], seq: int) -> "ShardView":
        """Counted once here, since every search asks for the counts."""
        points: dict[int, int] = {}
        for part in parts:
            if part.live_count:
                points[part.version] = points.get(part.version, 0) + part.live_count
        return cls(parts, seq, points, sum(part.rows * part.spec.scan_record_size_bytes for part in parts))
