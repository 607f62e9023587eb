"""Reading points without a query: by id, page by page."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from bebr.core.filters import Filter
from bebr.core.types import StoredPoint
from bebr.engine.answers import INLINE_BYTES, PAGE_IDS, AnswerSize, size_of
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import Version
from bebr.engine.cursors import read_scroll_cursor, write_scroll_cursor
from bebr.engine.projection import Wanted, project
from bebr.engine.results import Page, Point


async def get_points(
    collection: Collection, ids: Sequence[str], with_metadata: Wanted, with_code: bool, size: AnswerSize
) -> tuple[list[Point], list[str]]:
    """-> (points in the order requested, ids that do not exist). Raises AnswerTooLarge."""
    distinct = list(dict.fromkeys(ids))
    points: list[Point] = []
    async for page in _read(collection, distinct, with_metadata, with_code):
        for point in page:
            size.add(size_of(point.metadata, point.code))
        points += page
    found = {point.id for point in points}
    return points, [point_id for point_id in distinct if point_id not in found]


async def scroll(
    collection: Collection,
    condition: Filter | None,
    limit: int,
    cursor: str | None,
    with_metadata: Wanted,
    size: AnswerSize,
) -> Page:
    """A page of points by ascending id, and the cursor of the next; points written meanwhile may or may not show.

    The page ends early where the answer is large enough, but has one point at least.
    """
    points: list[Point] = []
    after = None if cursor is None else read_scroll_cursor(cursor)
    while len(points) < limit:
        wanted = limit - len(points)
        ids = await collection.shards.ids(condition, after, wanted)
        if not ids:
            return Page(points, None)
        async for page in _read(collection, ids, with_metadata, with_code=False):
            for point in page:
                if not size.fits(size_of(point.metadata, None)) and points:
                    return Page(points, write_scroll_cursor(points[-1].id))
                points.append(point)
        after = ids[-1]  # a point that was deleted since is missing: go on after it
    more = await collection.shards.ids(condition, after, 1)
    return Page(points, write_scroll_cursor(after) if more and after is not None else None)


async def _read(
    collection: Collection, ids: Sequence[str], with_metadata: Wanted, with_code: bool
) -> AsyncIterator[list[Point]]:
    """Those that exist, in the order of the ids, a few at a time."""
    for start in range(0, len(ids), PAGE_IDS):
        some = ids[start : start + PAGE_IDS]
        found = await collection.fetch(some, metadata=with_metadata is not False, records=with_code)
        versions = collection.document.versions  # as of now: what was fetched may be of one that came meanwhile
        stored = [found[point_id] for point_id in some if point_id in found]
        is_large = sum(len(point.metadata) for point in stored) > INLINE_BYTES
        if is_large and not isinstance(with_metadata, bool):
            yield await asyncio.to_thread(_points, stored, versions, with_metadata, with_code)
        else:
            yield _points(stored, versions, with_metadata, with_code)


def _points(
    stored: Sequence[StoredPoint], versions: Sequence[Version], with_metadata: Wanted, with_code: bool
) -> list[Point]:
    return [
        Point(
            point.id,
            versions[point.version].id,
            project(point.metadata, with_metadata),
            point.record if with_code else None,
        )
        for point in stored
    ]
