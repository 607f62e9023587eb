"""Probing: searches that read lists of rows, best first, instead of all rows. See `bebr.core.lists` for the rule.

A filter that leaves few rows, or rows that lie together, is cheaper to answer by a scan of what it leaves than by
scoring centroids first: such a query reads everything, and so does one that has read half of all rows that match.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.filters import Filter
from bebr.core.scoring import DotQueries
from bebr.index.candidates import Candidates, Part
from bebr.index.scan import ScanQueries, Selection, candidates_of, masks_of_parts, scan
from bebr.index.segment import SegmentView

Tables = Mapping[tuple[int, int], kernel.CentroidTable]
"""The centroids of each (code version, generation) whose lists may be read."""
FLAT_ROWS_PER_LIST = 64
"""Where a filter leaves groups of rows to score with at most this many rows for each list, they are all scored
(docs/benchmarks.md#lists)."""
GROUP_ROWS = kernel.GROUP_ROWS


@dataclass(frozen=True, slots=True)
class ListsHeld:
    """The lists of one code version in a view."""

    tables: tuple[kernel.CentroidTable, ...]
    """Their centroids, by ascending generation."""
    rows: int
    """Living rows in them."""
    places: tuple[int, ...]
    """Of the parts that have lists."""

    @property
    def lists(self) -> int:
        """How many there are, of all generations."""
        return sum(map(len, self.tables))

    @property
    def generations(self) -> tuple[int, ...]:
        return tuple(table.generation for table in self.tables)


@dataclass(frozen=True, slots=True)
class ListsRead:
    """What the queries of one scan read of the lists of one code version."""

    held: ListsHeld
    lists: NDArray[np.int64]
    """(queries,): how many lists."""
    rows: NDArray[np.int64]
    """(queries,): rows that were scored, those in no list included."""
    is_whole: NDArray[np.bool_]
    """(queries,): all rows that match were scored, as that is cheaper; then `rows` are those in lists, about."""


def lists_held(parts: Sequence[Part], tables: Tables) -> dict[int, ListsHeld]:
    """The lists whose centroids are known, by number of the code version."""
    found: dict[int, list[int]] = {}
    for place, part in enumerate(parts):
        if part.live_count and lists_of(part, tables) is not None:
            found.setdefault(part.version, []).append(place)
    return {version: _held(version, parts, places, tables) for version, places in found.items()}


def lists_of(part: Part, tables: Tables) -> tuple[kernel.CentroidTable, NDArray[np.uint32]] | None:
    """The centroids of a part's lists, and where each begins; None where it has none, or they are not known."""
    if not isinstance(part, SegmentView) or (lists := part.segment.lists) is None:
        return None
    table = tables.get((part.version, lists.generation))
    return None if table is None or not lists.are_of(table) else (table, lists.begin)


def probe(
    selection: Selection, parts: Sequence[Part], queries: ScanQueries, held: ListsHeld
) -> tuple[list[Candidates], ListsRead]:
    """As `scan`, of the rows that the queries read by their rule."""
    assert queries.lists is not None and isinstance(queries.prepared, DotQueries), "it has a rule"
    matching, is_whole = cost(parts, queries.filters, held)
    lists, rows = np.zeros(len(queries), np.int64), np.zeros(len(queries), np.int64)
    found: list[Candidates | None] = [None] * len(queries)
    if is_whole.any():
        which = np.flatnonzero(is_whole)
        some = queries if is_whole.all() else queries.at(which)
        for query, candidates in zip(which.tolist(), scan(selection, parts, some), strict=True):
            found[query] = candidates
        rows[which] = matching[which]
    if not is_whole.all():
        which = np.flatnonzero(~is_whole)
        some = queries.at(which) if is_whole.any() else queries
        masks, mask_of_query = masks_of_parts(selection, parts, some.filters)
        rule, prepared = some.lists, some.prepared
        assert rule is not None and isinstance(prepared, DotQueries)
        read, lists[which], rows[which] = kernel.list_candidates(
            selection,
            prepared,
            some.limit,
            masks,
            mask_of_query,
            some.floors,
            deltas=rule.deltas,
            stop_at=rule.stop_at,
            flat_rows=matching[which] // 2,
        )
        for query, candidates in zip(which.tolist(), candidates_of(read), strict=True):
            found[query] = candidates
    return [one for one in found if one is not None], ListsRead(held, lists, rows, is_whole)


def _held(version: int, parts: Sequence[Part], places: list[int], tables: Tables) -> ListsHeld:
    generations = {part.segment.lists.generation for part in _segments(parts, places) if part.segment.lists}
    rows = sum(parts[place].live_count for place in places)
    return ListsHeld(tuple(tables[version, one] for one in sorted(generations)), rows, tuple(places))


def _segments(parts: Sequence[Part], places: Sequence[int]) -> list[SegmentView]:
    return [part for place in places if isinstance(part := parts[place], SegmentView)]


def cost(
    parts: Sequence[Part], filters: tuple[Filter | None, ...], held: ListsHeld
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(queries,) each: rows in lists that match about, and whether it is cheaper to score them all."""
    costs: dict[Filter | None, tuple[int, bool]] = {None: (held.rows, False)}
    for condition in filters:
        if condition is not None and condition not in costs:
            found = [part.segment.matches(condition) for part in _segments(parts, held.places)]
            groups = sum([one.groups for one in found])
            is_whole = groups * GROUP_ROWS <= FLAT_ROWS_PER_LIST * held.lists
            costs[condition] = sum([one.rows for one in found]), is_whole
    of_queries = [costs[condition] for condition in filters]
    return np.array([rows for rows, _ in of_queries], np.int64), np.array([whole for _, whole in of_queries])
