"""Which segments of a shard are worth making anew: rules alone, no data is touched."""

from collections.abc import Mapping, Sequence

from bebr.core.lists import Centroids
from bebr.core.types import FieldType
from bebr.index.candidates import Part
from bebr.index.lists.assigning import have_room
from bebr.index.segment import SegmentView

FANOUT = 4
"""Segments of similar size merged at once."""
MAX_SEGMENT_ROWS = 2**24
"""Segments are not merged to more rows than this."""
JOINED = 4
"""The largest segment of those that are joined has at most this many times the rows of the others."""
MAX_DEAD_SHARE = 0.3
"""A segment with a larger share of dead rows is made anew from the living ones."""
MIN_DEAD_ROWS = 64
"""Fewer dead rows are not worth starting maintenance for, unless they are more than the living ones."""
FEW_DEAD_ROWS = 16
"""Fewer are never worth it."""


def is_mostly_dead(part: Part) -> bool:
    """Whether enough rows are dead for a new segment to pay."""
    dead = part.rows - part.live_count
    return (dead >= MIN_DEAD_ROWS and _has_many_dead(part)) or (dead >= FEW_DEAD_ROWS and dead > part.live_count)


def segments_to_merge(segments: Sequence[SegmentView], head_rows: int) -> list[SegmentView]:
    """Segments of one version, with the same fields, worth making one; [] for none.

    They are FANOUT of a similar size, or one with many dead rows.
    """
    tiers: dict[tuple[int, int, frozenset[tuple[str, FieldType]]], list[SegmentView]] = {}
    for view in segments:
        if _has_many_dead(view):
            return [view]
        tier = 0
        while view.live_count > head_rows * FANOUT**tier:
            tier += 1
        tiers.setdefault((view.version, tier, frozenset(view.segment.fields.items())), []).append(view)
    for group in tiers.values():
        if len(group) >= FANOUT and sum(view.live_count for view in group[:FANOUT]) <= MAX_SEGMENT_ROWS:
            return group[:FANOUT]
    return []


def segments_to_join(segments: Sequence[SegmentView], lists: Mapping[int, Centroids]) -> list[SegmentView]:
    """Segments of one version, with the same fields, sorted by the lists that it has now or too small for them, worth
    making one while nothing is written; [] for none.

    A search reads a list in every segment that has it: a few rows of each cost more than the same rows of one. The
    largest is left alone until the others have a share of its rows, so that rows are not written over and over.
    """
    groups: dict[tuple[int, frozenset[tuple[str, FieldType]]], list[SegmentView]] = {}
    for view in segments:
        centroids = lists.get(view.version)
        if centroids is not None and not is_to_sort(view, centroids):
            groups.setdefault((view.version, frozenset(view.segment.fields.items())), []).append(view)
    for (version, _), group in groups.items():
        group.sort(key=lambda view: view.live_count)
        for count in range(len(group), 1, -1):
            largest, others = group[count - 1].live_count, sum(view.live_count for view in group[: count - 1])
            fits = largest + others <= MAX_SEGMENT_ROWS and have_room(largest + others, lists[version])
            if fits and largest <= JOINED * others:
                return group[:count]
    return []


def segment_to_sort(segments: Sequence[SegmentView], lists: Mapping[int, Centroids]) -> SegmentView | None:
    """A segment whose rows are not sorted by the lists that its version has now, where they should be."""
    for view in segments:
        centroids = lists.get(view.version)
        if centroids is not None and is_to_sort(view, centroids):
            return view
    return None


def is_to_sort(view: SegmentView, centroids: Centroids) -> bool:
    """Whether a segment should be sorted by the lists of these centroids, and is not."""
    has = view.segment.lists
    return have_room(view.live_count, centroids) if has is None else not has.are_of(centroids)


def _has_many_dead(part: Part) -> bool:
    return part.rows - part.live_count > MAX_DEAD_SHARE * part.rows
