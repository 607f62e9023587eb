"""Making sealed segments: from a frozen one, and from several sealed ones. Runs beside readers and the writer.

Both return where each old row went, so that the shard can carry over the deaths of the meantime.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.codes import CodeSpec
from bebr.core.lists import Centroids
from bebr.core.types import FieldType
from bebr.index import segment_file
from bebr.index.candidates import Part
from bebr.index.column_merge import merge_columns
from bebr.index.columns import Column, build_column, unpack_mask
from bebr.index.growing import NO_ROW, GrowingView
from bebr.index.lists.assigning import Assigned, assign_lists, have_room
from bebr.index.lists.segment_lists import SegmentLists
from bebr.index.segment import Segment, SegmentView, read_rescore_rows, write_segment
from bebr.index.strings import StringTable, build_lookup, hash_strings, hashes_of
from bebr.kernel import rescore

RESCORE_ROWS = 4096
"""Rescore codes pass through memory this many at a time."""
CODE_ROWS = 2**14
"""Codes do; so many are whole pieces of a file."""
NO_COLUMNS: Mapping[str, Column] = MappingProxyType({})


def seal(view: GrowingView, path: Path, centroids: Centroids | None = None) -> NDArray[np.int64]:
    """Write the live rows of a frozen segment as a sealed one, with lists of these centroids where they pay.

    Returns (view.rows,) int64: the new row of each old one, -1 where it was dead.
    """
    frozen = view.segment
    alive = np.flatnonzero(unpack_mask(view.live, view.rows)).tolist()
    rows = np.array(sorted(alive, key=frozen.ids.__getitem__), np.int64)
    lists = None
    if centroids is not None and have_room(len(rows), centroids):
        numbers, scores = assign_lists(frozen.blocked, view.rows, centroids)
        mean_score = _mean(scores[rows], frozen.gains[rows])
        generation, checksum = centroids.generation, centroids.checksum
        lists, order = SegmentLists.of(generation, numbers[rows], len(centroids), mean_score, checksum)
        rows = rows[order]
    ids = StringTable.build(frozen.ids[row] for row in rows.tolist())
    columns = {
        key: build_column(kind, [frozen.values[key][row] for row in rows.tolist()])
        for key, kind in frozen.fields.items()
    }
    blocked = _blocked(kernel.unpack(frozen.blocked, frozen.spec, rows), frozen.spec)
    lookup = build_lookup(hash_strings(ids))
    finer = (rescore.with_checksums(view.rescore[rows[some]]) for some in _chunks(len(rows), RESCORE_ROWS))
    gains = frozen.gains[rows]
    write_segment(path, frozen.version, frozen.spec, ids, lookup, blocked, gains, frozen.fields, columns, finer, lists)
    return _moves(view.rows, rows)


def compact(
    views: Sequence[SegmentView],
    path: Path,
    centroids: Centroids | None = None,
    assigned: Assigned | None = None,
    *,
    fields: Mapping[str, FieldType] | None = None,
    made: Mapping[str, Column] = NO_COLUMNS,
) -> list[NDArray[np.int64]]:
    """Write the live rows of several segments of one version, with the same fields, as one. Raises DamagedSegment.

    It has lists of these centroids where they pay; without centroids those of the generation that all have. Rows that
    are in a list of that generation stay in it. assigned: the lists of the rows of the one segment, where known.
    fields: those that it has, in place of its own; made: columns of fields that are new.
    Returns for each of them (rows,) int64: the new row of each old one, -1 where it was dead.
    """
    segments = [view.segment for view in views]
    lost = kernel.lost_pages()
    for segment in segments:
        segment.check_ids()
        segment.check()
    moves = _compact(views, segments, path, centroids, assigned, segments[0].fields if fields is None else fields, made)
    for segment in segments:  # what is mapped may have changed meanwhile
        if segment.notice_change() or kernel.lost_pages() != lost:
            segment.forget_checks()
            segment.check_ids()
            segment.check()
    return moves


def carried_over(
    segment: Segment, before: Sequence[Part], now: Mapping[int, Part], moves: Sequence[NDArray[np.int64]]
) -> SegmentView:
    """The segment that was made of some parts, without the rows that died meanwhile.

    now: the parts of today, by the id of their segment object. moves: as they were returned here, of each part.
    """
    view = SegmentView.of(segment)
    for old, moved in zip(before, moves, strict=True):
        died = _alive(old)
        if (today := now.get(id(old.segment))) is not None:  # else all of it died
            died &= ~_alive(today)
        view = view.without(moved[np.flatnonzero(died)])
    return view


def _alive(part: Part) -> NDArray[np.bool_]:
    return unpack_mask(part.live, part.rows)


def _compact(
    views: Sequence[SegmentView],
    segments: Sequence[Segment],
    path: Path,
    centroids: Centroids | None,
    assigned: Assigned | None,
    fields: Mapping[str, FieldType],
    made: Mapping[str, Column],
) -> list[NDArray[np.int64]]:
    """Codes pass through memory some at a time; what is made for all rows is freed as soon as it was used."""
    spec = segments[0].spec
    alive = [np.flatnonzero(unpack_mask(view.live, view.rows)) for view in views]
    order, ids, lists = _merge_order(segments, alive, centroids, assigned)
    owner = np.repeat(np.arange(len(views), dtype=np.int32), [len(rows) for rows in alive])[order]
    row = np.concatenate(alive)[order]
    gains = np.concatenate([s.gains[rows] for s, rows in zip(segments, alive, strict=True)])[order]
    lookup = _merge_lookups(segments, alive, order)
    codes = segment_file.Streamed(kernel.blocked_size_bytes(spec, len(row)), _code_chunks(segments, owner, row, spec))
    columns = {
        key: merge_columns(kind, [made.get(key) or s.columns[key] for s in segments], alive, order)
        for key, kind in fields.items()
    }
    finer = (read_rescore_rows(segments, owner[some], row[some], spec) for some in _chunks(len(row), RESCORE_ROWS))
    del order
    write_segment(path, segments[0].version, spec, ids, lookup, codes, gains, fields, columns, finer, lists)
    return [_moves(view.rows, row[owner == i], np.flatnonzero(owner == i)) for i, view in enumerate(views)]


def _chunks(rows: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, rows, size))


def _code_chunks(
    segments: Sequence[Segment], owner: NDArray[np.int32], row: NDArray[np.int64], spec: CodeSpec
) -> Iterator[NDArray[np.uint8]]:
    """Blocked codes of the rows (n,) of segments, each of the one whose place is owner (n,)."""
    for some in _chunks(len(row), CODE_ROWS):
        codes = np.empty((len(row[some]), spec.code_size_bytes), np.uint8)
        for place, segment in enumerate(segments):
            which = np.flatnonzero(owner[some] == place)
            codes[which] = kernel.unpack(segment.blocked, spec, row[some][which])
        yield _blocked(codes, spec)


def _merge_lookups(
    segments: Sequence[Segment], alive: Sequence[NDArray[np.int64]], order: NDArray[np.int64]
) -> NDArray[np.uint64]:
    hashes = np.concatenate([hashes_of(s.lookup)[rows] for s, rows in zip(segments, alive, strict=True)])
    return build_lookup(hashes[order])


def _merge_order(
    segments: Sequence[Segment],
    alive: Sequence[NDArray[np.int64]],
    centroids: Centroids | None,
    assigned: Assigned | None,
) -> tuple[NDArray[np.int64], StringTable, SegmentLists | None]:
    """The order of the rows of the merged segment, their ids, and their lists."""
    padded = np.concatenate([s.ids.padded()[rows] for s, rows in zip(segments, alive, strict=True)])
    lengths = np.concatenate([s.ids.lengths()[rows] for s, rows in zip(segments, alive, strict=True)])
    order, lists = np.argsort(padded, kind="stable"), None
    if (target := _target(segments, len(order), centroids)) is not None:
        generation, count, checksum = target
        found = [_numbers(s, rows, centroids, assigned) for s, rows in zip(segments, alive, strict=True)]
        numbers = np.concatenate([of_segment for of_segment, _ in found])[order]
        mean_score = float(np.average([mean for _, mean in found], weights=[max(1, len(rows)) for rows in alive]))
        lists, by_list = SegmentLists.of(generation, numbers, count, mean_score, checksum)
        order = order[by_list]
    return order, StringTable.from_padded(padded, lengths, order), lists


def _target(segments: Sequence[Segment], rows: int, centroids: Centroids | None) -> tuple[int, int, int | None] | None:
    """The generation of the merged segment, how many lists it has, and the checksum of their centroids; None: it has
    none."""
    if centroids is not None:
        return (centroids.generation, len(centroids), centroids.checksum) if have_room(rows, centroids) else None
    found = {None if s.lists is None else (s.lists.generation, len(s.lists), s.lists.checksum) for s in segments}
    return found.pop() if len(found) == 1 else None


def _numbers(
    segment: Segment,
    rows: NDArray[np.int64],
    centroids: Centroids | None,
    assigned: Assigned | None,
) -> tuple[NDArray[np.int32], float]:
    """The list of each of these rows, and their mean score there."""
    if segment.lists is not None and (centroids is None or segment.lists.are_of(centroids)):
        return segment.lists.numbers()[rows], segment.lists.mean_score
    assert centroids is not None, "segments of one generation need no centroids, and others are not merged without"
    numbers, scores = assigned or assign_lists(segment.blocked, segment.rows, centroids)
    return numbers[rows], _mean(scores[rows], segment.gains[rows])


def _mean(scores: NDArray[np.float32], gains: NDArray[np.float16]) -> float:
    return float((scores * gains.astype(np.float32)).mean()) if len(scores) else 0.0


def _blocked(codes: NDArray[np.uint8], spec: CodeSpec) -> NDArray[np.uint8]:
    blocked = kernel.allocate(kernel.blocked_size_bytes(spec, len(codes)))
    kernel.pack(codes, spec, blocked, 0)
    return blocked


def _moves(old_rows: int, survivors: NDArray[np.int64], new_rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    moves = np.full(old_rows, NO_ROW, np.int64)
    moves[survivors] = np.arange(len(survivors)) if new_rows is None else new_rows
    return moves
