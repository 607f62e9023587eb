"""Grouped scans: the best rows of each value of a field, from the scores of all rows and the field's column.

Two scans make an answer: the first finds the best hit of each of the best groups, the second the best hits of these
groups. A group belongs to the best ones by its best hit over all parts, and in the part where that hit is, no more
groups can come before it than over all; so each part hands over as many groups as are wanted, and nothing is lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.scoring import DotQueries, hamming_scores
from bebr.index.candidates import Candidates, Found, Part
from bebr.index.columns import items_of
from bebr.index.labels import Labels, Value
from bebr.index.rescoring import finer_scores
from bebr.index.scan import ScanQueries, ceiling_of, masks_of, top_rows
from bebr.index.scan_view import ScanView
from bebr.index.segment import SegmentView

Entries = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]
"""Scores, labels and items of hits."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """What hits are grouped by, and which are wanted."""

    key: str
    """A filterable field. A point with several values is in the group of each; one without a value is in none."""
    limit: int
    """Groups wanted, those with the best hits."""
    values: tuple[Value, ...] | None = None
    """The groups wanted; None: find them, and the best hit of each."""
    size: int = 1
    """Hits wanted of each group in `values`."""
    kept: int = 0
    """Hits that are kept of each of the `limit` best groups, once all are scored by rescore codes; 0: they are not."""
    threshold: float = -np.inf
    """The lowest finer score that counts."""


def scan_groups(parts: Sequence[Part], queries: ScanQueries, grouping: Grouping) -> Found:
    """The hits wanted by the one query, best first, with the scores of the answer. A point in several groups comes once
    for each."""
    places = [place for place, part in enumerate(parts) if part.version == queries.version and part.live_count]
    scanned = [(place, *_scan_part(parts[place], queries, grouping)) for place in places]
    if grouping.values is not None and len(scanned) > 1:
        together = [np.concatenate(arrays) for arrays in zip(*(entries for _, _, entries in scanned), strict=True)]
        least = _least_wanted(together[0], together[1], len(grouping.values), grouping.size)
        scanned = [(place, labels, _above(entries, least)) for place, labels, entries in scanned]
    found = merge_groups(
        [_found(parts[place], place, queries, labels, entries) for place, labels, entries in scanned], grouping
    )
    if queries.added is None and queries.thresholds is None:
        return found
    added = 0.0 if queries.added is None else float(queries.added[0])
    return found.raised(added, -np.inf if queries.thresholds is None else float(queries.thresholds[0]))


def merge_groups(found: Sequence[Found], grouping: Grouping) -> Found:
    """Join the hits of several parts, shards or code versions: the first of each group, up to what is wanted."""
    hits = sorted(
        (-score, point_id, place, value, version, distance, row)
        for one in found
        for score, point_id, (place, value), version, distance, row in zip(
            one.scores, one.ids, one.groups, one.versions, one.distances or [0] * len(one.ids), one.rows, strict=True
        )
    )
    taken: dict[Value, int] = {}
    kept = []
    for hit in hits:
        count = taken.get(hit[3], 0)
        if count < grouping.size and (count or grouping.values is not None or len(taken) < grouping.limit):
            taken[hit[3]] = count + 1
            kept.append(hit)
    is_hamming = any(one.distances is not None for one in found)
    return Found(
        [-hit[0] for hit in kept],
        [hit[1] for hit in kept],
        [hit[4] for hit in kept],
        [hit[5] for hit in kept] if is_hamming else None,
        [(hit[2], hit[3]) for hit in kept],
        [hit[6] for hit in kept],
    )


def rescore_groups(
    view: ScanView, found: Found, queries: Sequence[ScanQueries], grouping: Grouping, waits: bool = True
) -> tuple[Found, int]:
    """The hits that are kept by their finer scores, and how many rescore codes were read. Raises as `finer_scores`."""
    rows = np.array(found.rows, np.int64).reshape(-1, 2)
    candidates = Candidates(np.array(found.scores), rows[:, 0].astype(np.int32), rows[:, 1].copy())
    (scores,), (count,) = finer_scores(view, [candidates], [0], queries, waits)
    order = np.argsort(-scores, kind="stable").tolist()
    finer = Found(
        scores[order].tolist(),
        [found.ids[i] for i in order],
        [found.versions[i] for i in order],
        None,
        [found.groups[i] for i in order],
        [found.rows[i] for i in order],
    )
    best = replace(grouping, values=None, size=grouping.kept)
    return merge_groups([finer.raised(0.0, grouping.threshold)], best), count


def _scan_part(part: Part, queries: ScanQueries, grouping: Grouping) -> tuple[Labels, Entries]:
    labels = part.labels(grouping.key)
    if grouping.values is not None:
        labels = labels.only(grouping.values)
    if isinstance(part, SegmentView):
        return labels, _sealed_entries(part, queries, grouping, labels)
    return labels, _growing_entries(part, queries, grouping, labels)


def _sealed_entries(part: SegmentView, queries: ScanQueries, grouping: Grouping, labels: Labels) -> Entries:
    """The kernel keeps the best rows of each label, of equal scores those of the lowest ids."""
    ranks = part.segment.ranks()
    masks, _ = masks_of(part, queries.filters)
    mask = None if masks is None else masks[0]
    count, size = len(labels.values), grouping.size
    prepared = queries.prepared
    if isinstance(prepared, DotQueries):
        scores, items = kernel.dot_top_labels(
            part.blocked, part.gains, part.rows, part.spec, prepared, size, mask, float(queries.floors[0]),
            codes=labels.codes, starts=labels.starts, labels=count, wanted=grouping.limit, ranks=ranks,
        )  # fmt: skip
    else:
        distances, items = kernel.hamming_top_labels(
            part.blocked, part.rows, part.spec, prepared, size, mask, int(ceiling_of(queries.floors)[0]),
            codes=labels.codes, starts=labels.starts, labels=count, wanted=grouping.limit, ranks=ranks,
        )  # fmt: skip
        scores = -distances.astype(np.float32)
    kept = np.flatnonzero(items.ravel() >= 0)
    flat_scores, flat_items = scores.ravel()[kept], items.ravel()[kept]
    if grouping.values is None and len(kept) > grouping.limit:
        rows = flat_items if labels.starts is None else np.searchsorted(labels.starts, flat_items, side="right") - 1
        order = np.lexsort((flat_items, rows if ranks is None else ranks[rows], -flat_scores))[: grouping.limit]
        kept, flat_scores, flat_items = kept[order], flat_scores[order], flat_items[order]
    return flat_scores, kept // size, flat_items


def _growing_entries(part: Part, queries: ScanQueries, grouping: Grouping, labels: Labels) -> Entries:
    """Rows are not sorted by id here: all that are tied with the last one wanted of a group are handed over."""
    all_scores, all_rows = top_rows(part, queries)
    rows = all_rows[all_rows >= 0]
    scores = all_scores[: len(rows)]
    items = rows
    if labels.starts is not None:
        items = items_of(labels.starts, rows)
        scores = np.repeat(scores, np.diff(labels.starts)[rows])
    numbers = labels.codes[items].astype(np.int64)
    has = numbers >= 0
    entries = scores[has], numbers[has], items[has]
    least = _least_wanted(entries[0], entries[1], len(labels.values), grouping.size)
    present = np.flatnonzero(least < np.inf)
    if grouping.values is None and len(present) > grouping.limit:
        place = len(present) - grouping.limit
        least = np.maximum(least, np.partition(least[present], place)[place])
    return _above(entries, least)


def _least_wanted(
    scores: NDArray[np.float32], numbers: NDArray[np.int64], labels: int, size: int
) -> NDArray[np.float32]:
    """(labels,): the score of the last hit wanted of each label; infinite where there is none."""
    order = np.lexsort((-scores, numbers))
    counts = np.bincount(numbers, minlength=labels)
    present = np.flatnonzero(counts)
    last = (np.cumsum(counts) - counts + np.minimum(counts, size) - 1)[present]
    least = np.full(labels, np.inf, np.float32)
    least[present] = scores[order[last]]
    return least


def _above(entries: Entries, least: NDArray[np.float32]) -> Entries:
    """The entries that may be wanted: those tied with the last one are."""
    scores, numbers, items = entries
    kept = scores >= least[numbers]
    return scores[kept], numbers[kept], items[kept]


def _found(part: Part, place: int, queries: ScanQueries, labels: Labels, entries: Entries) -> Found:
    scores, numbers, items = entries
    rows, orders = items, np.zeros(len(items), np.int64)
    if labels.starts is not None:
        rows = np.searchsorted(labels.starts, items, side="right") - 1
        orders = items - labels.starts[rows]
    groups = [(order, labels.value(n)) for order, n in zip(orders.tolist(), numbers.tolist(), strict=True)]
    ids, versions = part.ids_at(rows.tolist()), [queries.version] * len(rows)
    where = [(place, row) for row in rows.tolist()]
    if isinstance(queries.prepared, DotQueries):
        return Found(scores.tolist(), ids, versions, None, groups, where)
    distances = (-scores).astype(np.int32)
    in_all = hamming_scores(distances, part.spec.dims).tolist()
    return Found(in_all, ids, versions, distances.tolist(), groups, where)
