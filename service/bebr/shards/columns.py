"""Columns of fields that became filterable after rows were written: made from the metadata that the store has.

A row of a sealed segment is a point as it was last written; whatever changes the point later is another row. So a
column may be made at any time, beside writes: a segment is read, page by page, and written anew with the column. What
is left to do follows from the segments alone.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np

from bebr.core.filters import Filter, IsEmpty
from bebr.core.types import FieldType, StoredPoint, column_value, field_value
from bebr.errors import DamagedPoint, DamagedSegment
from bebr.index.column_merge import merge_columns
from bebr.index.columns import Column, build_column, unpack_mask
from bebr.index.segment import SegmentView
from bebr.shards.changes import Fields
from bebr.shards.client import ColumnStats, Misfits
from bebr.shards.follower import Follower
from bebr.shards.memory import release_free_memory
from bebr.shards.truth import Truth
from bebr.shards.upkeep import Upkeep

PAGE = 5_000
"""Points that are read at a time."""
NAMED = 10
"""Ids of misfits that are kept of a field and a segment."""
Report = Callable[[str, Mapping[str, Misfits]], Awaitable[None]]
Pause = Callable[[], Awaitable[None]]


class ColumnMaker:
    """Makes what columns the shards of one collection lack, one segment at a time."""

    def __init__(
        self, truth: Truth, uid: str, followers: Sequence[Follower], upkeep: Upkeep, threads: Executor
    ) -> None:
        self._truth, self._uid = truth, uid
        self._followers = followers
        self._upkeep = upkeep
        self._threads = threads
        self._read: dict[str, int] = {}
        """Rows that were read of the segment at work, by field that it lacks."""

    def stats(self) -> ColumnStats:
        """Which columns are still to be made."""
        lacking: dict[str, int] = {}
        rows = outdated = 0
        for follower in self._followers:
            fields = follower.fields
            for part in follower.view.parts:
                rows += part.live_count
                if part.segment.fields != fields:
                    outdated += part.live_count
                    for key in _lacking(part.segment.fields, fields):
                        lacking[key] = lacking.get(key, 0) + part.live_count
        left = {key: max(1, count - self._read.get(key, 0)) for key, count in lacking.items()}
        return ColumnStats(rows, outdated, left)

    async def make_some(self, report: Report, pause: Pause) -> bool:
        """Make the columns that one segment lacks, and drop those of fields that are gone; False: there is none.

        report: told which values do not fit their field, before the segment is replaced. pause: called between pages.
        Raises what the store raises, OSError, and NotReady where a file is damaged.
        """
        loop = asyncio.get_running_loop()
        for number, follower in enumerate(self._followers):
            if not (outdated := follower.shard.outdated):
                continue
            await pause()
            sealed = [part for part in outdated if isinstance(part, SegmentView)]
            try:
                if sealed:
                    await self._renew(number, follower, sealed[0], report, pause)
                else:
                    await loop.run_in_executor(self._threads, follower.shard.maintain)
            except DamagedSegment as damage:
                raise self._upkeep.mend(damage) from None
            return True
        return False

    async def misfits(self, fields: Fields, pause: Pause) -> dict[str, Misfits]:
        """The points whose value does not fit these fields, which all have columns by now: read are those without one.

        Raises as `make_some`.
        """
        found = _Odd(fields)
        without = Filter(should=tuple(IsEmpty(key, kind) for key, kind in fields.items()))
        for number, follower in enumerate(self._followers):
            for part in follower.view.parts:
                try:
                    mask = await asyncio.to_thread(part.mask, without)
                    rows = np.flatnonzero(unpack_mask(mask, part.rows))
                    for start in range(0, len(rows), PAGE):
                        await pause()
                        ids = await asyncio.to_thread(part.ids_at, rows[start : start + PAGE].tolist())
                        points = await self._fetch(number, ids)
                        made = await asyncio.to_thread(_page, points, range(len(points)), len(points), fields)
                        found.add({key: odd for key, (_, odd) in made.items()})
                except DamagedSegment as damage:
                    raise self._upkeep.mend(damage) from None
        return found.misfits()

    async def _renew(self, number: int, follower: Follower, view: SegmentView, report: Report, pause: Pause) -> None:
        shard, fields = follower.shard, dict(follower.fields)
        lacking = _lacking(view.segment.fields, fields)
        try:
            columns, misfits = await self._columns(number, view, lacking, pause) if lacking else ({}, {})
            loop, piece = asyncio.get_running_loop(), f"{number}/{view.segment.path.name}"
            await report(piece, misfits)
            if not await loop.run_in_executor(self._threads, shard.add_columns, view, fields, columns):
                await report(piece, {})  # it was merged meanwhile, and its rows are read again
            await loop.run_in_executor(self._threads, release_free_memory)
        finally:
            self._read = {}
        self._upkeep.sort()

    async def _columns(
        self, shard: int, view: SegmentView, lacking: Fields, pause: Pause
    ) -> tuple[dict[str, Column], dict[str, Misfits]]:
        alive = unpack_mask(view.live, view.rows)
        pages: dict[str, list[Column]] = {key: [] for key in lacking}
        found = _Odd(lacking)
        for start in range(0, view.rows, PAGE):
            await pause()
            here = alive[start : start + PAGE]
            rows = np.flatnonzero(here)
            ids = await asyncio.to_thread(view.segment.ids_at, (rows + start).tolist())
            points = await self._fetch(shard, ids)
            made = await asyncio.to_thread(_page, points, rows.tolist(), len(here), lacking)
            for key, (column, _) in made.items():
                pages[key].append(column)
            found.add({key: odd for key, (_, odd) in made.items()})
            self._read = dict.fromkeys(lacking, start + len(here))
        columns = {key: await asyncio.to_thread(_joined, kind, pages.pop(key)) for key, kind in lacking.items()}
        return columns, found.misfits()

    async def _fetch(self, shard: int, ids: Sequence[str]) -> list[StoredPoint | None]:
        """The points of these ids; None for those that are gone or damaged."""
        damaged: set[str] = set()
        while True:
            try:
                left = [point_id for point_id in ids if point_id not in damaged]
                found = iter(await self._truth.fetch(self._uid, shard, left, metadata=True))
                return [None if point_id in damaged else next(found) for point_id in ids]
            except DamagedPoint as error:
                damaged.update(error.fields["ids"])


class _Odd:
    """Counts misfits by field, and keeps the first ids."""

    def __init__(self, fields: Fields) -> None:
        self._counts = dict.fromkeys(fields, 0)
        self._ids: dict[str, list[str]] = {key: [] for key in fields}

    def add(self, odd: Mapping[str, Sequence[str]]) -> None:
        for key, ids in odd.items():
            self._counts[key] += len(ids)
            self._ids[key] += ids[: NAMED - len(self._ids[key])]

    def misfits(self) -> dict[str, Misfits]:
        return {key: Misfits(count, tuple(self._ids[key])) for key, count in self._counts.items() if count}


def _lacking(has: Fields, fields: Fields) -> dict[str, FieldType]:
    return {key: kind for key, kind in fields.items() if has.get(key) is not kind}


def _page(
    points: Sequence[StoredPoint | None], rows: Sequence[int], count: int, fields: Fields
) -> dict[str, tuple[Column, list[str]]]:
    """The columns of `count` rows, those of the points at `rows`, and by field the ids of values that do not fit."""
    values: dict[str, list[Any]] = {key: [None] * count for key in fields}
    odd: dict[str, list[str]] = {key: [] for key in fields}
    for row, point in zip(rows, points, strict=True):
        if point is None:
            continue
        metadata = json.loads(point.metadata)
        for key, kind in fields.items():
            if (value := field_value(metadata, key)) is not None:
                values[key][row] = held = column_value(value, kind)
                if held is None:
                    odd[key].append(point.id)
    return {key: (build_column(kind, values[key]), odd[key]) for key, kind in fields.items()}


def _joined(kind: FieldType, pages: Sequence[Column]) -> Column:
    rows = [np.arange(len(page.present()), dtype=np.int64) for page in pages]
    return merge_columns(kind, pages, rows, np.arange(sum(map(len, rows)), dtype=np.int64))
